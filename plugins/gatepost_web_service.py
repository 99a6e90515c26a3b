"""The filter ``web_service``: a web service reads each message as JSON and answers with a verdict.

    - name: our-service
      filter: web_service
      with: {url: "http://127.0.0.1:8080/"}

docs/filters/web_service.md describes both, each with a JSON Schema; `Request` and `Answer` are the same here.
An answer is read strictly: what is not understood is a failure of the rule, never a message without a hit.
"""

import asyncio
import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from gatepost import (
    Action,
    AddHeader,
    Edit,
    Passed,
    Place,
    PrefixSubject,
    RemoveHeader,
    Reply,
    Transaction,
    UnreachableError,
    Verdict,
    hookimpl,
)
from gatepost_http import HttpServer, Response, Url
from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["Answer", "Request", "ServiceError", "WebService"]

_ANSWER_LIMIT = 256 << 10
"""Bytes of an answer's body."""
_INLINE_LIMIT = 64 << 10
"""Size of a message in bytes above which the request is made in a thread."""


class ServiceError(ConnectionError):
    """There is no usable answer of the service; the text names its URL."""


# What is sent --------------------------------------------------------------------------------------------


class _Data(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class SessionData(_Data):
    """The SMTP connection."""

    id: str
    client: str
    """The client's IP address."""
    helo: str
    protocol: str
    """SMTP, ESMTP, ESMTPS, ESMTPSA, ... (RFC 3848)."""
    listener: str
    """The address of the listener, as in rules.yaml."""
    tls: str | None
    """The version, for example ``TLSv1.3``."""
    user: str | None
    """The user who logged in."""


class HeaderData(_Data):
    """A header field."""

    name: str
    value: str
    """Unfolded and decoded."""


class TextData(_Data):
    """A text of the message; a part that can be read in several ways is there once for each."""

    type: str
    """For example ``text/plain`` or ``text/html``."""
    text: str
    filename: str
    """Empty if it is no attachment."""


class AttachmentData(_Data):
    """An attachment."""

    filenames: list[str]
    """Each name that a mail program may show, the likeliest first."""
    type: str
    """As declared."""


class MessageData(_Data):
    """The message."""

    size: int
    """In bytes."""
    subject: str
    headers: list[HeaderData]
    texts: list[TextData]
    attachments: list[AttachmentData]
    unread: str
    """Why a part of the message could not be read; empty if all of it was."""
    content: str | None
    """The bytes as received, in base64; null with ``content: false``."""


class Request(_Data):
    """What the service is asked about."""

    id: str
    """The transaction, as in the journal. The answer repeats it."""
    rule: str
    received_at: str
    """For example ``2026-01-31T12:00:00.123456+00:00``."""
    session: SessionData
    sender: str
    """The reverse-path as the client wrote it, empty for ``<>``."""
    recipients: list[str]
    """As the client wrote them."""
    message: MessageData


def _request(transaction: Transaction, rule: str, *, content: bool) -> bytes:
    """The JSON of a request in UTF-8."""
    session, envelope, message = transaction.session, transaction.envelope, transaction.message
    view = message.view
    request = Request.model_construct(
        id=transaction.id,
        rule=rule,
        received_at=transaction.received_at.isoformat(),
        session=SessionData.model_construct(
            id=session.id,
            client=str(session.client),
            helo=session.helo,
            protocol=session.protocol,
            listener=session.listener,
            tls=session.tls,
            user=session.authenticated,
        ),
        sender=envelope.mail_from,
        recipients=[recipient.address for recipient in envelope.recipients],
        message=MessageData.model_construct(
            size=len(message.content),
            subject=view.subject,
            headers=[
                HeaderData.model_construct(name=header.name, value=header.value) for header in view.headers
            ],
            texts=[
                TextData.model_construct(type=text.content_type, text=text.text, filename=text.filename)
                for text in view.texts
            ],
            attachments=[
                AttachmentData.model_construct(
                    filenames=[*attachment.filenames], type=attachment.content_type
                )
                for attachment in view.attachments
            ],
            unread=view.unread,
            content=base64.b64encode(message.content).decode("ascii") if content else None,
        ),
    )
    # Half of a surrogate pair becomes a question mark.
    return json.dumps(request.model_dump(), ensure_ascii=False).encode("utf-8", "replace")


# What is answered ----------------------------------------------------------------------------------------


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class Tag(_Strict):
    """Changes to the header section, as those of ``tag`` in rules.yaml."""

    add: dict[str, str] = Field(default_factory=dict)
    """Fields to add at the top."""
    remove: list[str] = Field(default_factory=list)
    """Fields to remove."""
    subject: str | None = None
    """Text to put before the subject."""

    def edits(self) -> tuple[Edit, ...]:
        """As a verdict has them; raises ValueError."""
        edits: list[Edit] = [RemoveHeader(name) for name in self.remove]
        edits += [AddHeader(name, value) for name, value in self.add.items()]
        return (*edits, *([] if self.subject is None else [PrefixSubject(self.subject)]))


class Answer(_Strict):
    """The service's verdict."""

    id: str
    """That of the request."""
    action: Literal["pass", "hit", "accept", "reject", "defer", "discard", "quarantine", "tag", "score"]
    """``pass``: no hit. ``hit``: the rule's action. Any other suggests one, if the rule has none."""
    reason: str = ""
    """One line for the operator; required unless the action is ``pass``."""
    score: float = Field(default=0.0, ge=-1000, le=1000, allow_inf_nan=False)
    """What the hit counts."""
    reply: str | None = None
    """The reply to the client, for example ``550 5.7.1 Not accepted here``, if the rule has none."""
    tag: Tag | None = None

    def verdict(self) -> Verdict | Passed | None:
        """As a filter answers; raises ValueError for fields that do not fit together."""
        if self.action == "pass":
            if self.score or self.reply is not None or self.tag is not None:
                raise ValueError("action pass with score, reply or tag, expected at most a reason")
            return Passed(reason=self.reason) if self.reason else None
        if not self.reason:
            raise ValueError(f"action {self.action} without a reason")
        return Verdict(
            reason=self.reason,
            action=None if self.action == "hit" else Action(self.action),
            score=self.score,
            reply=None if self.reply is None else Reply.parse(self.reply),
            edits=self.tag.edits() if self.tag else (),
        )


def _answer(body: bytes, transaction_id: str) -> Verdict | Passed | None:
    """The verdict in an answer; raises ValueError with what is wrong with it."""
    try:
        data = json.loads(body.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON in UTF-8: {error}") from None
    try:
        answer = Answer.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'the answer'}: {first['msg']}") from None
    if answer.id != transaction_id:
        raise ValueError(f"id: {answer.id[:100]!r}, expected that of the request, {transaction_id!r}")
    return answer.verdict()


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key that is there twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number")


# The filter ----------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class WebService:
    """A hit if the service says so."""

    side_by_side: ClassVar[bool] = True
    """It only waits for the network, and changes nothing."""
    url: str
    """``http://`` or ``https://``; no redirect is followed."""
    place: Place
    token_file: Path | None = None
    """A file with a token that is sent as ``Authorization: Bearer``."""
    ca_file: Path | None = None
    """Certificates in PEM that the service's is verified with; default: those of the system."""
    content: bool = True
    """Send the whole message too, not only what it says."""
    at_once: int = 16
    """Requests at a time in each worker; others wait, within the rule's ``timeout``."""

    def __post_init__(self) -> None:
        self._url = Url.parse(self.url)
        if self.at_once < 1:
            raise ValueError(f"at_once: {self.at_once}, expected at least 1")
        if self.ca_file and not self._url.tls:
            raise ValueError(f"ca_file with {self.url!r}, expected an https URL")
        try:
            self._server = HttpServer(self._url, ca_file=self.ca_file, limit=_ANSWER_LIMIT)
        except OSError as error:
            raise ValueError(f"ca_file: {self.ca_file}: {error}, expected certificates in PEM") from error
        self._turns = asyncio.Semaphore(self.at_once)
        self._fields = [
            ("user-agent", "Gatepost"),
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
        ]
        if self.token_file is not None:
            self._fields.append(("authorization", f"Bearer {_token(self.token_file)}"))

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | Passed | None:
        """Ask the service; raises `ServiceError`, or UnreachableError."""
        try:
            if len(transaction.message.content) > _INLINE_LIMIT:
                body = await asyncio.to_thread(self._request, transaction)
            else:
                body = self._request(transaction)
            async with self._turns:
                response = await self._response(body)
        except asyncio.CancelledError:
            raise self._error("has not answered") from None  # the rule's time is over: the log shows it
        try:
            return _answer(response.body, transaction.id)
        except (ValueError, TypeError) as error:
            raise self._error(f"wrong answer: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def _request(self, transaction: Transaction) -> bytes:
        return _request(transaction, self.place.rule, content=self.content)

    async def _response(self, body: bytes) -> Response:
        """A response that holds an answer."""
        try:
            response = await self._server.post(self._fields, body)
        except UnreachableError as error:
            raise UnreachableError(f"{self.url}: {error}") from error
        except ConnectionError as error:
            raise self._error(str(error)) from error
        if response.status != 200:
            redirect = " (redirects are not followed)" if 300 <= response.status < 400 else ""
            raise self._error(f"status {response.status}, expected 200{redirect}")
        if response.encoding not in ("", "identity"):
            raise self._error(f"encoding {response.encoding[:50]!r}, expected none")
        if response.content_type != "application/json":
            raise self._error(f"content type {response.content_type[:50]!r}, expected application/json")
        return response

    def _error(self, what: str) -> ServiceError:
        return ServiceError(f"{self.url}: {what}")


def _token(file: Path) -> str:
    """The first line of a file; raises ValueError."""
    try:
        token = file.read_text("ascii").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"token_file: {file}: {error}") from None
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", token):
        raise ValueError(f"token_file: no token in {file}, expected one on its first line (RFC 6750)")
    return token
