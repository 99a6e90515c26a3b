"""What happens in an SMTP session, as typed events.

Every event has the time and the session's id. Its ``direction`` and its ``data`` are one line of the
conversation, as the store, the feed and a transcript write it; `event_of` returns the event of such a line.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import ClassVar, Final, Literal

from gatepost.traffic.oddity import Oddity
from gatepost.values import value

__all__ = [
    "Authenticated",
    "ClientNamed",
    "Closed",
    "CommandLine",
    "DataChunk",
    "Direction",
    "Event",
    "Odd",
    "ReplyLines",
    "ReplyNotSent",
    "SessionOpened",
    "TlsStarted",
    "TransactionBegan",
    "UnknownEvent",
    "event_of",
    "moment",
]

Direction = Literal["C", "D", "S", "*"]
"""A command of the client, its message data, a reply of the server, or something about the session."""


@value
class SessionOpened:
    """A client has connected and may speak (RFC 5321 section 3.1); the first event of every session."""

    direction: ClassVar[Direction] = "*"
    at: int
    """Microseconds since 1970-01-01 UTC, as in every event."""
    session_id: str
    client: IPv4Address | IPv6Address
    """Behind a trusted load balancer the address from its PROXY header."""
    client_port: int
    listener: str
    """The listener's address as written in the settings; empty where the line does not have it."""

    @property
    def data(self) -> bytes:
        """The line that is written of it."""
        to = f" to {self.listener}" if self.listener else ""
        return f"connected {self.client} {self.client_port}{to}".encode()


@value
class TlsStarted:
    """The TLS handshake has succeeded, at once or after STARTTLS (RFC 8314 section 3, RFC 3207)."""

    direction: ClassVar[Direction] = "*"
    at: int
    session_id: str
    version: str
    """For example ``TLSv1.3``."""

    @property
    def data(self) -> bytes:
        """The line that is written of it."""
        return f"tls {self.version}".encode()


@value
class Authenticated:
    """AUTH has succeeded (RFC 4954 section 4)."""

    direction: ClassVar[Direction] = "*"
    at: int
    session_id: str
    user: str

    @property
    def data(self) -> bytes:
        """The line that is written of it."""
        return b"authenticated " + self.user.encode("utf-8", "replace")


@value
class ClientNamed:
    """A trusted source has named the client that it speaks for, with XCLIENT, or at MAIL with XFORWARD."""

    direction: ClassVar[Direction] = "*"
    at: int
    session_id: str
    client: IPv4Address | IPv6Address
    client_port: int
    """0 if it was not named."""
    helo: str
    """The client's HELO name; empty if it was not named."""

    @property
    def data(self) -> bytes:
        """The line that is written of it."""
        return f"for {self.client} {self.client_port} {self.helo}".rstrip(" ").encode("utf-8", "replace")


@value
class TransactionBegan:
    """MAIL was accepted (RFC 5321 section 3.3); its positive reply follows."""

    direction: ClassVar[Direction] = "*"
    at: int
    session_id: str
    transaction_id: str

    @property
    def data(self) -> bytes:
        """The line that is written of it."""
        return f"transaction {self.transaction_id}".encode()


@value
class CommandLine:
    """A line of the client outside of message data: a command or a response of AUTH (RFC 5321 section 2.3.8).

    What AUTH keeps secret is ``********``.
    """

    direction: ClassVar[Direction] = "C"
    at: int
    session_id: str
    data: bytes
    """With its line end."""


@value
class DataChunk:
    """A piece of message data as received, with transparency dots (RFC 5321 section 4.5.2, RFC 3030)."""

    direction: ClassVar[Direction] = "D"
    at: int
    session_id: str
    data: bytes
    """Of any size, and cut anywhere; the last piece of DATA ends with the line of one dot."""


@value
class ReplyLines:
    """A whole reply of the server, with all its lines (RFC 5321 section 4.2)."""

    direction: ClassVar[Direction] = "S"
    at: int
    session_id: str
    data: bytes
    """With CRLF behind each line."""


@value
class ReplyNotSent:
    """A reply that a filter kept back; the connection is closed instead (`ReplyTiming.drop`)."""

    direction: ClassVar[Direction] = "*"
    at: int
    session_id: str
    reply: bytes
    """Without its last CRLF."""

    @property
    def data(self) -> bytes:
        """The line that is written of it."""
        return b"not sent " + self.reply


@value
class Odd:
    """The last command was accepted although a strict server refuses it; no RFC allows it."""

    direction: ClassVar[Direction] = "*"
    at: int
    session_id: str
    oddity: Oddity

    @property
    def data(self) -> bytes:
        """The line that is written of it."""
        return b"odd " + self.oddity.encode()


@value
class Closed:
    """The session is over, whatever ended it (RFC 5321 section 3.8); its last event."""

    direction: ClassVar[Direction] = "*"
    at: int
    session_id: str

    @property
    def data(self) -> bytes:
        """The line that is written of it."""
        return b"closed"


@value
class UnknownEvent:
    """A stored or transmitted line about the session that no other event is written as."""

    direction: ClassVar[Direction] = "*"
    at: int
    session_id: str
    data: bytes


Event = (
    SessionOpened
    | TlsStarted
    | Authenticated
    | ClientNamed
    | TransactionBegan
    | CommandLine
    | DataChunk
    | ReplyLines
    | ReplyNotSent
    | Odd
    | Closed
    | UnknownEvent
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OF_OCTETS: Final[dict[str, Callable[..., Event]]] = {"C": CommandLine, "D": DataChunk, "S": ReplyLines}


def event_of(*, at: int, session_id: str, direction: Direction, data: bytes) -> Event:
    """The event that was written as this line; raises KeyError for a direction that does not exist."""
    if direction != "*":
        return _OF_OCTETS[direction](at=at, session_id=session_id, data=data)
    with suppress(ValueError):
        event = _about_the_session(at, session_id, data)
        if event and event.data == data:
            return event
    return UnknownEvent(at=at, session_id=session_id, data=data)  # cut off, or of another version


def _about_the_session(at: int, session_id: str, data: bytes) -> Event | None:
    word, _, rest = data.decode().partition(" ")
    match word:
        case "connected":
            address, _, listener = rest.partition(" to ")
            client, port = address.split(" ")
            return SessionOpened(
                at=at,
                session_id=session_id,
                client=ip_address(client),
                client_port=int(port),
                listener=listener,
            )
        case "tls":
            return TlsStarted(at=at, session_id=session_id, version=rest)
        case "authenticated":
            return Authenticated(at=at, session_id=session_id, user=rest)
        case "for":
            client, port, *helo = rest.split(" ", 2)
            return ClientNamed(
                at=at,
                session_id=session_id,
                client=ip_address(client),
                client_port=int(port),
                helo="".join(helo),
            )
        case "transaction":
            return TransactionBegan(at=at, session_id=session_id, transaction_id=rest)
        case "odd":
            return Odd(at=at, session_id=session_id, oddity=Oddity(rest))
        case "not":
            return ReplyNotSent(at=at, session_id=session_id, reply=rest.removeprefix("sent ").encode())
        case "closed":
            return Closed(at=at, session_id=session_id)
        case _:
            return None


def moment(microseconds: int) -> datetime:
    """The time of an event, aware, UTC; raises OverflowError past the year 9999."""
    return _EPOCH + timedelta(microseconds=microseconds)
