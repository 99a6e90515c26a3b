"""What is in an archive, and in the archives in it: names, and what cannot be looked into.

An archive is known by its content: zip, 7z, rar, gz, bz2, xz, lzma, zst, Z, lz4, tar, cab, iso, lha, cpio,
ar and xar. Content may be several of these at once, one behind another or in the same place. A message in an
archive is an archive of its attachments. Files of kinds that nobody here reads (arj, ace, wim, disk images,
...) are known as such.

Zip, gz, bz2, xz and lzma are read here, by the standard library, in pieces and within bounds. All others
are read by `gatepost_archives_child` in a process of its own, which may crash or be killed: the libraries for
them are written in C, or may run for long on what was made for that.

The bounds hold for one attachment, those of time for one message. What exceeds them is reported, as is
everything else that could not be looked into; nothing is raised on any content.
"""

import functools
import importlib.util
import itertools
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

from gatepost_archive_kinds import (
    EMBEDDED_TAR,
    ENCRYPTED_OFFICE,
    TAIL,
    TOO_MANY,
    UNKNOWN,
    is_tar,
    kinds_of,
    may_be_message,
)
from gatepost_unpacking import (
    INSTALL,
    Member,
    NotHereError,
    UnreadableError,
    Why,
    bzip2_members,
    contained,
    gzip_members,
    lzma_members,
    xz_members,
)
from gatepost_zip import zip_members

__all__ = ["Archives", "Found", "Kinds", "Reader", "Walk", "Why", "missing_libraries"]

_DEPTH_LIMIT = 5
"""Archives in archives."""
_MEMBERS_LIMIT = 10_000
"""In all archives of one attachment."""
_NESTED_LIMIT = 64 << 20
"""Bytes of the archives in archives that are unpacked for one attachment."""
_UNPACKED_LIMIT = 1 << 30
"""Bytes that are unpacked for one attachment, most of them only to see what they are."""
_SECONDS = 5.0
"""Processor time for all archives of a message."""
_CHILD_SECONDS = 20.0
"""Time on the clock for one child; it ends earlier unless the machine is overloaded: no mail is at fault."""
_CHILDREN = threading.BoundedSemaphore(2)
"""Children at a time: each may take 768 MiB."""
_NAME_LIMIT = 1000
"""Characters of a name that are kept at either end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The name of a member, or what cannot be looked into and why."""

    name: str
    """Shortened in the middle where it is long."""
    why: Why | None = None
    """None: it is just a name."""
    detail: str = ""


Reader = Callable[[bytes, tuple[str, ...]], Iterator[Member]]
"""Content and names of an archive -> its members; raises UnreadableError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """Readers of what is read in a process of its own."""

    readers: Mapping[str, Reader]
    """By kind of archive."""
    tar: Callable[[Iterator[bytes]], Iterator[Member]]
    """Of a tar file in pieces."""


_HERE: Mapping[str, Reader] = {
    "zip": contained(lambda content, _names: zip_members(content)),
    "gzip": contained(gzip_members),
    "bzip2": contained(bzip2_members),
    "xz": contained(xz_members),
    "lzma": contained(lzma_members),
}


class Archives:
    """The archives of one message: all of them share the time."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._end: float | None = None  # most messages have no archive, and the time costs a system call

    def look_into(self, content: bytes, names: tuple[str, ...]) -> Iterator[Found]:
        """What is in an attachment of these names; nothing where it is no archive."""
        if self._end is None:
            self._end = time.thread_time() + self._seconds
        walk = Walk(end=self._end)
        try:
            yield from walk.all(content, names, 0)
        finally:
            self._end = walk.end


class _ExhaustedError(UnreadableError):
    """A bound for all of the attachment is exceeded."""

    def __init__(self, detail: str) -> None:
        super().__init__(Why.BOUNDS, detail)


@dataclass(slots=True, kw_only=True)
class Walk:
    """One attachment's way through its members."""

    end: float
    """`time.thread_time` at which it ends."""
    kinds: Kinds | None = None
    """Readers of what is otherwise left to a process of its own: set where this is that process."""
    visit: Callable[[bytes, tuple[str, ...]], None] | None = None
    """Is called with the content and the names of each member that is a file."""
    members: int = 0
    nested: int = 0
    unpacked: int = 0

    def all(
        self, content: bytes, names: tuple[str, ...], depth: int, kind: str | None = None
    ) -> Iterator[Found]:
        """What is in it; a bound that ends the walk is the last that is found.

        ``kind``: read it as this kind of archive, whatever else it is.
        """
        try:
            if kind:
                yield from self._of_kinds([(kind, 0)], content, names, depth)
            else:
                yield from self._inside(content, names, depth)
        except _ExhaustedError as error:
            yield _found(names[0] if names else "", error)

    def _inside(self, content: bytes, names: tuple[str, ...], depth: int) -> Iterator[Found]:
        kinds = kinds_of(content, names)
        is_message = depth > 0 and may_be_message(content, names)
        if not kinds and not is_message:
            return
        if depth > 0:
            self.nested += len(content)
            if self.nested > _NESTED_LIMIT:
                raise _ExhaustedError("archives in archives are too large")
        self._check_depth(depth)
        if is_message:
            yield from self._attachments(content, depth)
        yield from self._of_kinds(kinds, content, names, depth)

    def _of_kinds(
        self, kinds: list[tuple[str, int]], content: bytes, names: tuple[str, ...], depth: int
    ) -> Iterator[Found]:
        for kind, offset in kinds:
            try:
                yield from self._members(kind, content[offset:], names, depth)
            except _ExhaustedError:
                raise
            except UnreadableError as error:
                yield _found(names[0] if names else "", error)

    def _members(self, kind: str, content: bytes, names: tuple[str, ...], depth: int) -> Iterator[Found]:
        if kind == ENCRYPTED_OFFICE:
            raise UnreadableError(Why.ENCRYPTED_OFFICE, names[0] if names else "")
        if kind in UNKNOWN:
            raise UnreadableError(Why.UNKNOWN, kind)
        if kind == TOO_MANY:
            raise UnreadableError(Why.BOUNDS, kind)
        if self.kinds is None and kind not in _HERE:
            yield from self._in_child(kind, content, names, depth)
            return
        reader = (self.kinds.readers if self.kinds else _HERE).get(kind) or _HERE[kind]
        try:
            for member in reader(content, names):
                yield from self._member(member, depth)
        except NotHereError:
            yield from self._in_child(kind, content, names, depth)

    def _member(self, member: Member, depth: int) -> Iterator[Found]:
        if not member.again:
            self.members += 1
            if self.members > _MEMBERS_LIMIT:
                raise _ExhaustedError("too many members")
            for name in member.names:
                yield Found(name=_shortened(name))
        try:
            pieces = self._counted(member.pieces)
            first = next(pieces, b"")
            if is_tar(first):
                yield from self._tar(itertools.chain((first,), pieces), member.names, depth + 1)
                return
            content = self._joined(itertools.chain((first,), pieces))
        except _ExhaustedError:
            raise
        except UnreadableError as error:
            yield _found(member.names[0] if member.names else "", error)
        else:
            if self.visit:
                self.visit(content, member.names)
            yield from self._inside(content, member.names, depth + 1)

    def _tar(self, pieces: Iterator[bytes], names: tuple[str, ...], depth: int) -> Iterator[Found]:
        """Tar files in compressed files are often large: they are read as they are unpacked.

        What else a small one is, is read after that.
        """
        if self.kinds is None:
            raise NotHereError
        self._check_depth(depth)
        kept: list[bytes] = []
        for member in self.kinds.tar(_kept(pieces, kept, _NESTED_LIMIT - self.nested)):
            yield from self._member(member, depth)
        content = b"".join(kept)
        others = [
            (kind, offset) for kind, offset in kinds_of(content, names) if kind not in ("tar", EMBEDDED_TAR)
        ]
        yield from self._of_kinds(others, content, names, depth)

    def _counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.unpacked += len(piece)
            if self.unpacked > _UNPACKED_LIMIT:
                raise _ExhaustedError("too large when unpacked")
            self._check_time()
            yield piece
        self._check_time()

    def _joined(self, pieces: Iterable[bytes]) -> bytes:
        """The member's bytes; of one that is too large nothing, unless it is an archive."""
        kept: list[bytes] = []
        size, tail = 0, b""
        for piece in pieces:
            size += len(piece)
            if size <= _NESTED_LIMIT - self.nested:
                kept.append(piece)
            else:
                tail = (tail + piece)[-TAIL:]
        content = kept[0] if len(kept) == 1 else b"".join(kept)
        if size <= len(content):
            return content
        if self.visit or kinds_of(content) or kinds_of(tail) or may_be_message(content, ()):
            raise _ExhaustedError("archives in archives are too large")
        return b""

    def _check_depth(self, depth: int) -> None:
        if depth >= _DEPTH_LIMIT:
            raise _ExhaustedError("too many archives in archives")

    def _check_time(self) -> None:
        if time.thread_time() > self.end:
            raise _ExhaustedError("takes too long to look through")

    def _attachments(self, content: bytes, depth: int) -> Iterator[Found]:
        from gatepost import Message  # noqa: PLC0415 - the child seldom needs it, and starts without it

        for attachment in Message(content=content).view.attachments:
            pieces = (attachment.read() for _ in range(1))  # decoded only if its turn comes
            yield from self._member(Member(names=attachment.filenames or ("",), pieces=pieces), depth)

    def _in_child(self, kind: str, content: bytes, names: tuple[str, ...], depth: int) -> Iterator[Found]:
        """The same walk, from here on, in a process of its own."""
        self._check_time()
        seconds = self.end - time.thread_time()
        request = {
            "kind": kind,
            "names": [_shortened(name) for name in names],
            "depth": depth,
            "seconds": seconds,
            "walk": {"members": self.members, "nested": self.nested, "unpacked": self.unpacked},
        }
        lines, status = _ask_child(json.dumps(request).encode() + b"\n" + content, math.ceil(seconds) + 1)
        for line in lines:
            try:
                answer = json.loads(line)
                if "walk" in answer:
                    self._continue(**answer["walk"])
                    return
                why = Why(answer["why"]) if answer["why"] else None
                found = Found(name=answer["name"], why=why, detail=answer["detail"])
            except (ValueError, KeyError, TypeError):  # what crashes may write anything
                break
            yield found
        if status == "too long":
            raise _ExhaustedError("takes too long to look through")
        if status == "overloaded":
            raise TimeoutError(f"an archive was not looked through in {_CHILD_SECONDS:g} s")
        self.end -= 1  # so that those that crash end soon
        raise UnreadableError(Why.DAMAGED, f"its reader crashed ({status})")

    def _continue(self, *, members: int, nested: int, unpacked: int, seconds: float) -> None:
        self.members, self.nested, self.unpacked = members, nested, unpacked
        self.end -= seconds


def _ask_child(request: bytes, seconds: int) -> tuple[list[bytes], str]:
    """The lines of its answer, and how it ended; raises OSError where it cannot be started."""
    with _CHILDREN:
        child = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-c", _CHILD, str(Path(__file__).parent), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1", "LIBARCHIVE": _libarchive()},
        )
        try:
            answer, _ = child.communicate(request, timeout=_CHILD_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            answer, _ = child.communicate()
            status = "overloaded"
        else:
            status = "too long" if child.returncode == -_SIGXCPU else f"status {child.returncode}"
    return answer[: answer.rfind(b"\n") + 1].splitlines(), status  # a last line that was cut off is no answer


_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    "import gatepost_archives_child as child; child.main(int(sys.argv[2]))"
)
_SIGXCPU = 24


@functools.cache
def _libarchive() -> str:
    return find_library("archive") or ""


def missing_libraries() -> str:
    """What to install so that all kinds of archives can be looked into; empty where nothing is missing."""
    modules = ["inflate64", "libarchive", "pycdlib", "rarfile"]
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if not any(_installed(module) for module in ("compression.zstd", "backports.zstd")):
        missing.append("backports.zstd")
    if missing:
        return f"{INSTALL} (there is no {', '.join(missing)})"
    return "" if _libarchive() else "install libarchive (Debian: apt install libarchive13)"


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not there
        return False


def _found(name: str, error: UnreadableError) -> Found:
    return Found(name=_shortened(name), why=error.why, detail=error.detail[:200])


def _kept(pieces: Iterator[bytes], kept: list[bytes], limit: int) -> Iterator[bytes]:
    """The pieces; those up to the limit, in bytes, are kept as well."""
    for piece in pieces:
        limit -= len(piece)
        if limit >= 0:
            kept.append(piece)
        else:
            kept.clear()
        yield piece


def _shortened(name: str) -> str:
    return name if len(name) <= 2 * _NAME_LIMIT else name[:_NAME_LIMIT] + name[-_NAME_LIMIT:]
