"""The plan for one message, and the result for each recipient."""

from enum import Enum
from operator import attrgetter
from typing import Protocol

from gatepost.model.edits import Edit
from gatepost.model.mail import Recipient
from gatepost.model.record import Disposition
from gatepost.model.verdict import Outcome, Reply, ReplyTiming
from gatepost.values import value

__all__ = [
    "Destination",
    "Local",
    "Parcel",
    "Plan",
    "RecipientOutcome",
    "RecipientResult",
    "Refused",
    "Server",
]

_RECIPIENT = attrgetter("recipient")


class Server(Protocol):
    """An upstream server as a plan names it; in the settings it is an `UpstreamServer`."""

    @property
    def host(self) -> str:
        """Its name or address."""

    @property
    def port(self) -> int:
        """Its TCP port."""


class Local(Enum):
    """A destination inside the gateway."""

    INBOX = Disposition.INBOX
    QUARANTINE = Disposition.QUARANTINED
    DISCARD = Disposition.DISCARDED

    def __init__(self, disposition: Disposition) -> None:
        self.disposition = disposition
        """The disposition of a recipient whose message went here."""


@value
class Refused:
    """The message is refused; the client keeps it."""

    reply: Reply
    """4xx or 5xx."""


Destination = tuple[Server, ...] | Local | Refused
"""Where a parcel goes; a tuple holds the servers of a route, which are tried in order."""


@value
class RecipientOutcome:
    """A recipient of the client's transaction, and its outcome."""

    recipient: Recipient
    outcome: Outcome


@value
class Parcel:
    """Recipients who get the same bytes at the same destination."""

    destination: Destination
    mail_from: str
    """The reverse-path without its brackets; empty for the null reverse-path ``<>``."""
    outcomes: tuple[RecipientOutcome, ...]
    """At least one."""
    edits: tuple[Edit, ...] = ()
    fields: bytes = b""
    """Header fields to put before the edited message, for example a signature of it."""
    rule: str | None = None
    """The name of the rule that is stored with a copy in quarantine."""
    reason: str = ""
    """The reason of that rule's verdict."""

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """The forward-paths of the parcel, in the client's order."""
        return tuple(map(_RECIPIENT, self.outcomes))


@value
class Plan:
    """What is to be done with one message: each recipient is in exactly one parcel.

    Raises ValueError if only a part of the message is refused: there is one reply to the end of data, which
    cannot express a partial failure (RFC 5321 section 4.1.1.4).
    """

    recipients: tuple[Recipient, ...]
    """All recipients, in the client's order; the results have the same order."""
    parcels: tuple[Parcel, ...]
    """At least one. Those for servers are sent in this order; the client gets the first one's reply."""
    timing: ReplyTiming | None = None
    """How the reply to the client is sent; None: at once and whole."""

    def __post_init__(self) -> None:
        if self.parcels[1:] and any(isinstance(parcel.destination, Refused) for parcel in self.parcels):
            raise ValueError("a part of a message cannot be refused while another part is not")


@value
class RecipientResult:
    """What became of the message for one recipient."""

    recipient: Recipient
    outcome: Outcome
    disposition: Disposition
    reply: Reply | None
    """The reply to the end of data for this recipient; None if no reply is sent."""
