"""Attempts to log in: credentials that come with a request, and delays after wrong passwords."""

import asyncio
import binascii
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network, ip_address

from gatepost.values import value

__all__ = ["Attempts", "Login", "guesser"]

_TRIES = 10
_SECONDS_PER_TRY = 6.0
"""A client without attempts left gets a new one after this time."""
_CLIENTS = 10_000
_AT_ONCE = 2
"""Passwords of one client that are checked at a time: as many as there are threads for that."""
_IPV6_NETWORK = 64
"""Bits of what one client has at least (RFC 6177)."""


def guesser(client: str) -> str:
    """Whose attempts are counted together: an address, or with IPv6 a network in which one can choose any."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if not isinstance(address, IPv6Address):
        return client
    return str(address.ipv4_mapped or IPv6Network((int(address), _IPV6_NETWORK), strict=False))


@dataclass(slots=True)
class _Turns:
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    wanted: int = 0


class Attempts:
    """Wrong attempts of clients at this desk, in memory; for one event loop."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._turns: dict[str, _Turns] = {}

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait until at most one other password of this client is checked: the results count for this one."""
        turns = self._turns.setdefault(client, _Turns())
        turns.wanted += 1
        try:
            async with turns.free:
                yield
        finally:
            turns.wanted -= 1
            if not turns.wanted:
                del self._turns[client]

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
