"""One connection to a milter: packets are sent, and its answers are read."""

import asyncio
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self, SupportsIndex

from gatepost import Reply, UnreachableError, connect

from gatepost_milter.packets import (
    Actions,
    Modification,
    Negotiated,
    ProtocolError,
    Steps,
    negotiate,
    packet,
    read_modification,
    read_negotiated,
    read_reply,
)

__all__ = ["CONTINUE", "Answer", "Connection", "checked_address"]

_PACKET_OCTETS = 1 << 20
"""Of one answer: far more than the protocol's 65,535."""
_TCP_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+)):(\d{1,5})", re.ASCII)
_ACTION_OF = {
    b"h": Actions.ADD_HEADERS,
    b"i": Actions.ADD_HEADERS,
    b"m": Actions.CHANGE_HEADERS,
    b"b": Actions.CHANGE_BODY,
    b"+": Actions.ADD_RECIPIENTS,
    b"2": Actions.ADD_RECIPIENTS_WITH_PARAMETERS,
    b"-": Actions.DELETE_RECIPIENTS,
    b"e": Actions.CHANGE_SENDER,
    b"q": Actions.QUARANTINE,
}
_REPLIES = {
    b"r": Reply(code=550, enhanced="5.7.1", text="Command rejected"),
    b"t": Reply(code=451, enhanced="4.7.1", text="Service unavailable - try again later"),
    b"4": Reply(code=421, enhanced="4.7.0", text="Server closing connection"),
}
"""Those of Postfix for answers without a text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a milter answers to one command."""

    letter: bytes
    """``c`` continue, ``a`` accept, ``d`` discard, ``s`` skip, ``y`` a reply; others become these."""
    reply: Reply | None = None
    """4xx or 5xx, of an answer that refuses."""
    changes: tuple[Modification, ...] = ()
    """Only at the end of a message."""


CONTINUE = Answer(b"c")


def checked_address(text: str) -> tuple[str, int] | str:
    """Host and port, or the path of a socket; raises ValueError."""
    if text.startswith("unix:/"):
        return text.removeprefix("unix:")
    found = _TCP_ADDRESS.fullmatch(text)
    if not found or not 1 <= int(found[3]) <= 65535:
        raise ValueError(f"address {text!r}: expected unix:/path or host:port")
    return found[1] or found[2], int(found[3])


class _Reader(asyncio.StreamReader):
    """Knows how much has come."""

    def __init__(self) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.received_bytes = 0

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Called with what comes, which is bytes."""
        self.received_bytes += len(bytes(data))
        super().feed_data(data)


class Connection:
    """Packets there and back; every fault is an OSError."""

    def __init__(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._read_bytes = 0
        self._writer = writer
        family = writer.get_extra_info("socket").family
        self._is_tcp = family != socket.AF_UNIX and hasattr(socket, "TCP_QUICKACK")
        self.negotiated = Negotiated(Actions(0), Steps(0), {})

    @classmethod
    async def open(cls, address: str) -> Self:
        """Connect and negotiate; raises UnreachableError without a connection."""
        where = checked_address(address)
        loop, reader = asyncio.get_running_loop(), _Reader()
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport: asyncio.Transport
        try:
            if isinstance(where, str):
                transport, _ = await loop.create_unix_connection(lambda: protocol, where)
            else:
                transport, _ = await loop.create_connection(lambda: protocol, sock=await connect(*where))
        except asyncio.CancelledError:
            raise UnreachableError(f"milter at {address}: not connected") from None
        except (OSError, UnicodeError) as error:
            raise UnreachableError(f"milter at {address}: {error}") from error
        self = cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
        try:
            self.negotiated = await self._negotiate()
        except BaseException:
            self.abort()
            raise
        return self

    async def _negotiate(self) -> Negotiated:
        self.send(negotiate())
        letter, data = await self._read()
        if letter != b"O":
            raise ProtocolError(f"answered the offer with {letter!r}")
        return read_negotiated(data)

    @property
    def is_closed(self) -> bool:
        """True if the milter closed it, or sent something unasked."""
        return self._has_more or self._reader.at_eof() or self._writer.is_closing()

    @property
    def _has_more(self) -> bool:
        """True if something came that was not read: nothing was asked for it."""
        return self._reader.received_bytes > self._read_bytes

    def send(self, octets: bytes) -> None:
        """Send packets that have no answer; raises OSError later, when an answer is read."""
        if octets:
            self._writer.write(octets)

    async def ask(self, octets: bytes, *, changes_limit: int = 0) -> Answer:
        """Send packets, of which the last has an answer.

        ``changes_limit`` is how many bytes its changes may have; 0, but for the end of a message.
        Raises OSError.
        """
        if self._has_more:  # it would be taken for the answer to what is asked now
            raise ProtocolError("sent an answer that was not asked for")
        self._writer.write(octets)
        await self._writer.drain()
        changes: list[Modification] = []
        size = 0
        while True:
            if changes_limit and self._is_tcp:
                # A milter writes each change by itself, and the next one waits for our ACK, 40 ms late.
                self._writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            letter, data = await self._read()
            if letter == b"p":
                continue
            if change := read_modification(letter, data):
                if not changes_limit:
                    raise ProtocolError(f"sent the change {letter!r} before the end of the message")
                if not _ACTION_OF[letter] & self.negotiated.actions:
                    raise ProtocolError(f"sent the change {letter!r}, which it did not negotiate")
                size += len(data)
                if size > changes_limit:
                    raise ProtocolError(f"sent changes of more than {changes_limit:,} bytes")
                changes.append(change)
                continue
            return self._answer(letter, data, tuple(changes))

    def _answer(self, letter: bytes, data: bytes, changes: tuple[Modification, ...]) -> Answer:
        match letter:
            case b"c" | b"a" | b"d" | b"s":
                return Answer(letter, changes=changes)
            case b"y":
                return Answer(b"y", read_reply(data))
            case b"r" | b"t" | b"4":
                return Answer(b"y", _REPLIES[letter])
            case _:
                raise ProtocolError(f"sent the unknown answer {letter!r}")

    async def _read(self) -> tuple[bytes, bytes]:
        """The letter and the data of the next packet."""
        try:
            length = int.from_bytes(await self._reader.readexactly(4))
            if not 1 <= length <= _PACKET_OCTETS:
                raise ProtocolError(f"sent a packet of {length} bytes")
            content = await self._reader.readexactly(length)
        except asyncio.IncompleteReadError:
            raise ProtocolError("closed the connection") from None
        self._read_bytes += 4 + length
        return content[:1], content[1:]

    def quit(self) -> None:
        """End the session and close."""
        if not self._writer.is_closing():
            self._writer.write(packet(b"Q"))
            self._writer.close()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()
