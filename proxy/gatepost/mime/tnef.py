"""TNEF (``winmail.dat``, [MS-OXTNEF]): the files and texts that Outlook packs into one part.

A flat list of attributes, read in one pass; bounded in depth, attributes, properties and files. Nothing here
raises: what can be read of a damaged one is returned, and ``fault`` says what is wrong. The library for it
(tnefparse 1.4.0, of 2021) raises on one bad attribute, copies what follows for each of them, and cuts zeros
off the end of files.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from gatepost.mime.charsets import decode_charset
from gatepost.mime.rtf import decompress_rtf, rtf_text

__all__ = ["Tnef", "TnefFile", "TnefText", "is_tnef", "read_tnef"]

_SIGNATURE = b"\x78\x9f\x3e\x22"
_HEADER_SIZE = 6
_DEPTH_LIMIT = 5
"""Messages in messages."""
_FILES_LIMIT = 1000
_TEXTS_LIMIT = 100
_ATTRIBUTES_LIMIT = 20_000
_PROPERTIES_LIMIT = 100_000
"""Values of properties; both limits are for the message with all that is in it."""

_RTF_LIMIT = 1 << 20
"""Bytes of RTF, decompressed."""


class _Attribute(IntEnum):
    """[MS-OXTNEF] 2.1.3.3."""

    SUBJECT = 0x8004
    BODY = 0x800C
    ATTACH_DATA = 0x800F
    ATTACH_TITLE = 0x8010
    ATTACH_TRANSPORT_NAME = 0x9001
    ATTACH_RENDERING = 0x9002
    MESSAGE_PROPERTIES = 0x9003
    ATTACHMENT_PROPERTIES = 0x9005
    OEM_CODE_PAGE = 0x9007


class _Tag(IntEnum):
    """[MS-OXPROPS]; a property without one of these is passed over."""

    SUBJECT = 0x0037
    BODY = 0x1000
    RTF_COMPRESSED = 0x1009
    HTML = 0x1013
    DISPLAY_NAME = 0x3001
    ATTACH_DATA = 0x3701
    ATTACH_FILENAME = 0x3704
    ATTACH_LONG_FILENAME = 0x3707
    ATTACH_PATHNAME = 0x3708
    ATTACH_TRANSPORT_NAME = 0x370C
    ATTACH_LONG_PATHNAME = 0x370D
    ATTACH_MIME_TAG = 0x370E
    INTERNET_CODE_PAGE = 0x3FDE


_WANTED = frozenset(_Tag)
_NAMES = (
    _Tag.ATTACH_LONG_FILENAME,
    _Tag.ATTACH_FILENAME,
    _Tag.ATTACH_TRANSPORT_NAME,
    _Tag.ATTACH_LONG_PATHNAME,
    _Tag.ATTACH_PATHNAME,
    _Tag.DISPLAY_NAME,
)
"""The likeliest first."""

# Types of properties ([MS-OXCDATA] 2.11.1), and how many bytes a value of each has here.
_STRING, _UNICODE, _OBJECT, _BINARY = 0x001E, 0x001F, 0x000D, 0x0102
_VARIABLE = frozenset({_STRING, _UNICODE, _OBJECT, _BINARY})
_SIZES = {
    0x0000: 0, 0x0001: 0, 0x0002: 4, 0x0003: 4, 0x0004: 4, 0x0005: 8, 0x0006: 8, 0x0007: 8, 0x000A: 4,
    0x000B: 4, 0x0014: 8, 0x0040: 8, 0x0048: 16,
}  # fmt: skip
_MULTIPLE, _NAMED = 0x1000, 0x8000
_INTERFACE_SIZE = 16
"""Before the bytes of an object there is the identifier of how it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TnefFile:
    """One attachment of the message in it."""

    names: tuple[str, ...]
    """Every name it has, the likeliest first, without repetition; may hold anything."""
    content_type: str
    """In lower case; empty where none is declared."""
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TnefText:
    """A subject or a body."""

    content_type: str
    """``text/plain`` or ``text/html``."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tnef:
    """What is in it, and in the messages in it."""

    files: tuple[TnefFile, ...]
    texts: tuple[TnefText, ...]
    fault: str
    """What could not be read, for a person; empty where nothing."""


def is_tnef(octets: bytes) -> bool:
    """True where the content begins as TNEF does."""
    return octets.startswith(_SIGNATURE)


def read_tnef(octets: bytes) -> Tnef:
    """The files and texts in it; none where it is not TNEF."""
    reader = _Reader()
    reader.read_message(octets, 0)
    return Tnef(files=tuple(reader.files), texts=tuple(reader.texts), fault=reader.fault)


@dataclass(frozen=True, slots=True)
class _Property:
    number: int
    type: int
    value: bytes


@dataclass(slots=True)
class _File:
    names: dict[int, list[str]] = field(default_factory=dict)
    contents: list[bytes] = field(default_factory=list)
    content_type: str = ""
    is_message: bool = False

    def name(self, tag: int, *spellings: str) -> None:
        self.names.setdefault(tag, []).extend(spellings)


@dataclass(slots=True)
class _Reader:
    files: list[TnefFile] = field(default_factory=list)
    texts: list[TnefText] = field(default_factory=list)
    fault: str = ""
    attributes: int = 0
    properties: int = 0
    rtf_left: int = _RTF_LIMIT

    def read_message(self, octets: bytes, depth: int) -> None:
        if not is_tnef(octets):
            self._fail("it does not begin as TNEF does")
            return
        attributes = list(self._attributes(octets))
        code_page = next(
            (_code_page(value) for number, value in attributes if number == _Attribute.OEM_CODE_PAGE), ""
        )
        current = _File()
        for number, value in attributes:
            match number:
                case _Attribute.ATTACH_RENDERING:  # each attachment begins with it
                    self._close(current)
                    current = _File()
                case _Attribute.ATTACH_TITLE:
                    current.name(_Tag.ATTACH_FILENAME, *_strings(value, code_page))
                case _Attribute.ATTACH_TRANSPORT_NAME:
                    current.name(_Tag.ATTACH_TRANSPORT_NAME, *_strings(value, code_page))
                case _Attribute.ATTACH_DATA:
                    current.contents.append(value)
                case _Attribute.ATTACHMENT_PROPERTIES:
                    self._read_attachment(current, value, code_page, depth)
                case _Attribute.MESSAGE_PROPERTIES:
                    self._read_properties(value, code_page)
                case _Attribute.SUBJECT | _Attribute.BODY:
                    self._add_text("text/plain", *_strings(value, code_page))
        self._close(current)

    def _attributes(self, octets: bytes) -> Iterator[tuple[int, bytes]]:
        position = _HEADER_SIZE
        while position + 9 <= len(octets):
            self.attributes += 1
            if self.attributes > _ATTRIBUTES_LIMIT:
                self._fail(f"more than {_ATTRIBUTES_LIMIT} attributes")
                return
            _, number, _, size = struct.unpack_from("<BHHI", octets, position)
            position += 9
            if position + size > len(octets):
                self._fail("it ends within an attribute")
            yield number, octets[position : position + size]
            position += size + 2

    def _properties(self, octets: bytes) -> Iterator[_Property]:
        """The wanted ones of a list."""
        position = 4
        while position + 4 <= len(octets):
            kind, number = struct.unpack_from("<HH", octets, position)
            position += 4
            if number >= _NAMED:
                position = _after_name(octets, position)
            count = 1
            if kind & _MULTIPLE or kind in _VARIABLE:
                count = int.from_bytes(octets[position : position + 4], "little")
                position += 4
            kind &= ~_MULTIPLE
            if kind not in _SIZES and kind not in _VARIABLE:
                self._fail(f"a property of the unknown type {kind:#06x}")
                return
            if kind in _SIZES:
                value, position = octets[position : position + _SIZES[kind]], position + count * _SIZES[kind]
                if number in _WANTED:
                    yield _Property(number, kind, value)
                continue
            for _ in range(count):
                self.properties += 1
                if position + 4 > len(octets) or self.properties > _PROPERTIES_LIMIT:
                    self._fail("a list of properties is cut")
                    return
                size = int.from_bytes(octets[position : position + 4], "little")
                position += 4
                if number in _WANTED:
                    yield _Property(number, kind, octets[position : position + size])
                position += (size + 3) // 4 * 4

    def _read_properties(self, octets: bytes, code_page: str) -> None:
        found = list(self._properties(octets))
        internet = next((_code_page(one.value) for one in found if one.number == _Tag.INTERNET_CODE_PAGE), "")
        for one in found:
            match one.number:
                case _Tag.SUBJECT | _Tag.BODY:
                    self._add_text("text/plain", *_values(one, code_page))
                case _Tag.HTML:
                    self._add_text("text/html", *_values(one, internet or code_page))
                case _Tag.RTF_COMPRESSED:
                    rtf = decompress_rtf(one.value, self.rtf_left)
                    self.rtf_left -= len(rtf)
                    self._add_text(*rtf_text(rtf))
                    if not self.rtf_left:
                        self._fail(f"more than {_RTF_LIMIT} octets of RTF")

    def _read_attachment(self, current: _File, octets: bytes, code_page: str, depth: int) -> None:
        for one in self._properties(octets):
            if one.number in _NAMES:
                current.name(one.number, *_values(one, code_page))
            elif one.number == _Tag.ATTACH_MIME_TAG:
                current.content_type = next(iter(_values(one, code_page)), "").lower()
            elif one.number == _Tag.ATTACH_DATA and one.type in {_OBJECT, _BINARY}:
                content = one.value[_INTERFACE_SIZE:] if one.type == _OBJECT else one.value
                if not is_tnef(content):
                    current.contents.append(content)
                elif depth < _DEPTH_LIMIT:
                    current.is_message = True
                    self.read_message(content, depth + 1)
                else:
                    self._fail(f"messages nested more than {_DEPTH_LIMIT} deep")

    def _add_text(self, content_type: str, *texts: str) -> None:
        for text in texts:
            if not text.strip():
                continue
            if len(self.texts) >= _TEXTS_LIMIT:
                self._fail(f"more than {_TEXTS_LIMIT} texts")
                return
            self.texts.append(TnefText(content_type=content_type, text=text))

    def _close(self, current: _File) -> None:
        names = dict.fromkeys(name for tag in _NAMES for name in current.names.get(tag, ()) if name)
        if not (names or current.contents) or (current.is_message and not names):
            return
        for content in current.contents or [b""]:
            if len(self.files) >= _FILES_LIMIT:
                self._fail(f"more than {_FILES_LIMIT} files")
                return
            self.files.append(
                TnefFile(names=tuple(names), content_type=current.content_type, content=content)
            )

    def _fail(self, fault: str) -> None:
        self.fault = self.fault or fault


def _after_name(octets: bytes, position: int) -> int:
    """Behind the name of a property that has one: a set, a kind, and a number or characters."""
    kind, size = int.from_bytes(octets[position + 16 : position + 20], "little"), 4
    if kind:
        length = int.from_bytes(octets[position + 20 : position + 24], "little")
        size = 4 + (length + 3) // 4 * 4
    return position + 20 + size


def _code_page(value: bytes) -> str:
    number = int.from_bytes(value[:4], "little")
    return "utf-8" if number == 65001 else f"cp{number}"


def _values(one: _Property, code_page: str) -> tuple[str, ...]:
    if one.type == _UNICODE:
        return (one.value.decode("utf-16-le", "replace").split("\0", 1)[0],)
    return _strings(one.value, code_page)


def _strings(value: bytes, code_page: str) -> tuple[str, ...]:
    """The characters in the declared code page, and where the bytes are UTF-8 in that too."""
    octets = value.split(b"\0", 1)[0]
    known = decode_charset(octets, code_page) if code_page else None
    text = octets.decode("cp1252", "replace") if known is None else known
    if octets.isascii():
        return (text,)
    try:
        return tuple(dict.fromkeys((text, octets.decode())))
    except UnicodeDecodeError:
        return (text,)
