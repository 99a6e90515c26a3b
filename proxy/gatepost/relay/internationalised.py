"""Whether a message needs SMTPUTF8: header fields with bytes beyond ASCII (RFC 6532), in any part of it."""

from collections.abc import Sequence

from gatepost.mime.delimiters import next_delimiter
from gatepost.mime.entity import declared_by
from gatepost.mime.fields import read_fields

__all__ = ["has_internationalised_header"]


def has_internationalised_header(pieces: Sequence[bytes]) -> bool:
    """True if a header section contains non-ASCII bytes: the message's own, or that of a part.

    RFC 6531 section 3.2 forbids sending those without SMTPUTF8, at any level of the MIME structure. 8-bit
    text in a body needs no SMTPUTF8. Transfer-encoded parts are not decoded.
    """
    if all(map(bytes.isascii, pieces)):
        return False
    message = b"".join(pieces)
    boundaries: set[bytes] = set()
    start: int | None = 0
    while start is not None:
        fields = read_fields(message, start)
        if not message[start : fields.body].isascii():
            return True
        declared = declared_by(fields, "text/plain")
        boundaries.update(declared.boundaries)
        # Without an empty line, a section that begins with a line that is no field ends where it begins.
        is_message = fields.body > start and declared.content_type.startswith("message/")
        start = fields.body if is_message else _next_part(message, fields.body, boundaries)
    return False


def _next_part(message: bytes, position: int, boundaries: set[bytes]) -> int | None:
    """Where the next part's header section begins; None after the last part."""
    while delimiter := next_delimiter(message, position):
        position = delimiter.end
        if delimiter.text in boundaries:
            return position
    return None
