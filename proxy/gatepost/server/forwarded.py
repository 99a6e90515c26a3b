"""What XFORWARD and XCLIENT say about the original client, and the session that results.

The commands are those of Postfix (https://www.postfix.org/XFORWARD_README.html, XCLIENT_README.html):
attributes ``NAME=value``, each value in xtext (RFC 3461 section 4) in which a raw ``=`` is allowed too.
"""

import re
from collections.abc import Mapping
from typing import Final

from gatepost.model import replies
from gatepost.model.mail import Session
from gatepost.printable import printable
from gatepost.server.clients import IPAddress, ip_address
from gatepost.server.replies import Refusal

__all__ = ["XCLIENT", "XFORWARD", "Facts", "forwarded", "parse_facts", "replaced"]

Facts = Mapping[str, str | None]
"""Values by the names of their attributes, in upper case; None for ``[UNAVAILABLE]``."""

XFORWARD: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")
XCLIENT: Final = ("NAME", "REVERSE_NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")

_XTEXT: Final = re.compile(r"(?:[!-*,-~]|\+[0-9A-Fa-f]{2})+")
_ENCODED: Final = re.compile(rb"\+([0-9A-Fa-f]{2})")
_IPV6: Final = "IPV6:"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]+")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_MAX_PORT: Final = 65535
_PROTOCOL: Final = re.compile(r"[!-~]{1,64}")
_SOURCE: Final = re.compile(r"LOCAL|REMOTE", re.IGNORECASE)
_UNKNOWN: Final = frozenset(("[UNAVAILABLE]", "[TEMPUNAVAIL]"))
_EXTENDED: Final = re.compile(r"(?:UTF8)?(?:ESMTP|SMTP(?=S|A)|LMTP)(S?)A?", re.IGNORECASE)
"""The protocol types of RFC 3848 and RFC 6531 that begin with EHLO or LHLO, and whether they use TLS."""


def parse_facts(argument: str, attributes: tuple[str, ...]) -> Facts:
    """Read the argument of the command that has these attributes; raises `Refusal` (501)."""
    facts: dict[str, str | None] = {}
    for word in argument.split(" "):
        name, _, encoded = word.partition("=")
        name = name.upper()
        if name not in attributes or name in facts:
            raise Refusal(replies.BAD_ATTRIBUTE)
        value = _decoded(encoded)
        if name == "HELO":  # Postfix passes on whatever a client has sent, a line separator for example
            value = printable(value, mark="?")
        facts[name] = None if value.upper() in _UNKNOWN else value
        if facts[name] is not None and not _is_valid(name, value):
            raise Refusal(replies.BAD_ATTRIBUTE)
    return facts


def _decoded(encoded: str) -> str:
    if not _XTEXT.fullmatch(encoded):
        raise Refusal(replies.BAD_ATTRIBUTE)
    octets = _ENCODED.sub(lambda found: bytes((int(found[1], 16),)), encoded.encode("ascii"))
    try:
        value = octets.decode()
    except UnicodeDecodeError:
        raise Refusal(replies.BAD_ATTRIBUTE) from None
    if _CONTROL.search(value):
        raise Refusal(replies.BAD_ATTRIBUTE)
    return value


def _is_valid(name: str, value: str) -> bool:
    match name:
        case "ADDR" | "DESTADDR":
            return _address(value) is not None
        case "PORT" | "DESTPORT":
            return _PORT.fullmatch(value) is not None and int(value) <= _MAX_PORT
        case "PROTO":
            return _PROTOCOL.fullmatch(value) is not None
        case "SOURCE":
            return _SOURCE.fullmatch(value) is not None
        case _:
            return value.isprintable()


def _address(value: str) -> IPAddress | None:
    """``192.0.2.1`` or ``IPV6:2001:db8::1``; the prefix may be missing. None if it is neither."""
    text = value[len(_IPV6) :] if value[: len(_IPV6)].upper() == _IPV6 else value
    if not _ADDRESS.fullmatch(text) or (text != value and ":" not in text):
        return None
    try:
        return ip_address(text)
    except ValueError:
        return None


def forwarded(session: Session, facts: Facts) -> Session:
    """The session as the original client's, for one transaction.

    Without an address the message comes from the source itself (XFORWARD_README, server operation), whose
    session is returned. Otherwise no fact of the source is mixed with those of the client: what was not said
    is unknown.
    """
    address = _address(facts.get("ADDR") or "")
    if address is None:
        return session
    kind = _EXTENDED.fullmatch(facts.get("PROTO") or "")
    return Session(
        id=session.id,
        client=address,
        client_port=int(facts.get("PORT") or 0),
        listener=session.listener,
        connected_at=session.connected_at,
        helo=facts.get("HELO") or "",
        extended=kind is not None,
        tls="TLS" if kind and kind[1] else None,
    )


def replaced(own: Session, facts: Facts) -> Session:
    """The session after XCLIENT: that of the source, ``own``, with the facts of the original client."""
    return Session(
        id=own.id,
        client=_address(facts.get("ADDR") or "") or own.client,
        client_port=int(facts.get("PORT") or 0),
        listener=own.listener,
        connected_at=own.connected_at,
        helo=facts.get("HELO") or "",
        extended=_EXTENDED.fullmatch(facts.get("PROTO") or "") is not None,
        tls=own.tls,
        authenticated=facts.get("LOGIN"),
    )
