#!/bin/sh
# PostgreSQL 15.18 (Debian), text search configuration "simple".
# The parser of the text search takes a hyphen before digits for a sign: "invoice-2026" are the words "invoice" and
# "-2026". A search for 2026, or for "invoice 2026" in quotes, does not find it, though "invoice-two" is found by its
# parts. A date is a number and two negative ones. An address with a tag, ann+minutes@example.org, is cut at the "+":
# ann alone, and an address that nobody has, minutes@example.org. Its domain is not found, which it is within a URL.
# Output: 'invoice':1 '-2026':2 / 2026 false, "invoice 2026" false, two true / '2026':1 '-11':2 '-30':3 /
#  'ann':1 'minutes@example.org':2 / domain of address false, of URL true
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
cat >"$here/ask.sql" <<'SQL'
CREATE FUNCTION words(written text) RETURNS text LANGUAGE sql AS
  $$ SELECT string_agg(quote_literal(lexeme) || ':' || positions[1], ' ' ORDER BY positions[1])
     FROM unnest(to_tsvector('simple', written)) $$;
CREATE FUNCTION found(written text, searched text) RETURNS bool LANGUAGE sql AS
  $$ SELECT to_tsvector('simple', written) @@ websearch_to_tsquery('simple', searched) $$;
SELECT words('invoice-2026');
SELECT '2026', found('invoice-2026', '2026') || ',', '"invoice 2026"', found('invoice-2026', '"invoice 2026"') || ',',
  'two', found('invoice-two', 'two')::text;
SELECT words('2026-11-30');
SELECT words('ann+minutes@example.org');
SELECT 'domain of address', found('ann@example.org', 'example.org') || ',',
  'of URL', found('example.org/minutes', 'example.org')::text;
SQL
seen=$("$bin/psql" -h "$here/server" -U u -d postgres -XqAt -F ' ' -f "$here/ask.sql" | paste -sd/ | sed 's,/, / ,g')
printf '%s\n' "$seen"
[ "$seen" = "'invoice':1 '-2026':2 / 2026 false, \"invoice 2026\" false, two true / '2026':1 '-11':2 '-30':3 / \
'ann':1 'minutes@example.org':2 / domain of address false, of URL true" ]
