#!/bin/sh
# PostgreSQL 15.18 with pg_trgm 1.6 (Debian's postgresql-15).
# In a database of locale C, which `initdb --locale=C` makes and which many choose for its speed, pg_trgm takes every
# letter beyond ASCII for white space. A Cyrillic word has no trigrams: it is as unlike to itself as can be (0), and not
# even "%" of itself, while "Jörg" and "Järg" are the same (1). The collation of the expression, from which upper()
# takes its letters, changes nothing. A search with LIKE through a trigram index stays right, but reads all rows, where
# that for an ASCII word reads one: nothing warns of it, and a test with English words never meets it.
# Output: t 0 f / 1 / ПРИВЕТ 0 / rows removed: 1001 and 0
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
ask() { PGCLIENTENCODING=UTF8 "$bin/psql" -h "$here/server" -U u -d postgres -XqAt -F ' ' -c "$1"; }
removed() {
  found=$(ask "SET enable_seqscan = off;
    EXPLAIN (ANALYZE, COSTS off, TIMING off) SELECT * FROM mail WHERE subject LIKE '$1'" |
    sed -n 's/.*Rows Removed by Index Recheck: //p')
  echo "${found:-0}"
}
ask "CREATE EXTENSION pg_trgm"
ask "CREATE TABLE mail (subject text)"
ask "INSERT INTO mail SELECT 'letter ' || i FROM generate_series(1, 1000) i"
ask "INSERT INTO mail VALUES ('привет'), ('hello')"
ask "CREATE INDEX ON mail USING gin (subject gin_trgm_ops)"
seen=$(
  ask "SELECT 'привет' = 'привет', similarity('привет', 'привет'), 'привет' % 'привет'"
  ask "SELECT similarity('Jörg', 'Järg')"
  ask "SELECT upper('привет' COLLATE \"und-x-icu\"), similarity('привет' COLLATE \"und-x-icu\", 'привет')"
  echo "rows removed: $(removed '%привет%') and $(removed '%hello%')"
)
seen=$(echo "$seen" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "t 0 f / 1 / ПРИВЕТ 0 / rows removed: 1001 and 0" ]
