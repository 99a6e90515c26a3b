"""EDIT: changes to the header section, applied to the octets on the way out.

A message that no rule edits leaves as it came: nothing is copied, nothing is re-serialised.
"""

import re
from dataclasses import dataclass
from email.header import Header

from gatepost.mime.fields import HEADER_SECTION

__all__ = ["AddHeader", "Edit", "PrefixSubject", "RemoveHeader", "apply"]

_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LINE = re.compile(rb"[^\n]*+(?:\n[ \t][^\n]*+)*+(?:\n|\Z)")
"""One line of a header section with its folds. A bare LF ends it too, for those who read it so."""
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_WORD_LIMIT = 900
"""Characters that stand together on one line, which may hold 998 octets (RFC 5322 section 2.1.1)."""


def _check_name(name: str) -> None:
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no header field name (RFC 5322 section 2.2)")


def _check_value(value: str) -> None:
    if _CONTROL.search(value):
        raise ValueError(
            f"{value!r} cannot stand in a header field: it holds control characters or line ends"
        )


@dataclass(frozen=True, slots=True)
class AddHeader:
    """Put a field before the message's own header section."""

    name: str
    value: str
    """Other than ASCII becomes encoded-words (RFC 2047); long values are folded at white space."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_value(self.value)


@dataclass(frozen=True, slots=True)
class RemoveHeader:
    """Take out every field of that name."""

    name: str

    def __post_init__(self) -> None:
        _check_name(self.name)


@dataclass(frozen=True, slots=True)
class PrefixSubject:
    """Put text before the subject; a message without Subject gets one.

    A space between text and subject is the text's own: ``[SPAM] ``.
    """

    text: str

    def __post_init__(self) -> None:
        _check_value(self.text)


Edit = AddHeader | RemoveHeader | PrefixSubject


def apply(content: bytes, edits: tuple[Edit, ...]) -> tuple[bytes, ...]:
    """The message with the edits, as pieces that each start at a line's beginning.

    Fields added last stand first, as trace fields do (RFC 5321 section 4.4). Where there is no header
    section the added fields end with an empty line; without added fields the empty line is there for
    the fields that the caller puts before it: so its body stays its body. No edit looks into it.
    """
    if not HEADER_SECTION.match(content):
        return (b"".join(_apply(b"", edits)) + b"\r\n", content)
    return _apply(content, edits) if edits else (content,)


def _apply(content: bytes, edits: tuple[Edit, ...]) -> tuple[bytes, ...]:
    added: list[bytes] = []
    for edit in edits:
        match edit:
            case AddHeader(name, value):
                added.insert(0, _field(name, value))
            case RemoveHeader(name):
                content = _without(content, name)
            case PrefixSubject(text):
                content = _with_subject(content, text)
    return (*added, content)


def _encoded(name: str, value: str, *, charset: str) -> bytes:
    """The value as it stands after ``name: ``, folded at 76 characters, without a last line end."""
    return Header(value, charset=charset, header_name=name).encode(linesep="\r\n").encode("ascii")


def _field(name: str, value: str) -> bytes:
    words = value.split()
    plain = value.isascii() and all(len(word) <= _WORD_LIMIT for word in words)
    folded = _encoded(name, " ".join(words), charset="ascii" if plain else "utf-8")
    return name.encode("ascii") + b": " + folded + b"\r\n"


def _lines(content: bytes) -> tuple[list[bytes], int]:
    """The header section's lines with their folds and line ends, and where the section ends."""
    lines: list[bytes] = []
    position = 0
    while position < len(content) and not content.startswith((b"\r\n", b"\n"), position):
        found = _LINE.match(content, position)
        if not found:
            break
        lines.append(found.group())
        position = found.end()
    return lines, position


def _is_named(line: bytes, name: str) -> bool:
    found = _FIELD.match(line)
    return found is not None and found[1].lower() == name.lower().encode("ascii")


def _without(content: bytes, name: str) -> bytes:
    lines, end = _lines(content)
    kept: list[bytes] = []
    for line in lines:
        if not _is_named(line, name):
            kept.append(line)
        elif kept and not kept[-1].endswith(b"\r\n"):
            kept[-1] = kept[-1].removesuffix(b"\n") + b"\r\n"  # else the next field would hang on to it
    return content if len(kept) == len(lines) else b"".join(kept) + content[end:]


def _with_subject(content: bytes, text: str) -> bytes:
    lines, end = _lines(content)
    there = False
    for number, line in enumerate(lines):
        if _is_named(line, "Subject"):
            name, _, value = line.partition(b":")
            lines[number] = name + b":" + _prefixed(text, value.lstrip(b" \t"))
            there = True
        elif not there and number and not _FIELD.match(line):
            break  # for many readers the header section ends here, and has no Subject
    return b"".join(lines) + content[end:] if there else _field("Subject", text) + content


def _prefixed(text: str, value: bytes) -> bytes:
    """The text and the old value with its line end; an encoded-word stands between white space."""
    before_word = value.lstrip(b" \t\r\n").startswith(b"=?")
    if text.isascii() and all(len(word) <= _WORD_LIMIT for word in text.split()):
        space = b" " if before_word and not text.endswith(" ") else b""
        line = text.rstrip(" ")
        folded = _encoded("Subject", line, charset="ascii") if len(line) > 60 else line.encode("ascii")
        return b" " + folded + b" " * (len(text) - len(line)) + space + value
    shown = text if before_word else text.rstrip(" ")
    return b" " + _encoded("Subject", shown, charset="utf-8") + b" " + value
