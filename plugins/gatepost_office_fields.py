"""Fields of Word documents that start a program: DDE and DDEAUTO, in every format that Word opens.

All formats become one text, in which each field is ``U+0013 instruction U+0014 result U+0015``, as in Word's
binary files (MS-DOC 2.8.25).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

__all__ = ["dde_fields", "text_of_binary", "text_of_rtf", "text_of_xml"]

_BEGIN, _SEPARATE, _END = "\x13", "\x14", "\x15"
_MARKS = re.compile(f"([{_BEGIN}{_SEPARATE}{_END}])")
_DDE = re.compile(r'[\s"]*DDE(?:AUTO)?(?![A-Za-z0-9_])', re.IGNORECASE)
_QUOTE = re.compile(r"\s*QUOTE\s(.*)", re.IGNORECASE | re.DOTALL)
_QUOTED = re.compile(r'"([^"]*)"|(\S+)')
_VALUE_LIMIT = 2000
"""Characters of a field's value that count for the field around it."""
_SHOWN = 200
_RTF = re.compile(
    rb"\\([a-zA-Z]+)(-?[0-9]{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|([^\\{}\r\n]+)", re.DOTALL
)
_RTF_SPACES = frozenset((b"par", b"line", b"tab", b"cell", b"row", b"sect", b"page"))
_FIELD_CHARACTERS = {"begin": _BEGIN, "separate": _SEPARATE, "end": _END}


@dataclass(slots=True)
class _Field:
    instruction: list[str] = field(default_factory=list)
    result: list[str] = field(default_factory=list)
    has_result: bool = False

    def add(self, text: str) -> None:
        (self.result if self.has_result else self.instruction).append(text)

    def value(self) -> str:
        """What a field around it gets: what QUOTE quotes, else the result that Word has stored."""
        if found := _QUOTE.match("".join(self.instruction)):
            return "".join(map(_quoted, _QUOTED.finditer(found[1])))[:_VALUE_LIMIT]
        return "".join(self.result)[:_VALUE_LIMIT]


def _quoted(found: re.Match[str]) -> str:
    """A text in quotes, or a character by its number."""
    word = found[2]
    if word and re.fullmatch(r"0[xX][0-9A-Fa-f]{1,4}|[0-9]{1,5}", word, re.ASCII):
        number = int(word, 16 if word[:2].lower() == "0x" else 10)
        return chr(number) if number < 1 << 16 else ""
    return word or found[1] or ""


def dde_fields(text: str) -> Iterator[str]:
    """The instructions of the fields that are DDE, with fields in them replaced by their values."""
    fields: list[_Field] = []
    for piece in (*_MARKS.split(text), *(_END * text.count(_BEGIN))):
        if piece == _BEGIN:
            fields.append(_Field())
        elif not fields:
            continue
        elif piece == _SEPARATE:
            fields[-1].has_result = True
        elif piece == _END:
            ended = fields.pop()
            instruction = "".join(ended.instruction)
            if _DDE.match(instruction):
                yield instruction.strip()[:_SHOWN]
            if fields:
                fields[-1].add(ended.value())
        else:
            fields[-1].add(piece)


def text_of_binary(content: bytes) -> Iterator[str]:
    """The text of a stream with Word's text, which has one or two bytes a character (MS-DOC 2.4.1)."""
    yield content.decode("latin-1")
    for start in range(2):
        yield content[start:].decode("utf-16-le", "replace")


def text_of_xml(root: ET.Element) -> str:
    """The text of WordprocessingML (ECMA-376 part 1 section 17.16), also as of 2003."""
    pieces: list[str] = []
    for one in root.iter():
        match one.tag.rpartition("}")[2]:
            case "fldChar":
                kind = next((value for key, value in one.items() if key.endswith("fldCharType")), "")
                pieces.append(_FIELD_CHARACTERS.get(kind, ""))
            case "fldSimple":
                instruction = next((value for key, value in one.items() if key.endswith("instr")), "")
                pieces.append(f"{_BEGIN}{instruction}{_END}")
            case "instrText" | "t":
                pieces.append(one.text or "")
    return "".join(pieces)


@dataclass(slots=True)
class _Group:
    """Of RTF, in braces."""

    is_skipped: bool
    is_field: bool = False
    starred: bool = False
    """True behind ``\\*``: the next control word says whether the group is skipped."""
    characters: int = 1
    """How many characters behind a ``\\u`` are for readers that do not know it (``\\uc``)."""


def text_of_rtf(content: bytes) -> str:
    """The text of RTF, without what readers pass over."""
    pieces: list[str] = []
    groups = [_Group(is_skipped=False)]
    position = left_out = 0
    while found := _RTF.search(content, position):
        position = found.end()
        word, number, code, symbol, brace, text = found.groups()
        group = groups[-1]
        if brace == b"{":
            groups.append(_Group(is_skipped=group.is_skipped, characters=group.characters))
        elif brace:
            if group.is_field:
                pieces.append(_END)
            if len(groups) > 1:
                groups.pop()
        elif symbol == b"*":
            group.starred = True
        elif word:
            position += max(0, int(number or 0)) if word == b"bin" else 0
            left_out = _read_word(word, number, group, pieces)
        elif not group.is_skipped:
            new = bytes.fromhex(code.decode()) if code else symbol or text
            pieces.append(new[left_out:].decode("latin-1"))
            left_out = max(0, left_out - len(new))
    return "".join(pieces)


def _read_word(word: bytes, number: bytes | None, group: _Group, pieces: list[str]) -> int:
    """Read a control word; returns how many characters behind it are for readers that do not know it."""
    if group.starred:
        group.starred = False
        group.is_skipped = group.is_skipped or word not in (b"fldinst", b"field", b"fldrslt")
    if group.is_skipped:
        return 0
    if word == b"field":
        group.is_field = True
        pieces.append(_BEGIN)
    elif word == b"fldrslt":
        pieces.append(_SEPARATE)
    elif word in _RTF_SPACES:
        pieces.append(" ")
    elif word == b"uc":
        group.characters = min(9, max(0, int(number or 1)))
    elif word == b"u" and number:
        pieces.append(chr(int(number) & 0xFFFF))
        return group.characters
    return 0
