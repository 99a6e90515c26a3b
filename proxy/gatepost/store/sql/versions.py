"""The version of a database's tables, and how it is brought up to date."""

import logging
from collections.abc import Callable, Collection
from pathlib import Path

from sqlalchemy import Connection, inspect, select

from gatepost.store.errors import StoreUnusable
from gatepost.store.sql.schema import VERSION, version

__all__ = ["COPY_MARK", "known_version", "migrate", "version_of"]

COPY_MARK = "copying-"
"""How the version begins of a store that `gatepost migrate` has not completed; it compares as a newer one."""

_MIGRATIONS = Path(__file__).parent / "migrations"


def known_version(tables: Collection[str], number: Callable[[], str | None], name: str) -> str | None:
    """The schema's version, None for a database without tables. Raises StoreUnusable for one of no use here.

    Args:
        tables: the names of its tables.
        number: reads the version from its table.
        name: of the database.
    """
    if not tables:
        return None
    found = number() if version.name in tables else None
    if found is None:
        raise StoreUnusable(f"{name} is a database, but not one of Gatepost's")
    if found.startswith(COPY_MARK):
        raise StoreUnusable(
            f"the store {name} is the unfinished copy of another one;"
            " run the same `gatepost migrate` again, which completes it"
        )
    if found > VERSION:
        raise StoreUnusable(f"the store {name} is of version {found}, newer than this Gatepost's ({VERSION})")
    return found


def version_of(connection: Connection, name: str) -> str | None:
    """The version of the database, as `known_version`."""

    def number() -> str | None:
        return connection.scalar(select(version.c.version_num))

    return known_version(inspect(connection).get_table_names(), number, name)


def migrate(connection: Connection) -> None:
    """Bring the schema to the newest version, within the connection's transaction."""
    # Before the import, during which it already writes to the log; with the migration these are eight lines.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # alembic takes 0.2 s to import and is needed once in a version's life.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
