"""What people type to find transactions in the journal: the language of messages, as far as it fits.

Words and ``name:value`` terms; a value with spaces stands in double quotes. All terms must match, and each
name may stand once::

    from:ADDRESS to:ADDRESS address:ADDRESS client:IP rule:NAME is:DISPOSITION
    id:TRANSACTION|KEPTID|<MESSAGE-ID> session:ID after:TIME before:TIME

``*`` stands for any characters. ``from:<>`` is the null reverse-path. A TIME is how long ago (``90m``,
``2h``, ``7d``) or a date, with or without a time. A word is taken as what it looks like: a client's
address, a Message-ID, an identifier, else a part of any address.
"""

import re
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from gatepost.record import Disposition
from gatepost.store.archive import JournalQuery
from gatepost.store.moments import past_moment

__all__ = ["JournalSearchError", "parse_journal_search"]

_TERM = re.compile(r'\s*(?:([a-z][a-z-]*):)?(?:"([^"]*)"|(\S+))')
_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{16}")
_FIELDS = {
    "from": "mail_from",
    "to": "recipient",
    "address": "address",
    "client": "client",
    "rule": "rule",
    "is": "disposition",
    "session": "session_id",
    "after": "since",
    "before": "until",
}


class JournalSearchError(ValueError):
    """The text is no search; its words are for the person who typed it."""


def parse_journal_search(text: str, *, now: datetime | None = None) -> JournalQuery:
    """What to look for; an empty text matches everything. Raises JournalSearchError."""
    fields: dict[str, Any] = {}
    for name, value in _terms(text):
        field, found = _meaning(name, value, now)
        if field in fields:
            raise JournalSearchError(f"{name or value}: only one of its kind can be looked for at a time")
        fields[field] = found
    return JournalQuery(**fields)


def _terms(text: str) -> list[tuple[str, str]]:
    terms = []
    for found in _TERM.finditer(text):
        name, quoted, plain = found.groups()
        if name and name != "id" and name not in _FIELDS:
            if quoted is None and ":" in plain:  # an IPv6 address such as fe80::1
                name, plain = "", f"{name}:{plain}"
            else:
                raise JournalSearchError(f"{name}: is not known here, expected {', '.join([*_FIELDS, 'id'])}")
        terms.append((name or "", quoted if quoted is not None else plain))
    return terms


def _meaning(name: str, value: str, now: datetime | None) -> tuple[str, Any]:
    """The field of `JournalQuery` and its value."""
    match name:
        case "":
            return _word(value)
        case "id":
            return ("message_id", value) if value.startswith("<") else ("id", value.lower())
        case "is":
            return "disposition", _disposition(value)
        case "after" | "before":
            return _FIELDS[name], _moment(value, now)
        case "from" | "to" | "address":
            return _FIELDS[name], _address(value)
        case _:
            return _FIELDS[name], value


def _word(word: str) -> tuple[str, str]:
    if word.startswith("-"):
        raise JournalSearchError(f"{word}: what must not be cannot be looked for here")
    try:
        return "client", str(ip_address(word))
    except ValueError:
        pass
    if word.startswith("<") and word.endswith(">") and "@" in word:
        return "message_id", word
    return ("id", word.lower()) if _ID.fullmatch(word.lower()) else ("address", _address(word))


def _address(value: str) -> str:
    """A whole address as it is, a part of one with ``*`` on both sides; ``<>`` is the null reverse-path."""
    if value == "<>":
        return ""
    value = value.removeprefix("<").removesuffix(">")
    local_part, at, domain = value.rpartition("@")
    return value if "*" in value or (at and local_part and domain) else f"*{value}*"


def _disposition(value: str) -> Disposition:
    try:
        return Disposition(value.lower())
    except ValueError:
        raise JournalSearchError(f"is:{value}: expected {', '.join(Disposition)}") from None


def _moment(value: str, now: datetime | None) -> datetime:
    """How long ago, or a date in local time."""
    try:
        return past_moment(value, now=now)
    except ValueError:
        raise JournalSearchError(
            f"{value}: expected a time like 2h, 7d, 2026-11-30 or 2026-11-30T08:00"
        ) from None
