r"""A server to relay to that plays whatever misbehaviour a test asks for.

It is a real server on a free port of the loopback interface, in threads of its own, so that tests of
either kind can use it. Without a script it behaves well:

    with FakeUpstream() as upstream:
        ...  # send something to upstream.url
        assert upstream.messages[0].content == b"Subject: hello\r\n\r\n"

A script says what it does instead of its usual, step by step of the conversation:

    FakeUpstream({"rcpt": "550 5.1.1 No such user"})
    FakeUpstream({"rcpt": lambda path: "550 5.1.1 No such user" if "bob@" in path else None})
    FakeUpstream({"dot": Then("451 4.3.0 Not now")})            # the first time only
    FakeUpstream({"dot": OnConnection(2, Close())})
    FakeUpstream({"mail": [Usual(), b"250 one too many\r\n"]})  # one after the other
"""

import base64
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Self, get_args

from proxy.mail import Recipient

__all__ = [
    "Behaviour",
    "Close",
    "FakeUpstream",
    "OnConnection",
    "OnTransaction",
    "ReceivedMessage",
    "Reset",
    "Stall",
    "Step",
    "Then",
    "Usual",
]

Step = Literal[
    "connect", "ehlo", "helo", "starttls", "auth", "mail", "rcpt", "data", "body", "dot", "rset", "quit"
]
"""``connect`` is the greeting, ``body`` comes with the first octets of a message, ``dot`` is its end."""

EXTENSIONS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8")
"""What is offered by default."""

_PATIENCE_SECONDS = 10.0
_JOIN_SECONDS = 5.0
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Usual:
    """What a good server does."""


@dataclass(frozen=True, slots=True)
class Close:
    """Closes the connection."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Ends the connection with a TCP reset."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Does nothing until that time has passed or `FakeUpstream.release` is set; what follows comes late."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True, init=False)
class Then:
    """One behaviour for each time that the step comes, on any connection; afterwards the usual."""

    _left: list["Behaviour"] = field(default_factory=list)

    def __init__(self, *behaviours: "Behaviour") -> None:
        object.__setattr__(self, "_left", list(behaviours))

    def _next(self) -> "Behaviour":
        return self._left.pop(0) if self._left else None


@dataclass(frozen=True, slots=True)
class OnConnection:
    """A behaviour for one connection, counted from 1; the usual on all others."""

    number: int
    behaviour: "Behaviour"


@dataclass(frozen=True, slots=True)
class OnTransaction:
    """A behaviour for one transaction of each connection, counted from 1; the usual in all others.

    The second one is the first on a connection that is used again.
    """

    number: int
    behaviour: "Behaviour"


Behaviour = (
    str
    | bytes
    | Usual
    | Close
    | Reset
    | Stall
    | Then
    | OnConnection
    | OnTransaction
    | Sequence["Behaviour"]
    | Callable[[str], "Behaviour"]
    | None
)
"""What is done at a step.

- text: sent as a reply; of several lines each is written whole: ``"550-No\\n550 not here"``
- octets: sent as they are
- a list: one after the other, as in ``[Stall(), "250 late"]``
- a function: is given the command's argument and gives a behaviour
- None: the usual
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """One message that came whole, with its dot, whatever it was answered."""

    mail_from: str
    parameters: tuple[str, ...]
    """Of MAIL, as they came."""
    recipients: tuple[Recipient, ...]
    """Those that were accepted, in their order, with the parameters of RCPT."""
    content: bytes
    """Without the transparency dots."""
    wire: bytes
    """As it came, with them and with the final dot."""
    connection: int
    """Counted from 1."""
    tls: bool
    """True if it came over TLS."""


class FakeUpstream:
    """A scripted SMTP server; as a context manager it listens from enter to exit."""

    def __init__(
        self,
        script: Mapping[Step, Behaviour] | None = None,
        *,
        extensions: Sequence[str] | Callable[[int], Sequence[str]] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        users: Mapping[str, str] | None = None,
        port: int = 0,
        receive_buffer: int | None = None,
    ) -> None:
        """Make a server that does not listen yet.

        Args:
            script: what it does at which step; what is not in it goes the usual way.
            extensions: lines of the reply to EHLO, or a function that gives them for the nth connection.
            tls: offer STARTTLS with this context.
            implicit_tls: speak TLS from the beginning instead.
            users: names and passwords; AUTH PLAIN and LOGIN are offered, and MAIL needs one of them.
            port: 0 takes a free one.
            receive_buffer: octets that the system buffers for a connection; None: as it likes.
        """
        unknown = set(script or ()) - set(get_args(Step))
        if unknown:
            raise ValueError(
                f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(get_args(Step))}"
            )
        self.script: dict[Step, Behaviour] = dict(script or {})
        """May be changed while it runs."""
        self.host = "127.0.0.1"
        self.port = port
        """The port that it listens on, once it does."""
        self.release = threading.Event()
        """Set it to end every `Stall`."""
        self._extensions = extensions
        self._tls = tls
        self._implicit_tls = implicit_tls
        self._users = users
        self._receive_buffer = receive_buffer
        self._changed = threading.Condition()
        self._messages: list[ReceivedMessage] = []
        self._commands: list[list[str]] = []
        self._closed: set[int] = set()
        self._stopping = False
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Listen."""
        self._listener = socket.create_server((self.host, self.port))
        if self._receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self.port = self._listener.getsockname()[1]
        self._run(self._accept, self._listener)
        return self

    def __exit__(self, *_: object) -> None:
        """End all connections."""
        self._stopping = True
        self.release.set()
        if self._listener:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        with self._changed:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)

    @property
    def url(self) -> str:
        """For ``relay: to``."""
        return f"{'smtps' if self._implicit_tls else 'smtp'}://{self.host}:{self.port}"

    @property
    def messages(self) -> tuple[ReceivedMessage, ...]:
        """The messages that came whole, in the order of their dots."""
        with self._changed:
            return tuple(self._messages)

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """The command lines of each connection, without CRLF."""
        with self._changed:
            return tuple(map(tuple, self._commands))

    @property
    def connections(self) -> int:
        """How many there were."""
        with self._changed:
            return len(self._commands)

    @property
    def open_connections(self) -> int:
        """How many there are."""
        with self._changed:
            return len(self._commands) - len(self._closed)

    def wait_until(self, condition: Callable[[Self], bool], seconds: float = _PATIENCE_SECONDS) -> bool:
        """Wait for a condition on this server; False if it does not come true in that time.

        It blocks: in a coroutine use ``await asyncio.to_thread(upstream.wait_until, ...)``.
        """
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), seconds)

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(
            target=target, args=arguments, daemon=True, name=f"FakeUpstream:{self.port}"
        )
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:  # closed
                return
            accepted.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )  # replies do not wait for each other
            with self._changed:
                self._sockets.add(accepted)
                self._commands.append([])
                number = len(self._commands)
                self._changed.notify_all()
            self._run(self._serve, accepted, number)

    def _serve(self, accepted: socket.socket, number: int) -> None:
        conversation = _Conversation(self, accepted, number)
        try:
            conversation.run()
        except (_EndError, OSError):
            pass
        finally:
            with self._changed:
                self._sockets.discard(accepted)
            conversation.close()
            with self._changed:
                self._closed.add(number)
                self._changed.notify_all()

    def _offers(self, number: int, *, over_tls: bool) -> list[str]:
        offered = list(self._extensions(number) if callable(self._extensions) else self._extensions)
        if self._tls and not over_tls:
            offered.append("STARTTLS")
        if self._users:
            offered.append("AUTH PLAIN LOGIN")
        return offered

    def _note_command(self, number: int, line: str) -> None:
        with self._changed:
            self._commands[number - 1].append(line)
            self._changed.notify_all()

    def _note_message(self, message: ReceivedMessage) -> None:
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def _stall(self, seconds: float | None) -> None:
        """Until the release or the end of that time, or of the server."""
        self.release.wait(seconds)
        if self._stopping:
            raise _EndError


class _EndError(Exception):
    """The conversation is over."""


class _Conversation:
    """One connection."""

    def __init__(self, server: FakeUpstream, accepted: socket.socket, number: int) -> None:
        self._server = server
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

    def close(self) -> None:
        self._socket.close()

    def run(self) -> None:
        server = self._server
        if server._implicit_tls and server._tls:  # noqa: SLF001 - one thing in two classes
            self._start_tls(server._tls)  # noqa: SLF001
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
            raise _EndError
        self._buffer += received

    def _line(self) -> str:
        while b"\r\n" not in self._buffer:
            self._receive()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        text = line.decode("utf-8", "surrogateescape")
        self._server._note_command(self._number, text)  # noqa: SLF001
        return text

    # What it does

    def _say(self, reply: str) -> None:
        lines = reply.split("\n")
        self._socket.sendall("".join(f"{line}\r\n" for line in lines).encode("utf-8"))

    def _act(self, step: Step, argument: str, usual: Callable[[], None]) -> None:
        self._behave(self._server.script.get(step), argument, usual)

    def _behave(self, behaviour: Behaviour, argument: str, usual: Callable[[], None]) -> None:
        match behaviour:
            case None | Usual():
                usual()
            case str():
                self._say(behaviour)
            case bytes():
                self._socket.sendall(behaviour)
            case Close():
                raise _EndError
            case Reset():
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                raise _EndError
            case Stall(seconds):
                self._server._stall(seconds)  # noqa: SLF001
            case Then():
                self._behave(behaviour._next(), argument, usual)  # noqa: SLF001
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
        offers = self._server._offers(self._number, over_tls=self._over_tls)  # noqa: SLF001
        lines = ["fake.example", *offers]
        reply = "\n".join(f"250{' ' if n == len(lines) else '-'}{line}" for n, line in enumerate(lines, 1))
        self._reset()
        self._act("ehlo", argument, lambda: self._say(reply))

    def _do_helo(self, argument: str) -> None:
        self._reset()
        self._act("helo", argument, lambda: self._say("250 fake.example"))

    def _do_starttls(self, argument: str) -> None:
        context = self._server._tls  # noqa: SLF001
        if context is None or self._over_tls:
            self._say("502 5.5.1 Not offered")
            return

        def usual() -> None:
            self._say("220 2.0.0 Go ahead")
            self._start_tls(context)

        self._act("starttls", argument, usual)

    def _start_tls(self, context: ssl.SSLContext) -> None:
        plain = self._socket
        self._socket = context.wrap_socket(plain, server_side=True)  # closes the plain one where it fails
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
            if (self._server._users or {}).get(name) == password:  # noqa: SLF001
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
            if self._server._users and self._user is None:  # noqa: SLF001
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
        received = bytearray(
            b"\r\n" + self._buffer
        )  # so that a dot at the very beginning is found as any other
        self._buffer = b""
        searched = 0
        while (end := received.find(b"\r\n.\r\n", searched)) < 0:
            searched = max(len(received) - 4, 0)
            self._receive()
            received += self._buffer
            self._buffer = b""
        self._buffer = bytes(received[end + 5 :])
        self._server._note_message(  # noqa: SLF001
            ReceivedMessage(
                mail_from=self._mail_from or "",
                parameters=self._parameters,
                recipients=self._recipients,
                content=bytes(received[: end + 2].replace(b"\r\n.", b"\r\n")[2:]),
                wire=bytes(received[2 : end + 5]),
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
        raise _EndError


def _path(argument: str) -> tuple[str, tuple[str, ...]]:
    """Path and parameters of ``FROM:<a@example.com> SIZE=1``; a ``>`` may stand in a quoted local part."""
    _, _, rest = argument.partition(":")
    path, _, parameters = rest.lstrip().removeprefix("<").rpartition(">")
    return path, tuple(parameters.split())
