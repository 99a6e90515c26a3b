"""Who has logged in: the password, sessions in memory, and patience with wrong tries."""

import binascii
import hmac
import secrets
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Login", "Sessions"]

_SESSIONS = 1000
_SESSION_SECONDS = 12 * 3600
"""Without a request."""
_TRIES = 10
_SECONDS_PER_TRY = 6.0
"""A client that has used up its tries gets a new one so often."""
_CLIENTS = 10_000


@dataclass(slots=True)
class _Session:
    name: str
    used_at: float


class Sessions:
    """One password for all; a session is a random token that is only kept in memory."""

    def __init__(self, password: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        if not password:
            raise ValueError("the password is empty")
        self._password = password.encode()
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._tries: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def is_password(self, given: str) -> bool:
        """True for the password; takes the same time for every wrong one."""
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._password)

    def wait_seconds(self, client: str) -> float:
        """How long this client must wait until it may try again; 0: not at all."""
        left = self._tries_left(client)
        return 0.0 if left >= 1 else (1 - left) * _SECONDS_PER_TRY

    def note_wrong(self, client: str) -> None:
        """Count a wrong try."""
        self._tries[client] = (self._tries_left(client) - 1, self._clock())
        self._tries.move_to_end(client)
        while len(self._tries) > _CLIENTS:
            self._tries.popitem(last=False)

    def _tries_left(self, client: str) -> float:
        left, at = self._tries.get(client, (float(_TRIES), 0.0))
        return min(float(_TRIES), left + (self._clock() - at) / _SECONDS_PER_TRY)

    def begin(self, name: str) -> str:
        """The token of a new session; ``name`` is what its changes are noted under."""
        token = secrets.token_urlsafe(32)
        self._sessions[token] = _Session(name, self._clock())
        while len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def end(self, token: str) -> None:
        """Forget a session."""
        self._sessions.pop(token, None)

    def name(self, token: str) -> str | None:
        """The name of a session, None where it has ended or never was."""
        session = self._sessions.get(token)
        if session is None:
            return None
        now = self._clock()
        if now - session.used_at > _SESSION_SECONDS:
            del self._sessions[token]
            return None
        session.used_at = now
        self._sessions.move_to_end(token)
        return session.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A password that came with a request, without a session."""

    name: str
    """Empty where none came with it."""
    password: str

    @classmethod
    def from_header(cls, value: str) -> "Login | None":
        """Of an Authorization field, ``Bearer PASSWORD`` or ``Basic ...`` (RFC 7617), else None."""
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
