"""Attachments by name, type and content, also inside zip archives.

    - name: no-executables
      filter: attachments
      with:
        extensions: [exe, scr, js, tar.gz]
        types: [application/x-dosexec, "video/*"]
        mismatch: true
        inside_archives: true
        encrypted: true

``extensions`` looks at names as Windows takes them: case, full-width dots, invisible and
direction-changing characters, and dots and spaces at the end do not count. ``types`` are those that
the sender declares and those that the content shows, whatever its name: ``application/x-dosexec``
(Windows), ``application/x-elf`` and ``application/x-mach-binary`` find programs under any name.
``mismatch`` finds programs, scripts, archives and office files under the name or type of something else.

``inside_archives`` looks for ``extensions`` in zip files, and in zip files in them; office files and
jar are zip files too. ``encrypted`` finds zip files with an encrypted member. An archive that is
deeper or larger than the bounds below, or whose members overlap, is a hit for both: nobody can say
what is in it. Other archives (7z, rar, gzip) are known as types only.

Attachments of forwarded messages count too. Content is looked at in a thread.
"""

import asyncio
import io
import re
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import puremagic

from proxy import Attachment, Match, Message, Transaction, Verdict, hookimpl

__all__ = ["Attachments"]

_INLINE_LIMIT = 64 << 10
"""Octets of a message above which it is read in a thread."""
_MATCHES_LIMIT = 10
_DEPTH_LIMIT = 5
"""Archives in archives."""
_MEMBERS_LIMIT = 10_000
"""In all archives of one attachment."""
_NESTED_LIMIT = 64 << 20
"""Octets of the archives in archives that are unpacked for one attachment."""
_UNPACKED_LIMIT = 4 << 30
"""Octets that one archive may unpack to by its own account."""
_RATIO_LIMIT = 500
_RATIO_FROM = 64 << 20
"""Octets from which on an archive may not unpack to more than `_RATIO_LIMIT` times its size."""


@dataclass(kw_only=True, eq=False)
class Attachments:
    """Says yes where an attachment has one of the extensions, types or other properties asked for."""

    extensions: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    mismatch: bool = False
    inside_archives: bool = False
    encrypted: bool = False

    def __post_init__(self) -> None:
        if not (self.extensions or self.types or self.mismatch or self.encrypted):
            raise ValueError("nothing to look for: expected extensions, types, mismatch or encrypted")
        for extension in self.extensions:
            if not re.fullmatch(r"\.?[^\s./\\][^\s/\\]*", extension):
                raise ValueError(f"extensions: {extension!r}: expected like exe or tar.gz")
        for content_type in self.types:
            if not re.fullmatch(r"[^\s/]+/[^\s/]+", content_type):
                raise ValueError(f"types: {content_type!r}: expected like application/zip or video/*")
        if self.inside_archives and not self.extensions:
            raise ValueError("inside_archives: expected extensions to look for there")
        self._endings = tuple("." + _plain(extension).lstrip(".") for extension in self.extensions)
        self._reads = bool(self.types or self.mismatch or self.inside_archives or self.encrypted)
        self._types = [content_type.lower() for content_type in self.types]

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | None:
        """A hit names the attachment and what was found."""
        message = transaction.message
        if len(message.content) > _INLINE_LIMIT or (self._reads and message.view.attachments):
            return await asyncio.to_thread(self._look, message)
        return self._look(message)

    def _look(self, message: Message) -> Verdict | None:
        found: list[tuple[str, Match]] = []
        for attachment in message.view.attachments:
            where = f"attachment {_printable(attachment.filename) or attachment.content_type}"
            found += ((why, Match(where=where, text=text)) for why, text in self._findings(attachment))
            if len(found) >= _MATCHES_LIMIT:
                break
        if not found:
            return None
        why, match = found[0]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        warning = f" ({_printable(message.view.warnings[0])})" if message.view.warnings else ""
        return Verdict(
            reason=f"{match.where}: {why}{more}{warning}",
            matches=tuple(match for _, match in found[:_MATCHES_LIMIT]),
        )

    def _findings(self, attachment: Attachment) -> Iterator[tuple[str, str]]:
        """Why it is a hit, and what to show of it."""
        if ending := self._ending(attachment.filename):
            yield f"extension {ending}", _printable(attachment.filename)
        if declared := self._listed(attachment.content_type):
            yield f"type {_printable(declared)}", _printable(declared)
        if attachment.content_type.startswith("message/"):
            return  # its own parts are attachments too
        if not self._reads:
            return
        content = attachment.read()
        kind = _sniffed(content)
        if self._types and not declared:
            shown = kind.types if kind else _other_types(content)
            if listed := next(filter(self._listed, shown), ""):
                yield f"content of type {listed}", listed
        if self.mismatch and kind and (claim := _false_claim(kind, attachment)):
            yield f"content of type {kind.types[0]}, but {claim}", kind.types[0]
        if (self.inside_archives or self.encrypted) and _may_be_zip(content):
            yield from self._findings_inside(content)

    def _findings_inside(self, content: bytes) -> Iterator[tuple[str, str]]:
        archive = _Archive()
        try:
            for name, is_encrypted in archive.members(content):
                if self.inside_archives and (ending := self._ending(name)):
                    yield f"extension {ending} inside", _printable(name)
                    return
                if self.encrypted and is_encrypted:
                    yield "encrypted member", _printable(name)
                    return
        except _ExceedsBoundsError as error:
            yield f"archive exceeds bounds: {error}", str(error)

    def _ending(self, filename: str) -> str:
        """The listed extension that the name has; empty where it has none."""
        if not filename or not self._endings:
            return ""
        # Windows ends a name at NUL, and what follows a colon names a stream of the file.
        for name in (filename, filename.partition("\0")[0], filename.partition(":")[0]):
            plain = _plain(name)
            for ending in self._endings:
                if plain.endswith(ending):
                    return ending[1:]
        return ""

    def _listed(self, content_type: str) -> str:
        return content_type if any(fnmatchcase(content_type, listed) for listed in self._types) else ""


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:200])


def _plain(name: str) -> str:
    """The end of a file name as it is when somebody opens the file, in lower case."""
    name = name[-1000:]
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name).replace("\u3002", ".")
        name = "".join(character for character in name if unicodedata.category(character) != "Cf")
    return re.sub(r"[\x00-\x1f\x7f]", "", name).lower().rstrip(". \u3000\"'")


# What content shows --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    """program, script, archive or office: what may not come under another name; else empty."""
    types: tuple[str, ...]


_PROGRAM = _Kind("program", ("application/x-dosexec", "application/vnd.microsoft.portable-executable"))
_OOXML = _Kind("office", ("application/vnd.openxmlformats-officedocument",))
_ODF = _Kind("office", ("application/vnd.oasis.opendocument",))
_ZIP = _Kind("archive", ("application/zip", "application/x-zip-compressed"))
_SCRIPT = _Kind("script", ("text/x-shellscript", "application/x-shellscript"))
_SIGNATURES = {
    b"\x7fELF": _Kind("program", ("application/x-elf", "application/x-executable")),
    b"\xfe\xed\xfa\xce": _Kind("program", ("application/x-mach-binary",)),
    b"\xfe\xed\xfa\xcf": _Kind("program", ("application/x-mach-binary",)),
    b"\xce\xfa\xed\xfe": _Kind("program", ("application/x-mach-binary",)),
    b"\xcf\xfa\xed\xfe": _Kind("program", ("application/x-mach-binary",)),
    b"\xca\xfe\xba\xbe": _Kind("program", ("application/java-vm", "application/x-mach-binary")),
    b"L\0\0\0\x01\x14\x02\0": _Kind("program", ("application/x-ms-shortcut",)),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": _Kind("office", ("application/x-ole-storage",)),
    b"Rar!\x1a\x07": _Kind("archive", ("application/vnd.rar", "application/x-rar-compressed")),
    b"7z\xbc\xaf\x27\x1c": _Kind("archive", ("application/x-7z-compressed",)),
    b"\x1f\x8b\x08": _Kind("archive", ("application/gzip", "application/x-gzip")),
    b"\xfd7zXZ\0": _Kind("archive", ("application/x-xz",)),
    b"MSCF\0\0\0\0": _Kind("archive", ("application/vnd.ms-cab-compressed",)),
    b"%PDF-": _Kind("", ("application/pdf",)),
    b"\x89PNG\r\n\x1a\n": _Kind("", ("image/png",)),
    b"\xff\xd8\xff": _Kind("", ("image/jpeg",)),
    b"GIF8": _Kind("", ("image/gif",)),
}


def _sniffed(content: bytes) -> _Kind | None:
    """What the content surely is; None where it may be anything."""
    if content.startswith(b"MZ"):
        header = int.from_bytes(content[60:64], "little")
        return _PROGRAM if content[header : header + 2] in (b"PE", b"NE", b"LE", b"LX") else None
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        head = content[:4096]
        if b"[Content_Types].xml" in head or b"_rels/.rels" in head:
            return _OOXML
        return _ODF if content[30:38] == b"mimetype" else _ZIP
    if re.match(rb"#! ?/", content):
        return _SCRIPT
    return next((kind for signature, kind in _SIGNATURES.items() if content.startswith(signature)), None)


def _other_types(content: bytes) -> list[str]:
    """The types of the surest guess at content that is none of the above."""
    try:
        guesses = puremagic.magic_string(content)
    except (puremagic.PureError, ValueError):
        return []
    best = max(guess.confidence for guess in guesses)
    return sorted(
        {g.mime_type for g in guesses if g.mime_type and g.confidence == best and len(g.byte_match) >= 4}
    )


_CLAIMS = {
    "picture": "bmp gif heic ico jpeg jpg png svg tif tiff webp",
    "media": "avi flac m4a mkv mov mp3 mp4 mpeg mpg ogg wav wma wmv",
    "pdf": "pdf",
    "text": "csv eml htm html ics json log md rtf txt vcf xml",
    "office": "doc docm docx dot dotx msg odp ods odt pps ppsx ppt pptm pptx pub rtf vsd xls xlsb xlsm xlsx",
    "archive": "7z bz2 cab gz jar rar tar tgz xz zip",
}
_CLAIMED = {extension: claim for claim, extensions in _CLAIMS.items() for extension in extensions.split()}
_CLAIMED_TYPES = {"image/": "picture", "audio/": "media", "video/": "media", "application/pdf": "pdf"}
_FALSE_CLAIMS = {
    "program": {"picture", "media", "pdf", "text", "office", "archive"},
    "script": {"picture", "media", "pdf", "office", "archive"},
    "archive": {"picture", "media", "pdf", "text"},
    "office": {"picture", "media", "pdf", "text"},
}


def _false_claim(kind: _Kind, attachment: Attachment) -> str:
    """What the name, or else the type, falsely claims; empty where it claims nothing false."""
    extension = _plain(attachment.filename).rpartition(".")[2]
    false = _FALSE_CLAIMS.get(kind.name, set())
    if claim := _CLAIMED.get(extension, ""):
        return f"named like {claim}" if claim in false else ""
    for start, claim in _CLAIMED_TYPES.items():
        if attachment.content_type.startswith(start) and claim in false:
            return f"declared as {_printable(attachment.content_type)}"
    return ""


# Zip archives --------------------------------------------------------------------------------------------


class _ExceedsBoundsError(Exception):
    """It cannot be looked through in bearable time and memory."""


def _may_be_zip(content: bytes) -> bool:
    return content.startswith(b"PK\x03\x04") or content.rfind(b"PK\x05\x06", -66_000) >= 0


@dataclass(slots=True)
class _Archive:
    """One attachment's way through its members."""

    seen: int = 0
    nested_octets: int = 0

    def members(self, content: bytes, depth: int = 1) -> Iterator[tuple[str, bool]]:
        """Each member's name, and whether it is encrypted; raises _ExceedsBoundsError."""
        if depth > _DEPTH_LIMIT:
            raise _ExceedsBoundsError("too many archives in archives")
        if content.count(b"PK\x01\x02") > _MEMBERS_LIMIT:
            raise _ExceedsBoundsError("too many members")
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                infos = archive.infolist()
                self._check(infos, len(content))
                for info in infos:
                    is_encrypted = bool(info.flag_bits & 1)
                    yield info.orig_filename, is_encrypted
                    if not is_encrypted and (inner := self._nested(archive, info)):
                        yield from self.members(inner, depth + 1)
        except _ExceedsBoundsError:
            raise
        except Exception:  # noqa: BLE001 # on hostile input zipfile raises whatever it stumbles upon
            yield from _local_members(content)

    def _check(self, infos: list[zipfile.ZipInfo], size: int) -> None:
        self.seen += len(infos)
        if self.seen > _MEMBERS_LIMIT:
            raise _ExceedsBoundsError("too many members")
        unpacked = sum(info.file_size for info in infos)
        if unpacked > _UNPACKED_LIMIT or (unpacked > _RATIO_FROM and unpacked > _RATIO_LIMIT * size):
            raise _ExceedsBoundsError("too large when unpacked")
        end = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise _ExceedsBoundsError("members overlap")
            end = info.header_offset + 30 + info.compress_size

    def _nested(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
        """The octets of a member that is a zip file itself; else nothing."""
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return b""  # others unpack without bounds
        try:
            with archive.open(info) as member:
                start = member.read(4)
                if start not in (b"PK\x03\x04", b"PK\x05\x06"):
                    return b""
                left = _NESTED_LIMIT - self.nested_octets
                inner = start + member.read(left)
        except Exception:  # noqa: BLE001 # as in members
            return b""  # damaged: nobody can open it
        self.nested_octets += len(inner)
        if self.nested_octets > _NESTED_LIMIT:
            raise _ExceedsBoundsError("archives in archives are too large")
        return inner


def _local_members(content: bytes) -> Iterator[tuple[str, bool]]:
    """What can be seen of an archive without a usable directory: the headers before the members."""
    for found in re.finditer(rb"PK\x03\x04", content):
        header = content[found.start() : found.start() + 30]
        if len(header) == 30:
            name = content[found.start() + 30 : found.start() + 30 + int.from_bytes(header[26:28], "little")]
            yield name[:1000].decode("utf-8", "replace"), bool(header[6] & 1)
