"""The connections between workers and web desk for sessions that are held.

Both ends are made before the processes are forked, so there is no address that others could use. For each
session a worker makes a pair of connected sockets and passes one of them to the desk (unix(7), SCM_RIGHTS).
"""

import asyncio
import json
import mmap
import socket
import struct
from dataclasses import dataclass
from typing import Any, Final

from gatepost.model.mail import Stage

__all__ = ["CONTENT_OCTETS", "Channel", "Link"]

CONTENT_OCTETS: Final = 1 << 20
"""Of a message that are sent to the desk."""
_FRAME_HEAD: Final = struct.Struct(">II")
_FRAME_OCTETS: Final = 64 << 20
"""No frame is larger: its sender is a process of ours."""


@dataclass(frozen=True, slots=True)
class Channel:
    """Shared by the workers, which connect, and the desk, which accepts and arms breakpoints."""

    asking: socket.socket
    """The workers' end."""
    answering: socket.socket
    """The desk's end."""
    armed: memoryview
    """One byte for each `Stage`: not 0 if a breakpoint is armed there. Shared memory."""

    @classmethod
    def make(cls) -> "Channel":
        """A new one; to be made before forking."""
        asking, answering = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        asking.settimeout(0)
        answering.settimeout(0)
        return cls(asking, answering, memoryview(mmap.mmap(-1, len(Stage) + 1)))

    def close(self) -> None:
        """Close this process's ends."""
        self.asking.close()
        self.answering.close()

    async def connect(self) -> "Link":
        """A new connection to the desk, which may accept it later; raises OSError if there is no room."""
        ours, theirs = socket.socketpair()
        try:
            ours.settimeout(0)
            socket.send_fds(self.asking, [b"."], [theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return await Link.over(ours)

    async def accept(self) -> "Link":
        """The next connection from a worker."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                sent, received, _, _ = socket.recv_fds(self.answering, 16, 1)
            except (BlockingIOError, InterruptedError):
                readable = asyncio.Event()
                loop.add_reader(self.answering, readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(self.answering)
                continue
            if not sent:
                raise ConnectionError("no worker is left")
            for number in received:  # none if this process has no file descriptor left
                accepted = socket.socket(fileno=number)
                accepted.settimeout(0)
                return await Link.over(accepted)


class Link:
    """One connection: frames of JSON, each with bytes that belong to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, connected: socket.socket) -> "Link":
        """Over a socket that is connected and does not block."""
        return cls(*await asyncio.open_unix_connection(sock=connected))

    async def send(self, data: dict[str, Any], content: bytes = b"") -> None:
        """Send a frame; raises OSError if the other side is gone."""
        head = json.dumps(data).encode()  # in ASCII, so that lone surrogates pass
        self._writer.write(_FRAME_HEAD.pack(len(head), len(content)) + head + content)
        await self._writer.drain()

    async def receive(self) -> tuple[dict[str, Any], bytes] | None:
        """The next frame; None if the other side is gone or has sent something else."""
        try:
            head, content = _FRAME_HEAD.unpack(await self._reader.readexactly(_FRAME_HEAD.size))
            if head + content > _FRAME_OCTETS:
                return None
            data = json.loads(await self._reader.readexactly(head))
            return data, await self._reader.readexactly(content)
        except (asyncio.IncompleteReadError, OSError, ValueError):
            return None

    def close(self) -> None:
        """Close it; frames that were sent still arrive."""
        self._writer.close()
