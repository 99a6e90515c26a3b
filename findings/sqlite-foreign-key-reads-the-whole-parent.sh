#!/bin/sh
# SQLite 3.40.1, Python 3.11.2 (Debian).
# A row that refers to a row of a WITHOUT ROWID table makes SQLite read that whole row, with all columns, to see that it is
# there: to compare a key, it reads all of an entry that is larger than a page. 20 rows that refer to one of 4 MB read
# 80 MB, and as many where the key alone is asked for. If the other table has a rowid, and an index of the same key, nothing
# of the row is read. The documentation says that such rows should be small; that a look at the key reads the rest is not
# to be expected.
# Output, in rows read for 20 look-ups: without rowid: 20 20 / with rowid: 0 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
seen=$(python3 - "$folder" <<'PY'
import sqlite3
import sys

SIZE, COUNT = 4_000_000, 20


def bytes_read():
    with open("/proc/self/io") as lines:
        return int(next(line for line in lines if line.startswith("rchar")).split()[1])


for kind in ("without rowid", "with rowid"):
    connection = sqlite3.connect(f"{sys.argv[1]}/{kind[:5]}.db", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = 100")
    connection.execute(f"CREATE TABLE record (id TEXT PRIMARY KEY, body BLOB) {'' if kind == 'with rowid' else kind}")
    connection.execute("CREATE TABLE part (number INTEGER PRIMARY KEY, of TEXT REFERENCES record (id))")
    connection.execute("INSERT INTO record VALUES ('a', zeroblob(?))", (SIZE,))
    found = []
    for statement in ("INSERT INTO part (of) VALUES ('a')", "SELECT 1 FROM record WHERE id = 'a'"):
        before = bytes_read()
        for _ in range(COUNT):
            connection.execute(statement).fetchall()
        found.append((bytes_read() - before) // SIZE)
    print(f"{kind}:", *found)
PY
)
echo "$seen"
[ "$seen" = "without rowid: 20 20
with rowid: 0 0" ]
