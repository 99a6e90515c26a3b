"""Sizes and times as people write them: types for settings, and their parsers."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from pydantic_core import CoreSchema, PydanticCustomError

__all__ = ["Bytes", "Duration", "Seconds", "number_of_bytes", "seconds"]

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
_LONGEST_SECONDS = timedelta.max.total_seconds()


def number_of_bytes(value: Any) -> int:
    """A number of bytes from ``32MiB``, ``500KB`` or a plain number; raises an error for pydantic."""
    if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        value = int(found[1]) * _SIZE_UNITS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise _expected("a size like 32MiB or 500KB")
    return value


def seconds(value: Any) -> float:
    """A time in seconds from ``10s``, ``5m``, ``250ms`` or a plain number; raises as `number_of_bytes`."""
    if isinstance(value, str) and (found := _TIME.fullmatch(value)):
        value = float(found[1]) * _TIME_UNITS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LONGEST_SECONDS:
        raise _expected("a time like 10s, 5m or 250ms")
    return float(value)


def _duration(value: Any) -> timedelta:
    return value if isinstance(value, timedelta) else timedelta(seconds=seconds(value))


def _expected(what: str) -> "PydanticCustomError":
    from pydantic_core import PydanticCustomError  # noqa: PLC0415 - `import gatepost` needs no pydantic

    return PydanticCustomError("expected", "{what}", {"what": what})


class _Parsed:
    """Lets pydantic parse a value with a function before it checks the type."""

    def __init__(self, parse: Callable[[Any], Any]) -> None:
        self._parse = parse

    def __get_pydantic_core_schema__(
        self, source: Any, handler: Callable[[Any], "CoreSchema"]
    ) -> "CoreSchema":
        from pydantic_core import core_schema  # noqa: PLC0415 - as above

        return core_schema.no_info_before_validator_function(self._parse, handler(source))


Bytes = Annotated[int, _Parsed(number_of_bytes)]
"""The type of a setting: a number of bytes, more than 0; written as a number or with B, KiB, MiB, GiB, KB,
MB, GB."""
Seconds = Annotated[float, _Parsed(seconds)]
"""The type of a setting: a time in seconds, more than 0; written as a number or with ms, s, m, h, d."""
Duration = Annotated[timedelta, _Parsed(_duration)]
"""As `Seconds`, for a setting whose type is `timedelta`."""
