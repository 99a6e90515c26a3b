#!/bin/sh
# psycopg 3.3.9 with its binary libpq 18 (PyPI), PostgreSQL 15 (Debian), Python 3.11.2.
# In pipeline mode, one of several Pipeline.sync(), each after eight inserts of 512 KiB, does not return: the client waits,
# and the server is in the midst of an INSERT whose values have not all been sent. Mostly it is the second, sometimes a
# later one. The end of the block without a sync() before always returns. So "send some, sync, send some" cannot bound
# what waits to be sent.
# Output: synced 1 / hangs
set -eu
here=$(mktemp -d)
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
as=
server=
trap 'test -z "$server" || kill -QUIT "$server"; sleep 1; rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q "psycopg[binary]==3.3.9" 2>/dev/null
mkdir "$here/server"
if [ "$(id -u)" = 0 ]; then
  chmod 711 "$here"
  chown postgres "$here/server"
  as="setpriv --reuid=postgres --regid=postgres --clear-groups"
fi
cd "$here/server"
$as "$bin/initdb" -D "$here/server/data" -U u --auth=trust --no-sync >/dev/null
$as "$bin/postgres" -D "$here/server/data" -c listen_addresses= -c "unix_socket_directories=$here/server" 2>/dev/null &
server=$!
sleep 3
cat >"$here/ask.py" <<'PY'
import os
import sys

import psycopg

with psycopg.connect(f"host={sys.argv[1]} user=u dbname=postgres") as connection:
    connection.execute("CREATE TABLE t (b bytea)")
    connection.commit()
    with connection.pipeline() as pipeline, connection.cursor() as cursor:
        for number in range(1, 16):
            for _ in range(8):
                cursor.execute("INSERT INTO t VALUES (%s)", (os.urandom(512 << 10),))
            pipeline.sync()
            print("synced", number, flush=True)
PY
seen=$(timeout 15 "$here/venv/bin/python" "$here/ask.py" "$here/server" || echo hangs)
echo "$seen"
[ "$(echo "$seen" | tail -1)" = hangs ]
