"""MAIL and RCPT for upstream: the client's parameters that this server supports."""

from collections.abc import Mapping

from gatepost.model import replies
from gatepost.model.mail import Envelope, Recipient
from gatepost.model.verdict import Reply

__all__ = ["mail_command", "mail_obstacle", "rcpt_command", "rcpt_obstacle"]

_TRACE_OCTETS = 1024
"""Bytes added to SIZE= for the header fields that Gatepost adds at the top."""


def mail_obstacle(extensions: Mapping[str, str], envelope: Envelope, size: int | None) -> Reply | None:
    """The refusal if an upstream with these extensions cannot accept the transaction; None if it can.

    SMTPUTF8 is not required if the addresses are ASCII: whether the message needs it is checked after it was
    received (RFC 6531 section 3.2).

    Args:
        extensions: the argument of each keyword.
        envelope: as received from the client.
        size: of the message in bytes, declared or actual; None: unknown.
    """
    if size:
        limit = extensions.get("SIZE", "")
        if limit.isascii() and limit.isdigit() and 0 < int(limit) < size:
            return replies.TOO_LARGE_UPSTREAM
    if "SMTPUTF8" not in extensions and not envelope.mail_from.isascii():
        return replies.NO_SMTPUTF8
    wants_dsn = envelope.parameters and (envelope.parameter("RET") or envelope.parameter("ENVID"))
    return replies.NO_DSN if wants_dsn and "DSN" not in extensions else None


def rcpt_obstacle(extensions: Mapping[str, str], recipient: Recipient) -> Reply | None:
    """The refusal if an upstream with these extensions cannot accept the recipient; None if it can."""
    if not recipient.address.isascii() and "SMTPUTF8" not in extensions:
        return replies.NO_SMTPUTF8
    return replies.NO_DSN if recipient.parameters and "DSN" not in extensions else None


def mail_command(extensions: Mapping[str, str], envelope: Envelope, size: int | None) -> bytes:
    """MAIL with the parameters that upstream supports; ``size`` is None until the message was received."""
    parameters = []
    if size is None and envelope.declared_size is not None:
        size = envelope.declared_size + _TRACE_OCTETS
    if size is not None and "SIZE" in extensions:
        parameters.append(f"SIZE={size}")
    for parameter in envelope.parameters:
        match parameter.partition("=")[0].upper():
            case "SIZE":
                pass
            case "BODY":
                if "8BITMIME" in extensions:
                    parameters.append(parameter)
            case "AUTH":  # the client's identity is not passed on (RFC 4954 section 5)
                if "AUTH" in extensions:
                    parameters.append("AUTH=<>")
            case "SMTPUTF8":  # if not supported, `Delivery` checks that the message does not need it
                if "SMTPUTF8" in extensions:
                    parameters.append(parameter)
            case _:
                parameters.append(parameter)
    return _command(f"MAIL FROM:<{envelope.mail_from}>", *parameters)


def rcpt_command(extensions: Mapping[str, str], recipient: Recipient) -> bytes:
    """RCPT with its parameters; ORCPT in its ASCII form if upstream has no SMTPUTF8."""
    parameters = recipient.parameters
    if parameters and "SMTPUTF8" not in extensions:
        parameters = tuple(map(_as_xtext, parameters))
    return _command(f"RCPT TO:<{recipient.address}>", *parameters)


def _as_xtext(parameter: str) -> str:
    r"""As utf-8-addr-xtext (RFC 6533 section 3): ``ü`` becomes ``\x{FC}``."""
    if parameter.isascii():
        return parameter
    return "".join(one if one.isascii() else f"\\x{{{ord(one):X}}}" for one in parameter)


def _command(*words: str) -> bytes:
    return " ".join(words).encode("utf-8", "surrogateescape") + b"\r\n"
