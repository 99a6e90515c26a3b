"""Which journal records and which kept messages, as fields that each must match."""

from datetime import datetime

from gatepost.model.mail import is_id
from gatepost.model.record import Disposition
from gatepost.store.kept import Box, State
from gatepost.values import value

__all__ = ["JournalQuery", "KeptQuery", "cursor_id"]


def cursor_id(before: str) -> str:
    """The id before which a list continues where ``before`` is not stored, since ids sort by time.

    Empty, before which there is nothing, for text that is not an id.
    """
    return before.lower() if is_id(before) else ""


@value
class JournalQuery:
    """Which records; a field that is None matches all.

    ``*`` in an address, a client or a Message-ID matches any characters. The case of ASCII letters
    does not matter, but in a client and a Message-ID without ``*``. An address without ``*`` is also
    found where it was written with A-labels or U-labels, with quotes or without.
    """

    id: str | None = None
    """The transaction's, its session's, or that of a message that was kept from it."""
    client: str | None = None
    mail_from: str | None = None
    """Empty: the null reverse-path."""
    recipient: str | None = None
    address: str | None = None
    """The reverse-path or a forward-path."""
    session_id: str | None = None
    user: str | None = None
    """The name that AUTH established, or for which it failed; ``*`` matches any characters."""
    message_id: str | None = None
    rule: str | None = None
    """It decided for a recipient, refused the client, or hit and was only observed. Without ``*``."""
    disposition: Disposition | None = None
    """Of at least one recipient, or of a transaction that ended before RCPT."""
    since: datetime | None = None
    until: datetime | None = None
    domains: tuple[str, ...] | None = None
    """There are recipients, and all are in these domains, which are in lower-case A-labels."""
    node: str | None = None
    """The node that wrote it; ``*`` matches any characters."""


@value
class KeptQuery:
    """Which kept messages; a field that is None matches all. Patterns are those of `JournalQuery`."""

    id: str | None = None
    """The message's, its transaction's, or its session's while the journal has the transaction."""
    box: Box | None = None
    state: State | None = State.HELD
    transaction_id: str | None = None
    mail_from: str | None = None
    recipient: str | None = None
    subject: str | None = None
    """A pattern for the whole field as it was sent, not decoded."""
    message_id: str | None = None
    rule: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    domains: tuple[str, ...] | None = None
    """There are recipients, and all are in these domains, which are in lower-case A-labels."""
