"""Messages, transactions and records for tests, each made in one line."""

import mimetypes
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from ipaddress import ip_address

from gatepost.model.mail import Envelope, Message, Recipient, Session, Transaction, new_id
from gatepost.model.record import Disposition, RecipientRecord, Record
from gatepost.model.verdict import Action

__all__ = ["AttachmentContent", "make_message", "make_record", "make_transaction"]

AttachmentContent = bytes | tuple[str, bytes]
"""The bytes, or the content type and the bytes."""

_NO_ATTACHMENTS: Mapping[str, AttachmentContent] = {}
_NO_HEADERS: Mapping[str, str] = {}
_DEFAULT_FIELDS = {
    "From": "sender@example.org",
    "To": "recipient@example.com",
    "Date": "Thu, 01 Jan 2026 12:00:00 +0000",
    "Message-ID": "<test@example.org>",
}


def make_message(
    *,
    subject: str = "",
    text: str = "",
    html: str | None = None,
    headers: Mapping[str, str] = _NO_HEADERS,
    attachments: Mapping[str, AttachmentContent] = _NO_ATTACHMENTS,
) -> bytes:
    """A well-formed message with CRLF line ends.

    It has From, To, Date, Message-ID and Subject unless ``headers`` replaces them. ``html`` is an
    alternative to ``text``. An attachment's content type follows from its name unless it is given:
    ``{"report.pdf": b"...", "data": ("application/zip", b"...")}``. Raises ValueError for a header
    field that cannot be written; for a malformed message write its bytes yourself.
    """
    message = EmailMessage(policy=SMTP)
    replaced = {name.lower() for name in headers}
    for name, value in (_DEFAULT_FIELDS | {"Subject": subject}).items():
        if name.lower() not in replaced:
            message[name] = value
    for name, value in headers.items():
        message[name] = value
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    for filename, attachment in attachments.items():
        content_type, octets = attachment if isinstance(attachment, tuple) else (None, attachment)
        guessed = content_type or mimetypes.guess_type(filename)[0] or "application/octet-stream"
        maintype, _, subtype = guessed.partition("/")
        message.add_attachment(octets, maintype=maintype, subtype=subtype, filename=filename)
    return message.as_bytes()


def make_transaction(
    content: bytes | str | None = None,
    *,
    mail_from: str = "sender@example.org",
    recipients: str | Sequence[str] = ("recipient@example.com",),
    client: str = "192.0.2.1",
    helo: str = "client.example.org",
    authenticated: str | None = None,
    tls: str | None = None,
    subject: str = "",
    text: str = "",
    html: str | None = None,
    headers: Mapping[str, str] = _NO_HEADERS,
    attachments: Mapping[str, AttachmentContent] = _NO_ATTACHMENTS,
) -> Transaction:
    """A complete transaction, as passed to `filter_message`.

    ``content`` is the message as received; in a str the line ends become CRLF and the
    characters UTF-8. Without it `make_message` makes one from the last five arguments. ``mail_from``
    is empty for the null reverse-path; ``tls`` is a version like ``TLSv1.3``. Raises ValueError for a
    ``client`` that is not an IP address, and if both a content and its parts are given.
    """
    if content is None:
        content = make_message(
            subject=subject, text=text, html=html, headers=headers, attachments=attachments
        )
    elif subject or text or html is not None or headers or attachments:
        raise ValueError("make_transaction() needs either the message's content or its parts, not both")
    elif isinstance(content, str):
        content = content.replace("\r\n", "\n").replace("\n", "\r\n").encode()
    now = datetime.now(UTC)
    addresses = (recipients,) if isinstance(recipients, str) else recipients
    return Transaction(
        id=new_id(),
        session=Session(
            id=new_id(),
            client=ip_address(client),
            client_port=50_000,
            listener="127.0.0.1:2525",
            connected_at=now,
            helo=helo,
            extended=True,
            tls=tls,
            authenticated=authenticated,
        ),
        envelope=Envelope(
            mail_from=mail_from,
            recipients=tuple(Recipient(address=address) for address in addresses),
        ),
        message=Message(content=content),
        received_at=now,
    )


_ACTIONS = {
    Disposition.QUARANTINED: Action.QUARANTINE,
    Disposition.DISCARDED: Action.DISCARD,
    Disposition.REFUSED: Action.REJECT,
    Disposition.DEFERRED: Action.DEFER,
}
_REPLIES = {
    Disposition.REFUSED: "550 5.7.1 Not accepted here",
    Disposition.DEFERRED: "451 4.3.0 Try again later",
    Disposition.IN_DOUBT: "451 4.4.2 Try again later",
}


def make_record(
    transaction: Transaction | None = None, *, disposition: str = "relayed", rule: str | None = None
) -> Record:
    """A record, as passed to `report_transaction`, with one disposition for all recipients.

    ``disposition`` is one of relayed, inbox, quarantined, discarded, refused, deferred, in-doubt and
    abandoned, else ValueError; ``rule`` is the name of the rule that decided.
    """
    transaction = transaction or make_transaction()
    session, message = transaction.session, transaction.message
    end = Disposition(disposition)
    reply = _REPLIES.get(end, "250 2.0.0 OK")
    return Record(
        id=transaction.id,
        session_id=session.id,
        received_at=transaction.received_at,
        client=str(session.client),
        helo=session.helo,
        tls=session.tls,
        authenticated=session.authenticated,
        mail_from=transaction.envelope.mail_from,
        recipients=tuple(
            RecipientRecord(
                address=recipient.address,
                disposition=end,
                action=_ACTIONS.get(end, Action.ACCEPT),
                rule=rule,
                reply=reply,
            )
            for recipient in transaction.envelope.recipients
        ),
        size=len(message.content),
        message_id=message.view.header("Message-ID") or "",
        subject=message.view.subject[:200],
        evaluations=(),
        reply=reply,
    )
