"""The clock of the server, by which all nodes go, and how far this machine's is from it."""

import logging
import time
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from gatepost.store.errors import StoreUnusable
from gatepost.store.sql.rows import moment

__all__ = ["ServerClock", "require_alike"]

_log = logging.getLogger(__name__)

_WARNED_SECONDS: Final = 5.0
_REFUSED_SECONDS: Final = 300.0
"""No clock is so far off that is set by the network. Kerberos bears as much (RFC 4120, 8.2)."""
_NOW: Final = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


class ServerClock:
    """The clock of the server of one store; notices if this machine's moves against it."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._ahead: float | None = None

    def now(self, connection: Connection) -> datetime:
        """The time; logs a warning if the clocks differ otherwise than before, and by 5 seconds or more."""
        now, ahead = _compared(connection)
        if self._ahead is None:
            self._ahead = ahead
        elif abs(ahead - self._ahead) >= _WARNED_SECONDS:
            self._ahead = ahead
            if abs(ahead) >= _WARNED_SECONDS:
                _log.warning("%s now; set the clocks", _difference(ahead, self._store))
        return now


def require_alike(connection: Connection, store: str) -> None:
    """Log a warning if the clocks differ, and raise StoreUnusable if they differ by five minutes.

    A node dates what it stores by its own clock. What it dated long ago others would delete by age at once.
    """
    _, ahead = _compared(connection)
    if abs(ahead) >= _REFUSED_SECONDS:
        raise StoreUnusable(f"{_difference(ahead, store)}, expected less than 300; set the clocks")
    if abs(ahead) >= _WARNED_SECONDS:
        _log.warning(
            "%s: the journal goes by the clock of each node; set the clocks", _difference(ahead, store)
        )


def _compared(connection: Connection) -> tuple[datetime, float]:
    """The server's time, and by how many seconds this machine is ahead of it at least; negative: behind."""
    before = time.time()
    now = moment(connection.execute(_NOW).scalar_one())
    after = time.time()
    there = now.timestamp()
    return now, before - there if there < before else min(after - there, 0.0)


def _difference(ahead: float, store: str) -> str:
    which = "ahead of" if ahead > 0 else "behind"
    return f"the clock of this machine is {abs(ahead):,.1f} seconds {which} that of the server of {store}"
