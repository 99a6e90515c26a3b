"""Lines of live conversations between the desks of all nodes: two unlogged tables, which stay small.

Nothing is written while nobody watches; then a desk asks one question a second. PostgreSQL empties such
tables when it restarts after a crash, and a standby does not have them: a moment of a live page is lost.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import psycopg

from gatepost.config.store import StoreSettings
from gatepost.store.exchange import PassedBatch, Turn
from gatepost.store.postgresql.driver import Place, error_for

__all__ = ["WATCH_SECONDS", "DeskExchange"]

WATCH_SECONDS: Final = 5
"""A desk that watches says so at least once in this time."""
_KEPT_SECONDS: Final = 10
"""Older batches are deleted; a desk that has not read them says how many lines they were."""
_BATCHES: Final = 64
"""That are read at once."""

_WATCH = """
INSERT INTO live_watchers VALUES (%s, clock_timestamp() + make_interval(secs => %s))
ON CONFLICT (desk) DO UPDATE SET ends_at = excluded.ends_at
"""
_WRITE = "INSERT INTO live_batches VALUES (%s, %s, %s, %s, %s, %s, clock_timestamp())"
_FORGET = "DELETE FROM live_batches WHERE written_at < clock_timestamp() - make_interval(secs => %s)"
_FORGET_WATCHERS = "DELETE FROM live_watchers WHERE ends_at < clock_timestamp()"
_OTHERS_WATCH = "SELECT EXISTS (SELECT FROM live_watchers WHERE desk <> %s AND ends_at >= clock_timestamp())"
_READ = """
SELECT desk, node, number, before, lines, octets
FROM live_batches LEFT JOIN unnest(%s::text[], %s::bigint[]) AS seen (by_desk, last) ON desk = by_desk
WHERE desk <> %s AND number > coalesce(last, -1)
ORDER BY written_at, number LIMIT %s
"""


class DeskExchange:
    """A `gatepost.store.contract.Exchange`, over one connection of its own; for one thread at a time."""

    def __init__(self, settings: StoreSettings, *, desk: str) -> None:
        """Connect to nothing yet; ``desk`` names this process."""
        self._place = Place(settings.url, settings.read_password)
        self._desk = desk
        self._connection: psycopg.Connection | None = None

    def turn(self, *, watches: bool, sent: Sequence[PassedBatch], seen: Mapping[str, int]) -> Turn:
        """See `gatepost.store.contract.Exchange`."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._place.connect(autocommit=True)
            return self._turn(self._connection, watches, sent, seen)
        except psycopg.Error as error:
            self.close()
            raise error_for(error, self._place.name) from error

    def _turn(
        self,
        connection: psycopg.Connection,
        watches: bool,  # noqa: FBT001 - as the contract's
        sent: Sequence[PassedBatch],
        seen: Mapping[str, int],
    ) -> Turn:
        if watches or sent:
            with connection.transaction():
                if watches:
                    connection.execute(_WATCH, (self._desk, WATCH_SECONDS))
                    connection.execute(_FORGET_WATCHERS)
                if sent:
                    connection.execute(_FORGET, (_KEPT_SECONDS,))
                for one in sent:
                    connection.execute(
                        _WRITE, (self._desk, one.number, one.node, one.before, one.lines, one.octets)
                    )
        others = connection.execute(_OTHERS_WATCH, (self._desk,)).fetchone()
        found = []
        if watches:
            known = ([*seen.keys()], [*seen.values()])
            found = connection.execute(_READ, (*known, self._desk, _BATCHES), binary=True).fetchall()
        return Turn(
            others_watch=others is not None and bool(others[0]),
            batches=tuple(
                PassedBatch(desk=desk, node=node, number=number, before=before, lines=lines, octets=octets)
                for desk, node, number, before, lines, octets in found
            ),
        )

    def close(self) -> None:
        """Close the connection; the next turn opens another one."""
        connection, self._connection = self._connection, None
        if connection:
            with suppress(psycopg.Error):
                connection.close()
