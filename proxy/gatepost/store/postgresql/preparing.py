"""Makes the tables of a store, brings them up to date, and refuses a database that is of no use."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import DBAPIError

from gatepost.store.errors import StoreError, StoreUnavailable, StoreUnusable
from gatepost.store.postgresql import rights
from gatepost.store.postgresql.clocks import require_alike
from gatepost.store.postgresql.driver import PATIENT, Lock, lock, session_lock, session_unlock
from gatepost.store.postgresql.schema import own_metadata
from gatepost.store.sql.schema import VERSION, metadata, version
from gatepost.store.sql.versions import migrate, version_of

__all__ = ["Look", "examine", "examine_for_start", "prepare", "require_current", "require_writable"]

_log = logging.getLogger(__name__)

Look = Callable[[Connection, str], object]
"""Takes a connection and the name of the database; raises StoreError."""
_OLDEST = 14
_TRIGRAMS = "pg_trgm"
_TRIGRAMS_SCHEMA = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'pg_trgm'"
_HAS_LZ4 = "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"


def require_current(connection: Connection, name: str) -> None:
    """Raise StoreError if there is no store, or none of today's version."""
    _require_server(connection, name)
    rights.require_version(connection, name, rights.READ)
    found = version_of(connection, name)
    if found is None:
        raise StoreError(f"there is no store {name} yet; `gatepost serve` makes it")
    if found < VERSION:
        raise StoreError(f"the store {name} is of an older version; `gatepost serve` brings it up to date")


def prepare(connection: Connection, name: str, *, indexes: bool = True, warns: bool = True) -> None:
    """Make the tables, or migrate them, one process at a time.

    The rest is within the connection's transaction, but a migration may commit what it has done so far.
    ``indexes``: texts are indexed if an administrator has made that possible since the tables were made.
    ``warns``: the clocks must be alike, and the log says what else is wrong although the server can be used.
    """
    _require_server(connection, name)
    require_writable(connection, name)
    if warns:
        require_alike(connection, name)
        _warn_of_fsync(connection, name)
    connection.execute(text(lock(Lock.SCHEMA)))
    found = examine(connection, name)
    if found is None:
        _make(connection)
    elif found < VERSION:
        _log.info("migrating the store from version %s to %s", found, VERSION)
        with _alone(connection):
            migrate(connection)
    if indexes or found != VERSION:
        why_not = _index_texts(connection)
        if warns:
            _warn_of_slow_searches(connection, name, why_not)


def examine(connection: Connection, name: str) -> str | None:
    """The version of the tables, None if there are none yet; writes nothing.

    Raises StoreError unless the role may make the tables, migrate them, or read and write them.
    """
    _require_server(connection, name)
    rights.require_version(connection, name, rights.WRITE)
    found = version_of(connection, name)
    if found is None:
        rights.require_maker(connection, name)
        return None
    if found < VERSION:
        rights.require_owner(connection, name, found)
        rights.require_maker(connection, name)
    rights.require(connection, name, rights.WRITE, all_exist=found == VERSION)
    return found


def examine_for_start(connection: Connection, name: str) -> None:
    """Raise StoreError where a gateway that starts would; writes nothing."""
    examine(connection, name)
    require_alike(connection, name)


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Keep other nodes from preparing the store, also while a migration commits what it has done so far."""
    connection.execute(text(session_lock(Lock.SCHEMA)))
    try:
        connection.execute(text(PATIENT))
        yield
        connection.execute(text("RESET statement_timeout"))
        connection.execute(text(lock(Lock.SCHEMA)))  # until the commit
        connection.execute(text(session_unlock(Lock.SCHEMA)))
    except BaseException:
        connection.invalidate()  # the lock ends with the connection
        raise


def require_writable(connection: Connection, name: str) -> None:
    """Raise StoreUnavailable for a standby, or if transactions are read-only."""
    refuses = (
        "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
        " OR current_setting('default_transaction_read_only')::bool"  # of other sessions
    )
    if connection.scalar(text(refuses)):
        raise StoreUnavailable(f"the server of {name} takes no changes: it is a standby, or set to read-only")


def _warn_of_fsync(connection: Connection, name: str) -> None:
    if connection.scalar(text("SELECT current_setting('fsync')")) != "on":
        _log.warning("the server of %s has fsync = off: it loses mail when its machine fails", name)


def _require_server(connection: Connection, name: str) -> None:
    major, encoding = connection.execute(
        text("SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding')")
    ).one()
    if major < _OLDEST:
        raise StoreUnusable(f"the server of {name} is PostgreSQL {major}, expected {_OLDEST} or later")
    if encoding != "UTF8":
        raise StoreUnusable(f"the database {name} has the encoding {encoding}, expected UTF8")


def _make(connection: Connection) -> None:
    metadata.create_all(connection, checkfirst=False)
    own_metadata.create_all(connection, checkfirst=False)
    for table, column in (("kept", "content"), ("kept_pieces", "octets")):  # mail is compressed badly
        connection.execute(text(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL"))
    if connection.scalar(text(_HAS_LZ4)):  # a search in all texts takes half the time
        for column in ("seen", "fields"):
            connection.execute(text(f"ALTER TABLE kept_texts ALTER COLUMN {column} SET COMPRESSION lz4"))
    connection.execute(insert(version).values(version_num=VERSION))


def _index_texts(connection: Connection) -> str:
    """Index the texts by three letters; returns why the server cannot, empty if it can."""
    if connection.scalar(text("SELECT to_regclass('kept_texts_seen')")) is not None:
        return ""
    try:
        with connection.begin_nested():
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text(f"CREATE EXTENSION IF NOT EXISTS {_TRIGRAMS}"))
            schema = connection.scalar(text(_TRIGRAMS_SCHEMA))
            for column in ("seen", "fields"):
                index = f"kept_texts_{column} ON kept_texts USING gin ({column} {schema}.gin_trgm_ops)"
                connection.execute(text(f"CREATE INDEX {index}"))
    except DBAPIError as error:
        return getattr(getattr(error.orig, "diag", None), "message_primary", "") or str(error.orig)
    return ""


def _warn_of_slow_searches(connection: Connection, name: str, why_not: str) -> None:
    """Say so if there is no index, or one of ASCII's letters alone, as the locale C makes it."""
    if why_not:
        _log.warning(
            "searches in %s will be slow from some 10,000 messages on: %s."
            " Run CREATE EXTENSION %s as an administrator, and restart Gatepost",
            *(name, why_not, _TRIGRAMS),
        )
        return
    schema = connection.scalar(text(_TRIGRAMS_SCHEMA))
    with suppress(DBAPIError), connection.begin_nested():
        if connection.scalar(text(f"SELECT cardinality({schema}.show_trgm('\u0436'))")) == 0:
            _log.warning(
                "searches in %s for words with other letters than a to z will be slow, since its locale knows"
                " no others: a database that is made with the locale C.UTF-8 does",
                name,
            )
