"""Rich Text Format as text, for search: what Outlook writes into TNEF.

[MS-OXRTFCP] compresses it; [MS-OXRTFEX] wraps HTML in it, which is returned as HTML. One pass, bounded;
nothing here raises. Of the libraries, striprtf 0.0.35 takes cubic time on hostile input, and compressed-rtf
1.0.7 refuses a wrong checksum.
"""

import re
from dataclasses import dataclass, field, replace

from gatepost.mime.charsets import decode_charset

__all__ = ["decompress_rtf", "rtf_text"]

_GROUPS_LIMIT = 500
"""Deeper ones belong to the last one."""

_DICTIONARY = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript "
    b"\\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par "
    b"\\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
"""What every compressed body begins with ([MS-OXRTFCP] 2.1.2.1)."""
_WINDOW = 4096

_TOKEN = re.compile(
    rb"\\([A-Za-z]{1,32}+)(-?\d{1,10}+)?+ ?|\\'([0-9A-Fa-f]{2})|\\([^A-Za-z])|([{}])"
    rb"|[\r\n]++|([^\\{}\r\n]++)|\\"
)
_CHARACTERS = {
    b"par": "\n", b"line": "\n", b"sect": "\n", b"page": "\n", b"row": "\n", b"cell": "\t", b"tab": "\t",
    b"lquote": "\u2018", b"rquote": "\u2019", b"ldblquote": "\u201c", b"rdblquote": "\u201d",
    b"bullet": "\u2022", b"endash": "\u2013", b"emdash": "\u2014", b"~": "\u00a0", b"_": "-",
    b"{": "{", b"}": "}", b"\\": "\\", b"\n": "\n", b"\r": "\n",
}  # fmt: skip
_NOT_SHOWN = frozenset({b"fonttbl", b"colortbl", b"stylesheet", b"info", b"pict", b"listtable", b"generator"})
_FONT_CHARSETS = {
    77: "macintosh", 128: "cp932", 129: "cp949", 134: "gb18030", 136: "big5", 161: "cp1253", 162: "cp1254",
    163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250",
}  # fmt: skip


def decompress_rtf(octets: bytes, limit: int) -> bytes:
    """The RTF that a compressed body holds, at most ``limit`` bytes; what can be read of a damaged one."""
    if octets[8:12] == b"MELA":
        return octets[16 : 16 + limit]
    if octets[8:12] != b"LZFu":
        return b""
    found = bytearray(_DICTIONARY)
    limit += len(_DICTIONARY)
    position = 16
    while position < len(octets) and len(found) < limit:
        flags = octets[position]
        position += 1
        for bit in range(8):
            if not flags >> bit & 1:
                found += octets[position : position + 1]
                position += 1
                continue
            if position + 2 > len(octets):
                return bytes(found[len(_DICTIONARY) : limit])
            offset, length = divmod(int.from_bytes(octets[position : position + 2], "big"), 16)
            position += 2
            distance = (len(found) - offset - 1) % _WINDOW + 1
            if distance == _WINDOW:  # a reference to where the next byte goes is the end
                return bytes(found[len(_DICTIONARY) : limit])
            if distance > len(found):
                found += bytes(length + 2)
                continue
            start = len(found) - distance
            chunk = found[start : start + length + 2]
            found += (chunk * (length + 2))[: length + 2]
    return bytes(found[len(_DICTIONARY) : limit])


def rtf_text(rtf: bytes) -> tuple[str, str]:
    """The content type and the text of an RTF document: ``text/html`` where HTML is wrapped in it."""
    reader = _Reader()
    reader.read(rtf)
    text = "".join(reader.pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return "text/html" if reader.is_html else "text/plain", text


@dataclass(slots=True)
class _Group:
    is_shown: bool = True
    is_hidden: bool = False
    """In RTF that is no part of the HTML."""
    is_font_table: bool = False
    unicode_skip: int = 1
    font: int = -1


@dataclass(slots=True)
class _Reader:
    pieces: list[str] = field(default_factory=list)
    is_html: bool = False
    charset: str = "cp1252"
    font_charsets: dict[int, str] = field(default_factory=dict)
    octets: bytearray = field(default_factory=bytearray)
    """Shown and not decoded: a character may be written in several ways."""
    group: _Group = field(default_factory=_Group)
    groups: list[_Group] = field(default_factory=list)
    skip: int = 0
    """Characters that repeat the last one for readers without Unicode."""
    is_ignorable: bool = False
    """Behind ``{\\*``."""

    def read(self, rtf: bytes) -> None:
        position = 0
        while token := _TOKEN.match(rtf, position):
            position = token.end()
            word, number, octet, sign, brace, text = token.groups()
            if word:
                position = self._control(word.lower(), int(number) if number else None, position)
            elif octet:
                self._show(bytes((int(octet, 16),)))
            elif sign:
                if sign == b"*":
                    self.is_ignorable = True
                else:
                    self._write(_CHARACTERS.get(sign, ""))
            elif brace:
                self._brace(brace)
            elif text:
                self._show(text)
        self._flush()

    def _brace(self, brace: bytes) -> None:
        self._flush()
        self.skip, self.is_ignorable = 0, False
        if brace == b"{":
            if len(self.groups) < _GROUPS_LIMIT:
                self.groups.append(self.group)
                self.group = replace(self.group)
        elif self.groups:
            self.group = self.groups.pop()

    def _control(self, word: bytes, number: int | None, position: int) -> int:
        """What a control word does; returns where to go on."""
        if self.is_ignorable:
            self.is_ignorable = False
            self.group.is_shown = self.group.is_shown and word == b"htmltag"
            return position
        match word:
            case b"u" if number is not None:
                self._write(chr(number % 0x10000))
                self.skip = self.group.unicode_skip
            case b"uc" if number is not None:
                self.group.unicode_skip = min(max(number, 0), 20)
            case b"bin" if number is not None:
                return position + max(number, 0)
            case b"f" | b"plain":
                self._flush()
                self.group.font = -1 if number is None else number
            case b"fcharset" if self.group.is_font_table and len(self.font_charsets) < 1000:
                self.font_charsets[self.group.font] = _FONT_CHARSETS.get(number or 0, "")
            case b"ansicpg" if number is not None:
                self._flush()
                self.charset = "utf-8" if number == 65001 else f"cp{number}"
            case b"fromhtml":
                self.is_html = True
            case b"htmlrtf":
                self._flush()
                self.group.is_hidden = number != 0
            case b"fonttbl":
                self.group.is_font_table, self.group.is_shown = True, False
            case _ if word in _NOT_SHOWN:
                self.group.is_shown = False
            case _ if word in _CHARACTERS:
                self._write(_CHARACTERS[word])
        return position

    def _show(self, octets: bytes) -> None:
        skipped = min(self.skip, len(octets))
        self.skip -= skipped
        if self._is_shown():
            self.octets += octets[skipped:]

    def _write(self, characters: str) -> None:
        self._flush()
        if self._is_shown():
            self.pieces.append(characters)

    def _is_shown(self) -> bool:
        return self.group.is_shown and not (self.is_html and self.group.is_hidden)

    def _flush(self) -> None:
        if self.octets:
            charset = self.font_charsets.get(self.group.font) or self.charset
            octets = bytes(self.octets)
            known = decode_charset(octets, charset)
            self.pieces.append(octets.decode("cp1252", "replace") if known is None else known)
            self.octets.clear()
