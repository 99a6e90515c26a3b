"""The archives that are read in a process of their own: a program that `gatepost_archives` starts.

    7z, cab, lha, cpio, ar, xar, Z, lz4, lzip   libarchive
    rar                 rarfile for names and encryption, libarchive to unpack
    iso                 pycdlib: the names of ISO 9660, Joliet, Rock Ridge and UDF, since a file system
                        may hold other names for each of its readers
    tar                 the standard library's tarfile
    zst, zip with Zstandard or Deflate64   backports.zstd and inflate64

Standard input is a line of JSON and the archive; standard output is a line of JSON for what is found. Limits
of memory and processor time are set before a library is loaded: the kernel ends what exceeds them.
"""

import importlib
import io
import json
import re
import resource
import sys
import tarfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from gatepost_archive_kinds import EMBEDDED_TAR, header_of_tar
from gatepost_archives import Kinds, Reader, Walk
from gatepost_unpacking import INSTALL, Member, UnreadableError, Why, contained, stem, zstd_members
from gatepost_zip import zip_members

__all__ = ["KINDS", "main"]

_MEMORY_LIMIT = 768 << 20
_PIECE = 1 << 20


def main(seconds: int) -> None:
    """Answer the one request on standard input, in at most so many seconds of processor time."""
    for limit, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, _MEMORY_LIMIT),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        with suppress(ValueError):  # it is lower already
            resource.setrlimit(limit, (value, value + (limit == resource.RLIMIT_CPU)))
    request = json.loads(sys.stdin.buffer.readline())
    content = sys.stdin.buffer.read()
    start = time.thread_time()
    walk = Walk(end=start + request["seconds"], kinds=KINDS, **request["walk"])
    for found in walk.all(content, tuple(request["names"]), request["depth"], request["kind"]):
        _print(name=found.name, why=found.why, detail=found.detail)
    bounds = {"members": walk.members, "nested": walk.nested, "unpacked": walk.unpacked}
    _print(walk={**bounds, "seconds": time.thread_time() - start})


def _print(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()  # what was found so far counts if the rest ends this process


def _library(name: str, purpose: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # libarchive-c raises various ones where there is no libarchive
        raise UnreadableError(Why.NOT_INSTALLED, f"{purpose}: {INSTALL} and libarchive") from error


# libarchive ----------------------------------------------------------------------------------------------


def _libarchive(form: str) -> Reader:
    """Names first: where the bytes cannot be had, nothing behind them can."""

    def read(content: bytes, _names: tuple[str, ...]) -> Iterator[Member]:
        library = _library("libarchive", form)
        try:
            with library.memory_reader(content, form, "none") as archive:
                for entry in archive:
                    yield Member(names=_names_of(entry))
            with library.memory_reader(content, form, "none") as archive:
                yield from _with_pieces(archive)
        except library.ArchiveError as error:
            raise _unreadable(error) from error

    return read


def _with_pieces(archive: Any, skipped: frozenset[str] = frozenset()) -> Iterator[Member]:
    for entry in archive:
        names = _names_of(entry)
        if not skipped.isdisjoint(names):
            continue  # libarchive takes what is encrypted for the bytes themselves
        pieces = _Pieces(entry)
        yield Member(names=names, pieces=pieces, again=True)
        if pieces.failed:
            return  # it has been reported


class _Pieces:
    """The bytes of an entry."""

    def __init__(self, entry: Any) -> None:
        self._entry = entry
        self.failed = False

    def __iter__(self) -> Iterator[bytes]:
        library = importlib.import_module("libarchive")
        try:
            yield from self._entry.get_blocks(_PIECE)
        except library.ArchiveError as error:
            self.failed = error.retcode <= library.ffi.ARCHIVE_FATAL
            raise _unreadable(error, str(self._entry.pathname)) from error


def _names_of(entry: Any) -> tuple[str, ...]:
    path = entry.pathname or ""
    if isinstance(path, bytes):
        return path.decode("utf-8", "replace"), path.decode("cp437")
    return (path,)


def _unreadable(error: Exception, name: str = "") -> UnreadableError:
    says = str(getattr(error, "msg", None) or error)
    if "ncrypt" in says or "assphrase" in says:
        return UnreadableError(Why.ENCRYPTED, name) if name else UnreadableError(Why.ENCRYPTED_NAMES, says)
    if "nsupported" in says or "not supported" in says:
        return UnreadableError(Why.UNKNOWN, says)
    return UnreadableError(Why.DAMAGED, says)


def _filtered(name: str) -> Reader:
    """A compressed file."""

    def read(content: bytes, names: tuple[str, ...]) -> Iterator[Member]:
        library = _library("libarchive", name)
        try:
            with library.memory_reader(content, "raw", name) as archive:
                for entry in archive:
                    yield Member(names=tuple(stem(name) for name in names), pieces=_Pieces(entry))
        except library.ArchiveError as error:
            raise _unreadable(error) from error

    return read


# The others ----------------------------------------------------------------------------------------------


def _rar(content: bytes, _names: tuple[str, ...]) -> Iterator[Member]:
    rarfile, libarchive = _library("rarfile", "rar"), _library("libarchive", "rar")
    encrypted: set[str] = set()
    try:
        with rarfile.RarFile(io.BytesIO(content), part_only=True) as archive:
            members = archive.infolist()
            if archive.needs_password() and not members:
                raise UnreadableError(Why.ENCRYPTED_NAMES, "rar")
            for info in members:
                original = info.orig_filename
                other = original.decode("utf-8", "replace") if isinstance(original, bytes) else original
                names = (info.filename, *((other,) if other else ()))
                yield Member(names=names, pieces=_encrypted(info.filename) if info.needs_password() else ())
                if info.needs_password():
                    encrypted.update(names)
    except rarfile.Error as error:
        raise UnreadableError(Why.DAMAGED, str(error)) from error
    if members and all(info.needs_password() for info in members):
        return
    form = "rar5" if content.startswith(b"Rar!\x1a\x07\x01") else "rar"
    try:
        with libarchive.memory_reader(content, form, "none") as archive:
            found = False
            for member in _with_pieces(archive, frozenset(encrypted)):
                found = True
                yield member
    except libarchive.ArchiveError as error:
        raise _unreadable(error) from error
    if not members and not found:
        raise UnreadableError(Why.DAMAGED, "a rar without members")


def _encrypted(name: str) -> Iterator[bytes]:
    yield b""
    raise UnreadableError(Why.ENCRYPTED, name)


def _iso(content: bytes, _names: tuple[str, ...]) -> Iterator[Member]:
    pycdlib = _library("pycdlib", "iso")
    image = pycdlib.PyCdlib()
    try:
        image.open_fp(io.BytesIO(content))
        spaces = {
            "iso_path": True,
            "rr_path": image.has_rock_ridge(),
            "joliet_path": image.has_joliet(),
            "udf_path": image.has_udf(),
        }
        seen: set[int] = set()
        for space in (space for space, is_there in spaces.items() if is_there):
            for folder, _, files in image.walk(**{space: "/"}):
                for file in files:
                    path = f"{folder.rstrip('/')}/{file}"
                    inode = id(image.get_record(**{space: path}).inode)
                    name = path.partition(";")[0] if space == "iso_path" else path
                    yield Member(
                        names=(name.lstrip("/"),),
                        pieces=_file_of(image, space, path) if inode not in seen else (),
                    )
                    seen.add(inode)
        if image.pvd.space_size * image.pvd.log_block_size > len(content):
            raise UnreadableError(Why.DAMAGED, "it is cut off")  # pycdlib shortens its files silently
    except pycdlib.pycdlibexception.PyCdlibException as error:
        raise UnreadableError(Why.DAMAGED, str(error)) from error


def _file_of(image: Any, space: str, path: str) -> Iterator[bytes]:
    with image.open_file_from_iso(**{space: path}) as file:
        while piece := file.read(_PIECE):
            yield piece


def _tar(pieces: Iterator[bytes], *, behind_the_end: bool = True) -> Iterator[Member]:
    """What tarfile finds, and the names in all other headers, since readers differ on which of them count.

    ``behind_the_end``: there may be another archive behind an end, which some readers see.
    """
    names = _TarNames(pieces)
    rest = iter(names)
    known: set[str] = set()
    damage = ""
    try:
        with tarfile.open(fileobj=_Stream(rest), mode="r|", ignore_zeros=behind_the_end) as archive:
            for info in archive:
                pieces_of_it = () if info.issym() or info.islnk() else _pieces_of_tar(archive, info)
                known.add(info.name)
                yield Member(names=(info.name,), pieces=pieces_of_it)
    except tarfile.TarError as error:
        damage = str(error)
    deque(rest, maxlen=0)  # the names there count too
    yield Member(names=tuple(name for name in names.found if name not in known))
    if damage:
        raise UnreadableError(Why.DAMAGED, damage)


_RECORD = re.compile(rb"(\d{1,9}) (?:path|GNU\.sparse\.name)=([^\n]*)\n")
_RECORDS_LIMIT = 64 << 10
_NAMES_LIMIT = 10_000


class _TarNames:
    """Pieces of a tar file; the names in the headers of them are collected on the way.

    They are those of all blocks with a header's sum, wherever they are, GNU's long names and pax's records.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""
        self._records = 0
        """Blocks that follow with the name for a header."""
        self._kind = b""
        self._buffer = b""
        self.found: dict[str, None] = {}

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            blocks = self._rest + piece
            whole = len(blocks) // 512 * 512
            for start in range(0, whole, 512):
                if self._records or blocks[start]:
                    self._look(blocks[start : start + 512])
            self._rest = blocks[whole:]
            yield piece

    def _look(self, block: bytes) -> None:
        if header_of_tar(block):
            name, prefix = _string(block[:100]), _string(block[345:500])
            self._keep(name)
            if prefix and block[257:262] == b"ustar":
                self._keep(prefix + b"/" + name)
            self._kind = block[156:157]
            size = _OCTAL.match(block, 124, 136)
            has_names = self._kind in (b"L", b"x", b"g", b"X")
            self._records = (min(int(size[1], 8), _RECORDS_LIMIT) + 511) // 512 if size and has_names else 0
            self._buffer = b""
        elif self._records:
            self._buffer += block
            self._records -= 1
            if not self._records:
                self._keep_records()

    def _keep_records(self) -> None:
        if self._kind == b"L":
            self._keep(_string(self._buffer))
        for record in _RECORD.finditer(self._buffer):
            self._keep(record[2])
            rest = self._buffer[record.start() : record.start() + int(record[1])]
            self._keep(rest.partition(b"=")[2].rstrip(b"\n"))

    def _keep(self, name: bytes) -> None:
        if name:
            self.found[name.decode("utf-8", "replace")] = None
            if len(self.found) > _NAMES_LIMIT:
                raise UnreadableError(Why.BOUNDS, "too many members")


_OCTAL = re.compile(rb"[ \0]*([0-7]+)")


def _string(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


class _Stream(io.RawIOBase):
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            if not self._piece:
                self._piece = memoryview(next(self._pieces, b""))
                if not self._piece:
                    break
            parts.append(bytes(self._piece[:size]))
            self._piece = self._piece[size:]
            size -= len(parts[-1])
        return b"".join(parts)


def _pieces_of_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    try:
        if file := archive.extractfile(info):
            while piece := file.read(_PIECE):
                yield piece
    except tarfile.TarError as error:
        raise UnreadableError(Why.DAMAGED, str(error)) from error


def _zst(content: bytes, names: tuple[str, ...]) -> Iterator[Member]:
    try:
        yield from zstd_members(content, names)
    except ImportError as error:
        raise UnreadableError(Why.NOT_INSTALLED, f"zst: {INSTALL}") from error


KINDS = Kinds(
    readers={
        "zip": contained(lambda content, _names: zip_members(content, rare=True)),
        "zstd": contained(_zst),
        "tar": contained(lambda content, _names: _tar(iter((content,)))),
        EMBEDDED_TAR: contained(lambda content, _names: _tar(iter((content,)), behind_the_end=False)),
        "iso": contained(_iso),
        "rar": contained(_rar),
        "sevenzip": contained(_libarchive("7zip")),
        **{form: contained(_libarchive(form)) for form in ("cab", "lha", "cpio", "ar", "xar")},
        **{name: contained(_filtered(name)) for name in ("compress", "lz4", "lzip")},
    },
    tar=contained(_tar),
)
