"""Messages that somebody has just deleted, for the moment in which that can be undone."""

import asyncio
from dataclasses import dataclass

from gatepost.store import Removed

__all__ = ["UNDO_SECONDS", "Trash"]

UNDO_SECONDS = 10
"""How long a page offers it."""
_GRACE_SECONDS = 5
"""For a click at the last moment, over a slow connection."""
_OCTETS = 64 << 20
_MESSAGES = 100
"""Limits of what is held; the message that was deleted last may be larger."""


@dataclass(frozen=True, slots=True)
class _Held:
    removed: Removed
    expiry: asyncio.TimerHandle


class Trash:
    """In memory only: the store has deleted them, so that no crash and no closed page brings one back.

    For one event loop.
    """

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._octets = 0

    def put(self, removed: Removed) -> None:
        """Hold a message until the time is over, or until others need the room."""
        kept_id = removed.message.id
        expiry = asyncio.get_running_loop().call_later(UNDO_SECONDS + _GRACE_SECONDS, self.take, kept_id)
        self._held[kept_id] = _Held(removed, expiry)
        self._octets += removed.message.size
        while len(self._held) > 1 and (self._octets > _OCTETS or len(self._held) > _MESSAGES):
            self.take(next(iter(self._held)))

    def take(self, kept_id: str) -> Removed | None:
        """The message, which is not held any longer; None if the time is over."""
        held = self._held.pop(kept_id, None)
        if held is None:
            return None
        held.expiry.cancel()
        self._octets -= held.removed.message.size
        return held.removed
