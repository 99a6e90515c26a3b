"""MAIL and RCPT for upstream: what the client said, as far as this upstream can keep it."""

from proxy.mail import Envelope, Recipient
from proxy.relay.connection import Connection
from proxy.verdict import Reply

__all__ = ["TRACE_OCTETS", "mail_command", "rcpt_command", "unfit"]

TRACE_OCTETS = 1024
"""Room in SIZE= for the fields that are put before the message."""

_TOO_LARGE = Reply(code=552, enhanced="5.3.4", text="Message too large for its destination")
_NO_SMTPUTF8 = Reply(code=550, enhanced="5.6.7", text="The destination does not take internationalised mail")
_NO_DSN = Reply(code=451, enhanced="4.3.5", text="Delivery status notifications are not available now")
_DSN_MAIL = ("RET", "ENVID")


def unfit(connection: Connection, envelope: Envelope, recipient: Recipient, size: int | None) -> Reply | None:
    """Why this upstream cannot take the transaction as the client wants it; None if it can."""
    extensions = connection.extensions
    limit = extensions.get("SIZE", "")
    if size and limit.isascii() and limit.isdigit() and 0 < int(limit) < size:
        return _TOO_LARGE
    if envelope.smtputf8 and "SMTPUTF8" not in extensions:
        return _NO_SMTPUTF8
    wants_dsn = recipient.parameters or any(envelope.parameter(name) is not None for name in _DSN_MAIL)
    return _NO_DSN if wants_dsn and "DSN" not in extensions else None


def mail_command(connection: Connection, envelope: Envelope) -> bytes:
    """MAIL with the parameters that upstream knows."""
    parameters = []
    for parameter in envelope.parameters:
        match parameter.partition("=")[0].upper():
            case "SIZE":
                if "SIZE" in connection.extensions:
                    parameters.append(f"SIZE={(envelope.declared_size or 0) + TRACE_OCTETS}")
            case "BODY":
                if "8BITMIME" in connection.extensions:
                    parameters.append(parameter)
            case "AUTH":  # nobody is vouched for (RFC 4954 section 5)
                if "AUTH" in connection.extensions:
                    parameters.append("AUTH=<>")
            case _:
                parameters.append(parameter)
    return " ".join((f"MAIL FROM:<{envelope.mail_from}>", *parameters)).encode("utf-8") + b"\r\n"


def rcpt_command(recipient: Recipient) -> bytes:
    """RCPT with its parameters."""
    return " ".join((f"RCPT TO:<{recipient.address}>", *recipient.parameters)).encode("utf-8") + b"\r\n"
