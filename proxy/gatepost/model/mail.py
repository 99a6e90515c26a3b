"""Session, envelope, message and transaction: what a client sent, as immutable values.

The terms are those of RFC 5321 and RFC 5598: a *session* is one connection, a *transaction* is one
reverse-path, its forward-paths and one message.
"""

import os
import re
from dataclasses import field
from datetime import datetime
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from random import getrandbits
from time import time_ns

from gatepost.mime import MimeView, read_message
from gatepost.mime.fields import header_section_end
from gatepost.model.addresses import mailbox
from gatepost.values import value

__all__ = ["Envelope", "Message", "Recipient", "Session", "Stage", "Transaction", "is_id", "new_id"]

_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_ID = re.compile(f"[{_ID_ALPHABET}]{{16}}")
_PAIRS = [first + second for first in _ID_ALPHABET for second in _ID_ALPHABET]


class _Numbers:
    """Numbers that are unique within one process and very probably across processes."""

    def __init__(self) -> None:
        self.begin()
        os.register_at_fork(after_in_child=self.begin)

    def begin(self) -> None:
        self.next = count(getrandbits(30)).__next__


_numbers = _Numbers()


def new_id() -> str:
    """A new identifier of 16 characters: 50 bits of milliseconds since 1970, then a 30-bit counter.

    Identifiers sort by time and are safe in file names, header fields and URLs. They are not secret.
    """
    number = _numbers.next()
    return (
        _milliseconds(time_ns() // 1_000_000)
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )


def is_id(text: str) -> bool:
    """True if a text is written like an identifier, in upper or lower case."""
    return _ID.fullmatch(text.lower()) is not None


@lru_cache(maxsize=1)
def _milliseconds(number: int) -> str:
    return (
        _PAIRS[number >> 40 & 1023]
        + _PAIRS[number >> 30 & 1023]
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )


class Stage(IntEnum):
    """How far a session has come; at each stage everything from the earlier ones is known."""

    CONNECT = 1
    """The client is connected: its address is known."""
    HELO = 2
    """EHLO or HELO was sent."""
    MAIL = 3
    """MAIL was sent: reverse-path and parameters; AUTH and TLS are known too."""
    RCPT = 4
    """RCPT was sent, once for each recipient."""
    MESSAGE = 5
    """The message is complete."""


@value
class Session:
    """One SMTP connection, in its current state."""

    id: str
    """The session's identifier, 16 characters; sorts by time."""
    client: IPv4Address | IPv6Address
    """The client's address: of the connection, or the one that a trusted source has named.

    A source is trusted by ``proxy_protocol_from``, ``xforward_from`` or ``xclient_from`` of the listener.
    """
    client_port: int
    """The client's TCP port; 0 if a trusted source has not named it."""
    listener: str
    """The listener's address as written in the settings, for example ``127.0.0.1:2525``."""
    connected_at: datetime
    """Aware, UTC."""
    helo: str = ""
    """The argument of EHLO or HELO, as received; empty before it."""
    extended: bool = False
    """True after EHLO, false after HELO."""
    tls: str | None = None
    """The TLS version in use, for example ``TLSv1.3``; None on a plain connection.

    ``TLS`` if a trusted source has named only the protocol ESMTPS. With XFORWARD it is otherwise None.
    """
    authenticated: str | None = None
    """The user name from AUTH (RFC 4954) or XCLIENT; None if the client has not authenticated."""
    early_talker: bool = False
    """True from EHLO on if the client has not waited for the greeting (RFC 5321 section 4.3.1)."""

    @property
    def protocol(self) -> str:
        """The protocol type for the Received field (RFC 3848): SMTP, ESMTP, ESMTPS, ESMTPSA, ..."""
        if not self.extended:
            return "SMTP"
        return f"ESMTP{'S' if self.tls else ''}{'A' if self.authenticated else ''}"


@value
class Recipient:
    """One forward-path (RFC 5321 section 4.1.1.3)."""

    address: str
    """The text between the angle brackets, unchanged: quoting, case and UTF-8 as received."""
    parameters: tuple[str, ...] = ()
    """The RCPT parameters as received, for example ``NOTIFY=NEVER``."""

    @property
    def local_part(self) -> str:
        """Everything before the last ``@``, as received."""
        local, at, domain = self.address.rpartition("@")
        return local if at else domain

    @property
    def domain(self) -> str:
        """The domain as rules compare it; empty for the bare ``postmaster``.

        It is in lower case, in A-labels (``xn--bcher-kva.example`` for ``Bücher.example``) and without a
        trailing dot.
        """
        return mailbox(self.address).domain


@value
class Envelope:
    """The reverse-path and the forward-paths accepted so far."""

    mail_from: str
    """The reverse-path without its brackets, unchanged; empty for the null reverse-path ``<>``."""
    parameters: tuple[str, ...] = ()
    """The MAIL parameters as received, for example ``SIZE=1000`` or ``BODY=8BITMIME``."""
    recipients: tuple[Recipient, ...] = ()
    """Those accepted so far, in the client's order."""

    def parameter(self, keyword: str) -> str | None:
        """The value of a MAIL parameter, ``""`` if it has no value, None if it is absent."""
        if not self.parameters:
            return None
        wanted = keyword.upper()
        for parameter in self.parameters:
            name, _, value = parameter.partition("=")
            if name.upper() == wanted:
                return value
        return None

    @property
    def declared_size(self) -> int | None:
        """The size in bytes from SIZE= (RFC 1870); None if it is absent or not a number."""
        value = self.parameters and self.parameter("SIZE")
        try:
            return int(value) if value else None
        except ValueError:
            return None

    @property
    def smtputf8(self) -> bool:
        """True if the client asked for SMTPUTF8 (RFC 6531)."""
        return bool(self.parameters) and self.parameter("SMTPUTF8") is not None


@value
class Message:
    """The message as received; everything but the bytes is computed from them."""

    content: bytes
    """Header section and body after removal of the transparency dots; never re-serialised."""
    _view: list[MimeView] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def view(self) -> MimeView:
        """Headers, subject, texts and attachments, decoded; computed at the first use and cached.

        Never raises: for a message that cannot be parsed it contains what can be found in the raw bytes, and
        ``view.warnings`` says so.
        """
        if not self._view:
            self._view.append(read_message(self.content))
        return self._view[0]

    @property
    def header_section(self) -> bytes:
        """The bytes before the first empty line, with their last line end."""
        return self.content[: header_section_end(self.content)]


@value
class Transaction:
    """One complete mail transaction; the argument of `filter_message`."""

    id: str
    """The transaction's identifier, as in the journal, the log and the Received field."""
    session: Session
    """The session as it is when the message is complete."""
    envelope: Envelope
    """The reverse-path, and the recipients that were accepted."""
    message: Message
    """The message as received."""
    received_at: datetime
    """When the last byte of the message was read; aware, UTC."""
