"""The characters of a text part, whatever its label says."""

from typing import NamedTuple

from proxy.mime.charsets import decode_charset

__all__ = ["Reading", "decode_text", "read_text"]


class Reading(NamedTuple):
    """One reading of a text."""

    text: str
    note: str
    """How it was read where that is not plain, for a person."""
    warning: str
    """What was wrong with it, for a person."""


def read_text(octets: bytes, charset: str, _content_type: str) -> tuple[Reading, ...]:
    """The readings of a text part, the likeliest first."""
    text, warning = decode_text(octets, charset)
    return (Reading(text, "", warning),)


def decode_text(octets: bytes, charset: str) -> tuple[str, str]:
    """The characters of a text part, and a warning: empty where the charset was known and fitted.

    Where it is missing, unknown or does not fit, the octets are read as UTF-8, else as ISO 8859-1.
    """
    warning = ""
    if charset and charset.lower() not in ("us-ascii", "ascii", "utf-8"):
        text = decode_charset(octets, charset)
        if text is not None:
            damaged = "\ufffd" in text
            return text, f"octets that are no {charset[:40]!r} were replaced" if damaged else ""
        warning = f"unknown charset {charset[:40]!r}"
    try:
        return octets.decode(), warning
    except UnicodeDecodeError:
        return octets.decode("latin-1"), warning or f"octets that are no {charset[:40] or 'us-ascii'!r}"
