"""The filter ``rspamd``: asks rspamd about the whole message, as received, and does what it says.

    - name: rspamd
      filter: rspamd
      with: {address: "127.0.0.1:11333"}

Rspamd decides by its action and not by the score. An action that neither rspamd nor the settings define is a
failure.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from types import MappingProxyType
from typing import ClassVar, Literal

import h11
from gatepost import (
    Action,
    Bytes,
    Envelope,
    Match,
    Passed,
    Place,
    Reply,
    Seconds,
    Session,
    Transaction,
    Verdict,
    hookimpl,
)
from gatepost_rspamd_result import Result, result_of
from gatepost_servers import FinalError, Servers, exchange

__all__ = ["Rspamd"]

Then = Literal["nothing", "tag", "quarantine", "discard", "defer", "reject"]
_ACTIONS = MappingProxyType[str, Then](
    {
        "no action": "nothing",
        "greylist": "nothing",
        "add header": "tag",
        "rewrite subject": "tag",
        "quarantine": "quarantine",
        "discard": "discard",
        "soft reject": "defer",
        "reject": "reject",
    }
)
"""What is done for each of rspamd's own actions. ``greylist`` is only a range of scores: if its greylisting
wants a message to wait, rspamd answers ``soft reject``."""
_INSTEAD: MappingProxyType[str, Then] = MappingProxyType({"quarantine": "quarantine", "discard": "discard"})
"""What the settings of rspamd may have in place of a rejection."""
_REPLIES = MappingProxyType({"reject": (550, "5.7.1"), "defer": (451, "4.7.1")})
_NEARLY = 0.95
"""Rspamd's timer and its measurement begin at slightly different times."""
_ANSWER_BYTES = 4 << 20
_RECIPIENTS_BYTES = 48 << 10
"""Over about 87 KB of header rspamd closes the connection without a word."""
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*", re.ASCII)
"""Other forms rspamd takes for broken, and counts against the message."""
_WORD = re.compile(r"[!-~]{1,255}", re.ASCII)
_PASSWORD = re.compile(rb"[^\x00-\x1f\x7f]+")
"""What a field of HTTP can hold (RFC 9110 section 5.5)."""


@dataclass(kw_only=True, eq=False)
class Rspamd:
    """A hit for each message about which rspamd wants something to be done."""

    side_by_side: ClassVar[bool] = True
    """It only waits for the network, and changes nothing."""
    place: Place
    """For log and counters."""
    address: str | list[str] = "127.0.0.1:11333"
    """Where rspamd's normal worker listens: ``host:port``, ``[IPv6]:port`` or ``unix:/path``; several are
    asked in this order until one answers."""
    actions: dict[str, Then] = field(default_factory=dict)
    """What is done for actions of rspamd: those that its administrator has invented, or others than usual."""
    hits: Literal["actions", "changes", "all"] = "actions"
    """``changes``: a message that rspamd only wants to change is a hit too; ``all``: each message is one, and
    counts its score. Leave the rule's ``action`` out with both."""
    messages: bool = False
    """A refusal has rspamd's text, if the rule has no ``reply``."""
    task_timeout: Seconds = 8.0
    """That of rspamd's options: a scan that took so long was cut off."""
    max_size: Bytes = 50 << 20
    """``max_message`` of rspamd's options: a larger message is not sent, and is a failure."""
    controller: str | list[str] = field(default_factory=list)
    """Where rspamd's controller listens, which learns messages; as `address`."""
    password_file: Path | None = None
    """Holds the controller's password on its first line, if it wants one."""
    _servers: Servers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in self.actions:
            own = re.sub("[_-]", " ", name.strip().lower())
            if own in _ACTIONS and own != name:
                raise ValueError(f"actions: {name!r}, expected {own!r}: so rspamd names it in its answers")
        self._servers = Servers("rspamd", self.address, self.place)
        if self.controller:
            name = "rspamd's controller"
            self._controllers = Servers(name, self.controller, self.place, setting="controller")
            with suppress(PermissionError):  # `gatepost learn` may run as another user, and says so
                self._password()
        elif self.password_file:
            raise ValueError("password_file without controller, expected the controller's address too")
        else:
            self.learn_message = None  # type: ignore[method-assign,assignment]  # this rule does not learn

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | Passed | None:
        """Scan the message; raises an OSError if that is not possible."""
        content = transaction.message.content
        if len(content) > self.max_size:
            raise FinalError(
                f"the message has {len(content):,} bytes, max_size of this rule is {self.max_size:,}"
            )
        fields = tuple(_fields(transaction.id, transaction.session, transaction.envelope))

        async def question(rspamd: socket) -> Result:
            status, body = await _posted(rspamd, "/checkv2", fields, content)
            if status != 200:
                raise ConnectionError(f"it answers {status}: {body[:200]!r}")
            return result_of(body)

        result = await self._servers.ask(question)
        if result.time_real >= _NEARLY * self.task_timeout:
            took, limit = f"{result.time_real:.1f} s", f"{self.task_timeout:g} s"
            raise FinalError(f"rspamd took {took}, so it has cut its scan off: task_timeout is {limit}")
        return self._answer(result)

    @hookimpl
    async def learn_message(
        self,
        content: bytes,
        kind: Literal["spam", "ham"],
    ) -> str | None:
        """Have rspamd learn a message; raises OSError if it does not."""
        fields = [("Password", password)] if (password := self._password()) else []

        async def question(controller: socket) -> str | None:
            path = f"/learn{kind}"
            status, body = await _posted(controller, path, fields, content)
            if b"already learned" in body:
                return "already learned"
            if status != 200 or b'"success":true' not in body:
                raise FinalError(f"it answers {status}: {body[:200].decode('utf-8', 'replace')}")
            return None

        return await self._controllers.ask(question)

    def _password(self) -> bytes:
        """The controller's, empty without a file; raises ValueError or PermissionError."""
        if self.password_file is None:
            return b""
        try:
            password = self.password_file.read_bytes().partition(b"\n")[0].strip()
        except PermissionError:
            raise
        except OSError as error:
            raise ValueError(f"password_file: {self.password_file}: {error.strerror}") from None
        if not _PASSWORD.fullmatch(password):
            expected = "expected the controller's on its first line"
            raise ValueError(f"password_file: no password in {self.password_file}, {expected}")
        return password

    def _answer(self, result: Result) -> Verdict | Passed:
        """Raises ConnectionError for an action that is not known, or a change that cannot be made."""
        then = self.actions.get(result.action) or _ACTIONS.get(result.action)
        if then is None:
            raise FinalError(f"rspamd has the action {result.action!r}, which `actions` of this rule lacks")
        if result.action == "reject":
            then = _INSTEAD.get(result.milter.reject or "", then)
        edits = result.edits()
        if then == "nothing" and not (self.hits == "all" or (self.hits == "changes" and edits)):
            return Passed(reason=str(result))
        self.place.count(then)
        reply = None
        if self.messages and then in _REPLIES and (text := result.messages.get("smtp_message")):
            code, enhanced = _REPLIES[then]
            reply = Reply(code=code, enhanced=enhanced, text=str(text))
        return Verdict(
            reason=str(result),
            action=Action.TAG if then == "nothing" else Action(then),
            reply=reply,
            score=max(-1000.0, min(1000.0, result.score)),
            edits=edits,
            matches=tuple(Match(where="symbol", text=text) for text in result.described_symbols()),
        )


def _fields(transaction_id: str, session: Session, envelope: Envelope) -> Iterator[tuple[str, str]]:
    """What rspamd is told about the transaction, without what it would misread."""
    yield "Queue-Id", transaction_id
    yield "IP", str(session.client)
    if _WORD.fullmatch(session.helo):
        yield "Helo", session.helo
    if session.tls:
        yield "TLS-Version", session.tls
    if session.authenticated is not None and _WORD.fullmatch(session.authenticated):
        yield "User", session.authenticated
    if not envelope.mail_from or _ADDRESS.fullmatch(envelope.mail_from):
        yield "From", f"<{envelope.mail_from}>"
    left = _RECIPIENTS_BYTES
    for recipient in envelope.recipients:
        left -= len(recipient.address) + 10
        if left < 0:
            break
        if _ADDRESS.fullmatch(recipient.address):
            yield "Rcpt", f"<{recipient.address}>"


async def _posted(
    rspamd: socket, path: str, fields: Iterable[tuple[str, str | bytes]], content: bytes
) -> tuple[int, bytes]:
    """Status and body of the answer; raises ConnectionError."""
    http = h11.Connection(h11.CLIENT)
    head = [("Host", "rspamd"), ("Connection", "close"), ("Content-Length", str(len(content))), *fields]
    request = http.send(h11.Request(method="POST", target=path, headers=head)) or b""
    http.send(h11.Data(data=content))
    http.send(h11.EndOfMessage())
    view = memoryview(content)
    answer, complete = await exchange(rspamd, (request, view[:-1], view[-1:]), limit_bytes=_ANSWER_BYTES)
    if not answer:
        raise ConnectionError("it closed the connection without an answer")
    try:
        response, body = _response(http, answer)
    except h11.RemoteProtocolError as error:
        raise ConnectionError(f"no HTTP response: {error}: {answer[:200]!r}") from error
    if response.status_code == 200 and not complete:
        raise ConnectionError("it answered before it had the whole message")
    return response.status_code, body


def _response(http: h11.Connection, answer: bytes) -> tuple[h11.Response, bytes]:
    """The final response and its body; raises h11.RemoteProtocolError."""
    http.receive_data(answer)
    http.receive_data(b"")
    response, body = None, b""
    while not isinstance(event := http.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif not isinstance(event, h11.InformationalResponse):
            raise h11.RemoteProtocolError("the connection was closed within it")
    if response is None or http.trailing_data[0]:
        raise h11.RemoteProtocolError("more than one response")
    return response, body
