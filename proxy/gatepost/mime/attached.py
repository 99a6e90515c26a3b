"""Whether an attached file is a message, whatever its type says."""

import re
from collections.abc import Iterable

__all__ = ["HEAD_BYTES", "is_message"]

HEAD_BYTES = 1024
"""The beginning of a file, by which it is recognised."""
_FIELD = re.compile(rb"(?:[ \t]*+\r?\n)*+(?:>?From [^\n]*+\n)?[!-9;-~]{1,76}+[ \t]*+:")
_MESSAGE_FIELD = re.compile(
    rb"^(received|return-path|delivered-to|from|to|date|subject|message-id|mime-version)[ \t]*+:",
    re.IGNORECASE | re.MULTILINE,
)
_MESSAGE_FILES = (".eml", ".mht", ".mhtml", ".nws", ".mail")


def is_message(head: bytes, content_type: str, names: Iterable[str]) -> bool:
    """True if a file that begins with ``head`` is a message: by its type, a name, or its fields."""
    if not _FIELD.match(head):
        return False
    if content_type.startswith("message/"):
        return True
    if any(name.lower().endswith(_MESSAGE_FILES) for name in names):
        return True
    return len({name.lower() for name in _MESSAGE_FIELD.findall(head[:HEAD_BYTES])}) > 1
