"""Lists of tags and values of DKIM, ARC and their key records (RFC 6376 section 3.2)."""

import re

__all__ = ["TagListError", "decode_base64", "parse_tags", "without_space"]

import base64
import binascii

_TAG = re.compile(r"[ \t\r\n]*([A-Za-z][A-Za-z0-9_]*)[ \t\r\n]*=(.*)", re.DOTALL)
_TEXT_LIMIT = 64 << 10
_TAGS_LIMIT = 100
_SPACE = re.compile(r"[ \t\r\n]+")


class TagListError(ValueError):
    """A list of tags is invalid; the text tells a person why."""


def parse_tags(text: str) -> dict[str, str]:
    """The tags with their values in the order of the list, white space around the values removed.

    Raises `TagListError` for an entry that is not a tag, for a repeated tag, and for a list that is too long.
    """
    if len(text) > _TEXT_LIMIT or text.count(";") > _TAGS_LIMIT:
        raise TagListError(f"it has more than {_TEXT_LIMIT} characters or {_TAGS_LIMIT} tags")
    tags: dict[str, str] = {}
    *entries, last = text.split(";")
    if last.strip(" \t\r\n"):
        entries.append(last)
    for entry in entries:
        found = _TAG.fullmatch(entry)
        if not found:
            raise TagListError(f"not a tag: {entry.strip()[:40]!r}")
        name, value = found[1], found[2].strip(" \t\r\n")
        if name in tags:
            raise TagListError(f"the tag {name} is there twice")
        tags[name] = value
    return tags


def without_space(text: str) -> str:
    """The text without white space, which base64 and some lists may contain anywhere."""
    return _SPACE.sub("", text)


def decode_base64(text: str) -> bytes:
    """The bytes of a base64 value with white space in it; raises `TagListError`."""
    try:
        return base64.b64decode(without_space(text), validate=True)
    except (binascii.Error, ValueError):
        raise TagListError("it is not base64") from None
