#!/bin/sh
# SQLite 3.40.1, Python 3.11.2 (Debian).
# sqlite3_blob_open for writing fails with "cannot open indexed column for writing" for every column of a table that has an
# index on an expression, though no index has that column: SQLite does not look which columns the expression reads.
# Reading it works. An index on plain columns of other names makes no difference. The documentation says that the column
# must not be part of an index.
# Output: plain written / expression cannot open indexed column for writing
set -eu
seen=$(python3 - <<'PY'
import sqlite3

for name, indexed in (("plain", "sender"), ("expression", "lower(sender)")):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE kept (number INTEGER PRIMARY KEY, sender TEXT, content BLOB)")
    connection.execute(f"CREATE INDEX by_sender ON kept ({indexed})")
    connection.execute("INSERT INTO kept VALUES (1, 'ann', zeroblob(5))")
    connection.blobopen("kept", "content", 1, readonly=True).close()
    try:
        with connection.blobopen("kept", "content", 1) as blob:
            blob.write(b"bytes")
        print(name, "written")
    except sqlite3.Error as error:
        print(name, error)
PY
)
echo "$seen"
[ "$seen" = "plain written
expression cannot open indexed column for writing" ]
