"""MAIL and RCPT for upstream: what the client said, as far as this upstream can keep it."""

from collections.abc import Mapping

from gatepost.mail import Envelope, Recipient
from gatepost.verdict import Reply

__all__ = ["NO_SMTPUTF8", "mail_command", "mail_obstacle", "rcpt_command", "rcpt_obstacle"]

_TRACE_OCTETS = 1024
"""Room in SIZE= for the fields that are put before the message."""

_TOO_LARGE = Reply(code=552, enhanced="5.3.4", text="Message too large for its destination")
NO_SMTPUTF8 = Reply(code=550, enhanced="5.6.7", text="The destination does not take internationalised mail")
_NO_DSN = Reply(code=451, enhanced="4.3.5", text="Delivery status notifications are not available now")


def mail_obstacle(extensions: Mapping[str, str], envelope: Envelope, size: int | None) -> Reply | None:
    """Why an upstream with these extensions cannot take the transaction; None if it can.

    SMTPUTF8 is no obstacle where the addresses are ASCII: whether the message needs it is seen when it is
    here (RFC 6531 section 3.2).

    Args:
        extensions: keyword -> argument.
        envelope: as the client gave it.
        size: of the message in octets, as known by now; None: unknown.
    """
    if size:
        limit = extensions.get("SIZE", "")
        if limit.isascii() and limit.isdigit() and 0 < int(limit) < size:
            return _TOO_LARGE
    if "SMTPUTF8" not in extensions and not envelope.mail_from.isascii():
        return NO_SMTPUTF8
    wants_dsn = envelope.parameters and (envelope.parameter("RET") or envelope.parameter("ENVID"))
    return _NO_DSN if wants_dsn and "DSN" not in extensions else None


def rcpt_obstacle(extensions: Mapping[str, str], recipient: Recipient) -> Reply | None:
    """Why an upstream with these extensions cannot take the recipient; None if it can."""
    if not recipient.address.isascii() and "SMTPUTF8" not in extensions:
        return NO_SMTPUTF8
    return _NO_DSN if recipient.parameters and "DSN" not in extensions else None


def mail_command(extensions: Mapping[str, str], envelope: Envelope, size: int | None) -> bytes:
    """MAIL with the parameters that upstream knows; ``size``: the message's, None while it is not here."""
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
            case "AUTH":  # nobody is vouched for (RFC 4954 section 5)
                if "AUTH" in extensions:
                    parameters.append("AUTH=<>")
            case "SMTPUTF8":  # without it the message is one that does not need it
                if "SMTPUTF8" in extensions:
                    parameters.append(parameter)
            case _:
                parameters.append(parameter)
    return _command(f"MAIL FROM:<{envelope.mail_from}>", *parameters)


def rcpt_command(extensions: Mapping[str, str], recipient: Recipient) -> bytes:
    """RCPT with its parameters; ORCPT in its ASCII form where upstream has no SMTPUTF8."""
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
