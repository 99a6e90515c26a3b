"""The log of a scripted server: written by its threads, read by the test."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from gatepost.model.mail import Recipient

__all__ = ["Log", "ReceivedMessage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """One message that was received completely, whatever the reply."""

    mail_from: str
    """The reverse-path without its brackets."""
    parameters: tuple[str, ...]
    """The parameters of MAIL, as received."""
    recipients: tuple[Recipient, ...]
    """Those that were accepted, in their order, with the parameters of RCPT."""
    content: bytes
    """Without the transparency dots."""
    wire: bytes
    """As received, with them and with the final dot; of chunks the same as the content."""
    connection: int
    """Counted from 1."""
    tls: bool
    """True if it was received over TLS."""


class Log:
    """Commands and messages of all connections."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: list[ReceivedMessage] = []
        self._commands: list[list[str]] = []
        self._open = 0

    @property
    def messages(self) -> tuple[ReceivedMessage, ...]:
        """In the order of their final dots."""
        with self._changed:
            return tuple(self._messages)

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """The command lines of each connection."""
        with self._changed:
            return tuple(map(tuple, self._commands))

    @property
    def connections(self) -> tuple[int, int]:
        """Number of connections in total, and open now."""
        with self._changed:
            return len(self._commands), self._open

    def connected(self) -> int:
        """Count a new connection; returns its number, counted from 1."""
        with self._changed:
            self._commands.append([])
            self._open += 1
            self._changed.notify_all()
            return len(self._commands)

    def disconnected(self) -> None:
        """Count a closed connection."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def command(self, connection: int, line: str) -> None:
        """Add a received line."""
        with self._changed:
            self._commands[connection - 1].append(line)
            self._changed.notify_all()

    def message(self, message: ReceivedMessage) -> None:
        """Add a complete message."""
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Check the condition after each change; False if it is not true within the time."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)
