"""Compressed files, piece by piece, with what Python itself can unpack.

It unpacks in pieces, so that the caller can stop at any time; the memory for a piece is bounded.
Deflate64 and Zstandard need libraries of the extra ``archives`` and are for a process that can be killed.
Nothing but `UnreadableError` and `NotHereError` is raised.
"""

import bz2
import importlib
import lzma
import re
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ParamSpec, Protocol

__all__ = [
    "INSTALL",
    "PIECE",
    "Member",
    "NewDecompressor",
    "NotHereError",
    "UnreadableError",
    "Why",
    "bzip2_members",
    "contained",
    "gzip_members",
    "inflate64_decompressor",
    "inflate_decompressor",
    "lzma_decompressor",
    "lzma_members",
    "stem",
    "unpacked",
    "xz_members",
    "zstd_decompressor",
    "zstd_members",
]

INSTALL = "install gatepost[archives]"

PIECE = 1 << 20
"""Bytes that are unpacked at a time."""
_FED = 1 << 16
"""Bytes that are fed to a decompressor at a time."""
_DICTIONARY_LIMIT = 80 << 20
"""Bytes that LZMA may take: more than ``xz -9`` does."""
_WINDOW_LOG_LIMIT = 27
"""Zstandard's window: 128 MiB, what ``zstd --long`` makes and ``zstd -d`` takes."""
_STREAMS_LIMIT = 10_000
"""Compressed streams one behind another in a file."""
_ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes((octet, 0x2A, 0x4D, 0x18)) for octet in range(0x50, 0x60)))
"""Of frames, and of those that are skipped (RFC 8878 3.1)."""


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
    """True where the names of it were yielded before, without its bytes."""


class _Decompressor(Protocol):
    """What those of bz2, lzma and Zstandard have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


NewDecompressor = Callable[[], _Decompressor]


_P = ParamSpec("_P")


def contained(reader: Callable[_P, Iterator[Member]]) -> Callable[_P, Iterator[Member]]:
    """A reader that reports as damage whatever else a library raises on hostile input."""

    def read(*arguments: _P.args, **named: _P.kwargs) -> Iterator[Member]:
        try:
            yield from reader(*arguments, **named)
        except (UnreadableError, NotHereError):
            raise
        except MemoryError as error:
            raise UnreadableError(Why.BOUNDS, "needs too much memory to unpack") from error
        except Exception as error:
            raise UnreadableError(Why.DAMAGED, f"{type(error).__name__}: {error}") from error

    return read


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
    pieces = _streams(content, b"\x1f\x8b", lambda: inflate_decompressor(31))
    yield Member(names=tuple(dict.fromkeys(inner)), pieces=pieces)


def bzip2_members(content: bytes, names: Iterable[str]) -> Iterator[Member]:
    """The file in it, by the name without its ending."""
    yield _only(names, _streams(content, b"BZh", bz2.BZ2Decompressor))


def xz_members(content: bytes, names: Iterable[str]) -> Iterator[Member]:
    """The file in it, by the name without its ending."""
    yield _only(names, _streams(content, b"\xfd7zXZ\0", lambda: lzma_decompressor(lzma.FORMAT_XZ)))


def lzma_members(content: bytes, names: Iterable[str]) -> Iterator[Member]:
    """The file in it, by the name without its ending."""
    yield _only(names, _streams(content, b"]\0\0", lambda: lzma_decompressor(lzma.FORMAT_ALONE)))


def zstd_members(content: bytes, names: Iterable[str]) -> Iterator[Member]:
    """The file in it, by the name without its ending; raises ImportError without the library."""
    yield _only(names, _streams(content, _ZSTD_MAGICS, zstd_decompressor()))


def _only(names: Iterable[str], pieces: Iterable[bytes]) -> Member:
    return Member(names=tuple(stem(name) for name in names), pieces=pieces)


def _gzip_name(content: bytes) -> bytes:
    flags = content[3] if len(content) > 3 else 0
    start = 10
    if flags & 4:
        start += 2 + int.from_bytes(content[10:12], "little")
    return content[start : start + 10_000].partition(b"\0")[0] if flags & 8 else b""


def _streams(content: bytes, magic: bytes | tuple[bytes, ...], new: NewDecompressor) -> Iterator[bytes]:
    """What a file unpacks to: one stream after another, zeros and what is no stream ignored at the end."""
    start = 0
    for _ in range(_STREAMS_LIMIT):
        start += yield from unpacked(memoryview(content)[start:], new)
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


def inflate_decompressor(wbits: int) -> _Decompressor:
    """For Deflate; ``wbits`` as in `zlib`: 31 in a gzip file, -15 without a header."""
    return _Inflater(wbits)


def inflate64_decompressor() -> NewDecompressor:
    """For Deflate64; raises ImportError without the library."""
    library = importlib.import_module("inflate64")
    return lambda: _Inflater64(library)


def lzma_decompressor(form: int) -> _Decompressor:
    """For one of the formats of `lzma`, with a bound on its memory."""
    return lzma.LZMADecompressor(form, memlimit=_DICTIONARY_LIMIT)


def zstd_decompressor() -> NewDecompressor:
    """For Zstandard; raises ImportError without the library."""
    try:
        library = importlib.import_module("compression.zstd")
    except ImportError:
        library = importlib.import_module("backports.zstd")
    options = {library.DecompressionParameter.window_log_max: _WINDOW_LOG_LIMIT}
    return lambda: library.ZstdDecompressor(options=options)


def unpacked(packed: memoryview, new: NewDecompressor, before: bytes = b"") -> Generator[bytes, None, int]:
    """The pieces of one stream; returns how many bytes it took. ``before`` is fed first."""
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
            piece = decompressor.decompress(fed, PIECE)
            if piece:
                yield piece
    except Exception as error:
        if isinstance(error, MemoryError) or "limit" in str(error):
            raise UnreadableError(Why.BOUNDS, "needs too much memory to unpack") from error
        raise UnreadableError(Why.DAMAGED, str(error)) from error
    if not decompressor.eof:
        raise UnreadableError(Why.DAMAGED, "it is cut off")
    return position - len(decompressor.unused_data)
