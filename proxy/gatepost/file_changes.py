"""Change files that belong to others: mode and owner stay, and a reader never finds half of a change."""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["append_line", "only_one", "replace_text"]


@contextmanager
def only_one(path: Path) -> Iterator[Path]:
    """Wait until no other command changes a file in the same folder; yields the path without links."""
    real = path.resolve()
    folder = os.open(real.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield real
    finally:
        os.close(folder)


def replace_text(path: Path, text: str, *, group: int | None = None) -> None:
    """Write a file anew, or make one; raises OSError, and then it is as before.

    A reader finds the old text or the new one. A new file can be read by its owner only, and by the ``group``
    with this number, if there is one.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - a descriptor
            if path.exists():
                old = path.stat()
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(handle, old.st_uid, old.st_gid)
                os.fchmod(handle, old.st_mode & 0o7777)
            elif group is not None:
                os.fchown(handle, -1, group)
                os.fchmod(handle, 0o640)
            file.write(text)
            file.flush()
            os.fsync(handle)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def append_line(path: Path, line: str) -> None:
    """Add a line to a file that exists, in one write; raises OSError, and then the file is as before."""
    octets = f"{line}\n".encode()
    with path.open("r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            octets = octets if file.read(1) == b"\n" else b"\n" + octets
        try:
            written = file.write(octets)
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size)
            raise
        if written != len(octets):
            os.ftruncate(file.fileno(), size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
