"""The nouns: what a client said and sent, as immutable values.

The terms are those of RFC 5321 and RFC 5598: a *session* is one connection, a *transaction* is one
reverse-path, its forward-paths and one message.
"""

import os
from dataclasses import field
from datetime import datetime
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from random import getrandbits
from time import time_ns

from gatepost.addresses import mailbox
from gatepost.mime import MimeView, read_message
from gatepost.values import value

__all__ = ["Envelope", "Message", "Recipient", "Session", "Stage", "Transaction", "new_id"]

_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_PAIRS = [first + second for first in _ID_ALPHABET for second in _ID_ALPHABET]


class _Numbers:
    """Numbers of which no two are the same in one process, and hardly any in two."""

    def __init__(self) -> None:
        self.begin()
        os.register_at_fork(after_in_child=self.begin)

    def begin(self) -> None:
        self.next = count(getrandbits(30)).__next__


_numbers = _Numbers()


def new_id() -> str:
    """A new identifier of 16 characters: 50 bits of milliseconds since 1970, then a 30-bit counter.

    Identifiers sort by time and are safe in file names, header fields and URLs. They are no secrets.
    """
    number = _numbers.next()
    return (
        _milliseconds(time_ns() // 1_000_000)
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )


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
    """How far a session has come; each stage knows all that the ones before it know."""

    CONNECT = 1
    HELO = 2
    MAIL = 3
    RCPT = 4
    MESSAGE = 5


@value
class Session:
    """One SMTP connection, as it stands now."""

    id: str
    client: IPv4Address | IPv6Address
    """The client's address; the one that the PROXY header names where the source is trusted."""
    client_port: int
    listener: str
    """The listener's address as written in the settings, for example ``127.0.0.1:2525``."""
    connected_at: datetime
    """Aware, UTC."""
    helo: str = ""
    """The argument of EHLO or HELO, as given; empty before it."""
    extended: bool = False
    """True after EHLO, false after HELO."""
    tls: str | None = None
    """The TLS version in use, for example ``TLSv1.3``; None on a plain connection."""
    authenticated: str | None = None
    """The user name that AUTH (RFC 4954) established; None without."""

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
    """What stood between the angle brackets, unchanged: quoting, case and UTF-8 as received."""
    parameters: tuple[str, ...] = ()
    """The RCPT parameters as received, for example ``NOTIFY=NEVER``."""

    @property
    def local_part(self) -> str:
        """All before the last ``@``, as received."""
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

    def parameter(self, keyword: str) -> str | None:
        """The value of a MAIL parameter, ``""`` where it has none, None where it is absent."""
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
        """The octets that the client announced with SIZE= (RFC 1870); None where it did not, or no number."""
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
    """The message as received: the bytes are the truth, everything else is a view of them."""

    content: bytes
    """Header section and body after removal of the transparency dots; nothing re-serialises it."""
    _view: list[MimeView] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def view(self) -> MimeView:
        """Headers, subject, texts and attachments, decoded; read at the first use and kept.

        Never raises: of a message that cannot be parsed it shows what can be found in the raw
        bytes, and says so in ``view.warnings``.
        """
        if not self._view:
            self._view.append(read_message(self.content))
        return self._view[0]

    @property
    def header_section(self) -> bytes:
        """The octets before the first empty line, with their last line end."""
        content = self.content
        if content.startswith((b"\r\n", b"\n")):
            return b""
        end = content.find(b"\n\r\n")
        bare = content.find(b"\n\n", 0, end if end >= 0 else len(content))
        if bare >= 0:
            end = bare
        return content if end < 0 else content[: end + 1]


@value
class Transaction:
    """One mail transaction, complete: what a filter is asked about."""

    id: str
    session: Session
    envelope: Envelope
    message: Message
    received_at: datetime
    """When the last octet of the message was read; aware, UTC."""
