"""Zip files and compressed files, member by member, with what Python itself can unpack.

It unpacks in pieces, so that whoever asks can stop; the memory for a piece is bounded whatever the input.
Deflate64 and Zstandard need libraries of the extra ``archives`` and are for a process that can be killed.
Nothing but `UnreadableError` and `NotHereError` is raised.
"""

import bz2
import importlib
import io
import itertools
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

__all__ = [
    "INSTALL",
    "Member",
    "NotHereError",
    "UnreadableError",
    "Why",
    "bzip2_members",
    "gzip_members",
    "lzma_members",
    "stem",
    "xz_members",
    "zip_is_in",
    "zip_members",
    "zstd_members",
]

INSTALL = "install gatepost[archives]"

_PIECE = 1 << 20
"""Octets that are unpacked at a time."""
_FED = 1 << 16
"""Octets that are fed to a decompressor at a time."""
_DICTIONARY_LIMIT = 80 << 20
"""Octets that LZMA may take: more than ``xz -9`` does."""
_WINDOW_LOG_LIMIT = 27
"""Zstandard's window: 128 MiB, what ``zstd --long`` makes and ``zstd -d`` takes."""
_SIZE_LIMIT = 1 << 30
"""Octets that one archive may unpack to by its own account."""
_RATIO_LIMIT = 500
_RATIO_FROM = 64 << 20
"""Octets from which on an archive may not unpack to more than `_RATIO_LIMIT` times its size."""
_MEMBERS_LIMIT = 10_000
_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_HEADERS_LIMIT = 10_000
_DIRECTORIES_LIMIT = 8
"""How many ends of a directory are tried, from the last; those before them are left to the headers' names."""
_NAME_LIMIT = 4096
"""Bytes of a name in a zip file beyond which it is taken for none where no directory says so."""
_UNICODE_PATH = 0x7075
_ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes((octet, 0x2A, 0x4D, 0x18)) for octet in range(0x50, 0x60)))
"""Of frames, and of those that are skipped (RFC 8878 3.1)."""
_ENCRYPTED_FLAGS = 0x2041
"""Encrypted, strongly encrypted, names masked (APPNOTE 4.4.4)."""


class Why(StrEnum):
    """Why an archive, or a member of one, cannot be looked into."""

    ENCRYPTED = "encrypted member"
    ENCRYPTED_NAMES = "encrypted names"
    ENCRYPTED_OFFICE = "encrypted office file"
    BOUNDS = "archive exceeds bounds"
    DAMAGED = "damaged archive"
    UNKNOWN = "archive of an unknown kind"
    NOT_INSTALLED = "archive needs a library"


class UnreadableError(Exception):
    """It cannot be looked into."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(f"{why}: {detail}")
        self.why = why
        self.detail = detail


class NotHereError(Exception):
    """It is for a process that can be killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file in an archive."""

    names: tuple[str, ...]
    """Every name that some reader may show for it."""
    pieces: Iterable[bytes] = ()
    """What it unpacks to; raises UnreadableError where that is impossible."""
    again: bool = False
    """True where the names of it were yielded before, without its octets."""


class _Decompressor(Protocol):
    """What those of bz2, lzma and Zstandard have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def stem(name: str) -> str:
    """The name of what is in a compressed file of that name: evil.exe for evil.exe.xz."""
    start, dot, ending = name.rpartition(".")
    if not dot:
        return name
    return f"{start}.tar" if re.fullmatch(r"t[a-z]z[a-z0-9]?|tgz|tbz2|taz|tlz", ending.lower()) else start


# Compressed files ----------------------------------------------------------------------------------------


def gzip_members(content: bytes, names: Iterable[str]) -> Iterator[Member]:
    """The file in it, by the name without its ending and those in its fields FNAME (RFC 1952 2.3)."""
    inner = [stem(name) for name in names]
    if name := _gzip_name(content):
        inner += [name.decode("utf-8", "replace"), name.decode("latin-1")]
    yield Member(
        names=tuple(dict.fromkeys(inner)), pieces=_streams(content, b"\x1f\x8b", lambda: _Inflater(31))
    )


def bzip2_members(content: bytes, names: Iterable[str]) -> Iterator[Member]:
    """The file in it, by the name without its ending."""
    yield _only(names, _streams(content, b"BZh", bz2.BZ2Decompressor))


def xz_members(content: bytes, names: Iterable[str]) -> Iterator[Member]:
    """The file in it, by the name without its ending."""
    yield _only(names, _streams(content, b"\xfd7zXZ\0", lambda: _lzma(lzma.FORMAT_XZ)))


def lzma_members(content: bytes, names: Iterable[str]) -> Iterator[Member]:
    """The file in it, by the name without its ending."""
    yield _only(names, _streams(content, b"]\0\0", lambda: _lzma(lzma.FORMAT_ALONE)))


def zstd_members(content: bytes, names: Iterable[str]) -> Iterator[Member]:
    """The file in it, by the name without its ending; raises ImportError without the library."""
    yield _only(names, _streams(content, _ZSTD_MAGICS, _zstd()))


def _only(names: Iterable[str], pieces: Iterable[bytes]) -> Member:
    return Member(names=tuple(stem(name) for name in names), pieces=pieces)


def _gzip_name(content: bytes) -> bytes:
    flags = content[3] if len(content) > 3 else 0
    start = 10
    if flags & 4:
        start += 2 + int.from_bytes(content[10:12], "little")
    return content[start : start + 10_000].partition(b"\0")[0] if flags & 8 else b""


def _streams(
    content: bytes, magic: bytes | tuple[bytes, ...], new: Callable[[], _Decompressor]
) -> Iterator[bytes]:
    """What a file unpacks to: one stream after another, zeros and what is no stream ignored at the end."""
    start = 0
    for _ in range(_MEMBERS_LIMIT):
        start += yield from _unpacked(memoryview(content)[start:], new)
        while content.startswith(bytes(4), start):
            start += 4
        if not content.startswith(magic, start):
            return
    raise UnreadableError(Why.BOUNDS, "too many members")


class _Inflater:
    """zlib's decompressor with the methods of the others."""

    def __init__(self, wbits: int) -> None:
        self._inflate = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail or data, max_length)


class _Inflater64:
    """inflate64's decompressor with the methods of the others; fed little, since it has no bound."""

    needs_input = True
    unused_data = b""

    def __init__(self, library: Any) -> None:
        self._inflate = library.Inflater()
        self._waiting = b""

    @property
    def eof(self) -> bool:
        return bool(self._inflate.eof)

    def decompress(self, data: bytes, _max_length: int, /) -> bytes:
        data = self._waiting + data
        self._waiting = data[_FED >> 8 :]
        self.needs_input = not self._waiting
        return bytes(self._inflate.inflate(data[: _FED >> 8]))


def _lzma(form: int) -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(form, memlimit=_DICTIONARY_LIMIT)


def _zstd() -> Callable[[], _Decompressor]:
    try:
        library = importlib.import_module("compression.zstd")
    except ImportError:
        library = importlib.import_module("backports.zstd")
    options = {library.DecompressionParameter.window_log_max: _WINDOW_LOG_LIMIT}
    return lambda: library.ZstdDecompressor(options=options)


def _unpacked(
    packed: memoryview, new: Callable[[], _Decompressor], before: bytes = b""
) -> Generator[bytes, None, int]:
    """The pieces of one stream; returns how many octets it took. ``before`` is fed first."""
    position, piece = 0, before
    try:
        decompressor = new()
        while not decompressor.eof:
            fed = b""
            if before:
                fed, before = before, b""
            elif decompressor.needs_input:
                fed = bytes(packed[position : position + _FED])
                position += len(fed)
                if not fed and not piece:
                    break
            piece = decompressor.decompress(fed, _PIECE)
            if piece:
                yield piece
    except Exception as error:
        if isinstance(error, MemoryError) or "limit" in str(error):
            raise UnreadableError(Why.BOUNDS, "needs too much memory to unpack") from error
        raise UnreadableError(Why.DAMAGED, str(error)) from error
    if not decompressor.eof:
        raise UnreadableError(Why.DAMAGED, "it is cut off")
    return position - len(decompressor.unused_data)


# Zip files -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    names: tuple[str, ...]
    flags: int
    method: int
    start: int
    """Offset of the packed octets."""
    end: int
    size: int
    """Octets unpacked; -1 where unknown."""


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
    """The member by its entry in the directory, and by the header before its octets."""
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
    """The members before which a header stands that the directory does not know."""
    for position in _headers(content, _LOCAL, start, end):
        if entry := _local(content, position):
            yield entry


def _local(content: bytes, offset: int) -> _Entry | None:
    """The member by the header before its octets (APPNOTE 4.3.7)."""
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
        for start in range(0, len(packed), _PIECE):
            yield bytes(packed[start : start + _PIECE])
        return
    before = b""
    if entry.method == zipfile.ZIP_LZMA:
        # a version, the length of the properties, the properties (APPNOTE 5.8.8); then as in a .lzma file
        size = -1 if entry.flags & 2 else entry.size
        before = bytes(packed[4:9]) + size.to_bytes(8, "little", signed=True)
        packed = packed[9:]
    yield from _unpacked(packed, _decompressor(entry.method), before)


_AES = 99
_DEFLATE64 = 9
_RARE = {_DEFLATE64: "Deflate64", 20: "Zstandard", 93: "Zstandard"}
_METHODS: dict[int, Callable[[], _Decompressor]] = {
    zipfile.ZIP_DEFLATED: lambda: _Inflater(-15),
    zipfile.ZIP_BZIP2: bz2.BZ2Decompressor,
    zipfile.ZIP_LZMA: lambda: _lzma(lzma.FORMAT_ALONE),
    95: lambda: _lzma(lzma.FORMAT_XZ),
}


def _decompressor(method: int) -> Callable[[], _Decompressor]:
    if method in _METHODS:
        return _METHODS[method]
    if method not in _RARE:
        raise UnreadableError(Why.UNKNOWN, f"zip with compression method {method}")
    try:
        if method == _DEFLATE64:
            library = importlib.import_module("inflate64")
            return lambda: _Inflater64(library)
        return _zstd()
    except ImportError as error:
        raise UnreadableError(Why.NOT_INSTALLED, f"zip with {_RARE[method]}: {INSTALL}") from error
