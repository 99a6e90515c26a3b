"""Print fields, one on each line, or JSON; safe to show."""

import dataclasses
import json
from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any, Final

import typer

from gatepost.printable import printable

__all__ = [
    "MOST",
    "clock",
    "moment",
    "print_fields",
    "print_json",
    "readable",
]

MOST: Final = 10**18 - 1
"""The largest number of rows to ask for: a store calculates with 64 bits, and settings have 18 digits."""


def moment(text: str, option: str) -> datetime:
    """Of an option: how long ago (``90m``, ``1h``, ``7d``), or local date and time. Raises BadParameter."""
    from gatepost.store.query import past_moment  # noqa: PLC0415 - the store is slow to import

    try:
        return past_moment(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}, expected a time like 1h, 30m, 7d, 2026-11-30 or 2026-11-30T08:00", param_hint=option
        ) from None


def clock(when: datetime) -> str:
    """Format a time in the local time zone."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def readable(value: str) -> str:
    """A header field's value with its encoded-words (RFC 2047) decoded as far as possible."""
    if "=?" not in value:
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, ValueError):
        return value


def print_fields(fields: Iterable[tuple[str, str | None]]) -> None:
    """Print names and values, one on each line; a value of None is left out."""
    present = [(name, value) for name, value in fields if value is not None]
    width = max(len(name) for name, _ in present)
    for name, value in present:
        print(f"{name:<{width}}  {printable(value)}".rstrip())


def print_json(value: Any, **more: Any) -> None:
    """Print a dataclass, and more members, as one JSON object on one line.

    Bytes become base64, edits the words for them.
    """
    told = dataclasses.asdict(value) | more
    if "edits" in told:
        told["edits"] = [str(edit) for edit in value.edits]
    print(json.dumps(told, default=_plain))


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
