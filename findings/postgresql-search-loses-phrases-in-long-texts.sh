#!/bin/sh
# PostgreSQL 15.18 (Debian).
# A tsvector keeps the positions of words up to 16383, and 256 of each word (the manual's "Limitations"). It does not
# say that a search for a phrase, which compares positions, then answers "no" for a text that has it: behind the 16383rd
# word no phrase is found, and none with a word that came 256 times before, as "invoice" does in a long statement, or a
# name in a digest. The words alone are found; no error, warning or mark of the tsvector tells that it is incomplete. A
# person who puts words into quotation marks for websearch_to_tsquery does not get the text in which they stand so.
# Output: late: words t, phrase f / often: words t, phrase f / early: words t, phrase t
set -eu
here=$(mktemp -d)
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
as=
server=
trap 'test -z "$server" || kill -QUIT "$server"; sleep 1; rm -rf "$here"' EXIT
mkdir "$here/server"
if [ "$(id -u)" = 0 ]; then
  chmod 711 "$here"
  chown postgres "$here/server"
  as="setpriv --reuid=postgres --regid=postgres --clear-groups"
fi
cd "$here/server"
$as "$bin/initdb" -D "$here/server/data" -U u --auth=trust --no-sync --encoding=UTF8 --locale=C >/dev/null
$as "$bin/postgres" -D "$here/server/data" -c listen_addresses= -c "unix_socket_directories=$here/server" 2>/dev/null &
server=$!
sleep 3
seen=$("$bin/psql" -X -h "$here/server" -U u -d postgres -Atq <<'SQL' | paste -sd/ | sed 's,/, / ,g'
CREATE TABLE mail (name text, words tsvector, sought text);
INSERT INTO mail
SELECT 'late', to_tsvector('simple', string_agg('word', ' ') || ' red fox'), 'red fox' FROM generate_series(1, 16400);
INSERT INTO mail
SELECT name, to_tsvector('simple', string_agg('invoice number' || n, ' ')), sought
FROM generate_series(1, 400) n, (VALUES ('often', 'invoice number300'), ('early', 'invoice number200')) v (name, sought)
GROUP BY name, sought ORDER BY name DESC;
SELECT format('%s: words %s, phrase %s', name, words @@ websearch_to_tsquery('simple', sought),
  words @@ websearch_to_tsquery('simple', '"' || sought || '"')) FROM mail;
SQL
)
echo "$seen"
[ "$seen" = "late: words t, phrase f / often: words t, phrase f / early: words t, phrase t" ]
