"""Send a transaction over SMTP as its own client would: with its address, TLS and user."""

import smtplib
import socket
import ssl
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gatepost.config.listen import ListenerAuth, ListenerSettings, ListenerTls
from gatepost.model.mail import Session, Transaction
from gatepost.model.verdict import Reply
from gatepost.process.certificate import make_certificate

__all__ = ["believing_listener", "send"]

_LOOPBACK = "127.0.0.1"
_TLS_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def believing_listener(folder: Path) -> ListenerSettings:
    """A listener on a free port that believes everything `send` says of its client.

    It takes the address from a PROXY header, offers STARTTLS with a new certificate that is written into the
    folder, and accepts any user with any password.
    """
    certificate, key = make_certificate(folder)
    return ListenerSettings.model_validate(
        {
            "address": f"{_LOOPBACK}:0",
            "proxy_protocol_from": _LOOPBACK,
            "tls": ListenerTls(certificate=certificate, key=key),
            "auth": ListenerAuth(users="any", without_tls=True),
        }
    )


def send(address: tuple[str, int], transaction: Transaction, *, timeout_seconds: float) -> Reply:
    """Send one transaction to a `believing_listener`; returns the reply that ended it.

    Raises ValueError for a session that no client can have: TLS or a user after HELO, an unknown TLS version.
    """
    session, envelope = transaction.session, transaction.envelope
    _check(session)
    text: bytes | str
    try:
        with _Client(address, session, timeout_seconds) as smtp:
            smtp.command_encoding = "utf-8"
            code, text = _begin(smtp, session)
            if code in (235, 250):
                code, text = smtp.docmd(
                    "MAIL", " ".join((f"FROM:<{envelope.mail_from}>", *envelope.parameters))
                )
            if code == 250:
                answers = [
                    smtp.docmd("RCPT", " ".join((f"TO:<{recipient.address}>", *recipient.parameters)))
                    for recipient in envelope.recipients
                ]
                if any(code in (250, 251) for code, _ in answers):
                    answers = [smtp.data(transaction.message.content)]
                code, text = answers[-1] if answers else (code, text)
    except smtplib.SMTPResponseException as refused:
        code, text = refused.smtp_code, refused.smtp_error
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    reply = Reply.parse(f"{code} {said}")
    return replace(reply, text=reply.text.replace(f"\n{reply.enhanced} ", "\n"))


def _check(session: Session) -> None:
    if session.tls is not None and session.tls not in _TLS_VERSIONS:
        raise ValueError(
            f"tls={session.tls!r} cannot be sent: expected {' or '.join(_TLS_VERSIONS)}, or None"
        )
    if not session.extended and (session.tls or session.authenticated is not None):
        raise ValueError("a session with HELO (extended=False) has neither TLS nor a user")


def _begin(smtp: smtplib.SMTP, session: Session) -> tuple[int, bytes]:
    """Greet, start TLS and authenticate as the session has done; returns the last reply."""
    if not session.extended:
        return smtp.helo(session.helo)
    answer = smtp.ehlo(session.helo)
    if answer[0] == 250 and session.tls:
        smtp.starttls(context=_context(session.tls))
        answer = smtp.ehlo(session.helo)
    if answer[0] == 250 and session.authenticated is not None:
        response = b64encode(f"\0{session.authenticated}\0any password".encode()).decode()
        answer = smtp.docmd("AUTH", f"PLAIN {response}")
    return answer


def _context(version: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = _TLS_VERSIONS[version]
    return context


class _Client(smtplib.SMTP):
    """An SMTP client that says with a PROXY header which client it is, and waits for the server to close."""

    def __init__(self, address: tuple[str, int], session: Session, timeout_seconds: float) -> None:
        client = session.client
        there = _LOOPBACK if client.version == 4 else "::1"
        family = f"TCP{client.version}"
        self._header = f"PROXY {family} {client} {there} {session.client_port} 25\r\n".encode()
        super().__init__(*address, local_hostname=session.helo, timeout=timeout_seconds)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connection = socket.create_connection((host, port), timeout)
        connection.sendall(self._header)
        return connection

    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        """A command and its reply; after QUIT the server closes (RFC 5321 section 4.1.1.10)."""
        reply = super().docmd(cmd, args)
        with suppress(OSError):
            while cmd == "QUIT" and self.file and self.file.read(4096):
                pass
        return reply
