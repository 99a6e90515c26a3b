#!/bin/sh
# PostgreSQL 15.18 (Debian), psycopg 3.3.9 with libpq in pipeline mode (PyPI), Python 3.11.2.
# idle_in_transaction_session_timeout ends a session that holds a transaction and sends nothing. It does not end one
# whose client has begun a pipeline and sent no Sync yet: although the server waits for the client, pg_stat_activity
# calls the session "active" (wait event ClientRead), and its locks are held until TCP gives up, which by default takes two
# hours for a client that has vanished. So a program that pipelines needs tcp_keepalives_idle and tcp_user_timeout, too.
# Output: plain: ended / pipeline: active ClientRead, holds its lock
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
$as "$bin/initdb" -D "$here/server/data" -U u --auth=trust --no-sync --encoding=UTF8 --locale=C >/dev/null
$as "$bin/postgres" -D "$here/server/data" -c listen_addresses= -c "unix_socket_directories=$here/server" 2>/dev/null &
server=$!
sleep 3
cat >"$here/ask.py" <<'PY'
import sys
import time

import psycopg

where = f"host={sys.argv[1]} user=u dbname=postgres"
LOCK = "SELECT pg_advisory_xact_lock(7)"
with psycopg.connect(where, autocommit=True) as watching:

    def state(pid):
        found = watching.execute(
            "SELECT state, wait_event FROM pg_stat_activity WHERE pid = %s", (pid,)
        ).fetchone()
        held = watching.execute("SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype = 'advisory'", (pid,))
        return (f"{found[0]} {found[1]}" if found else "ended") + (
            ", holds its lock" if held.fetchone()[0] else ""
        )

    def begun():
        connection = psycopg.connect(where)
        connection.execute("SET idle_in_transaction_session_timeout = '1s'")
        connection.commit()
        return connection

    plain = begun()
    plain.execute(LOCK)
    time.sleep(3)
    print("plain:", state(plain.info.backend_pid))

    piped = begun()
    piped.pgconn.enter_pipeline_mode()
    for statement in (b"BEGIN", LOCK.encode()):
        piped.pgconn.send_query_params(statement, None)
    piped.pgconn.send_flush_request()
    piped.pgconn.flush()
    time.sleep(3)
    print("pipeline:", state(piped.info.backend_pid))
    piped.pgconn.finish()
PY
seen=$("$here/venv/bin/python" "$here/ask.py" "$here/server" 2>/dev/null | paste -sd/)
echo "$seen"
[ "$seen" = "plain: ended/pipeline: active ClientRead, holds its lock" ]
