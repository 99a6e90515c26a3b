"""Workbooks of Excel: macro sheets, links that start a program (DDE), and encryption."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

__all__ = ["in_binary_link", "in_sylk", "in_workbook", "in_xml", "is_dde", "is_workbook"]

_MACRO_SHEET = "Excel 4.0 macro sheet"
_BEGINNINGS = frozenset((0x009, 0x209, 0x409, 0x809))
"""BOF of BIFF 2, 3, 4 and later (MS-XLS 2.4.21)."""
_OF_MACROS = b"\x40\x00"
"""The kind of a sheet in its BOF."""
_SHEET, _PASSWORD, _LINK, _OLD_LINK = 0x85, 0x2F, 0x1AE, 0x17
"""BoundSheet8, FilePass, SupBook, and ExternSheet before 1997 (MS-XLS 2.4)."""
_BINARY_LINK = re.compile(rb"\xe8\x02[\x80-\xff]{0,3}[\0-\x7f]\x01\0....(.*)", re.DOTALL)
"""BrtBeginSupBook for DDE (MS-XLSB 2.4.215), the first record of its part, and the texts in it."""
_RELATIONS = ("xlMacrosheet", "xlIntlMacrosheet")
"""Of a workbook to its macro sheets."""
_PASSED_OVER = re.compile(r'"[^"]*"|\'[^\']*\'|\[[^\[\]]*\]')
"""Of a formula: texts, names of sheets and what is external to it, which may have any character."""
_SHOWN = 200


def is_workbook(content: bytes) -> bool:
    """True for the records of a workbook as a file of their own, as before 1993."""
    kind, size = _number(content, 0), _number(content, 2)
    return kind in _BEGINNINGS and 4 <= size <= 16


def in_workbook(content: bytes) -> Iterator[tuple[str, str]]:
    """What the records of a workbook show (MS-XLS 2.1.4)."""
    position = 0
    while position + 4 <= len(content):
        kind, size = _number(content, position), _number(content, position + 2)
        data = content[position + 4 : position + 4 + size]
        position += 4 + size
        if (kind == _SHEET and data[5:6] == b"\x01") or (kind in _BEGINNINGS and data[2:4] == _OF_MACROS):
            yield from _macro_sheet()
        elif kind == _PASSWORD:
            yield "encrypted", "encrypted"
            return  # and so are the records that follow
        elif link := _dde_link(kind, data):
            yield "dde", link


def _dde_link(kind: int, data: bytes) -> str:
    """The program and the topic of a link; empty for any other record, and for a link to another workbook."""
    if kind == _LINK and data[:2] == b"\0\0":
        link = data[5:].replace(b"\0", b"")
    elif kind == _OLD_LINK and data[:1] == bytes([len(data) - 1 & 0xFF]) and data[1:2] >= b" ":
        link = data[1:]
    else:
        return ""
    return _shown(link.replace(b"\x03", b"|").decode("latin-1")) if b"\x03" in link else ""


def _macro_sheet() -> Iterator[tuple[str, str]]:
    """A name may run it when the workbook is opened; that it is not there cannot be told."""
    yield "macros", _MACRO_SHEET
    yield "auto_macros", _MACRO_SHEET


def in_binary_link(content: bytes) -> Iterator[tuple[str, str]]:
    """What the part for an external link shows, in a binary workbook since 2007."""
    if found := _BINARY_LINK.match(content):
        yield "dde", _shown(found[1][: 2 * _SHOWN].decode("utf-16-le", "replace"))


def in_sylk(content: bytes) -> Iterator[tuple[str, str]]:
    """What a file in SYLK shows, which Excel opens too."""
    for line in content.splitlines():
        record, *fields = line.decode("latin-1").split(";")
        formulas = [one[1:] for one in fields if one[:1] == "E"]
        if record == "O" and formulas:
            yield from _macro_sheet()
        for one in formulas:
            if is_dde(one):
                yield "dde", _shown(one)


def in_xml(root: ET.Element) -> Iterator[tuple[str, str]]:
    """What SpreadsheetML shows (ECMA-376 part 1 section 18.14), also as of 2003."""
    for one in root.iter():
        if one.get("Type", "").rpartition("/")[2] in _RELATIONS:
            yield from _macro_sheet()
        name = one.tag.rpartition("}")[2]
        if name == "ddeLink":
            yield "dde", _shown(f"{one.get('ddeService', '')}|{one.get('ddeTopic', '')}")
        formulas = [value for key, value in one.items() if key.endswith("}Formula")]
        for formula in (*formulas, *([one.text or ""] if name == "f" else [])):
            if is_dde(formula):
                yield "dde", _shown(formula)


def is_dde(formula: str) -> bool:
    """True for ``program|topic!item``: outside of texts and names, formulas have no ``|``."""
    return "|" in formula and "|" in _PASSED_OVER.sub("", formula)


def _number(content: bytes, position: int) -> int:
    return int.from_bytes(content[position : position + 2], "little")


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:_SHOWN]).strip()
