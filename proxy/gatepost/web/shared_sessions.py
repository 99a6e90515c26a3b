"""Sessions in a store that several nodes share: begun at one desk, valid at all, and ended at all."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread

from gatepost.store import DeskSessions, StoreUnavailable
from gatepost.web.accounts import LoggedIn
from gatepost.web.sealed_sessions import key_of, owner_of, seal, unseal
from gatepost.web.sessions import TOKEN_BYTES

__all__ = ["SharedSessions"]

_PATIENCE_SECONDS: Final = 10.0
"""For an answer of the store, so that requests do not wait for a server that is frozen."""

T = TypeVar("T")


class SharedSessions:
    """`Sessions` of all nodes with one store, which is asked each time; for one event loop."""

    def __init__(self, stored: DeskSessions) -> None:
        self._stored = stored
        self._limiter = CapacityLimiter(1)

    async def begin(self, logged_in: LoggedIn) -> str:
        """See `Sessions`."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        key, sealed, owner = key_of(token), seal(token, logged_in), owner_of(logged_in)
        lasts_seconds = logged_in.lasts_seconds
        await self._ask(lambda: self._stored.put(key, sealed, owner=owner, lasts_seconds=lasts_seconds))
        return token

    async def end(self, token: str) -> None:
        """See `Sessions`."""
        if _may_be(token):
            await self._ask(lambda: self._stored.remove(key_of(token)))

    async def logged_in(self, token: str) -> LoggedIn | None:
        """See `Sessions`."""
        return await self._get(token, uses=True)

    async def peek(self, token: str) -> LoggedIn | None:
        """See `Sessions`."""
        return await self._get(token, uses=False)

    def close(self) -> None:
        """See `Sessions`."""
        self._stored.close()

    async def _get(self, token: str, *, uses: bool) -> LoggedIn | None:
        if not _may_be(token):
            return None
        sealed = await self._ask(lambda: self._stored.get(key_of(token), uses=uses))
        return None if sealed is None else unseal(token, sealed)

    async def _ask(self, question: Callable[[], T]) -> T:
        """Ask the store in a thread; one that is still asking after the patience is left alone."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await to_thread.run_sync(question, limiter=self._limiter, abandon_on_cancel=True)
        except TimeoutError:
            raise StoreUnavailable(f"the store did not answer within {_PATIENCE_SECONDS:g} s") from None


def _may_be(token: str) -> bool:
    """True if a text is as long as a token: nothing else is worth a question to the store."""
    return len(token) == -(-TOKEN_BYTES * 4 // 3)
