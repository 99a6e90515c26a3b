"""Check the values that a filter makes, so that a wrong type is an error at the author's own line.

A wrong type is a mistake of the author and raises. Characters that do not belong in a text are none of the
author's: they come from mail. They are replaced, since otherwise a sender could make a filter fail.
"""

import reprlib
from math import isfinite
from typing import NoReturn

from gatepost.printable import storable, without_controls

__all__ = ["check_number", "check_seconds", "check_type", "one_line", "plain", "raise_type", "storable_text"]

_SECONDS_LIMIT = 86_400
_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 80


def raise_type(field: str, found: object, expected: str) -> NoReturn:
    """Raise the TypeError for a field of the wrong type, for example ``Verdict.action``."""
    raise TypeError(f"{field} is {_shown.repr(found)} ({type(found).__name__}), expected {expected}")


def check_type(field: str, found: object, kind: type, expected: str) -> None:
    """Raise TypeError unless it is of that kind; a bool is not an int."""
    if not isinstance(found, kind) or (found.__class__ is bool and kind is not bool):
        raise_type(field, found, expected)


def plain(field: str, found: object) -> str:
    """The text, of a subclass of str its characters; raises TypeError for anything else."""
    if not isinstance(found, str):
        raise_type(field, found, "text (str)")
    return found if found.__class__ is str else str.__str__(found)


def one_line(field: str, found: object, limit: int) -> str:
    r"""The text on one line of at most ``limit`` characters; other control characters become ``\x1b``."""
    text = plain(field, found)
    cut = text[: limit + 1]
    if not cut.isprintable():
        cut = without_controls(" ".join(cut.splitlines()))
    return cut if len(cut) <= limit else f"{cut[: limit - 1]}…"


def storable_text(field: str, found: object, limit: int) -> str:
    """The first ``limit`` characters; NUL and lone surrogates become U+FFFD."""
    return storable(plain(field, found)[:limit])


def check_seconds(field: str, found: object) -> None:
    """Raise TypeError or ValueError unless it is a time from 0 to a day."""
    _check_range(field, found, 0, _SECONDS_LIMIT, f"a number of seconds from 0 to {_SECONDS_LIMIT}")


def check_number(field: str, found: object, least: float, most: float) -> None:
    """Raise TypeError or ValueError unless it is a number in that range."""
    _check_range(field, found, least, most, f"a number from {least:g} to {most:g}")


def _check_range(field: str, found: object, least: float, most: float, expected: str) -> None:
    if not isinstance(found, int | float) or found.__class__ is bool:
        raise_type(field, found, expected)
    if not (least <= found <= most and isfinite(found)):
        raise ValueError(f"{field} is {_shown.repr(found)}, expected {expected}")
