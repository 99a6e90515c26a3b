"""Logins: credentials in a request, sessions in memory, and delays after wrong passwords."""

import binascii
import secrets
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gatepost.values import value
from gatepost.web.accounts import LoggedIn

__all__ = ["Login", "Sessions"]

_SESSIONS = 1000
_SESSION_SECONDS = 12 * 3600
"""Time without a request after which a session ends."""
_TRIES = 10
_SECONDS_PER_TRY = 6.0
"""A client without attempts left gets a new one after this time."""
_CLIENTS = 10_000


@dataclass(slots=True)
class _Session:
    logged_in: LoggedIn
    used_at: float
    ends_at: float


class Sessions:
    """A session is a random token, only in memory."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._tries: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_seconds(self, client: str) -> float:
        """Seconds until this client may try again; 0: now."""
        left = self._tries_left(client)
        return 0.0 if left >= 1 else (1 - left) * _SECONDS_PER_TRY

    def note_wrong(self, client: str) -> None:
        """Count a wrong attempt."""
        self._tries[client] = (self._tries_left(client) - 1, self._clock())
        self._tries.move_to_end(client)
        while len(self._tries) > _CLIENTS:
            self._tries.popitem(last=False)

    def _tries_left(self, client: str) -> float:
        left, at = self._tries.get(client, (float(_TRIES), 0.0))
        return min(float(_TRIES), left + (self._clock() - at) / _SECONDS_PER_TRY)

    def begin(self, logged_in: LoggedIn) -> str:
        """The token of a new session."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        self._sessions[token] = _Session(logged_in, used_at=now, ends_at=now + logged_in.lasts_seconds)
        while len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def end(self, token: str) -> None:
        """Forget a session."""
        self._sessions.pop(token, None)

    def logged_in(self, token: str) -> LoggedIn | None:
        """The user of a session; None if it has ended or does not exist."""
        session = self._open(token)
        if session is None:
            return None
        session.used_at = self._clock()
        self._sessions.move_to_end(token)
        return session.logged_in

    def peek(self, token: str) -> LoggedIn | None:
        """As `logged_in`, but the session's time goes on: an open page alone does not keep it."""
        session = self._open(token)
        return session.logged_in if session else None

    def _open(self, token: str) -> _Session | None:
        """The session, if its time has not ended."""
        session = self._sessions.get(token)
        now = self._clock()
        if session and (now - session.used_at > _SESSION_SECONDS or now >= session.ends_at):
            del self._sessions[token]
            return None
        return session


@value
class Login:
    """A password that came with a request, without a session."""

    name: str
    """Empty for a password, or a token, alone."""
    password: str

    @classmethod
    def from_header(cls, value: str) -> "Login | None":
        """From an Authorization field, ``Bearer PASSWORD`` or ``Basic ...`` (RFC 7617), else None."""
        scheme, _, credentials = value.partition(" ")
        match scheme.lower():
            case "bearer":
                return cls(name="", password=credentials.strip())
            case "basic":
                try:
                    name, _, password = b64decode(credentials.strip(), validate=True).decode().partition(":")
                except (binascii.Error, ValueError):
                    return None
                return cls(name=name, password=password)
            case _:
                return None
