"""What is looked at in the header section of every message."""

import re
from typing import Self

from gatepost.mime.fields import HEADER_SECTION
from gatepost.values import value

__all__ = ["NO_HEADER", "HeaderFacts"]

_COLON = re.compile(rb"[ \t]*:")
_VALUE = re.compile(rb"[ \t]*(?:\r?\n[ \t]+)?([^\r\n]{0,998})")
_SUBJECT_OCTETS = 200


@value
class HeaderFacts:
    """For the journal, and against loops."""

    message_id: str = ""
    """Of the first Message-ID field."""
    subject: str = ""
    """Of the first Subject field, as written, shortened."""
    received: int = 0
    """How many Received fields there are (RFC 5321 section 6.3)."""

    @classmethod
    def of(cls, section: bytes) -> Self:
        """Read them; never raises. What only looks like fields, in a message without any, has none."""
        if not HEADER_SECTION.match(section):
            return cls()
        section = b"\n" + section
        lowered = section.lower()  # and finding in it is many times faster than a regular expression
        return cls(
            message_id=_text(section, _value_of(b"\nmessage-id", lowered)),
            subject=_text(section, _value_of(b"\nsubject", lowered), _SUBJECT_OCTETS),
            received=_count(b"\nreceived", lowered),
        )


def _count(name: bytes, lowered: bytes) -> int:
    count = lowered.count(name + b":")
    if count == lowered.count(name):
        return count
    count, at = 0, _value_of(name, lowered)
    while at:
        count += 1
        at = _value_of(name, lowered, at)
    return count


def _value_of(name: bytes, lowered: bytes, start: int = 0) -> int:
    """Where the value of the next field of that name begins; 0 where there is none."""
    while start := lowered.find(name, start) + 1:
        if colon := _COLON.match(lowered, start + len(name) - 1):
            return colon.end()
    return 0


def _text(section: bytes, start: int, octets: int | None = None) -> str:
    value = _VALUE.match(section, start) if start else None
    return value[1][:octets].decode("utf-8", "replace").strip() if value else ""


NO_HEADER = HeaderFacts()
"""Of a message that was not received."""
