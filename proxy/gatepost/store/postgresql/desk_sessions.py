"""Log-ins to the web desk: a table with a row for each session, read once for each request of a browser.

Its rows are for all nodes, and outlive a crash and a failover. A commit here does not wait for the standby:
while that is gone everybody stays logged in, and a failover can lose no more than the last moment.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import psycopg

from gatepost.config.store import StoreSettings
from gatepost.store.errors import StoreUnavailable
from gatepost.store.postgresql.driver import Place, error_for
from gatepost.store.thread_queue import ThreadQueue

__all__ = ["PostgresqlDeskSessions"]

_SESSIONS: Final = 10_000
"""Of all nodes. A person needs one for each browser."""
_SESSIONS_OF_OWNER: Final = 100
_NOTE_SECONDS: Final = 60
"""A use is noted if the last noted one is older."""
_LONGEST_SECONDS: Final = 1e9
_PATIENCE_SECONDS: Final = 5
"""To wait for other threads, of which one may wait for a server that is frozen."""

_COMMITS: Final = "SET synchronous_commit = local"
_IS_OVER: Final = (
    "(used_at < clock_timestamp() - make_interval(secs => %(unused)s) OR ends_at <= clock_timestamp())"
    " IS TRUE"
)
_PUT: Final = """
INSERT INTO desk_sessions (key, sealed, owner, used_at, ends_at)
VALUES (
  %(key)s, %(sealed)s, %(owner)s, clock_timestamp(), clock_timestamp() + make_interval(secs => %(lasts)s)
)
ON CONFLICT (key) DO NOTHING
"""
_GET: Final = f"""
SELECT sealed, used_at < clock_timestamp() - make_interval(secs => %(note)s)
FROM desk_sessions WHERE key = %(key)s AND NOT {_IS_OVER}
"""  # noqa: S608 - of constants
_USE: Final = f"UPDATE desk_sessions SET used_at = clock_timestamp() WHERE key = %(key)s AND NOT {_IS_OVER}"  # noqa: S608
_REMOVE: Final = "DELETE FROM desk_sessions WHERE key = %(key)s"
_FORGET: Final = f"""
DELETE FROM desk_sessions WHERE key IN (
  SELECT key FROM desk_sessions
  WHERE {_IS_OVER}
  OR used_at <= (SELECT used_at FROM desk_sessions ORDER BY used_at DESC OFFSET %(most)s LIMIT 1)
  FOR UPDATE SKIP LOCKED
)
"""  # noqa: S608
_FORGET_OF_OWNER: Final = """
DELETE FROM desk_sessions WHERE key IN (
  SELECT key FROM desk_sessions
  WHERE owner = %(owner)s AND used_at <= (
    SELECT used_at FROM desk_sessions WHERE owner = %(owner)s ORDER BY used_at DESC OFFSET %(most)s LIMIT 1
  )
  FOR UPDATE SKIP LOCKED
)
"""
"""Before `_FORGET`, which would otherwise count these, and end sessions of others.

Rows that another node removes at this moment are skipped: two that wait for each other would fail."""

T = TypeVar("T")


class PostgresqlDeskSessions:
    """A `gatepost.store.contract.DeskSessions`, over one connection of its own; for several threads."""

    def __init__(self, settings: StoreSettings, *, unused_seconds: float) -> None:
        """Connect to nothing yet."""
        self._place = Place(settings.url, settings.read_password)
        self._unused_seconds = unused_seconds
        self._connection: psycopg.Connection | None = None
        self._lock = ThreadQueue()

    def put(self, key: bytes, sealed: bytes, *, owner: bytes, lasts_seconds: float) -> None:
        """See `gatepost.store.contract.DeskSessions`."""
        lasts = lasts_seconds if lasts_seconds <= _LONGEST_SECONDS else None

        def put(connection: psycopg.Connection) -> None:
            connection.execute(_PUT, {"key": key, "sealed": sealed, "owner": owner, "lasts": lasts})
            connection.execute(_FORGET_OF_OWNER, {"owner": owner, "most": _SESSIONS_OF_OWNER})
            self._forget(connection)

        self._do(put)

    def get(self, key: bytes, *, uses: bool) -> bytes | None:
        """See `gatepost.store.contract.DeskSessions`."""
        given = {"key": key, "unused": self._unused_seconds, "note": _NOTE_SECONDS}

        def get(connection: psycopg.Connection) -> bytes | None:
            found = connection.execute(_GET, given, binary=True).fetchone()
            if found is None:
                return None
            sealed, is_due = found
            if uses and is_due:
                with suppress(psycopg.Error):  # a full disk: the session is valid all the same
                    connection.execute(_USE, given)
                    self._forget(connection)
            return bytes(sealed)

        return self._do(get)

    def remove(self, key: bytes) -> None:
        """See `gatepost.store.contract.DeskSessions`."""
        self._do(lambda connection: connection.execute(_REMOVE, {"key": key}))

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        connection, self._connection = self._connection, None
        if connection:
            with suppress(psycopg.Error):
                connection.close()

    def _forget(self, connection: psycopg.Connection) -> None:
        connection.execute(_FORGET, {"unused": self._unused_seconds, "most": _SESSIONS})

    def _do(self, work: Callable[[psycopg.Connection], T]) -> T:
        """Do it, on another connection if this one has ended meanwhile: all of it may be done twice."""
        if not self._lock.acquire(_PATIENCE_SECONDS):
            raise StoreUnavailable(f"the store {self._place.name} does not answer")
        try:
            connection = self._connection
            if connection is not None and not connection.closed:
                try:
                    return work(connection)
                except psycopg.OperationalError:
                    self.close()
            self._connection = connection = self._place.connect(autocommit=True)
            connection.execute(_COMMITS)
            return work(connection)
        except psycopg.Error as error:
            self.close()
            raise error_for(error, self._place.name) from error
        finally:
            self._lock.release()
