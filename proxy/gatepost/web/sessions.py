"""Sessions of users who have logged in: what they promise, and those in memory."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from gatepost.web.accounts import LoggedIn

__all__ = ["TOKEN_BYTES", "UNUSED_SECONDS", "MemorySessions", "Sessions"]

TOKEN_BYTES: Final = 32
"""Random bytes of a token, which is written in base64url."""

UNUSED_SECONDS: Final = 12 * 3600
"""Time without a request after which a session ends."""
_SESSIONS: Final = 1000
_SESSIONS_OF_USER: Final = 100
"""More of one user end those of them that were unused for longest, and none of others."""


class Sessions(Protocol):
    """Users who have logged in; a session is a random token. All but `close` raise StoreError."""

    async def begin(self, logged_in: LoggedIn) -> str:
        """The token of a new session."""

    async def end(self, token: str) -> None:
        """Forget a session."""

    async def logged_in(self, token: str) -> LoggedIn | None:
        """The user of a session; None if it has ended or does not exist."""

    async def peek(self, token: str) -> LoggedIn | None:
        """As `logged_in`, but the session's time goes on: an open page alone does not keep it."""

    def close(self) -> None:
        """Let go of what is open."""


@dataclass(slots=True)
class _Session:
    logged_in: LoggedIn
    used_at: float
    ends_at: float


class MemorySessions:
    """`Sessions` of this process, which end with it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    async def begin(self, logged_in: LoggedIn) -> str:
        """See `Sessions`."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        now = self._clock()
        self._sessions[token] = _Session(logged_in, used_at=now, ends_at=now + logged_in.lasts_seconds)
        own = [one for one, session in self._sessions.items() if session.logged_in.owner == logged_in.owner]
        for oldest in own[:-_SESSIONS_OF_USER]:
            del self._sessions[oldest]
        while len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return token

    async def end(self, token: str) -> None:
        """See `Sessions`."""
        self._sessions.pop(token, None)

    async def logged_in(self, token: str) -> LoggedIn | None:
        """See `Sessions`."""
        session = self._open(token)
        if session is None:
            return None
        session.used_at = self._clock()
        self._sessions.move_to_end(token)
        return session.logged_in

    async def peek(self, token: str) -> LoggedIn | None:
        """See `Sessions`."""
        session = self._open(token)
        return session.logged_in if session else None

    def close(self) -> None:
        """Nothing is open."""

    def _open(self, token: str) -> _Session | None:
        """The session, if its time has not ended."""
        session = self._sessions.get(token)
        now = self._clock()
        if session and (now - session.used_at > UNUSED_SECONDS or now >= session.ends_at):
            del self._sessions[token]
            return None
        return session
