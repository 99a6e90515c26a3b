"""The scripted server: it listens, and runs a thread for each connection."""

import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Self, get_args

from gatepost.testing.upstream.behaviours import Behaviour, Step
from gatepost.testing.upstream.conversation import Conduct, Conversation
from gatepost.testing.upstream.log import Log, ReceivedMessage

__all__ = ["FakeUpstream"]

EXTENSIONS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8")
"""The default extensions."""

_PATIENCE_SECONDS = 30.0
_JOIN_SECONDS = 5.0


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
        mechanisms: str = "PLAIN LOGIN",
        port: int = 0,
        receive_buffer: int | None = None,
    ) -> None:
        """Make a server that does not listen yet.

        Args:
            script: the behaviour at each step; the usual one for steps that are not in it.
            extensions: lines of the reply to EHLO, or a function that returns them for the nth connection.
            tls: offer STARTTLS with this context.
            implicit_tls: speak TLS from the beginning instead.
            users: names and passwords; AUTH is offered, and MAIL needs it.
            mechanisms: of AUTH; these two are known.
            port: 0 takes a free one.
            receive_buffer: bytes that the system buffers for a connection; None: its default.
        """
        unknown = set(script or ()) - set(get_args(Step))
        if unknown:
            raise ValueError(
                f"unknown step: {', '.join(sorted(unknown))}; known steps: {', '.join(get_args(Step))}"
            )
        self.script: dict[Step, Behaviour] = dict(script or {})
        """May be changed while it runs."""
        self.host = "127.0.0.1"
        """Its IP address."""
        self.port = port
        """The port that it listens on, once it does."""
        self._conduct = Conduct(
            script=self.script,
            extensions=extensions if callable(extensions) else lambda _: extensions,
            tls=tls,
            implicit_tls=implicit_tls,
            users=users or {},
            mechanisms=mechanisms,
        )
        self.release = self._conduct.release
        """Set it to end each `Stall`."""
        self._log = Log()
        self._receive_buffer = receive_buffer
        self._listener: socket.socket | None = None
        self._conversations: dict[Conversation, threading.Thread] = {}
        self._acceptor: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Listen; raises OSError if the port is in use."""
        self._listener = socket.create_server((self.host, self.port))
        if self._receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self._conduct.ending.set()
        self.release.set()
        if self._listener and self._acceptor:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes up accept()
            self._acceptor.join(_JOIN_SECONDS)
            self._listener.close()
        for conversation, thread in self._conversations.items():
            conversation.close()
            thread.join(_JOIN_SECONDS)

    @property
    def url(self) -> str:
        """The URL for ``relay: to``."""
        return f"{'smtps' if self._conduct.implicit_tls else 'smtp'}://{self.host}:{self.port}"

    @property
    def messages(self) -> tuple[ReceivedMessage, ...]:
        """The complete messages, in the order of their final dots."""
        return self._log.messages

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """The command lines of each connection, without CRLF."""
        return self._log.commands

    @property
    def connections(self) -> int:
        """Number of connections so far."""
        return self._log.connections[0]

    @property
    def open_connections(self) -> int:
        """Number of open connections."""
        return self._log.connections[1]

    def wait_until(self, condition: Callable[[Self], bool], seconds: float = _PATIENCE_SECONDS) -> bool:
        """Wait for a condition on this server; False if it is not true within the time.

        It blocks: in a coroutine use ``await asyncio.to_thread(upstream.wait_until, ...)``.
        """
        return self._log.wait_until(lambda: condition(self), seconds)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:  # it was shut down
                return
            accepted.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )  # replies do not wait for each other
            conversation = Conversation(self._conduct, self._log, accepted, self._log.connected())
            thread = threading.Thread(target=self._converse, args=(conversation,), daemon=True)
            self._conversations[conversation] = thread
            thread.start()

    def _converse(self, conversation: Conversation) -> None:
        try:
            conversation.run()
        finally:
            self._log.disconnected()
