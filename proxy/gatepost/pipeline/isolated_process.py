"""One process with a filter in it: it is started, asked one thing at a time, and killed."""

import asyncio
import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from gatepost.hookspecs import UnreachableError

__all__ = ["IsolatedProcess", "ProcessEndedError", "Recipe", "exception_of", "probe"]

Recipe = Mapping[str, Any]
"""What a process needs to make the filter: the keys that `isolated_child` reads."""
_START_SECONDS = 60.0
_END_SECONDS = 4.0
"""For the filter's own `close`."""
_MESSAGE_LIMIT = 64 << 20
"""Bytes of one message of the process; the longest answer replaces the body of a long message."""
_LINES_LIMIT = 100
"""Log lines and counts for one answer."""
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from gatepost.pipeline.isolated_child import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)


class ProcessEndedError(ChildProcessError):
    """The filter's process has ended, or has answered something that it may not."""


def probe(recipe: Recipe, told: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """What a process says that only makes the filter; without an event loop. Raises ProcessEndedError.

    ``told`` gets what it says before, such as log lines.
    """
    ours, theirs = socket.socketpair()
    command = _command(theirs)
    with ours, theirs, subprocess.Popen(command, pass_fds=[theirs.fileno()], **_STREAMS) as process:  # noqa: S603 - our own program
        theirs.close()
        ours.settimeout(_START_SECONDS)
        try:
            ours.sendall(_frame({**recipe, "probe": True}))
            with ours.makefile("rb") as file:
                while not (said := _message(file.read(int.from_bytes(file.read(4))))).keys() & _STARTED:
                    told(said)
        except TimeoutError:
            raise ProcessEndedError(f"it was not made within {_START_SECONDS:g} s") from None
        except (OSError, EOFError, ProcessEndedError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)  # it is ending, if it has closed the connection
            process.kill()
            raise ProcessEndedError(f"its process {_ended(process.wait())}") from None
        finally:
            process.kill()
    return said


class IsolatedProcess:
    """A process that has made its filter; `start` makes one."""

    def __init__(self, process: asyncio.subprocess.Process, connection: socket.socket) -> None:
        self._process = process
        self._connection = connection
        self._number = 0

    @classmethod
    async def start(cls, recipe: Recipe, told: Callable[[dict[str, Any]], None]) -> "IsolatedProcess":
        """Start one and wait until it is ready; raises what `open` raises, or ProcessEndedError."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)  # for the event loop
        with theirs:
            try:
                child = await asyncio.create_subprocess_exec(
                    *_command(theirs), pass_fds=[theirs.fileno()], **_STREAMS
                )
            except BaseException:
                ours.close()
                raise
        process = cls(child, ours)
        try:
            async with asyncio.timeout(_START_SECONDS):
                said = await process._exchange({**recipe, "probe": False}, told, _STARTED)
            _check_ready(said)
        except TimeoutError:
            await process.end(seconds=0)
            raise ProcessEndedError(f"its process was not ready within {_START_SECONDS:g} s") from None
        except BaseException:
            await process.end(seconds=0)
            raise
        return process

    @property
    def is_alive(self) -> bool:
        """False once it has ended or was killed."""
        return self._process.returncode is None and self._connection.fileno() >= 0

    async def ask(
        self, hook: str, arguments: Mapping[str, Any], told: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """The message with the answer. If anything is raised, the process must be killed."""
        self._number += 1
        said = await self._exchange((self._number, hook, arguments), told, {"number"})
        if said["number"] != self._number:
            raise ProcessEndedError("its process answered another question")
        return said

    async def _exchange(
        self, request: object, told: Callable[[dict[str, Any]], None], ends: set[str]
    ) -> dict[str, Any]:
        """Send a request; returns the first message with one of the keys."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._connection, _frame(request))
            for _ in range(_LINES_LIMIT):
                said = _message(await self._read(int.from_bytes(await self._read(4))))
                if said.keys() & ends:
                    return said
                told(said)
        except (ConnectionError, EOFError):
            status = await self._process.wait()  # the other end of the connection is closed
            raise ProcessEndedError(f"its process {_ended(status)}") from None
        raise ProcessEndedError(f"its process wrote more than {_LINES_LIMIT} log lines for one answer")

    async def _read(self, size: int) -> bytes:
        if size > _MESSAGE_LIMIT:
            raise ProcessEndedError(f"its process answered with {size:,} bytes")
        received = bytearray()
        while len(received) < size:
            piece = await asyncio.get_running_loop().sock_recv(self._connection, size - len(received))
            if not piece:
                raise EOFError
            received += piece
        return bytes(received)

    def kill(self) -> None:
        """End it at once; the event loop reaps it."""
        self._connection.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self, *, seconds: float = _END_SECONDS) -> None:
        """Let it end: it calls the filter's `close`, and is killed if that takes long."""
        self._connection.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), seconds)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


_STARTED = {"ready", "mistakes", "unusable", "raised"}
_STREAMS: Any = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.DEVNULL,
    "start_new_session": True,  # a terminal's Ctrl-C is for the gateway
}


def _command(connection: socket.socket) -> list[str]:
    path = json.dumps(sys.path)
    return [sys.executable, "-I", "-c", _PROGRAM, path, str(connection.fileno()), str(os.getpid())]


def _frame(request: object) -> bytes:
    data = pickle.dumps(request, protocol=5)
    return len(data).to_bytes(8) + data


def _message(data: bytes) -> dict[str, Any]:
    """A message; raises EOFError for none, ProcessEndedError for one that is not JSON."""
    if not data:
        raise EOFError
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProcessEndedError(f"its process answered no JSON: {error}") from None
    if not isinstance(said, dict):
        raise ProcessEndedError("its process answered no JSON object")
    return said


def _check_ready(said: Mapping[str, Any]) -> None:
    if "raised" in said:
        raise exception_of(said["raised"])
    if "ready" not in said:
        texts = [what for _, _, what, _ in said["mistakes"]] if "mistakes" in said else said["unusable"][:1]
        raise ProcessEndedError(f"the filter cannot be made any more: {'; '.join(map(str, texts))[:1000]}")


def _ended(status: int) -> str:
    if status >= 0:
        return f"exited with {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-status}"


def exception_of(said: Mapping[str, Any]) -> Exception:
    """What the filter has raised, under its name, with its traceback as a note for the log."""
    name = str(said["name"])
    bases = {"unreachable": UnreachableError, "os": OSError}
    base: type[Exception] = bases.get(str(said["kind"]), Exception)
    kind = type(name if name.isidentifier() and len(name) <= 100 else "Exception", (base,), {})
    error = kind(str(said["text"])[:1000])
    if base is Exception:
        error.add_note(f"in the filter's process:\n{str(said['trace'])[:10_000]}")
    made: Exception = error
    return made
