"""The parts of a message by the MIME parser."""

import re

from fast_mail_parser import ParseError, PyLazyMimePart, parse_email_tree, walk  # noqa: TID251 # here is the place

from proxy.mime.parameters import read_parameter
from proxy.mime.part import Part
from proxy.mime.scan import scan_parts
from proxy.mime.transfer import decode_transfer, transfer_encoding

__all__ = ["UnreadableError", "parse_parts"]

_SMALL = 128 << 10
"""Octets. What the parser's worst cases cost at this size is bearable (some 0.3 s)."""
_WORD_COST_LIMIT = 300_000_000
"""Beginnings of encoded-words times octets, summed over the lines: about 0.1 s of the parser's time."""
_EMPTY_LINE = re.compile(rb"\n\r?\n")
_ENCODED_TYPE = re.compile(rb"content-type\s*+:\s*+=\?")
_COLONS_LIMIT = 100_000
_DELIMITERS_LIMIT = 10_000


class UnreadableError(Exception):
    """The parser cannot read this message, or not in a bearable time."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        """For the operator; empty where nothing is wrong with the message."""


def parse_parts(content: bytes) -> list[Part]:
    """The leaves of the message and the messages in it, in order; raises UnreadableError."""
    _check_cost(content)
    try:
        root = parse_email_tree(content, mode="lazy")
    except ParseError as error:
        raise UnreadableError(_reason(error)) from error
    return [_part(node, content) for node in walk(root) if _is_leaf(node)]


def _check_cost(content: bytes) -> None:
    """Refuses what the parser would take more than linear time or memory over."""
    small = len(content) <= _SMALL
    headers = _headers(content)
    types = headers.lower()
    if b"message/" in types or b"/digest" in types or _ENCODED_TYPE.search(types):
        if not small:
            raise UnreadableError  # the parser copies a message in a message once a level
        headers = content
    words = headers.count(b"=?")
    if words * len(headers) > _WORD_COST_LIMIT:
        cost = sum(line.count(b"=?") * len(line) for line in headers.split(b"\n"))
        if cost > _WORD_COST_LIMIT:
            raise UnreadableError("a line is crowded with encoded-words")
    if not small and (headers.count(b":") > _COLONS_LIMIT or headers.count(b"\n--") > _DELIMITERS_LIMIT):
        raise UnreadableError  # millions of fields or parts


def _headers(content: bytes) -> bytes:
    """All that can be a header: from the beginning, and from each line ``--``, to the next empty line.

    Unless one of them says message/ or /digest, the parser finds no fields anywhere else (RFC 2046
    section 5.1). Looking at nothing else is ten times as fast for a large attachment.
    """
    found = []
    start = 0
    while start >= 0:
        empty = _EMPTY_LINE.search(content, start)
        end = empty.end() - 1 if empty else len(content)
        found.append(content[start:end])
        start = content.find(b"\n--", end)
    return b"".join(found)


def _is_leaf(node: PyLazyMimePart) -> bool:
    if node.content_type == "message/global":  # RFC 6532: a message too, which the parser leaves closed
        raise UnreadableError
    if node.content_type.startswith("multipart/"):
        if not node.children:
            raise UnreadableError("a multipart without its boundary")
        return False
    return True


def _part(node: PyLazyMimePart, content: bytes) -> Part:
    content_type = node.content_type if "/" in node.content_type else "text/plain"
    declared, disposition = _field(node, "Content-Type"), _field(node, "Content-Disposition")
    # The parser's own file name ends at a semicolon, even a quoted one.
    filename = read_parameter(disposition, "filename") or read_parameter(declared, "name")
    attached = (node.disposition or "").lower() == "attachment"
    encoding = _left_encoding(node)
    if content_type.startswith("text/"):
        octets = decode_transfer(_octets(node), encoding)
        return Part(content_type, read_parameter(declared, "charset"), filename, attached, lambda: octets)

    def read() -> bytes:
        try:
            return decode_transfer(node.content or b"", encoding)
        except ParseError:  # the scan decodes what the parser gives up on
            named = (content_type, filename)
            same = (part for part in scan_parts(content) if (part.content_type, part.filename) == named)
            return next((part.read() for part in same), b"")

    return Part(content_type, "", filename, attached, read)


def _field(node: PyLazyMimePart, name: str) -> str:
    fields = node.headers
    if name in fields:
        return fields[name][0]
    wanted = name.lower()
    return next((values[0] for other, values in fields.items() if other.lower() == wanted), "")


def _left_encoding(node: PyLazyMimePart) -> str:
    """The transfer encoding that the parser does not undo, because of white space or a comment after it."""
    value = _field(node, "Content-Transfer-Encoding")
    encoding = transfer_encoding(value)
    if value.lower() == encoding or encoding not in ("base64", "quoted-printable"):
        return ""
    if node.is_message:
        raise UnreadableError("a message in a message is encoded")
    return encoding


def _octets(node: PyLazyMimePart) -> bytes:
    try:
        return node.content or b""
    except ParseError as error:
        raise UnreadableError(_reason(error)) from error


def _reason(error: ParseError) -> str:
    return str(error).removeprefix("Message parsing error: ")[:200]
