"""What a scripted server can do at a step of the conversation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "Behaviour",
    "Close",
    "Drip",
    "HalfClose",
    "Handshake",
    "OnConnection",
    "OnTransaction",
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
class HalfClose:
    """Says nothing any more, and goes on reading."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """Negotiates TLS: with it, ``starttls`` can say what it likes before."""


@dataclass(frozen=True, slots=True)
class Drip:
    """A reply octet by octet, with so many seconds between them."""

    reply: str
    seconds: float


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

    def take(self) -> "Behaviour":
        """The next one; None when all were taken."""
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
    | HalfClose
    | Handshake
    | Drip
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
