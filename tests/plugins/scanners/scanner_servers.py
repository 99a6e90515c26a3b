"""Start scanners for tests: real ones as processes, scripted ones on the event loop."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
# in two halves, so that no scanner takes this file for the virus that it is not
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
CLAMD_BYTES = 1 << 20
"""``StreamMaxLength`` of the real clamd."""
START_SECONDS = 120

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@dataclass
class Daemon:
    """A program that runs, in a group of processes of its own."""

    home: Path
    command: list[str]
    answers: Callable[[], bool]
    addresses: dict[str, str] = field(default_factory=dict)
    """By kind."""
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def log(self) -> str:
        return (self.home / "output").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.home / "output").open("ab") as output:
            self.process = subprocess.Popen(
                self.command, cwd=self.home, stdout=output, stderr=output, start_new_session=True
            )
        until = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"{self.command[0]} does not answer: {self.log}")
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send a signal to it and all that it has started."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kill it and all that it has started."""
        self.signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running(home: Path, command: list[str], answers: Callable[[], bool]) -> Iterator[Daemon]:
    """Start a program; stop it, and what it has started, at the end."""
    daemon = Daemon(home, command, answers)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.process.terminate()
        daemon.process.wait()


def ask_tcp(port: int, request: bytes) -> bytes:
    """All that a server answers; nothing if it cannot be reached."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
    ):
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


# --- scripted ones


@dataclass
class Scripted:
    """A server that does what a script says on each connection."""

    address: str
    connections: int = 0


@contextlib.asynccontextmanager
async def scripted(script: Script, folder: Path | None = None, port: int = 0) -> AsyncIterator[Scripted]:
    """On a TCP port, or on a Unix socket in a folder."""
    tasks: set[asyncio.Task[None]] = set()

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.connections += 1
        if task := asyncio.current_task():
            tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await script(reader, writer)
        writer.close()

    if folder:
        server = await asyncio.start_unix_server(count, path=folder / "scripted.sock")
        found = Scripted(f"unix:{folder}/scripted.sock")
    else:
        server = await asyncio.start_server(count, "127.0.0.1", port)
        found = Scripted(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield found
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
