"""What the role of a store may do: the rights that are missing, and the statement that grants them."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, text

from gatepost.store.errors import StoreUnusable
from gatepost.store.postgresql.schema import own_metadata
from gatepost.store.sql.schema import metadata, version

__all__ = ["READ", "WRITE", "explained", "require", "require_maker", "require_owner", "require_version"]

READ: Final = ("SELECT",)
WRITE: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_TABLES: Final = (*metadata.tables, *own_metadata.tables)

_LACKING: Final = """
SELECT wanted, name FROM unnest(CAST(:tables AS text[])) WITH ORDINALITY AS tables (name, place),
unnest(CAST(:rights AS text[])) WITH ORDINALITY AS rights (wanted, number)
WHERE NOT has_table_privilege({table}, wanted) ORDER BY number, place
"""
_OF_ALL: Final = text(_LACKING.format(table="name"))
"""An error if one of the tables does not exist."""
_OF_EXISTING: Final = text(_LACKING.format(table="to_regclass(name)"))
_SEQUENCE: Final = text("""
SELECT sequence::regclass::text, has_sequence_privilege(sequence, :right)
FROM pg_get_serial_sequence('kept', 'number') AS sequence
""")
_USES: Final = {"USAGE": "use", "UPDATE": "set"}
_ROLE: Final = text("SELECT quote_ident(current_user)")
_MAY_READ: Final = text("SELECT has_table_privilege(to_regclass(:table), 'SELECT')")
_SCHEMA: Final = text("""
SELECT quote_ident(current_schema()), has_schema_privilege(current_schema(), 'CREATE'),
current_setting('search_path')
""")
_CLOSED_SCHEMA: Final = text("""
SELECT quote_ident(nspname)
FROM unnest(string_to_array(current_setting('search_path'), ',')) WITH ORDINALITY AS path (part, place),
btrim(part, ' "') AS name
JOIN pg_namespace ON nspname = CASE name WHEN '$user' THEN current_user ELSE name END
ORDER BY place LIMIT 1
""")
"""The first schema of the search path that exists; `current_schema()` is the first that may be used."""
_OTHERS_TABLES: Final = text("""
SELECT relname, quote_ident(pg_get_userbyid(relowner)) FROM pg_class
WHERE oid IN (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name)
AND NOT pg_has_role(relowner, 'USAGE') ORDER BY relname
""")


def require(
    connection: Connection,
    name: str,
    rights: Sequence[str],
    *,
    all_exist: bool = True,
    sequence_right: str = "USAGE",
) -> None:
    """Raise StoreUnusable if the role lacks one of these rights in the tables.

    ``all_exist``: False for a store of an older version. ``sequence_right``: what it needs of the sequence of
    numbers, if it inserts.
    """
    lacking, grants = _lacking(connection, rights, all_exist=all_exist, sequence_right=sequence_right)
    if lacking:
        raise StoreUnusable(
            f"the role {_role(connection)} may not {lacking} of {name}, expected that right: {grants}"
        )


def require_version(connection: Connection, name: str, rights: Sequence[str]) -> None:
    """Raise StoreUnusable if the role may not use the schema, or not read which version the tables have.

    ``rights``: what it needs in the tables, for the remedy.
    """
    schema, _, path = connection.execute(_SCHEMA).one()
    if schema is None:
        closed = connection.scalar(_CLOSED_SCHEMA)
        if closed is None:
            raise StoreUnusable(f"the database {name} has no schema of the search path {path}, expected one")
        role = _role(connection)
        raise StoreUnusable(
            f"the role {role} may not use the schema {closed} of {name},"
            f" expected that right: GRANT USAGE ON SCHEMA {closed} TO {role}"
        )
    if connection.scalar(_MAY_READ, {"table": version.name}) is False:
        require(connection, name, rights, all_exist=False)


def require_maker(connection: Connection, name: str) -> None:
    """Raise StoreUnusable if the role may not make tables in the schema."""
    schema, may_create, _ = connection.execute(_SCHEMA).one()
    if not may_create:
        role = _role(connection)
        raise StoreUnusable(
            f"the role {role} may not make tables in the schema {schema} of {name},"
            f" expected that right: GRANT CREATE ON SCHEMA {schema} TO {role}"
        )


def require_owner(connection: Connection, name: str, found: str) -> None:
    """Raise StoreUnusable if the role may not change the tables, which are of the version ``found``."""
    others = connection.execute(_OTHERS_TABLES, {"tables": [*_TABLES]}).all()
    if others:
        role = _role(connection)
        owners = sorted({owner for _, owner in others})
        raise StoreUnusable(
            f"the store {name} is of the older version {found}, and only the owner of its tables may change"
            f" them: the role {role} does not own {', '.join(table for table, _ in others)}"
            f" (owned by {', '.join(owners)}); start Gatepost once as {owners[0]}, or run"
            f" ALTER TABLE ... OWNER TO {role} for each of these tables"
        )


def explained(connection: Connection, rights: Sequence[str]) -> str:
    """The role, and what grants it these rights; for an error of the server, which names neither."""
    _, grants = _lacking(connection, rights, all_exist=False, sequence_right="USAGE")
    role = f"the role is {_role(connection)}"
    return f"{role}, expected that right: {grants}" if grants else role


def _lacking(
    connection: Connection, rights: Sequence[str], *, all_exist: bool, sequence_right: str
) -> tuple[str, str]:
    """The first right that is missing, and the statements that grant all; empty if none is."""
    role = _role(connection)
    wanted = {"tables": [*_TABLES], "rights": [*rights]}
    missing = connection.execute(_OF_ALL if all_exist else _OF_EXISTING, wanted).all()
    lacking, grants = "", []
    if missing:
        right, table = missing[0]
        lacking = f"{right} in the table {table}"
        tables = ", ".join(dict.fromkeys(table for _, table in missing))
        grants.append(f"GRANT {', '.join(rights)} ON {tables} TO {role}")
    if "INSERT" in rights and connection.scalar(text("SELECT to_regclass('kept')")):
        sequence, may_use = connection.execute(_SEQUENCE, {"right": sequence_right}).one()
        if may_use is False:
            lacking = lacking or f"{_USES[sequence_right]} the sequence {sequence}"
            grants.append(f"GRANT USAGE, UPDATE ON SEQUENCE {sequence} TO {role}")
    return lacking, "; ".join(grants)


def _role(connection: Connection) -> str:
    return str(connection.scalar(_ROLE))
