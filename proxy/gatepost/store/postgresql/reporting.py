"""Which desk reports new messages: the one with an advisory lock; and a row that says how far it has come.

The server ends the lock with the connection, after four seconds if the machine is gone.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import psycopg

from gatepost.config.store import StoreSettings
from gatepost.store.postgresql.driver import Lock, Place, error_for, session_try_lock

__all__ = ["DeskReporting"]

_TAKE: Final = session_try_lock(Lock.WEBHOOK)
_COMMITS: Final = "SET synchronous_commit = local"
"""A failover that loses the last moment has a message reported twice, with the same id."""
_REACHED: Final = "SELECT number FROM positions WHERE name = 'webhook'"
_REACH: Final = (
    "INSERT INTO positions VALUES ('webhook', %s) ON CONFLICT (name) DO UPDATE SET number = excluded.number"
)

T = TypeVar("T")


class DeskReporting:
    """A `gatepost.store.contract.Reporting`, over one connection of its own."""

    def __init__(self, settings: StoreSettings) -> None:
        """Connect to nothing yet."""
        self._place = Place(settings.url, settings.read_password)
        self._connection: psycopg.Connection | None = None
        self._has_lock = False

    def is_ours(self) -> bool:
        """See `gatepost.store.contract.Reporting`."""

        def look(connection: psycopg.Connection) -> bool:
            found = connection.execute("SELECT true" if self._has_lock else _TAKE).fetchone()
            self._has_lock = found is not None and bool(found[0])
            return self._has_lock

        return self._do(look)

    def reached(self) -> int | None:
        """See `gatepost.store.contract.Reporting`."""

        def look(connection: psycopg.Connection) -> int | None:
            found = connection.execute(_REACHED).fetchone()
            return None if found is None else int(found[0])

        return self._do(look)

    def reach(self, number: int) -> None:
        """See `gatepost.store.contract.Reporting`."""
        self._do(lambda connection: connection.execute(_REACH, (number,)))

    def close(self) -> None:
        """See `gatepost.store.contract.Reporting`."""
        connection, self._connection, self._has_lock = self._connection, None, False
        if connection:
            with suppress(psycopg.Error):
                connection.close()

    def _do(self, work: Callable[[psycopg.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._place.connect(autocommit=True)
                self._connection.execute(_COMMITS)
            return work(self._connection)
        except psycopg.Error as error:
            self.close()
            raise error_for(error, self._place.name) from error
