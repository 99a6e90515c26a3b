"""Zip files, member by member: by their directory, and by the headers that it does not name.

Readers of zip files differ in what they trust, so that a member has every name, and every content, that one
of them may show. Nothing but `UnreadableError` and `NotHereError` is raised.
"""

import bz2
import io
import itertools
import lzma
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from gatepost_unpacking import (
    INSTALL,
    PIECE,
    Member,
    NewDecompressor,
    NotHereError,
    UnreadableError,
    Why,
    inflate64_decompressor,
    inflate_decompressor,
    lzma_decompressor,
    unpacked,
    zstd_decompressor,
)

__all__ = ["zip_is_in", "zip_members"]

_SIZE_LIMIT = 1 << 30
"""Bytes that one archive may unpack to by its own account."""
_RATIO_LIMIT = 500
_RATIO_FROM = 64 << 20
"""Bytes from which on an archive may not unpack to more than `_RATIO_LIMIT` times its size."""
_MEMBERS_LIMIT = 10_000
_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_HEADERS_LIMIT = 10_000
_DIRECTORIES_LIMIT = 8
"""How many ends of a directory are tried, from the last; those before them are left to the headers' names."""
_NAME_LIMIT = 4096
"""Bytes of a name in a zip file beyond which it is taken for none where no directory says so."""
_UNICODE_PATH = 0x7075
_ENCRYPTED_FLAGS = 0x2041
"""Encrypted, strongly encrypted, names masked (APPNOTE 4.4.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    names: tuple[str, ...]
    flags: int
    method: int
    start: int
    """Offset of the packed bytes."""
    end: int
    size: int
    """Bytes unpacked; -1 where unknown."""


def zip_is_in(content: bytes) -> bool:
    """Whether a member's header or a directory's entry is anywhere in it."""
    try:
        return any(True for _ in itertools.chain(_headers(content, _LOCAL), _headers(content, _CENTRAL)))
    except UnreadableError:  # so will the reader of it find
        return True


def zip_members(content: bytes, *, rare: bool = False) -> Iterator[Member]:
    """What its directory names, under that name and those before the members, and what it leaves out.

    ``rare``: unpack Deflate64 and Zstandard too; otherwise NotHereError is raised where they occur.
    """
    entries, damage = _entries(content)
    if not rare and any(entry.method in _RARE for entry in entries):
        raise NotHereError
    for entry in entries:
        yield Member(names=entry.names, pieces=_entry_pieces(content, entry))
    yield Member(names=_stray_names(content, entries))
    if damage:
        raise UnreadableError(Why.DAMAGED, damage)


def _headers(content: bytes, signature: bytes, start: int = 0, end: int | None = None) -> Iterator[int]:
    """Offsets of the headers with this signature that have a name; raises UnreadableError past the bound."""
    fixed, lengths = (30, 26) if signature == _LOCAL else (46, 28)
    position = content.find(signature, start, end)
    for _ in range(_HEADERS_LIMIT):
        if position < 0:
            return
        length = int.from_bytes(content[position + lengths : position + lengths + 2], "little")
        name = content[position + fixed : position + fixed + length]
        shown = name.partition(b"\0")[0]
        # Programs that read zip files hold the signatures, followed by anything.
        if shown and len(name) == length <= _NAME_LIMIT and min(shown[-4:]) >= 0x20:
            yield position
        position = content.find(signature, position + 4, end)
    raise UnreadableError(Why.BOUNDS, "too many members")


def _stray_names(content: bytes, entries: list[_Entry]) -> tuple[str, ...]:
    """Names in headers and in entries of directories other than those that were read."""
    known = {name for entry in entries for name in entry.names}
    names: dict[str, None] = {}
    for position in _headers(content, _LOCAL):
        local = _local(content, position)
        names.update(dict.fromkeys(local.names if local else ()))
    for position in _headers(content, _CENTRAL):
        length, extra = struct.unpack_from("<2H", content, position + 28)
        end = position + 46 + length
        names.update(dict.fromkeys(_names(content[position + 46 : end], content[end : end + extra])))
    return tuple(name for name in names if name not in known)


def _entries(content: bytes) -> tuple[list[_Entry], str]:
    """The members and what is wrong with the directory, where something is."""
    if content.count(_CENTRAL) > _MEMBERS_LIMIT:
        raise UnreadableError(Why.BOUNDS, "too many members")
    infos, damage = _directory(content)
    if damage:
        return list(_unlisted(content, 0, len(content))), f"no usable directory: {damage}"
    _check(infos, len(content))
    entries: list[_Entry] = []
    end = 0
    for info in infos:
        entry, local = _listed(content, info)
        entries += _unlisted(content, end, info.header_offset)
        entries.append(entry)
        if local and (local.method != entry.method or (local.size >= 0 and local.end != entry.end)):
            entries.append(local)  # some readers believe it rather than the directory
        end = entry.end if local else end
    entries += _unlisted(content, end, len(content))
    return entries, ""


def _directory(content: bytes) -> tuple[list[zipfile.ZipInfo], str]:
    """Members by the last directory that can be used, ordered by offset; or why none can."""
    damage = "there is none"
    end = len(content)
    for _ in range(_DIRECTORIES_LIMIT):
        file = io.BytesIO(content)
        if end < len(content):
            file.truncate(end + 22 + int.from_bytes(content[end + 20 : end + 22], "little"))
        try:
            with zipfile.ZipFile(file) as archive:
                infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
            if not infos or infos[0].header_offset >= 0:
                return infos, ""
            damage = "a member before the beginning"
        except Exception as error:  # noqa: BLE001 # on hostile input zipfile raises whatever it stumbles upon
            damage = str(error)
        end = content.rfind(_END, 0, end)
        if end < 0:
            break
    return [], damage


def _check(infos: list[zipfile.ZipInfo], size: int) -> None:
    unpacked = sum(info.file_size for info in infos)
    if unpacked > _SIZE_LIMIT or (unpacked > _RATIO_FROM and unpacked > _RATIO_LIMIT * size):
        raise UnreadableError(Why.BOUNDS, "too large when unpacked")
    end = 0
    for info in infos:
        if info.header_offset < end:
            raise UnreadableError(Why.BOUNDS, "members overlap")
        end = info.header_offset + 30 + info.compress_size


def _listed(content: bytes, info: zipfile.ZipInfo) -> tuple[_Entry, _Entry | None]:
    """The member by its entry in the directory, and by the header before its bytes."""
    name = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
    names = _names(name, info.extra)
    local = _local(content, info.header_offset)
    start = local.start if local else len(content)
    entry = _Entry(
        names=tuple(dict.fromkeys((*names, *local.names))) if local else names,
        flags=info.flag_bits | (local.flags if local else 0),
        method=info.compress_type,
        start=start,
        end=start + info.compress_size,
        size=info.file_size,
    )
    return entry, local


def _unlisted(content: bytes, start: int, end: int) -> Iterator[_Entry]:
    """The members with a header before them that the directory does not know."""
    for position in _headers(content, _LOCAL, start, end):
        if entry := _local(content, position):
            yield entry


def _local(content: bytes, offset: int) -> _Entry | None:
    """The member by the header before its bytes (APPNOTE 4.3.7)."""
    header = content[offset : offset + 30]
    if len(header) < 30 or not header.startswith(_LOCAL):
        return None
    flags, method, packed, size, name_length, extra_length = struct.unpack("<6x2H8x2L2H", header)
    start = offset + 30 + name_length + extra_length
    unknown = flags & 8 or packed == 0xFFFFFFFF
    return _Entry(
        names=_names(
            content[offset + 30 : offset + 30 + name_length], content[offset + 30 + name_length : start]
        ),
        flags=flags,
        method=method,
        start=start,
        end=len(content) if unknown else start + packed,
        size=-1 if unknown else size,
    )


def _names(name: bytes, extra: bytes) -> tuple[str, ...]:
    """The name as UTF-8 and as IBM 437, and that of an Info-ZIP Unicode Path (APPNOTE 4.6.9)."""
    names = [name.decode("utf-8", "replace")]
    if not name.isascii():
        names.append(name.decode("cp437"))
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == _UNICODE_PATH and length > 5:
            names.append(extra[9 : 4 + length].decode("utf-8", "replace"))
        extra = extra[4 + length :]
    return tuple(names)


def _entry_pieces(content: bytes, entry: _Entry) -> Iterator[bytes]:
    if entry.names[0].endswith("/") and entry.start == entry.end:
        return
    if entry.flags & _ENCRYPTED_FLAGS or entry.method == _AES:
        raise UnreadableError(Why.ENCRYPTED, entry.names[0])
    packed = memoryview(content)[entry.start : entry.end]
    if entry.method == zipfile.ZIP_STORED:
        if entry.end > len(content):
            raise UnreadableError(Why.DAMAGED, "it is cut off")
        for start in range(0, len(packed), PIECE):
            yield bytes(packed[start : start + PIECE])
        return
    before = b""
    if entry.method == zipfile.ZIP_LZMA:
        # a version, the length of the properties, the properties (APPNOTE 5.8.8); then as in a .lzma file
        size = -1 if entry.flags & 2 else entry.size
        before = bytes(packed[4:9]) + size.to_bytes(8, "little", signed=True)
        packed = packed[9:]
    yield from unpacked(packed, _decompressor(entry.method), before)


_AES = 99
_DEFLATE64 = 9
_RARE = {_DEFLATE64: "Deflate64", 20: "Zstandard", 93: "Zstandard"}
_METHODS: dict[int, NewDecompressor] = {
    zipfile.ZIP_DEFLATED: lambda: inflate_decompressor(-15),
    zipfile.ZIP_BZIP2: bz2.BZ2Decompressor,
    zipfile.ZIP_LZMA: lambda: lzma_decompressor(lzma.FORMAT_ALONE),
    95: lambda: lzma_decompressor(lzma.FORMAT_XZ),
}


def _decompressor(method: int) -> NewDecompressor:
    if method in _METHODS:
        return _METHODS[method]
    if method not in _RARE:
        raise UnreadableError(Why.UNKNOWN, f"zip with compression method {method}")
    try:
        if method == _DEFLATE64:
            return inflate64_decompressor()
        return zstd_decompressor()
    except ImportError as error:
        raise UnreadableError(Why.NOT_INSTALLED, f"zip with {_RARE[method]}: {INSTALL}") from error
