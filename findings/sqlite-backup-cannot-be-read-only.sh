#!/bin/sh
# SQLite 3.40.1 through Python 3.11.2 (sqlite3.Connection.backup).
# The copy of a database that is in WAL mode is in WAL mode too. Each reader of it has to make files beside it, so a
# user who may read the backup but not write its folder, or anybody on a read-only disk, cannot open it, with mode=ro
# neither. After "PRAGMA journal_mode = DELETE" on the copy all can.
# Output: as copied: attempt to write a readonly database, after DELETE: 1 row
set -eu
here=$(mktemp -d)
trap 'chmod -R u+w "$here"; rm -rf "$here"' EXIT
cat >"$here/back_up.py" <<'PY'
import os, sqlite3, sys

folder = sys.argv[1]
store = sqlite3.connect(f"{folder}/store", isolation_level=None)
store.execute("PRAGMA journal_mode = WAL")
store.execute("CREATE TABLE t AS SELECT 1")
for name in ("copied", "deleted"):
    os.mkdir(f"{folder}/{name}")
    copy = sqlite3.connect(f"{folder}/{name}/backup", isolation_level=None)
    store.backup(copy)
    if name == "deleted":
        copy.execute("PRAGMA journal_mode = DELETE")
    copy.close()
    os.chmod(f"{folder}/{name}/backup", 0o444)
    os.chmod(f"{folder}/{name}", 0o555)
os.chmod(folder, 0o755)
if os.geteuid() == 0:  # root may write everywhere
    os.setuid(65534)


def read(name):
    try:
        reader = sqlite3.connect(f"file:{folder}/{name}/backup?mode=ro", uri=True)
        return f"{len(reader.execute('SELECT * FROM t').fetchall())} row"
    except sqlite3.OperationalError as error:
        return str(error)


print(f"as copied: {read('copied')}, after DELETE: {read('deleted')}")
PY
seen=$(python3 "$here/back_up.py" "$here")
echo "$seen"
[ "$seen" = "as copied: attempt to write a readonly database, after DELETE: 1 row" ]
