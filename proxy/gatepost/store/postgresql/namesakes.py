"""Notices two nodes with one name: each connection of a node holds an advisory lock with its name and start.

The server ends the lock with the connection, so a node that was killed leaves no mark behind.
"""

import logging
import time
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Row, text

from gatepost.store.node import RunningNode

__all__ = ["is_second_process", "mark", "warn_of_namesakes"]

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS: Final = 6.0
"""The server ends the connections of a machine that is gone after four seconds."""
_LOOK_SECONDS: Final = 0.2
_KEY: Final = "hashtext('gatepost node ' || current_schema() || ' ' || CAST({name} AS text))"
_MARK: Final = f"SELECT pg_try_advisory_lock_shared({_KEY.format(name='%s')}, %s)"
_OTHERS: Final = text(
    "SELECT bool_or(objid = CAST(:instance AS oid)), bool_or(objid <> CAST(:instance AS oid)),"  # noqa: S608 - of constants
    " string_agg(DISTINCT host(client_addr), ', ') FILTER (WHERE objid <> CAST(:instance AS oid))"
    " FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)"
    " WHERE pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    f" AND classid = CAST(CAST({_KEY.format(name=':name')} AS bigint) & 4294967295 AS oid)"
    " AND locktype = 'advisory' AND granted AND pid <> pg_backend_pid()"
)


def mark(connection: psycopg.Connection, node: RunningNode) -> None:
    """Let others see, until the connection ends, that this node has the store open."""
    connection.execute(_MARK, (node.name, node.instance))


def is_second_process(connection: Connection, node: RunningNode) -> bool:
    """True if another process of that node has the store open."""
    return bool(_others(connection, node)[0])


def _others(connection: Connection, node: RunningNode) -> Row[Any]:
    return connection.execute(_OTHERS, {"name": node.name, "instance": str(node.instance)}).one()


def warn_of_namesakes(connection: Connection, store: str, node: RunningNode) -> None:
    """Log a warning if another node of that name has the store open; only the first process of a node does.

    The connection is marked. One whose node has just ended may be seen for a moment, so this may wait.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        is_second, has_namesake, addresses = tuple(_others(connection, node))
        if is_second or not has_namesake:
            return
        if time.monotonic() >= until:
            break
        time.sleep(_LOOK_SECONDS)
    _log.warning(
        "another gateway%s with the node name %s has the store %s open: journal, metrics and desk cannot tell"
        " the two apart; set another `node` in the settings of one of them, and restart it",
        *(f" at {addresses}" if addresses else "", node.name, store),
    )
