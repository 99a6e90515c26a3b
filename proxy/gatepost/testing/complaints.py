"""A complaints server for test suites: what an application sends is waited for, read, and never delivered.

with running_complaints() as server:
    mailbox = server.mailbox()
    sign_up(mailbox.address("bob"), smtp=(mailbox.smtp_host, mailbox.smtp_port))
    message = mailbox.wait_for(subject="Welcome")
    assert message.links

With pytest the fixtures of `gatepost.testing.fixtures` do the first two lines.
"""

import email
import email.policy
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gatepost

__all__ = [
    "Attachment",
    "ComplaintsServer",
    "Mailbox",
    "NoMessageError",
    "ReceivedMessage",
    "running_complaints",
]

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_ANSWER_SECONDS = 30.0
"""For the server's answer, beside the time that it was asked to wait."""
_WAIT_SECONDS_AT_ONCE = 60.0
_SAVED_SECONDS = 2.0
"""After the last reply until the conversation can be read; a fifth of a second as a rule."""
_LOOK_SECONDS = 0.02
_SHOWN = 5
_PAGE = 500
_SMTP = re.compile(r"listens on ([^\s;,]+):(\d+)")
_WEB = re.compile(r"https?://[^\s;,]+:\d+")


class NoMessageError(AssertionError):
    """Nothing came; the text says what was waited for, and what is there instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One attachment of a message."""

    filename: str
    content_type: str
    content: bytes


class ReceivedMessage:
    """A message that the server took."""

    def __init__(self, server: "ComplaintsServer", fields: Mapping[str, Any]) -> None:
        self._server = server
        self._fields = fields
        self.id: str = fields["id"]
        self.received_at = datetime.fromisoformat(fields["created_at"])
        """Aware, UTC."""
        self.mail_from: str = fields["mail_from"]
        """The reverse-path of the envelope; empty for the null reverse-path."""
        self.recipients: tuple[str, ...] = tuple(fields["recipients"])
        """The forward-paths of the envelope, whatever To and Cc say."""
        self.subject: str = fields["subject"]
        """Decoded; so are the next three. Empty where there is none."""
        self.author: str = fields["author"]
        """The From field."""
        self.to: str = fields["to"]
        self.cc: str = fields["cc"]
        self.text: str = fields["text"] or ""
        """The plain text, or one made of the HTML; empty where there is neither."""
        self.links: tuple[str, ...] = tuple(fields["links"])
        """The http and https addresses in text and HTML, each once, in their order."""
        self.codes: tuple[str, ...] = tuple(fields["codes"])
        """What looks like a one-time code, the likeliest first."""
        self.problems: tuple[str, ...] = tuple(found["text"] for found in fields["lint"])
        """What is wrong with the message, for example a missing Date; the worst first."""

    def __repr__(self) -> str:
        return f"<ReceivedMessage {self.subject!r} from {self.mail_from!r} to {', '.join(self.recipients)}>"

    @cached_property
    def raw(self) -> bytes:
        """The octets as they were sent, with a Received field before them."""
        return self._server.get(f"messages/{self.id}/raw")

    @cached_property
    def email(self) -> EmailMessage:
        """As Python's email package reads it."""
        return email.message_from_bytes(self.raw, policy=email.policy.default)

    @cached_property
    def html(self) -> str:
        """The HTML as it was sent; empty where there is none."""
        body = self.email.get_body(("html",))
        return str(body.get_content()) if body is not None else ""

    @cached_property
    def attachments(self) -> tuple[Attachment, ...]:
        """All parts that are not the message's text."""
        return tuple(
            Attachment(
                filename=one["filename"],
                content_type=one["content_type"],
                content=self._server.get(f"messages/{self.id}/attachments/{one['number']}"),
            )
            for one in self._fields["attachments"]
        )

    @property
    def conversation(self) -> str:
        """What was said over SMTP, from MAIL to the last reply: ``C:`` client, ``D:`` data, ``S:`` server.

        Empty where the server keeps no conversations.
        """
        record = self._fields["record"]
        give_up = time.monotonic() + _SAVED_SECONDS
        while record:
            path = f"conversations/{record['session_id']}"
            lines = self._server.get_json(path, transaction=record["id"]).get("lines", [])
            said = "".join(line["direction"] for line in lines)
            if ("D" in said and said.endswith("S")) or time.monotonic() > give_up:
                return "\n".join(
                    f"{line['direction']}: {part}"
                    for line in lines
                    for part in line["text"].removesuffix("\r\n").split("\r\n")
                    if line["direction"] != "*"
                )
            time.sleep(_LOOK_SECONDS)
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplaintsServer:
    """A complaints server that runs: `running_complaints` starts one, or name the addresses of another."""

    smtp_host: str
    smtp_port: int
    url: str
    """Of its web desk, for example ``http://127.0.0.1:8025``."""
    password: str | None = None
    """That of its web desk."""
    _opener: urllib.request.OpenerDirector = field(
        # Without the environment's proxy: the server is near, and what it took concerns nobody else.
        default_factory=lambda: urllib.request.build_opener(urllib.request.ProxyHandler({})),
        init=False,
        repr=False,
        compare=False,
    )

    def mailbox(self, name: str | None = None) -> "Mailbox":
        """A mailbox of this name of letters and digits; without one nobody else's."""
        return Mailbox(self, name or f"t{secrets.token_hex(6)}")

    def get(self, path: str, *, seconds: float = 0.0, method: str = "GET", **parameters: object) -> bytes:
        """What the API answers, after waiting at most so long; raises ValueError, LookupError, TimeoutError.

        They stand for a wrong question, something that is not there, and an answer that nothing came; any
        other trouble is an OSError.
        """
        query = f"?{urlencode(parameters)}" if parameters else ""
        headers = {"Authorization": f"Bearer {self.password}"} if self.password else {}
        request = urllib.request.Request(  # noqa: S310 - the URL is the developer's own
            f"{self.url}/api/v1/{path}{query}", headers=headers, method=method
        )
        try:
            with self._opener.open(request, timeout=seconds + _ANSWER_SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                problem = error.read().decode("utf-8", "replace")
            kind = {400: ValueError, 404: LookupError, 504: TimeoutError}.get(error.code, OSError)
            raise kind(_detail(problem)) from None

    def get_json(self, path: str, **parameters: Any) -> dict[str, Any]:
        """The same as a JSON object; empty where there is no such thing."""
        try:
            answer: dict[str, Any] = json.loads(self.get(path, **parameters))
        except LookupError:
            return {}
        return answer


def _detail(problem: str) -> str:
    try:
        return str(json.loads(problem)["detail"])
    except (ValueError, KeyError, TypeError):
        return problem[:200]


class Mailbox:
    """What one test sends: mail to its addresses, and mail of its user. It sees nobody else's."""

    def __init__(self, server: ComplaintsServer, name: str) -> None:
        self._server = server
        self.name = name
        self.smtp_host = server.smtp_host
        self.smtp_port = server.smtp_port
        self.url = server.url
        """Of the web desk, where people look at the mail."""
        self.username = name
        """For AUTH: whatever this user sends is in this mailbox, to whomever it goes."""
        self.password = "any"  # noqa: S105 - the server takes every one

    def __repr__(self) -> str:
        return f"<Mailbox {self.name} at {self.url}>"

    def address(self, address: str = "test") -> str:
        """An address whose mail comes here: of ``bob`` it makes ``bob+NAME@example.test``.

        A domain may be given: ``bob@shop.example``; a quoted local part stays quoted.
        """
        local_part, at, domain = address.rpartition("@")
        if not at:
            local_part, domain = domain, "example.test"
        quote = '"' if local_part.endswith('"') else ""
        return f"{local_part.removesuffix(quote)}+{self.name}{quote}@{domain}"

    @property
    def messages(self) -> list[ReceivedMessage]:
        """All that is here, in the order of arrival; at most the newest 500."""
        page = self._server.get_json("messages", query=self._query(), limit=_PAGE)
        found = (self._server.get_json(f"messages/{one['id']}") for one in reversed(page["messages"]))
        return [ReceivedMessage(self._server, fields) for fields in found if fields]

    def wait_for(
        self,
        query: str = "",
        *,
        to: str = "",
        subject: str = "",
        after: ReceivedMessage | None = None,
        timeout_seconds: float = 5.0,
    ) -> ReceivedMessage:
        """The newest message that matches, as soon as there is one.

        Args:
            query: in the language of the web desk's search field.
            to: words of a recipient.
            subject: words of the subject.
            after: only what came after that one counts; then it is the first of those.
            timeout_seconds: how long to wait.

        Raises:
            NoMessageError: none came in time.
            ValueError: the query cannot be understood.
        """
        __tracebackhide__ = True
        (message,) = self.wait_for_several(
            1, query, to=to, subject=subject, after=after, timeout_seconds=timeout_seconds
        )
        return message

    def wait_for_several(
        self,
        count: int,
        query: str = "",
        *,
        to: str = "",
        subject: str = "",
        after: ReceivedMessage | None = None,
        timeout_seconds: float = 5.0,
    ) -> list[ReceivedMessage]:
        """So many messages that match (at most 20), in the order of arrival; as `wait_for` in all else."""
        __tracebackhide__ = True
        wanted = _terms(query, to, subject)
        parameters = {"query": self._query(wanted), "count": count} | ({"after": after.id} if after else {})
        give_up = time.monotonic() + timeout_seconds
        while True:
            seconds = min(max(give_up - time.monotonic(), 0.0), _WAIT_SECONDS_AT_ONCE)
            try:
                found = self._server.get_json("wait", seconds=seconds, timeout=seconds, **parameters)
            except TimeoutError:
                if time.monotonic() < give_up:
                    continue
                raise NoMessageError(self._what_is_there(wanted, count, timeout_seconds)) from None
            return [ReceivedMessage(self._server, fields) for fields in found["messages"]]

    def clear(self) -> None:
        """Delete all that is here."""
        self._server.get("messages", method="DELETE", query=self._query())

    def _query(self, wanted: str = "") -> str:
        return f"mailbox:{self.name} {wanted}".rstrip()

    def _what_is_there(self, wanted: str, count: int, timeout_seconds: float) -> str:
        here = self._server.get_json("messages", query=self._query(), limit=_SHOWN)["messages"]
        elsewhere = self._server.get_json("messages", query=f"-{self._query()}", limit=_SHOWN)["messages"]
        what = "a message" if count == 1 else f"{count} messages"
        lines = [
            f"Waited {timeout_seconds:g} s for {what}{f' with {wanted}' if wanted else ''}, in vain.",
            *_shown(f"In this mailbox (to …+{self.name}@… or from the user {self.name}):", here),
            *_shown("In other mailboxes:", elsewhere),
            f"Look at {self.url}",
        ]
        return "\n".join(lines)


def _terms(query: str, to: str, subject: str) -> str:
    fields = {"to": to, "subject": subject}
    phrases = [f'{key}:"{words}"' for key, text in fields.items() if (words := text.replace('"', " "))]
    return " ".join(filter(None, [query, *phrases]))


def _shown(title: str, messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The newest, one a line."""
    yield title if messages else f"{title} nothing."
    for one in messages:
        at = datetime.fromisoformat(one["created_at"]).astimezone()
        recipients = ", ".join(one["recipients"][:3])
        yield f"  {at:%H:%M:%S} {one['subject']!r} from {one['mail_from'] or '<>'} to {recipients}"


@contextmanager
def running_complaints(*options: str) -> Iterator[ComplaintsServer]:
    """Run ``gatepost complaints`` on free ports of this machine while the block lasts.

    Its mail is kept in a temporary folder, and gone at the end. ``options`` are further ones of the
    command. Raises RuntimeError, with what the server said, where it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="gatepost-") as folder:
        log = Path(folder, "log")
        command = [sys.executable, "-m", "gatepost", "complaints", "--quiet"]
        command += ["--smtp", "127.0.0.1:0", "--web", "127.0.0.1:0", "--store", "mail.db", *options]
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - our own command
                command, cwd=folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        try:
            yield _started(process, log)
        finally:
            _end(process)


def _environment() -> dict[str, str]:
    """In which the command is that of the package that the tests import."""
    paths = [str(Path(gatepost.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _started(process: subprocess.Popen[bytes], log: Path) -> ComplaintsServer:
    give_up = time.monotonic() + _START_SECONDS
    while True:
        ended = process.poll() is not None
        said = log.read_text("utf-8", "replace")
        smtp, web = _SMTP.search(said), _WEB.search(said)
        if smtp and web:
            return ComplaintsServer(smtp_host=smtp[1], smtp_port=int(smtp[2]), url=web[0])
        if ended or time.monotonic() > give_up:
            raise RuntimeError(f"gatepost complaints did not start; it said:\n{said}")
        time.sleep(_LOOK_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
