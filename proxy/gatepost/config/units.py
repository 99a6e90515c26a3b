"""Sizes and times as people write them."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from gatepost.config.patterns import expected

__all__ = ["Octets", "Seconds", "octets", "seconds"]

_SIZE = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB|KB|MB|GB)?")
_SIZE_UNITS = {
    None: 1,
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
_TIME = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(ms|s|m|h|d)?")
_TIME_UNITS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def octets(value: Any) -> int:
    """A number of octets from ``32MiB``, ``500KB`` or a plain number; raises an error for pydantic."""
    if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        value = int(found[1]) * _SIZE_UNITS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise expected("a size like 32MiB or 500KB")
    return value


def seconds(value: Any) -> float:
    """A time in seconds from ``10s``, ``5m``, ``250ms`` or a plain number; raises as `octets` does."""
    if isinstance(value, str) and (found := _TIME.fullmatch(value)):
        value = float(found[1]) * _TIME_UNITS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise expected("a time like 10s, 5m or 250ms")
    return float(value)


Octets = Annotated[int, BeforeValidator(octets), Field(gt=0)]
"""A number of octets; written as a number or with B, KiB, MiB, GiB, KB, MB, GB."""
Seconds = Annotated[float, BeforeValidator(seconds), Field(gt=0)]
"""A time in seconds; written as a number or with ms, s, m, h, d."""
