"""What a server behind is told of the original client: XFORWARD, XCLIENT or a PROXY header.

XFORWARD and XCLIENT are those of Postfix (https://www.postfix.org/XFORWARD_README.html, XCLIENT_README.html).
Values are in xtext (RFC 3461 section 4), so that no client can add an attribute or a line. The header is
version 1 of the PROXY protocol (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt).
"""

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from gatepost.config.relay import UpstreamServer
from gatepost.model.mail import Session

__all__ = [
    "before_mail",
    "client_of_connection",
    "helo_of",
    "proxy_header",
    "xclient_command",
    "xforward_commands",
]

_UNKNOWN: Final = "[UNAVAILABLE]"
_VALUE_LIMIT: Final = 255
_LINE_LIMIT: Final = 512 - len("\r\n")
_HELO: Final = re.compile(r"[A-Za-z0-9._-]{1,255}|\[[A-Za-z0-9:.]{1,64}\]")


def client_of_connection(server: UpstreamServer, session: Session | None) -> Session | None:
    """The client that a connection to this server belongs to; None if it serves any number of clients."""
    return session if server.send_client in ("xclient", "proxy") else None


def before_mail(
    server: UpstreamServer | None, extensions: Mapping[str, str], session: Session | None, transaction_id: str
) -> Sequence[bytes]:
    """The commands before MAIL of this client's transaction; ``extensions`` are those of the server."""
    if session is None or server is None or server.send_client != "xforward":
        return ()
    return xforward_commands(extensions.get("XFORWARD", ""), session, transaction_id)


def xforward_commands(announced: str, session: Session, transaction_id: str) -> Sequence[bytes]:
    """XFORWARD as often as it takes; ``announced`` is its argument in the reply to EHLO."""
    facts = {
        **_facts(session),
        "PROTO": session.protocol,
        "IDENT": transaction_id,
        "SOURCE": "LOCAL" if session.client.is_loopback else "REMOTE",
    }
    lines: list[str] = []
    for word in _words(announced, facts):
        if lines and len(lines[-1]) + len(" ") + len(word) <= _LINE_LIMIT:
            lines[-1] += f" {word}"
        else:
            lines.append(f"XFORWARD {word}")
    return [f"{line}\r\n".encode("ascii") for line in lines]


def xclient_command(announced: str, session: Session, *, login: bool) -> bytes | None:
    """The command without its line end; None if the server cannot be told the address.

    ``announced`` is the argument of XCLIENT in the reply to EHLO; ``login``: send the client's login too.
    """
    facts = {**_facts(session), "PROTO": "ESMTP" if session.extended else "SMTP"}
    if login and session.authenticated and len(_xtext(session.authenticated, 1 << 16)) <= _VALUE_LIMIT:
        facts["LOGIN"] = session.authenticated
    words = _words(announced, facts)
    if not any(word.startswith("ADDR=") for word in words):
        return None
    return " ".join(("XCLIENT", *words)).encode("ascii")


def helo_of(session: Session, hostname: str) -> str:
    """The name for EHLO once the server was told of the client: the client's, for which servers take it.

    The hostname if the client's is not a name or an address literal.
    """
    return session.helo if _HELO.fullmatch(session.helo) else hostname


def proxy_header(client: tuple[str, int], server: tuple[str, int]) -> bytes:
    """The header with which a connection begins; ``server`` is the address that was connected to."""
    source, destination = _address(client[0]), _address(server[0])
    if source.version != destination.version:  # both are of one family; the client's is what matters
        destination = ip_address("0.0.0.0" if source.version == 4 else "::")
    family = "TCP4" if source.version == 4 else "TCP6"
    return f"PROXY {family} {source} {destination} {client[1]} {server[1]}\r\n".encode("ascii")


def _address(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text.partition("%")[0])


def _facts(session: Session) -> Mapping[str, str]:
    client = session.client
    return {
        "NAME": _UNKNOWN,  # the name that was found for the address; what is not said stays the gateway's
        "REVERSE_NAME": _UNKNOWN,
        "ADDR": f"IPV6:{client}" if client.version == 6 else str(client),
        "PORT": str(session.client_port or _UNKNOWN),
        "HELO": session.helo or _UNKNOWN,
    }


def _words(announced: str, facts: Mapping[str, str]) -> list[str]:
    """``NAME=value`` for each attribute that the server knows and that is a fact, in the server's order."""
    names = dict.fromkeys(announced.upper().split())
    return [f"{name}={_xtext(facts[name], _VALUE_LIMIT)}" for name in names if name in facts]


def _xtext(value: str, limit: int) -> str:
    """The value in xtext, cut off after a whole character."""
    encoded = ""
    for character in value:
        piece = "".join(
            chr(octet) if 32 < octet < 127 and octet not in b"+=" else f"+{octet:02X}"
            for octet in character.encode("utf-8", "replace")
        )
        if len(encoded) + len(piece) > limit:
            break
        encoded += piece
    return encoded
