"""One connection of a scripted server."""

import base64
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from gatepost.model.mail import Recipient
from gatepost.testing.upstream.behaviours import (
    Behaviour,
    Close,
    Drip,
    HalfClose,
    Handshake,
    OnConnection,
    OnTransaction,
    Reset,
    Stall,
    Step,
    Then,
    Usual,
)
from gatepost.testing.upstream.log import Log, ReceivedMessage

__all__ = ["Conduct", "Conversation"]

_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """The behaviour of a server on all its connections."""

    script: Mapping[Step, Behaviour]
    extensions: Callable[[int], Sequence[str]]
    """The extensions of the nth connection."""
    tls: ssl.SSLContext | None
    implicit_tls: bool
    users: Mapping[str, str]
    mechanisms: str
    release: threading.Event = field(default_factory=threading.Event)
    """Ends every stall."""
    ending: threading.Event = field(default_factory=threading.Event)
    """The server stops: nothing more is sent after a stall."""


class EndError(Exception):
    """The conversation is over."""


class Conversation:
    """One connection; runs in its own thread."""

    def __init__(self, conduct: Conduct, log: Log, accepted: socket.socket, number: int) -> None:
        self._conduct = conduct
        self._log = log
        self._socket = accepted
        self._number = number
        self._transactions = 0
        self._buffer = b""
        self._over_tls = False
        self._user: str | None = None
        self._reset()

    def _reset(self) -> None:
        self._mail_from: str | None = None
        self._parameters: tuple[str, ...] = ()
        self._recipients: tuple[Recipient, ...] = ()
        self._chunks = b""

    def close(self) -> None:
        """Close the connection and wake up the threads that wait for it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        """Run the conversation until one side ends it."""
        try:
            self._talk()
        except (EndError, OSError):
            pass
        finally:
            self._socket.close()

    def _talk(self) -> None:
        if self._conduct.implicit_tls and self._conduct.tls:
            self._start_tls(self._conduct.tls)
        self._act("connect", "", lambda: self._say("220 fake.example ESMTP"))
        while True:
            line = self._line()
            verb, _, argument = line.partition(" ")
            method = getattr(self, f"_do_{verb.lower()}", None) if verb.isalpha() else None
            if method:
                method(argument)
            else:
                self._say("500 5.5.1 Unknown command")

    # What it is told

    def _receive(self) -> None:
        received = self._socket.recv(1 << 18)
        if not received:
            raise EndError
        self._buffer += received

    def _line(self) -> str:
        while b"\r\n" not in self._buffer:
            self._receive()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        text = line.decode("utf-8", "surrogateescape")
        self._log.command(self._number, text)
        return text

    # What it does

    def _say(self, reply: str) -> None:
        lines = reply.split("\n")
        self._socket.sendall("".join(f"{line}\r\n" for line in lines).encode("utf-8"))

    def _act(self, step: Step, argument: str, usual: Callable[[], None]) -> None:
        self._behave(self._conduct.script.get(step), argument, usual)

    def _behave(self, behaviour: Behaviour, argument: str, usual: Callable[[], None]) -> None:
        match behaviour:
            case None | Usual():
                usual()
            case str():
                self._say(behaviour)
            case bytes():
                self._socket.sendall(behaviour)
            case Close():
                raise EndError
            case Reset():
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                raise EndError
            case HalfClose():
                self._socket.shutdown(socket.SHUT_WR)
            case Handshake():
                if self._conduct.tls:
                    self._start_tls(self._conduct.tls)
            case Drip(reply, seconds):
                for octet in f"{reply}\r\n":
                    self._socket.sendall(octet.encode())
                    time.sleep(seconds)
            case Stall(seconds):
                self._conduct.release.wait(seconds)
                if self._conduct.ending.is_set():
                    raise EndError
            case Then():
                self._behave(behaviour.take(), argument, usual)
            case OnConnection(number, wanted):
                self._behave(wanted if number == self._number else None, argument, usual)
            case OnTransaction(number, wanted):
                self._behave(wanted if number == self._transactions else None, argument, usual)
            case _ if callable(behaviour):
                self._behave(behaviour(argument), argument, usual)
            case _:
                for one in behaviour:
                    self._behave(one, argument, usual)

    # Commands

    def _do_ehlo(self, argument: str) -> None:
        lines = ["fake.example", *self._conduct.extensions(self._number)]
        if self._conduct.tls and not self._over_tls:
            lines.append("STARTTLS")
        if self._conduct.users:
            lines.append(f"AUTH {self._conduct.mechanisms}")
        reply = "\n".join(f"250{' ' if n == len(lines) else '-'}{line}" for n, line in enumerate(lines, 1))
        self._reset()
        self._act("ehlo", argument, lambda: self._say(reply))

    def _do_helo(self, argument: str) -> None:
        self._reset()
        self._act("helo", argument, lambda: self._say("250 fake.example"))

    def _do_starttls(self, argument: str) -> None:
        context = self._conduct.tls
        if context is None or self._over_tls:
            self._say("502 5.5.1 Not offered")
            return

        def usual() -> None:
            self._say("220 2.0.0 Go ahead")
            self._start_tls(context)

        self._act("starttls", argument, usual)

    def _start_tls(self, context: ssl.SSLContext) -> None:
        self._socket = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket.do_handshake()
        self._over_tls = True
        self._buffer = b""

    def _do_auth(self, argument: str) -> None:
        def usual() -> None:
            mechanism, _, initial = argument.partition(" ")
            if mechanism.upper() == "PLAIN":
                _, name, password = self._credential(initial, "334 ").split("\0")
            else:
                name = self._credential(initial, "334 VXNlcm5hbWU6")
                password = self._credential("", "334 UGFzc3dvcmQ6")
            if self._conduct.users.get(name) == password:
                self._user = name
                self._say("235 2.7.0 Authenticated")
            else:
                self._say("535 5.7.8 Bad credentials")

        self._act("auth", argument, usual)

    def _credential(self, initial: str, challenge: str) -> str:
        if not initial:
            self._say(challenge)
            initial = self._line()
        return base64.b64decode(initial).decode("utf-8")

    def _do_mail(self, argument: str) -> None:
        self._transactions += 1

        def usual() -> None:
            if self._conduct.users and self._user is None:
                self._say("530 5.7.0 Authentication required")
            elif self._mail_from is not None:
                self._say("503 5.5.1 Nested MAIL")
            else:
                self._mail_from, self._parameters = _path(argument)
                self._say("250 2.1.0 Sender ok")

        self._act("mail", argument, usual)

    def _do_rcpt(self, argument: str) -> None:
        def usual() -> None:
            if self._mail_from is None:
                self._say("503 5.5.1 MAIL first")
                return
            address, parameters = _path(argument)
            self._recipients += (Recipient(address=address, parameters=parameters),)
            self._say("250 2.1.5 Recipient ok")

        self._act("rcpt", argument, usual)

    def _do_data(self, argument: str) -> None:
        def usual() -> None:
            if not self._recipients:
                self._say("503 5.5.1 RCPT first")
                return
            self._say("354 Go ahead")
            self._read_message()

        self._act("data", argument, usual)

    def _read_message(self) -> None:
        if not self._buffer:
            self._receive()
        self._act("body", "", lambda: None)
        received = bytearray(b"\r\n" + self._buffer)  # so that a dot at the beginning is found like any other
        self._buffer = b""
        searched = 0
        while (end := received.find(b"\r\n.\r\n", searched)) < 0:
            searched = max(len(received) - 4, 0)
            self._receive()
            received += self._buffer
            self._buffer = b""
        self._buffer = bytes(received[end + 5 :])
        self._end_message(
            bytes(received[: end + 2].replace(b"\r\n.", b"\r\n")[2:]), wire=bytes(received[2 : end + 5])
        )

    def _do_bdat(self, argument: str) -> None:
        if "CHUNKING" not in self._conduct.extensions(self._number):
            self._say("500 5.5.1 Unknown command")
            return
        size, _, last = argument.partition(" ")
        if last and int(size):
            if not self._buffer:
                self._receive()
            self._act("body", "", lambda: None)
        octets = self._octets(int(size))
        if not self._recipients:
            self._say("503 5.5.1 RCPT first")
            return
        self._chunks += octets
        if last:
            self._end_message(self._chunks, wire=self._chunks)
        else:
            self._act("bdat", argument, lambda: self._say(f"250 2.0.0 {size} octets"))

    def _octets(self, count: int) -> bytes:
        received = bytearray(self._buffer)
        while len(received) < count:
            self._buffer = b""
            self._receive()
            received += self._buffer
        self._buffer = bytes(received[count:])
        return bytes(received[:count])

    def _end_message(self, content: bytes, *, wire: bytes) -> None:
        self._log.message(
            ReceivedMessage(
                mail_from=self._mail_from or "",
                parameters=self._parameters,
                recipients=self._recipients,
                content=content,
                wire=wire,
                connection=self._number,
                tls=self._over_tls,
            )
        )
        self._reset()
        self._act("dot", "", lambda: self._say("250 2.0.0 Ok: queued"))

    def _do_rset(self, argument: str) -> None:
        self._reset()
        self._act("rset", argument, lambda: self._say("250 2.0.0 Ok"))

    def _do_noop(self, _: str) -> None:
        self._say("250 2.0.0 Ok")

    def _do_quit(self, argument: str) -> None:
        self._act("quit", argument, lambda: self._say("221 2.0.0 Bye"))
        raise EndError


def _path(argument: str) -> tuple[str, tuple[str, ...]]:
    """Path and parameters of ``FROM:<a@example.com> SIZE=1``; a ``>`` may be in a quoted local part."""
    _, _, rest = argument.partition(":")
    path, _, parameters = rest.lstrip().removeprefix("<").rpartition(">")
    return path, tuple(parameters.split())
