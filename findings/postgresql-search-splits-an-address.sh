#!/bin/sh
# PostgreSQL 15.18 (Debian).
# The parser of the full text search knows addresses: "ann@example.org" is one word. It does not know all characters that the
# part before the "@" may have (RFC 5322 section 3.2.3): of "ann+lists@example.org" it makes "ann" and the address
# "lists@example.org", of "o'brien@example.org" the address "brien@example.org". So a search for the mail of one person
# finds that of another, and an address whose domain or local part is not ASCII is not seen as one: two words are
# found in any text. The domain is a part of the one word, too: "example.org" does not find what "ann@example.org" wrote.
# Output: ann@example.org: email ann@example.org / ann+lists@example.org: asciiword ann, email lists@example.org /
#  o'brien@example.org: asciiword o, email brien@example.org / jörg@example.org: word jörg, host example.org /
#  from ann+lists: found as lists@example.org: t / from ann: found as example.org: f
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
$as "$bin/initdb" -D "$here/server/data" -U u --auth=trust --no-sync --encoding=UTF8 --locale=C.UTF-8 >/dev/null
$as "$bin/postgres" -D "$here/server/data" -c listen_addresses= -c "unix_socket_directories=$here/server" 2>/dev/null &
server=$!
sleep 3
seen=$("$bin/psql" -X -h "$here/server" -U u -d postgres -Atq <<'SQL' | paste -sd/ | sed 's,/, / ,g'
SET client_encoding = 'UTF8';
SELECT address || ': ' || (
  SELECT string_agg(alias || ' ' || token, ', ') FROM ts_debug('simple', address) WHERE alias <> 'blank'
)
FROM (VALUES ('ann@example.org'), ('ann+lists@example.org'), ('o''brien@example.org'), ('jörg@example.org')) AS a (address);
SELECT 'from ann+lists: found as lists@example.org: '
  || (to_tsvector('simple', 'from ann+lists@example.org') @@ plainto_tsquery('simple', 'lists@example.org'))::text::char;
SELECT 'from ann: found as example.org: '
  || (to_tsvector('simple', 'from ann@example.org') @@ plainto_tsquery('simple', 'example.org'))::text::char;
SQL
)
echo "$seen"
[ "$seen" = "ann@example.org: email ann@example.org / ann+lists@example.org: asciiword ann, email lists@example.org / \
o'brien@example.org: asciiword o, email brien@example.org / jörg@example.org: word jörg, host example.org / \
from ann+lists: found as lists@example.org: t / from ann: found as example.org: f" ]
