"""The behaviours of a scripted server at a step of the conversation."""

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
    "connect",
    "ehlo",
    "helo",
    "starttls",
    "auth",
    "mail",
    "rcpt",
    "data",
    "bdat",
    "body",
    "dot",
    "rset",
    "quit",
]
"""``connect`` is the greeting, ``body`` comes with the first bytes of a message, ``dot`` is its end.

``bdat`` comes after the bytes of each chunk (RFC 3030) but the last one, which has ``body`` and ``dot``.
"""


@dataclass(frozen=True, slots=True)
class Usual:
    """The usual behaviour of a good server."""


@dataclass(frozen=True, slots=True)
class Close:
    """Closes the connection."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Ends the connection with a TCP reset."""


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Sends nothing more, but continues to read."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """Negotiates TLS; a script can send something else for ``starttls`` first."""


@dataclass(frozen=True, slots=True)
class Drip:
    """A reply byte by byte, with this many seconds between them."""

    reply: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Stall:
    """Waits for the time or until `FakeUpstream.release` is set; what follows is late."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True, init=False)
class Then:
    """One behaviour for each time that the step is reached, on any connection; afterwards the usual."""

    _left: list["Behaviour"] = field(default_factory=list)

    def __init__(self, *behaviours: "Behaviour") -> None:
        object.__setattr__(self, "_left", list(behaviours))

    def take(self) -> "Behaviour":
        """The next behaviour; None if there are no more."""
        return self._left.pop(0) if self._left else None


@dataclass(frozen=True, slots=True)
class OnConnection:
    """A behaviour for one connection, counted from 1; the usual on all others."""

    number: int
    behaviour: "Behaviour"


@dataclass(frozen=True, slots=True)
class OnTransaction:
    """A behaviour for one transaction of each connection, counted from 1; the usual in all others.

    The second transaction is the first on a reused connection.
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
"""What to do at a step.

- text: sent as a reply; write several lines in full: ``"550-No\\n550 not here"``
- bytes: sent as they are
- a list: one after the other, as in ``[Stall(), "250 late"]``
- a function: gets the command's argument and returns a behaviour
- None: the usual
"""
