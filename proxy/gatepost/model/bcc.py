"""Recipients that a message does not name: its blind copies (RFC 5322 section 3.6.3)."""

from collections.abc import Iterable
from typing import NamedTuple

from gatepost.mime import Header
from gatepost.mime.address_list import read_addresses
from gatepost.model.addresses import mailbox_key

__all__ = ["Named", "bcc", "named_mailboxes"]

_FIELDS_LIMIT = 32 << 10
"""Bytes: some 700 addresses with their names."""


class Named(NamedTuple):
    """The mailboxes that the To and Cc fields name."""

    mailboxes: frozenset[str]
    """As `gatepost.model.addresses.mailbox_key` writes them."""
    cut: bool
    """True if only the beginning of long fields was read."""


def named_mailboxes(headers: Iterable[Header]) -> Named:
    """Read all To and Cc fields, together at most 32 KiB of them."""
    mailboxes: set[str] = set()
    room, cut = _FIELDS_LIMIT, False
    for header in headers:
        if header.name.lower() not in ("to", "cc"):
            continue
        raw = header.raw
        if len(raw) > room:
            raw, cut = raw[:room].rpartition(b",")[0], True
        room -= len(raw)
        mailboxes.update(mailbox_key(entry.address or entry.name) for entry in read_addresses(raw))
    return Named(frozenset(mailboxes), cut)


def bcc(recipients: Iterable[str], named: Iterable[str]) -> tuple[str, ...]:
    """The forward-paths whose mailboxes are not among ``named``, in their order."""
    mailboxes = frozenset(named)
    return tuple([address for address in recipients if mailbox_key(address) not in mailboxes])
