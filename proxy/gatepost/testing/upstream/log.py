"""What a scripted server has seen: written by its threads, read by the test."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from gatepost.mail import Recipient

__all__ = ["Log", "ReceivedMessage"]


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


class Log:
    """Commands and messages of all connections."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: list[ReceivedMessage] = []
        self._commands: list[list[str]] = []
        self._open = 0

    @property
    def messages(self) -> tuple[ReceivedMessage, ...]:
        """In the order of their dots."""
        with self._changed:
            return tuple(self._messages)

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """Of each connection."""
        with self._changed:
            return tuple(map(tuple, self._commands))

    @property
    def connections(self) -> tuple[int, int]:
        """How many there were, and how many there are."""
        with self._changed:
            return len(self._commands), self._open

    def connected(self) -> int:
        """A connection came; gives its number, counted from 1."""
        with self._changed:
            self._commands.append([])
            self._open += 1
            self._changed.notify_all()
            return len(self._commands)

    def disconnected(self) -> None:
        """A connection is closed."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def command(self, connection: int, line: str) -> None:
        """A line came."""
        with self._changed:
            self._commands[connection - 1].append(line)
            self._changed.notify_all()

    def message(self, message: ReceivedMessage) -> None:
        """A message came whole."""
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Look at the condition after each change; False if it does not come true in that time."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)
