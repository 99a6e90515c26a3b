"""The filter ``command``: a program of the operator's reads the message and decides by its exit status.

    - name: our-check
      filter: command
      with: {command: [./check.pl, --strict]}

The program gets the message on standard input, byte for byte as received, and the envelope in environment
variables. It is started directly, never by a shell, in a process group of its own, which is killed when its
time or its output is over, and in any case when the program has ended.
"""

import asyncio
import errno
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Self

from gatepost import Action, Bytes, Place, Recipient, Transaction, Verdict, hookimpl
from pydantic import Field

__all__ = ["Command", "CommandError", "Exits"]

_PROCESSOR_SECONDS = 60
"""For one process; the rule's `timeout` ends it earlier, unless the gateway itself was killed."""
_OUTPUT_LIMIT = 1 << 20
"""Bytes on standard error, after which the program is killed."""
_TAIL_BYTES = 4096
"""Of standard error, among which is the last line."""
_REASON_LIMIT = 500
_PIECE = 64 << 10
_HEAD_BYTES = 256
"""In which the system looks for the interpreter of a script (execve(2))."""
_INTERPRETER = re.compile(rb"#![ \t]*([^ \t\n]+)")

Status = Annotated[int, Field(ge=0, le=255)]
Statuses = Status | list[Status]


class CommandError(ChildProcessError):
    """There is no usable answer of the program: it was killed, or its exit status has no meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exits:
    """Which exit statuses mean what; any other is a failure."""

    pass_: Statuses = 0
    """No hit."""
    hit: Statuses = field(default_factory=list)
    """A hit: the rule's action, or else reject."""
    accept: Statuses = field(default_factory=list)
    reject: Statuses = field(default_factory=list)
    defer: Statuses = field(default_factory=list)
    discard: Statuses = field(default_factory=list)
    quarantine: Statuses = field(default_factory=list)

    def by_status(self) -> dict[int, Action | str]:
        """``pass``, ``hit`` or the action that a hit suggests; raises ValueError for a status named twice."""
        meanings: dict[int, Action | str] = {}
        for one in fields(self):
            name = one.name.rstrip("_")
            given = getattr(self, one.name)
            for status in given if isinstance(given, list) else [given]:
                if status in meanings:
                    raise ValueError(f"exits: {status} is both {meanings[status]} and {name}, expected one")
                meanings[status] = name if name in ("pass", "hit") else Action(name)
        return meanings


_SYSEXITS = Exits(hit=os.EX_UNAVAILABLE, defer=os.EX_TEMPFAIL)
"""As programs exit that Postfix's pipe(8) runs, see sysexits.h. Not 1: so ends a script that has failed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Command:
    """A hit if the program exits with a status that means one."""

    command: list[str]
    """The program and its arguments. Its path is relative to rules.yaml if it has a ``/``."""
    place: Place
    exits: Exits = _SYSEXITS
    memory: Bytes = 512 << 20
    """Address space of each process."""
    at_once: Annotated[int, Field(ge=1, le=1000)] = 4
    """Programs that run at a time in each worker; others wait, within the rule's ``timeout``."""

    def __post_init__(self) -> None:
        if not self.command or not all(self.command):
            raise ValueError("command: expected a program and its arguments, each of them not empty")
        if any("\0" in argument for argument in self.command):
            raise ValueError("command: a NUL, which no program can get as an argument")
        object.__setattr__(self, "_folder", self.place.folder.absolute())
        object.__setattr__(self, "_program", _program(self.command[0], self._folder))
        object.__setattr__(self, "_meanings", self.exits.by_status())
        object.__setattr__(self, "_turns", asyncio.Semaphore(self.at_once))

    _folder: Path = field(init=False, repr=False)
    _program: str = field(init=False, repr=False)
    _meanings: dict[int, Action | str] = field(init=False, repr=False)
    _turns: asyncio.Semaphore = field(init=False, repr=False)

    @hookimpl
    async def filter_message(
        self, transaction: Transaction, recipients: tuple[Recipient, ...]
    ) -> Verdict | None:
        """Run the program; raises `CommandError`, or OSError if it cannot be started."""
        environment = _environment(transaction, recipients, self.place.rule)
        try:
            async with self._turns:
                status, last_line = await self._run(environment, transaction.message.content)
        except asyncio.CancelledError:
            raise CommandError(f"{self.command[0]} has not ended") from None  # the rule's time is over
        meaning = self._meanings.get(status)
        if meaning is None:
            raise CommandError(f"{self.command[0]} {_ended(status)}{': ' * bool(last_line)}{last_line}")
        if meaning == "pass":
            return None
        reason = last_line or f"{self.command[0]} {_ended(status)}"
        return Verdict(reason=reason, action=meaning if isinstance(meaning, Action) else None)

    async def _run(self, environment: dict[str, str], content: bytes) -> tuple[int, str]:
        """Its exit status, negative for a signal, and the last line of its standard error."""
        stdin, stderr = os.pipe(), os.pipe()
        with _Feed(stdin[1], content) as feed, _Tail(stderr[0]) as tail:
            try:
                # In the worker's session, which the supervisor ends if the worker is killed; uvloop knows no
                # process_group. It would block as long as this does.
                process = subprocess.Popen(  # noqa: S603, ASYNC220 - the operator's program
                    [self._program, *self.command[1:]],
                    stdin=stdin[0],
                    stdout=subprocess.DEVNULL,
                    stderr=stderr[1],
                    cwd=self._folder,
                    env=environment,
                    process_group=0,
                )
            except OSError as error:
                if error.errno == errno.ENOEXEC:
                    what = "is no program, expected one, or a script whose first line begins with #!"
                    raise CommandError(f"{self.command[0]} {what}") from None
                raise
            finally:
                os.close(stdin[0])
                os.close(stderr[1])
            try:
                ended = _end_of(process)
                _limit(process.pid, self.memory)  # before it has the message
                feed.begin()
                await asyncio.wait((ended, tail.full), return_when=asyncio.FIRST_COMPLETED)
            finally:
                _kill_group(process.pid)  # what the program has started ends with it
            last_line = tail.last_line()
            status = await ended
            if tail.full.done():
                raise CommandError(f"{self.command[0]} wrote more than 1 MiB to standard error")
            return status, last_line


class _Feed:
    """Writes the message to a pipe as its reader takes it; a program need not read all of it."""

    def __init__(self, pipe: int, content: bytes) -> None:
        self._pipe = pipe
        self._left = memoryview(content)
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """Write what fits, and the rest as soon as there is room."""
        os.set_blocking(self._pipe, False)
        self._loop.add_writer(self._pipe, self._write)

    def _write(self) -> None:
        try:
            self._left = self._left[os.write(self._pipe, self._left[:_PIECE]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._left = self._left[:0]
        if not self._left:
            self.__exit__()

    def __exit__(self, *_: object) -> None:
        if self._pipe >= 0:
            self._loop.remove_writer(self._pipe)
            os.close(self._pipe)
            self._pipe = -1


class _Tail:
    """Reads standard error; only the end of it is kept."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._size = 0
        self._end = b""
        self._loop = asyncio.get_running_loop()
        self.full: asyncio.Future[None] = self._loop.create_future()
        """Done when there is more than a program may write."""

    def __enter__(self) -> Self:
        os.set_blocking(self._pipe, False)
        self._loop.add_reader(self._pipe, self._read)
        return self

    def _read(self) -> bool:
        """Read a piece; False if there will be no other, or none now."""
        try:
            piece = os.read(self._pipe, _PIECE)
        except BlockingIOError:
            return False
        self._size += len(piece)
        self._end = (self._end + piece)[-_TAIL_BYTES:]
        is_full = self._size > _OUTPUT_LIMIT
        if is_full and not self.full.done():
            self.full.set_result(None)
        if is_full or not piece:
            self._loop.remove_reader(self._pipe)
            return False
        return True

    def last_line(self) -> str:
        """The last line that is not empty, after reading what is there."""
        while self._read():
            pass
        text = self._end.decode("utf-8", "backslashreplace")
        lines = [line for line in map(str.strip, text.splitlines()) if line]
        return "".join(c if c.isprintable() else "?" for c in lines[-1])[:_REASON_LIMIT] if lines else ""

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)


def _end_of(process: subprocess.Popen[bytes]) -> asyncio.Future[int]:
    """Its exit status when it has ended, negative for a signal; it is reaped even if nobody waits."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()
    handle = os.pidfd_open(process.pid)

    def reap() -> None:
        loop.remove_reader(handle)
        os.close(handle)
        status = process.wait()
        if not ended.done():
            ended.set_result(status)

    loop.add_reader(handle, reap)
    return ended


def _limit(pid: int, memory: int) -> None:
    """Set the limits of a process that has just been started; it may have ended."""
    limits = {
        resource.RLIMIT_AS: (memory, memory),
        resource.RLIMIT_CPU: (_PROCESSOR_SECONDS, _PROCESSOR_SECONDS + 1),
        resource.RLIMIT_CORE: (0, 0),
    }
    for limit, value in limits.items():
        with suppress(ProcessLookupError, ValueError):  # ValueError: it is lower already
            resource.prlimit(pid, limit, value)


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _ended(status: int) -> str:
    if status >= 0:
        return f"exited with {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-status}"


def _program(name: str, folder: Path) -> str:
    """The path of the program; raises ValueError."""
    if "/" not in name:
        found = shutil.which(name)
        if not found:
            raise ValueError(f"command: there is no program {name!r} in PATH, expected its name or a path")
        return found
    path = folder / name
    if not path.is_file():
        raise ValueError(f"command: {str(path)!r} is not a file, expected a program")
    if not os.access(path, os.X_OK):
        raise ValueError(f"command: {str(path)!r} is not executable, expected a program (chmod +x)")
    if (interpreter := _interpreter(path)) and not os.access(folder / interpreter, os.X_OK):
        found = f"command: {str(path)!r} is for the interpreter {interpreter!r}"
        raise ValueError(f"{found}, expected one that exists, and LF at the ends of lines")
    return str(path)


def _interpreter(script: Path) -> str:
    """The program that runs a script; empty for another file, or one that cannot be read."""
    with suppress(PermissionError), script.open("rb") as file:
        if found := _INTERPRETER.match(file.read(_HEAD_BYTES)):
            return os.fsdecode(found[1])
    return ""


def _environment(transaction: Transaction, recipients: Iterable[Recipient], rule: str) -> dict[str, str]:
    """All that a program knows but the message; documented in docs/filters/command.md."""
    session, envelope = transaction.session, transaction.envelope
    known = {
        "GATEPOST_RULE": rule,
        "GATEPOST_ID": transaction.id,
        "GATEPOST_RECEIVED_AT": transaction.received_at.isoformat(),
        "GATEPOST_SIZE": str(len(transaction.message.content)),
        "GATEPOST_SENDER": envelope.mail_from,
        "GATEPOST_RECIPIENTS": "\n".join(recipient.address for recipient in recipients),
        "GATEPOST_SESSION": session.id,
        "GATEPOST_CLIENT": str(session.client),
        "GATEPOST_LISTENER": session.listener,
        "GATEPOST_HELO": session.helo,
        "GATEPOST_PROTOCOL": session.protocol,
        "GATEPOST_TLS": session.tls or "",
        "GATEPOST_USER": session.authenticated or "",
    }
    for name, value in known.items():
        if "\0" in value:
            raise CommandError(f"{name} would have a NUL, which no environment variable can hold")
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **known}
