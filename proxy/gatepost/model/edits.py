"""Changes to a message, applied to the bytes on the way out.

A message without edits is sent unchanged: it is neither copied nor re-serialised. Changes to its envelope are
in `gatepost.model.envelope_edits`.
"""

import re
from dataclasses import dataclass
from email.header import Header
from typing import assert_never

from gatepost.mime.fields import HEADER_SECTION, field_name, is_field_name, split_lines
from gatepost.model.checks import check_type, plain

__all__ = [
    "EDITS",
    "AddHeader",
    "ChangeHeader",
    "Edit",
    "PrefixSubject",
    "RemoveHeader",
    "ReplaceBody",
    "apply",
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MBOX = re.compile(rb">*From ")
"""Begins a line of an mbox, which readers pass over."""
_BLANKS = re.compile(r"[ \t\r\n]+")
_WORD_LIMIT = 900
"""Characters in one word that are not folded; a line may have 998 octets (RFC 5322 section 2.1.1)."""
_VALUE_LIMIT = 8 << 10
"""Characters in one value."""
_RAW_LIMIT = 64 << 10
"""Bytes in one value that is written as it is."""
_RAW_VALUE = re.compile(rb"[^\r\n\0]*+(?:\r\n[ \t][^\r\n\0]*+)*+")
_BLANK_FOLD = re.compile(rb"\r\n[ \t]++(?:\r|\Z)")
"""For some readers it ends the header section."""
_LINES = re.compile(rb"(?:[^\r\n\0]*+\r\n)*+")
_BODY_LIMIT = 256 << 20
_NUMBER_LIMIT = 1 << 31


def _checked_name(field: str, name: str) -> str:
    text = plain(field, name)
    if not is_field_name(text):
        raise ValueError(
            f"{text!r} is not the name of a header field, expected 1 to 76 printable ASCII characters "
            "without space and colon (RFC 5322 section 2.2)"
        )
    return text


def _checked_value(field: str, value: str) -> str:
    text = plain(field, value)
    if _CONTROL.search(text):
        raise ValueError(
            f"{text[:200]!r} is not allowed in a header field, expected text without control characters and "
            "line ends"
        )
    if len(text) > _VALUE_LIMIT:
        raise ValueError(
            f"{text[:20]!r}... has {len(text)} characters, expected at most {_VALUE_LIMIT} in a header field"
        )
    return text


def _checked_content(field: str, value: str | bytes) -> str | bytes:
    if not isinstance(value, bytes):
        return _checked_value(field, value)
    if not _RAW_VALUE.fullmatch(value) or _BLANK_FOLD.search(value):
        raise ValueError(
            f"{value[:200]!r} is not allowed in a header field, expected bytes without NUL, in which each "
            "CRLF is followed by a blank and more (RFC 5322 section 2.2.3)"
        )
    if len(value) > _RAW_LIMIT:
        raise ValueError(f"{field} has {len(value)} bytes, expected at most {_RAW_LIMIT}")
    return bytes(value)


def _check_number(field: str, number: int, least: int) -> None:
    check_type(field, number, int, f"a number of at least {least}")
    if not least <= number < _NUMBER_LIMIT:
        raise ValueError(f"{field} is {number}, expected at least {least} and less than {_NUMBER_LIMIT}")


@dataclass(frozen=True, slots=True)
class AddHeader:
    """Put a field into the message's own header section, by default before it."""

    name: str
    """The field's name, as it will be written."""
    value: str | bytes
    """Text: other than ASCII becomes encoded-words (RFC 2047), and long values are folded at white space.

    Bytes are written after the colon as they are, with the blank before them and with their folds, each
    CRLF and a blank.
    """
    index: int | None = 0
    """How many of the message's fields stay before it; None, or more than there are: it is the last one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _checked_name("AddHeader.name", self.name))
        object.__setattr__(self, "value", _checked_content("AddHeader.value", self.value))
        if self.index != 0 and self.index is not None:
            _check_number("AddHeader.index", self.index, 0)

    def __str__(self) -> str:
        """For a person, for example ``add X-Kind: newsletter``."""
        return f"add {self.name}: {_shown(self.value)}"


@dataclass(frozen=True, slots=True)
class ChangeHeader:
    """Replace a field; a message without it gets one behind its other fields."""

    name: str
    """The field's name, in any case; written as it is here."""
    value: str | bytes
    """As that of `AddHeader`."""
    number: int = 1
    """Which of the fields of that name, from 1."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _checked_name("ChangeHeader.name", self.name))
        object.__setattr__(self, "value", _checked_content("ChangeHeader.value", self.value))
        _check_number("ChangeHeader.number", self.number, 1)

    def __str__(self) -> str:
        """For a person, for example ``change Subject to: Minutes``."""
        which = self.name if self.number == 1 else f"{self.name} ({self.number})"
        return f"change {which} to: {_shown(self.value)}"


@dataclass(frozen=True, slots=True)
class RemoveHeader:
    """Take out every field of that name, or those of them that have a certain value, or one by its number."""

    name: str
    """The field's name, in any case."""
    value: str | None = None
    """Take out only fields with this value, as it is in the message, in UTF-8 or else Latin-1; line ends and
    runs of blanks count as one space. None: whatever their value."""
    number: int | None = None
    """Take out only this one of the fields of that name, from 1; None: not chosen by number."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _checked_name("RemoveHeader.name", self.name))
        if self.value is not None:
            object.__setattr__(self, "value", plain("RemoveHeader.value", self.value))
        if self.number is not None:
            _check_number("RemoveHeader.number", self.number, 1)
            if self.value is not None:
                raise ValueError("RemoveHeader has a value and a number, expected one of them")

    def __str__(self) -> str:
        """For a person, for example ``remove Precedence``."""
        number = "" if self.number is None else f" ({self.number})"
        return f"remove {self.name}{number}" + ("" if self.value is None else f": {_one_line(self.value)}")


@dataclass(frozen=True, slots=True)
class PrefixSubject:
    """Put text before every subject; a message without Subject gets one, as with `AddHeader`.

    A space between text and subject is the text's own: ``[SPAM] ``.
    """

    text: str
    """The text with its space; other than ASCII becomes encoded-words (RFC 2047)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _checked_value("PrefixSubject.text", self.text))

    def __str__(self) -> str:
        """For a person, for example ``put "[news] " before the subject``."""
        return f'put "{self.text}" before the subject'


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    """Replace all behind the header section and its empty line."""

    body: bytes
    """Lines that end with CRLF, without NUL and without other CR or LF; or nothing."""

    def __post_init__(self) -> None:
        check_type("ReplaceBody.body", self.body, bytes, "bytes")
        object.__setattr__(self, "body", bytes(self.body))
        if not _LINES.fullmatch(self.body):
            raise ValueError(
                "ReplaceBody.body: expected lines that end with CRLF, without NUL, CR and LF in them"
            )
        if len(self.body) > _BODY_LIMIT:
            raise ValueError(f"ReplaceBody.body has {len(self.body)} bytes, expected at most {_BODY_LIMIT}")

    def __str__(self) -> str:
        """For a person, for example ``replace the body by 120 bytes``."""
        return f"replace the body by {len(self.body)} bytes"


Edit = AddHeader | ChangeHeader | RemoveHeader | PrefixSubject | ReplaceBody
"""One change to a message on its way out."""
EDITS = (AddHeader, ChangeHeader, RemoveHeader, PrefixSubject, ReplaceBody)
"""The classes of `Edit`."""


def apply(content: bytes, edits: tuple[Edit, ...]) -> tuple[bytes, ...]:
    """The message with the edits, as pieces that each start at a line's beginning.

    There is one list of fields: the message's own, to which each edit applies in its order. So an edit also
    changes what an earlier one has added, whichever rule made it. What is not edited stays byte for byte.

    Fields added last come first, as trace fields do (RFC 5321 section 4.4). Where there is no header
    section the added fields end with an empty line; without added fields the empty line is there for
    the fields that the caller puts before it: so its body stays its body. No edit looks into it.
    """
    if not HEADER_SECTION.match(content):
        fields, body = _edited([], edits)
        return (b"".join(fields) + b"\r\n", content if body is None else body)
    if not edits:
        return (content,)
    only_added = all(isinstance(edit, AddHeader) and edit.index == 0 for edit in edits)
    lines, end = ([], 0) if only_added else split_lines(content)
    fields, body = _edited(lines, edits)
    if body is not None:
        return (b"".join(_closed(fields)) + b"\r\n" + body,)
    added = len(fields) - len(lines)
    if added >= 0 and fields[added:] == lines:
        return (*fields[:added], content)
    return (b"".join(fields) + content[end:],)


def _edited(lines: list[bytes], edits: tuple[Edit, ...]) -> tuple[list[bytes], bytes | None]:
    """The edited lines of the header section, and the body if it is replaced."""
    fields, body = list(lines), None
    for edit in edits:
        match edit:
            case AddHeader(name, value, index):
                fields = _with_field(fields, index, _field(name, value))
            case ChangeHeader(name, value, number):
                fields = _changed(fields, name, number, _field(name, value))
            case RemoveHeader(name, value, number):
                fields = _without(fields, name, value, number)
            case PrefixSubject(text):
                fields = _with_subject(fields, text)
            case ReplaceBody(new):
                body = new
            case _:
                assert_never(edit)
    return fields, body


def _closed(fields: list[bytes]) -> list[bytes]:
    """With a line end behind the last line, before which another one comes."""
    if fields and not fields[-1].endswith(b"\n"):
        return [*fields[:-1], fields[-1] + b"\r\n"]
    return fields


def _with_field(fields: list[bytes], index: int | None, line: bytes) -> list[bytes]:
    if index == 0:
        return [line, *fields]
    seen, place = 0, 0
    for at, one in enumerate(fields):
        if field_name(one):
            if seen == index:
                break
            seen += 1
        elif not _MBOX.match(one):
            break  # for many readers the header section ends here
        place = at + 1
    return [*_closed(fields[:place]), line, *fields[place:]]


def _changed(fields: list[bytes], name: str, number: int, line: bytes) -> list[bytes]:
    place = _place(fields, name, number)
    if place is None:
        return _with_field(fields, None, line)
    return [*fields[:place], line, *fields[place + 1 :]]


def _place(fields: list[bytes], name: str, number: int) -> int | None:
    """Where the field of that name and number is."""
    wanted = name.lower().encode("ascii")
    for at, line in enumerate(fields):
        if field_name(line) == wanted:
            number -= 1
            if not number:
                return at
    return None


def _encoded(name: str, value: str, *, charset: str) -> bytes:
    """The value as written after ``name: ``, folded at 76 characters, without a final line end."""
    return Header(value, charset=charset, header_name=name).encode(linesep="\r\n").encode("ascii")


def _field(name: str, value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return name.encode("ascii") + b":" + value + b"\r\n"
    words = value.split()
    plain = value.isascii() and all(len(word) <= _WORD_LIMIT for word in words)
    folded = _encoded(name, " ".join(words), charset="ascii" if plain else "utf-8")
    return name.encode("ascii") + b": " + folded + b"\r\n"


def _one_line(value: str) -> str:
    return _BLANKS.sub(" ", value).strip(" ")


def _shown(value: str | bytes) -> str:
    return _one_line(_decoded(value)) if isinstance(value, bytes) else value


def _value_of(line: bytes) -> str:
    return _one_line(_decoded(line.partition(b":")[2]))


def _decoded(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _without(fields: list[bytes], name: str, value: str | None, number: int | None) -> list[bytes]:
    only = None if value is None else _one_line(value)
    place = None if number is None else _place(fields, name, number)
    wanted = name.lower().encode("ascii")
    kept: list[bytes] = []
    for at, line in enumerate(fields):
        stays = number is not None and at != place
        if stays or field_name(line) != wanted or (only is not None and _value_of(line) != only):
            kept.append(line)
        elif kept and not kept[-1].endswith(b"\r\n"):
            kept[-1] = kept[-1].removesuffix(b"\n") + b"\r\n"  # else the next field would be joined to it
    return kept


def _with_subject(fields: list[bytes], text: str) -> list[bytes]:
    fields, there = list(fields), False
    for number, line in enumerate(fields):
        found = field_name(line)
        if found == b"subject":
            name, _, value = line.partition(b":")
            fields[number] = name + b":" + _prefixed(text, value.lstrip(b" \t"))
            there = True
        elif not there and not found and not _MBOX.match(line):
            break  # for many readers the header section ends here, and has no Subject
    return fields if there else [_field("Subject", text), *fields]


def _prefixed(text: str, value: bytes) -> bytes:
    """The text and the old value with its line end; an encoded-word has white space around it."""
    before_word = value.lstrip(b" \t\r\n").startswith(b"=?")
    if text.isascii() and all(len(word) <= _WORD_LIMIT for word in text.split()):
        space = b" " if before_word and not text.endswith(" ") else b""
        line = text.rstrip(" ")
        folded = _encoded("Subject", line, charset="ascii") if len(line) > 60 else line.encode("ascii")
        return b" " + folded + b" " * (len(text) - len(line)) + space + value
    shown = text if before_word else text.rstrip(" ")
    return b" " + _encoded("Subject", shown, charset="utf-8") + b" " + value
