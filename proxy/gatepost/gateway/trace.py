"""The Received field that this server puts before a message (RFC 5321 section 4.4)."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from gatepost.model.mail import Transaction

__all__ = ["received_field"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_LITERAL = re.compile(r"\[[A-Za-z0-9.:-]{1,64}\]")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]|(?<![^.])\.|\.(?=\.)")
_ATOM = r'[^\x00- "(),.:;<>@[\\\]\x7f-\xa0]+'
"""Atext (RFC 5322 section 3.2.3, RFC 6532) as what is not in it: `re` is slow to compile great ranges."""
_PATH = re.compile(
    rf"""(?:{_ATOM}(?:\.{_ATOM})*|"(?:[^\x00-\x1f\x7f-\xa0"\\]|\\[ -~])*")@"""
    rf"(?:{_ATOM}(?:\.{_ATOM})*|\[[A-Za-z0-9.:-]+\])|(?ai:postmaster)",
)
"""The addresses that may follow FOR (RFC 5321 section 4.4); others would break the field's syntax."""


def received_field(transaction: Transaction, hostname: str, node: str = "") -> bytes:
    """The Received field that this server puts before the message, folded, with its line end.

    Args:
        transaction: the complete one.
        hostname: for the BY clause, whose domain is the name under which all nodes greet.
        node: the name of the node for the comment behind it; empty: there is none.
    """
    session, recipients = transaction.session, transaction.envelope.recipients
    smtputf8 = transaction.envelope.smtputf8
    recipient = _for(recipients[0].address, smtputf8) if len(recipients) == 1 else ""
    protocol = f"UTF8{session.protocol.replace('E', '', 1)}" if smtputf8 else session.protocol
    server = f"Gatepost, node {node}" if node else "Gatepost"
    field = (
        f"Received: from {_origin(session.helo, session.client)}\r\n"
        f"\tby {hostname} ({server}) with {protocol} id {transaction.id}{recipient};\r\n"
        f"\t{_date((transaction.received_at - _EPOCH) // _SECOND)}\r\n"
    )
    return field.encode("utf-8")


@lru_cache(maxsize=1024)
def _for(address: str, smtputf8: bool) -> str:  # noqa: FBT001 - for the cache
    """The FOR clause for the only recipient; empty if its address is not allowed there."""
    if not _PATH.fullmatch(address) or not (smtputf8 or address.isascii()):
        return ""
    return f"\r\n\tfor <{address}>"


@lru_cache(maxsize=4)
def _date(seconds: int) -> str:
    """The date and time; cached by the second, since a datetime is slow to hash."""
    return format_datetime(_EPOCH + seconds * _SECOND)


@lru_cache(maxsize=256)
def _origin(helo: str, client: IPv4Address | IPv6Address) -> str:
    """The client's HELO name, with ``?`` for forbidden characters, and its address literal."""
    name = helo[:255]
    if not _LITERAL.fullmatch(name):
        name = _NOT_IN_A_NAME.sub("?", name) or "unknown"
    return f"{name} ([IPv6:{client}])" if client.version == 6 else f"{name} ([{client}])"
