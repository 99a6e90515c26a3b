"""Macros: what a milter may know of a session besides the commands, in Sendmail's names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gatepost import Envelope, Recipient, Session

__all__ = ["Macros"]

_USUAL: Final[Mapping[bytes, tuple[str, ...]]] = {
    b"C": ("j", "{daemon_name}", "{daemon_addr}", "v", "_"),
    b"H": ("{tls_version}",),
    b"M": ("i", "{auth_type}", "{auth_authen}", "{mail_addr}", "{mail_host}", "{mail_mailer}"),
    b"R": ("i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"),
    b"T": ("i",),
    b"N": ("i",),
    b"E": ("i",),
}
"""Those of Postfix, before a command; a milter may ask for others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Macros:
    """The values of macros; a milter gets those of them that it asks for."""

    hostname: str
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Values that the settings give, instead of others."""

    def usual(self, command: bytes) -> tuple[str, ...]:
        """The names of those that are sent before a command if the milter has not named any."""
        return (*_USUAL.get(command, ()), *(self.fixed if command == b"C" else ()))

    def connect(self, session: Session, name: str) -> dict[str, str]:
        """Of a client with this name."""
        host, _, port = session.listener.rpartition(":")
        return {
            "j": self.hostname,
            "v": "Gatepost",
            "_": f"{name} [{session.client}]",
            "{daemon_name}": self.hostname,
            "{daemon_addr}": host.strip("[]"),
            "{daemon_port}": port,
            "{client_addr}": str(session.client),
            "{client_name}": name,
            "{client_port}": str(session.client_port),
            "{client_resolve}": "FAIL" if name == "unknown" else "OK",
            **self.fixed,
        }

    def helo(self, session: Session) -> dict[str, str]:
        """Of EHLO or HELO."""
        return {"{tls_version}": session.tls or "", **self.fixed}

    def mail(self, session: Session, envelope: Envelope, transaction_id: str) -> dict[str, str]:
        """Of MAIL. The mechanism of AUTH is not known to filters; milters ask whether there was one."""
        return {
            "i": transaction_id,
            "{auth_type}": "PLAIN" if session.authenticated else "",
            "{auth_authen}": session.authenticated or "",
            "{mail_addr}": envelope.mail_from,
            "{mail_host}": envelope.mail_from.rpartition("@")[2],
            "{mail_mailer}": "smtp",
            **self.fixed,
        }

    def rcpt(self, recipient: Recipient, transaction_id: str) -> dict[str, str]:
        """Of RCPT."""
        return {
            "i": transaction_id,
            "{rcpt_addr}": recipient.address,
            "{rcpt_host}": recipient.domain,
            "{rcpt_mailer}": "smtp",
            **self.fixed,
        }

    def message(self, transaction_id: str) -> dict[str, str]:
        """Of the commands about the message."""
        return {"i": transaction_id, **self.fixed}
