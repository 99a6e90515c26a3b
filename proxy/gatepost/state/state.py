"""The memory of a filter, as the filter sees it."""

import math
from hashlib import blake2b

from gatepost.state.contract import Amount, Backend, Counted, Value

__all__ = ["State"]

_KEY_BYTES = 200
_VALUE_BYTES = 64 << 10
_INT_BITS = 63
_LONGEST_SECONDS = 100 * 365 * 86400.0


class State:
    """What a filter remembers: values by key, each with the time when it ends, and counts within windows.

    A filter gets it as the argument of a constructor's parameter with this annotation. All workers share it,
    and it outlives reloads and restarts. Rules with the same ``filter`` share their keys, and other filters
    have others. Nothing waits on the event loop. If there are more than ``state.max_entries`` values and
    counts, the filter that has most forgets those that end first.

    The others raise OSError if the state cannot be used, so that the rule's ``on_error`` decides.
    """

    def __init__(self, backend: Backend, space: str) -> None:
        """``space`` is the name of the filter, as the settings write it."""
        self._backend = backend
        self._space = space

    def now(self) -> float:
        """The seconds since 1970, by the clock by which values end.

        A clock may have been set: a time that was remembered may lie in the future.
        """
        return self._backend.now()

    async def get(self, key: str) -> Value | None:
        """The value of a key, or None if it has none or its time is over."""
        return await self._backend.get(self._space, _short(key))

    async def set(self, key: str, value: Value, *, seconds: float) -> None:
        """Remember a value for so long, in place of the one before.

        Raises ValueError if it is longer than 64 KiB, or a number of more than 64 bits.
        """
        if not 0 < seconds < _LONGEST_SECONDS:
            raise ValueError(f"{seconds:g} seconds, expected more than 0 and less than a hundred years")
        await self._backend.set(self._space, _short(key), _checked(value), seconds)

    async def add(self, *amounts: Amount) -> tuple[Counted, ...]:
        """Add all amounts to their counts, or none of them if one would exceed its limit.

        Returns what it found for each. The window slides: an amount counts for its ``seconds``, and up to a
        twelfth longer, so that never more than the limit is added within the window.
        """
        short = (
            Amount(key=_short(one.key), amount=one.amount, seconds=one.seconds, limit=one.limit)
            for one in amounts
        )
        return await self._backend.add(self._space, tuple(short))


def _short(key: str) -> str:
    """The key; the rest of a long one as a hash."""
    octets = key.encode("utf-8", "backslashreplace")
    if len(octets) > _KEY_BYTES:
        digest = blake2b(octets, digest_size=16).hexdigest()
        octets = octets[: _KEY_BYTES // 2] + digest.encode()
    return octets.decode("utf-8", "replace")


def _checked(value: Value) -> Value:
    if isinstance(value, str):
        size = len(value.encode())
    elif isinstance(value, bytes):
        size = len(value)
    elif isinstance(value, int):
        if value.bit_length() > _INT_BITS:
            raise ValueError("a number of more than 64 bits")
        return int(value)
    elif isinstance(value, float) and not math.isnan(value):
        return value
    else:
        raise TypeError(f"{type(value).__name__}, expected int, float, str or bytes")
    if size > _VALUE_BYTES:
        raise ValueError(f"{size} bytes, expected at most {_VALUE_BYTES}")
    return value
