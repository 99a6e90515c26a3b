"""The filter ``office``: macros, DDE, embedded objects, external templates and encryption in office files.

    - name: no-macros
      filter: office
      with: {find: [macros, external]}

It looks at every attachment and every member of archives; the newer office files are archives themselves.
Needs the extra ``office`` (oletools). Its libraries are written in Python and may take long on what was made
for that, so that this filter runs in processes of its own (``isolation``).
"""

import importlib
import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from xml.etree import ElementTree as ET

from gatepost import Match, Passed, Transaction, Verdict, hookimpl
from gatepost_files import File, NotReadError, look_at_files, oletools
from gatepost_office_fields import dde_fields, text_of_binary, text_of_rtf, text_of_xml
from gatepost_office_sheets import in_binary_link, in_sylk, in_workbook, in_xml, is_workbook

__all__ = ["Office"]

Kind = Literal["macros", "auto_macros", "dde", "embedded", "external", "encrypted"]

_SECONDS = 30.0
"""Processor time for all files of a message."""
_MATCHES_LIMIT = 20
_HEAD = 20_000
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_RTF = re.compile(rb"\s*\{\\rt")
_RTF_TEMPLATE = re.compile(rb"\{\s*\\\*\s*\\template\s+(?:\S*:|\\\\\\\\)", re.IGNORECASE)
"""A template that is a URL or on another computer (``\\\\host`` with its backslashes escaped)."""
_SYLK = re.compile(rb"ID[;\r\n]")
_ELSEWHERE = re.compile(r"\w{2,}:|\\\\")
"""A URL, or a path on another computer."""
_XML = re.compile(rb"[\xef\xbb\xbf\xff\xfe\s\0]*+<")
_XML_WORDS = ("relationships", "instrText", "fldSimple", "ddeLink", "|", "&#")
"""What is looked for in XML has one of them; ``&#`` may stand for a letter of them, or for ``|``."""
_XML_PIECES = tuple(
    word.encode(encoding) for word in _XML_WORDS for encoding in ("utf-8", "utf-16-le", "utf-16-be")
)
_LOADED = ("attachedTemplate", "oleObject", "frame", "subDocument")
"""Relations whose target is loaded when the document is opened; links and pictures are not among them."""
_ENCRYPTED = ("encryptedpackage", "encryptioninfo", "encryptedsummary")
"""Streams of encrypted files (MS-OFFCRYPTO), which oletools misses if anything else in the file is odd."""
_NATIVE = "\x01ole10native"
"""The stream of an embedded file (MS-OLEDS 2.3.6)."""
_TEMPLATE_AT = 410
"""Where a Word document says where its SttbfAssoc is (MS-DOC 2.5.6), whose second name is the template."""


class _UnreadableError(Exception):
    """An office file that the libraries cannot read."""


@dataclass(kw_only=True, eq=False)
class Office:
    """A hit for each message with one of these in an office file, or with one that cannot be inspected."""

    isolation: ClassVar[str] = "process"
    find: list[Kind] = field(default_factory=lambda: ["macros", "dde", "embedded", "external", "encrypted"])
    unscanned: Literal["hit", "pass"] = "hit"
    """What a damaged office file is, and a file in an archive that cannot be unpacked, unless encrypted."""

    def __post_init__(self) -> None:
        if not self.find:
            expected = "expected macros, auto_macros, dde, embedded, external or encrypted"
            raise ValueError(f"find: nothing to look for, {expected}")
        try:
            importlib.import_module("olefile")
            for module in ("olevba", "rtfobj", "crypto"):
                oletools(module)
        except ImportError as error:
            what = f"{error.name} is not installed, expected: pip install 'gatepost[office]'"
            raise ValueError(what) from None

    @hookimpl
    def filter_message(self, transaction: Transaction) -> Verdict | Passed | None:
        """Look at all files."""
        found: list[tuple[str, Match]] = []
        damaged: list[str] = []

        def look(file: File) -> None:
            try:
                for kind, text in dict.fromkeys(_findings(file, self.find)):
                    if kind in self.find:
                        found.append((_WORDS[kind], Match(where=file.where, text=text)))
            except _UnreadableError as error:
                damaged.append(f"{file.where}: office file that cannot be read: {error}")

        left_out = look_at_files(transaction.message, look, seconds=_SECONDS)
        if found:
            what, match = found[0]
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            matches = tuple(match for _, match in found[:_MATCHES_LIMIT])
            return Verdict(reason=f"{what} in {match.where}{more}", matches=matches)
        if transaction.message.view.unread:
            raise NotReadError(transaction.message.view.unread)
        unscanned = next(iter(damaged), "") or left_out.unscanned
        if unscanned and self.unscanned == "hit":
            return Verdict(reason=f"not inspected: {unscanned}")
        why = unscanned or left_out.encrypted
        return Passed(reason=f"not inspected: {why}") if why else None


_WORDS: dict[str, str] = {
    "macros": "macros",
    "auto_macros": "a macro that runs by itself",
    "dde": "a link that starts a program (DDE)",
    "embedded": "an embedded file",
    "external": "an external template or object",
    "encrypted": "encryption",
}


def _findings(file: File, wanted: list[Kind]) -> Iterator[tuple[str, str]]:
    """What is found in one file, each with a text to show; raises `_UnreadableError`."""
    content = file.content
    if content.startswith(_OLE):
        yield from _in_compound_file(content)
        if "macros" in wanted or "auto_macros" in wanted:
            yield from _macros(content)
    elif _RTF.match(content):
        yield from _in_rtf(content)
    elif is_workbook(content):
        yield from in_workbook(content)
    elif _SYLK.match(content):
        yield from in_sylk(content)
    elif _is_text_of_office(content):
        yield from _macros(content)
    yield from in_binary_link(content)
    if _is_xml(file):
        yield from _in_xml(content)


def _is_text_of_office(content: bytes) -> bool:
    """Word's XML of 2003, or a web archive, which hold macros in base64."""
    if b"schemas.microsoft.com/office/word/2003/wordml" in content or b"ActiveMime" in content:
        return True
    return b"mime-version:" in content[:_HEAD].lower() and b"mso" in content


def _is_xml(file: File) -> bool:
    """True for XML that may have what is looked for."""
    content = file.content
    if any(name.lower().endswith(".rels") for name in file.names):
        return True
    return bool(_XML.match(content)) and any(one in content for one in _XML_PIECES)


def _in_compound_file(content: bytes) -> Iterator[tuple[str, str]]:
    olefile = importlib.import_module("olefile")
    crypto = oletools("crypto")
    try:
        # A file object: olefile takes short bytes for a path.
        with olefile.OleFileIO(io.BytesIO(content)) as ole:
            paths = ole.listdir()
            if crypto.is_encrypted(ole) or any(path[-1].lower() in _ENCRYPTED for path in paths):
                yield "encrypted", "encrypted"
            for path in paths:
                name = path[-1].lower()
                if name == _NATIVE:
                    yield "embedded", "/".join(path).replace("\x01", "")
                elif name in ("workbook", "book"):
                    yield from in_workbook(ole.openstream(path).read())
                elif name == "worddocument":
                    yield from _in_word_document(ole, path)
    except Exception as error:
        raise _UnreadableError(f"{type(error).__name__}: {error}") from error


def _in_word_document(ole: Any, path: list[str]) -> Iterator[tuple[str, str]]:
    """Fields in the stream with the text, and the template that is named in the one with tables."""
    content = ole.openstream(path).read()
    for text in text_of_binary(content):
        yield from (("dde", one) for one in dde_fields(text))
    table = [*path[:-1], "1Table" if content[11:12] and content[11] & 2 else "0Table"]
    if ole.exists(table):
        start, size = struct.unpack_from("<II", content.ljust(_TEMPLATE_AT + 8, b"\0"), _TEMPLATE_AT)
        names = ole.openstream(table).read()[start : start + size][6:]
        for number in range(2):
            end = 2 + 2 * int.from_bytes(names[:2], "little")
            name, names = names[2:end].decode("utf-16-le", "replace"), names[end:]
            if number == 1 and _ELSEWHERE.match(name):
                yield "external", f"template: {name[:200]}"


def _macros(content: bytes) -> Iterator[tuple[str, str]]:
    olevba = oletools("olevba")
    try:
        parser = olevba.VBA_Parser("file", data=content)
    except Exception as error:
        if content.startswith(_OLE):
            raise _UnreadableError(f"{type(error).__name__}: {error}") from error
        return
    try:
        if parser.type in (None, olevba.TYPE_TEXT):  # it calls macros in any text VBA
            return
        if not parser.detect_vba_macros():
            return
        yield "macros", "VBA"
        words: list[str] = []
        for _, _, _, code in parser.extract_macros():
            text = code if isinstance(code, str) else code.decode("utf-8", "replace")
            words += [word for word, _ in olevba.detect_autoexec(text)]
        if words:
            yield "auto_macros", words[0]
    except Exception as error:
        raise _UnreadableError(f"{type(error).__name__}: {error}") from error
    finally:
        parser.close()


def _in_rtf(content: bytes) -> Iterator[tuple[str, str]]:
    if template := _RTF_TEMPLATE.search(content):
        yield "external", template[0].decode("latin-1")
    yield from (("dde", one) for one in dde_fields(text_of_rtf(content)))
    rtfobj = oletools("rtfobj")
    try:
        parser = rtfobj.RtfObjParser(content)
        parser.parse()
    except Exception as error:
        raise _UnreadableError(f"{type(error).__name__}: {error}") from error
    for found in parser.objects:
        if found.is_package or found.is_ole:
            yield "embedded", str(found.filename or found.class_name or "object")[:200]


def _in_xml(content: bytes) -> Iterator[tuple[str, str]]:
    """Fields and formulas, and in a part with relations (ECMA-376 part 2 section 9.3) what they lead to."""
    try:
        root = ET.fromstring(content)  # noqa: S314 - in a process with bounds of time and memory
    except (ET.ParseError, LookupError, ValueError):
        return  # for office programs too it is no such part
    yield from (("dde", one) for one in dde_fields(text_of_xml(root)))
    yield from in_xml(root)
    for one in root.iter():
        kind = one.get("Type", "").rpartition("/")[2]
        if one.get("TargetMode", "") == "External" and kind in _LOADED:
            yield "external", f"{kind}: {one.get('Target', '')[:200]}"
