#!/bin/sh
# SQLAlchemy 2.1.9 (PyPI).
# Select.with_hint(table, "INDEXED BY place", "sqlite") is accepted and changes nothing: the dialect of SQLite renders no
# hints of tables, without a word. For MySQL the same call renders its hint.
# Output: sqlite False / mysql True
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q "sqlalchemy==2.1.9" 2>/dev/null
seen=$("$here/venv/bin/python" - <<'PY'
from sqlalchemy import Column, Integer, MetaData, Table, select
from sqlalchemy.dialects import mysql, sqlite

table = Table("t", MetaData(), Column("c", Integer))
for name, dialect, hint in (("sqlite", sqlite.dialect(), "INDEXED BY place"), ("mysql", mysql.dialect(), "USE INDEX (place)")):
    print(name, hint in str(select(table).with_hint(table, hint, name).compile(dialect=dialect)))
PY
)
echo "$seen"
[ "$seen" = "sqlite False
mysql True" ]
