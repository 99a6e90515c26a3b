"""Rates in settings: so many, or so many bytes, in a time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gatepost import Bytes, Seconds
from pydantic import TypeAdapter, ValidationError

__all__ = ["Rate", "rate", "rates"]

_UNITS = {"second": "1s", "minute": "1m", "hour": "1h", "day": "1d", "week": "7d"}
_RATE = re.compile(r"\s*([^/]+?)\s*/\s*([^/]+?)\s*")
_NUMBER = re.compile(r"[1-9]\d{0,14}", re.ASCII)
_BYTES: TypeAdapter[int] = TypeAdapter(Bytes)
_SECONDS: TypeAdapter[float] = TypeAdapter(Seconds)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so much in a time."""

    text: str
    """As in the settings."""
    limit: int
    seconds: float


def rates(what: str, texts: Sequence[str]) -> list[Rate]:
    """Read each of them once; raises ValueError."""
    return [rate(what, text) for text in dict.fromkeys(texts)]


def rate(what: str, text: str) -> Rate:
    """Read ``100/hour``, where ``what`` is "bytes" ``50MiB/15m``; raises ValueError that names ``what``."""
    of_bytes = what == "bytes"
    expected = "50MiB/hour or 1GiB/30d" if of_bytes else "100/hour or 20/15m"
    found = _RATE.fullmatch(text)
    try:
        if found and (of_bytes or _NUMBER.fullmatch(found[1])):
            seconds = _SECONDS.validate_python(_UNITS.get(found[2], found[2]))
            return Rate(text, _BYTES.validate_python(found[1]), seconds)
    except ValidationError:
        pass
    raise ValueError(f"{what}: {text!r}, expected a rate like {expected}")
