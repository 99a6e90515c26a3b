#!/bin/sh
# SQLAlchemy 2.1.9 (PyPI).
# Engine.dispose() closes the connections that wait in the pool. One that is in use is not closed when it is returned
# later, although its pool is gone: nobody refers to it, and it stays open until the garbage collector finds it. Python
# 3.13 and later report such a connection of sqlite3 as a ResourceWarning.
# Output: in the pool: closed / in use, then returned: open
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q "sqlalchemy==2.1.9" 2>/dev/null
seen=$("$here/venv/bin/python" - <<'PY'
import gc
import sqlite3

from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

gc.disable()
made = []


def connect():
    made.append(sqlite3.connect(":memory:", check_same_thread=False))
    return made[-1]


def state(connection):
    try:
        connection.execute("SELECT 1")
        return "open"
    except sqlite3.ProgrammingError:
        return "closed"


engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)
idle, used = engine.connect(), engine.connect()
idle.close()
engine.dispose()
used.close()
print("in the pool:", state(made[0]))
print("in use, then returned:", state(made[1]))
PY
)
echo "$seen"
[ "$seen" = "in the pool: closed
in use, then returned: open" ]
