#!/bin/sh
# PostgreSQL 15.18 (Debian), psycopg 3.3.9 (PyPI), Python 3.11.2.
# The manual measures statement_timeout from a command's arrival to its completion, but PostgreSQL switches it off before it
# commits. What a COMMIT does is without limit: a deferred constraint trigger may run for longer, and a COMMIT for which
# synchronous_standby_names is set, while no standby is there, waits for ever; lock_timeout and
# idle_in_transaction_session_timeout do not end that wait either. Any other statement ends in time. pg_cancel_backend ends
# the wait with a warning and a successful COMMIT, whose row is there. So a client needs a time limit of its own, and must
# not take its cancel for a rollback.
# Output: pg_sleep: QueryCanceled / trigger at COMMIT: done after 3 s /
#  standby: waits after 3 s, SyncRep, cancelled: 01000, 1 row
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
import threading
import time

import psycopg

where = f"host={sys.argv[1]} user=u dbname=postgres"
LIMITS = "-c statement_timeout=1s -c lock_timeout=1s -c idle_in_transaction_session_timeout=1s"
with psycopg.connect(where, autocommit=True) as watching:
    watching.execute("CREATE TABLE mail (id int)")
    watching.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$"
    )
    watching.execute("CREATE TABLE checked (id int)")
    watching.execute(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON checked DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    limited = psycopg.connect(where, options=LIMITS, autocommit=True)
    try:
        limited.execute("SELECT pg_sleep(3)")
    except psycopg.Error as error:
        print("pg_sleep:", type(error).__name__)

    limited.execute("BEGIN")
    limited.execute("INSERT INTO checked VALUES (1)")
    began = time.monotonic()
    limited.execute("COMMIT")
    print("trigger at COMMIT: done after", round(time.monotonic() - began), "s")

    watching.execute("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
    watching.execute("SELECT pg_reload_conf()")
    time.sleep(1)
    warned = []
    limited.add_notice_handler(lambda notice: warned.append(notice.sqlstate))
    limited.execute("BEGIN")
    limited.execute("INSERT INTO mail VALUES (1)")
    committing = threading.Thread(target=limited.execute, args=("COMMIT",))
    committing.start()
    time.sleep(3)
    pid = limited.info.backend_pid
    wait = watching.execute("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone()[0]
    print("standby:", "waits" if committing.is_alive() else "ended", "after 3 s,", wait, end=", ")
    watching.execute("SELECT pg_cancel_backend(%s)", (pid,))
    committing.join(5)
    rows = watching.execute("SELECT count(*) FROM mail").fetchone()[0]
    print("cancelled:", *warned, end=f", {rows} row\n")
    limited.close()
PY
seen=$("$here/venv/bin/python" "$here/ask.py" "$here/server" 2>/dev/null | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "pg_sleep: QueryCanceled / trigger at COMMIT: done after 3 s / \
standby: waits after 3 s, SyncRep, cancelled: 01000, 1 row" ]
