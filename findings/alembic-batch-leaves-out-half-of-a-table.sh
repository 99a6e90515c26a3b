#!/bin/sh
# alembic 1.20.1, SQLAlchemy 2.1.9 (PyPI), SQLite 3.40.1 through Python 3.11.2.
# SQLite can alter little of a table, so batch_alter_table makes a new one from what SQLAlchemy reads of the old one, copies
# the rows and drops the old one. To make one column NOT NULL so takes from the table what is not read, without an error
# or a warning: AUTOINCREMENT (the number of a deleted row is given again), COLLATE NOCASE of a column, ON DELETE CASCADE
# where REFERENCES stands behind the column (PRAGMA foreign_key_list has it; behind FOREIGN KEY it is kept), DESC of an
# index, and every trigger. STRICT, WITHOUT ROWID, a partial index and a named CHECK are kept, which makes one
# believe in the rest.
# Output: lost: AUTOINCREMENT, NOCASE, CASCADE, DESC, TRIGGER / kept: CASCADE behind FOREIGN KEY, STRICT, WHERE, CHECK /
#  warnings: 0 / id after the deleted 2: 3 before, 2 afterwards
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q alembic==1.20.1 SQLAlchemy==2.1.9 2>/dev/null
cat >"$here/alter.py" <<'PY'
import warnings

import sqlalchemy
from alembic.migration import MigrationContext
from alembic.operations import Operations

OLD = """
CREATE TABLE users (id INTEGER PRIMARY KEY);
CREATE TABLE letters (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  address TEXT COLLATE NOCASE,
  size INTEGER,
  owner INTEGER REFERENCES users (id) ON DELETE CASCADE,
  CONSTRAINT some CHECK (size > 0)
) STRICT;
CREATE INDEX newest ON letters (id DESC);
CREATE INDEX large ON letters (size) WHERE size > 1000;
CREATE TRIGGER noted AFTER INSERT ON letters BEGIN SELECT 1; END;
CREATE TABLE copies (id INTEGER, owner INTEGER, FOREIGN KEY (owner) REFERENCES users (id) ON DELETE CASCADE);
"""


def sql(of):
    found = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE tbl_name = ? ORDER BY type DESC", (of,))
    return " ".join(text for (text,) in found).upper()


def next_id():
    """Insert a row, look at its number, delete it."""
    (number,) = connection.exec_driver_sql("INSERT INTO letters (size) VALUES (1) RETURNING id").one()
    connection.exec_driver_sql("DELETE FROM letters WHERE id = ?", (number,))
    return number


with sqlalchemy.create_engine("sqlite://").connect() as connection:
    for statement in OLD.split(";\n"):
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql("INSERT INTO letters (size) VALUES (1)")
    next_id()
    before = next_id()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        operations = Operations(MigrationContext.configure(connection))
        for table in ("letters", "copies"):
            with operations.batch_alter_table(table) as batch:
                batch.alter_column("size" if table == "letters" else "id", nullable=False)
    words = ("AUTOINCREMENT", "NOCASE", "CASCADE", "DESC", "TRIGGER", "STRICT", "WHERE", "CHECK")
    lost = [word for word in words if word not in sql("letters")]
    print("lost:", ", ".join(lost))
    kept = [word for word in words if word not in lost]
    print("kept:", ", ".join(["CASCADE behind FOREIGN KEY"] * ("CASCADE" in sql("copies")) + kept))
    print("warnings:", len(warned))
    print(f"id after the deleted 2: {before} before, {next_id()} afterwards")
PY
seen=$("$here/venv/bin/python" "$here/alter.py" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "lost: AUTOINCREMENT, NOCASE, CASCADE, DESC, TRIGGER / \
kept: CASCADE behind FOREIGN KEY, STRICT, WHERE, CHECK / warnings: 0 / id after the deleted 2: 3 before, 2 afterwards" ]
