"""The facts that are read from the header section of every message."""

import re
from typing import Self

from gatepost.config.limits import Limits
from gatepost.mime.fields import HEADER_SECTION, FieldFinder
from gatepost.model import replies
from gatepost.model.verdict import Reply
from gatepost.values import value

__all__ = ["NO_HEADER", "HeaderFacts", "unreadable"]

_LINE = re.compile(rb"\s*+([^\r\n]*+)")
_LINE_LIMIT = 998
_SUBJECT_LIMIT = 200
"""Bytes."""


@value
class HeaderFacts:
    """Facts for the journal and for the detection of mail loops."""

    message_id: str = ""
    """The value of the first Message-ID field."""
    subject: str = ""
    """The value of the first Subject field, not decoded, shortened."""
    received: int = 0
    """How many Received fields there are (RFC 5321 section 6.3)."""

    @classmethod
    def of(cls, section: bytes) -> Self:
        """Read them; never raises. All are empty if the message does not start with a header section."""
        if not HEADER_SECTION.match(section):
            return cls()
        fields = FieldFinder(section)
        return cls(
            message_id=_first_line(fields.first(b"message-id"), _LINE_LIMIT),
            subject=_first_line(fields.first(b"subject"), _SUBJECT_LIMIT),
            received=fields.count(b"received"),
        )


def _first_line(value: bytes, limit: int) -> str:
    line = _LINE.match(value) if value else None
    return line[1][:limit].decode("utf-8", "replace").strip() if line else ""


NO_HEADER = HeaderFacts()
"""Used if no message was received."""


def unreadable(section: bytes, header: HeaderFacts, limits: Limits) -> Reply | None:
    """The reply that refuses a message before any filter is asked; None if filters may be asked."""
    if len(section) > limits.header_size:
        return replies.HEADER_TOO_LARGE
    return replies.MAIL_LOOP if header.received > limits.max_hops else None
