"""A complaints server for test suites: wait for the mail of an application, and read it.

with running_complaints() as server:
    mailbox = server.mailbox()
    sign_up(mailbox.address("bob"), smtp=(mailbox.smtp_host, mailbox.smtp_port))
    message = mailbox.wait_for(subject="Welcome")
    assert message.links

With pytest the fixtures of `gatepost.testing.fixtures` do the first two lines.
"""

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
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gatepost
from gatepost.testing.breakpoints import Breakpoint, arm
from gatepost.testing.trapped import Attachment, Link, ReceivedMessage

__all__ = [
    "Attachment",
    "ComplaintsServer",
    "Link",
    "Mailbox",
    "NoMessageError",
    "ReceivedMessage",
    "running_complaints",
]

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_ANSWER_SECONDS = 30.0
"""Time for the server's response, in addition to the requested wait."""
_WAIT_SECONDS_AT_ONCE = 60.0
_LOOK_SECONDS = 0.02
_SHOWN = 5
_PAGE = 500
_SMTP = re.compile(r"listens on ([^\s;,]+):(\d+)")
_WEB = re.compile(r"https?://[^\s;,]+:\d+")


class NoMessageError(AssertionError):
    """No message arrived; the text has the query and the messages that are there instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplaintsServer:
    """A running complaints server: `running_complaints` starts one, or pass the addresses of another."""

    smtp_host: str
    smtp_port: int
    url: str
    """The address of its web desk, for example ``http://127.0.0.1:8025``."""
    password: str | None = None
    """The password of its web desk."""
    _opener: urllib.request.OpenerDirector = field(
        # Without the environment's proxy: the server is local, and its mail must not go through a proxy.
        default_factory=lambda: urllib.request.build_opener(urllib.request.ProxyHandler({})),
        init=False,
        repr=False,
        compare=False,
    )

    def mailbox(self, name: str | None = None) -> "Mailbox":
        """The mailbox with this name of letters and digits; without a name a new one."""
        return Mailbox(self, name or f"t{secrets.token_hex(6)}")

    def hold(
        self,
        stage: str,
        *,
        when: Mapping[str, Any] | None = None,
        count: int | None = 1,
        deadline_seconds: float = 60.0,
        on_error: str = "defer",
    ) -> Breakpoint:
        """Hold the next sessions that reach a stage, until the test answers; raises ValueError.

        Args:
            stage: ``connect``, ``helo``, ``mail``, ``rcpt`` or ``message``.
            when: a condition as in rules.yaml; None: every session.
            count: how many sessions; None: all, until `Breakpoint.remove`.
            deadline_seconds: at most 240.
            on_error: without an answer in time: ``defer`` (451), or ``skip`` to go on.
        """
        return arm(self, stage, when, count, deadline_seconds, on_error)

    def get(
        self,
        path: str,
        *,
        seconds: float = 0.0,
        method: str = "GET",
        body: object = None,
        **parameters: object,
    ) -> bytes:
        """The API's response within the time; raises ValueError, LookupError, TimeoutError.

        They mean an invalid request, a missing object, and no message in time; any
        other failure is an OSError.
        """
        query = f"?{urlencode(parameters)}" if parameters else ""
        headers = {"Authorization": f"Bearer {self.password}"} if self.password else {}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(  # noqa: S310 - the URL is the developer's own
            f"{self.url}/api/v1/{path}{query}", data, headers=headers, method=method
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
        """The response as a JSON object; empty if the object is missing."""
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
    """The mail of one test: sent to its addresses, or by its user."""

    def __init__(self, server: ComplaintsServer, name: str) -> None:
        self._server = server
        self.name = name
        self.smtp_host = server.smtp_host
        self.smtp_port = server.smtp_port
        self.url = server.url
        """The address of the web desk, where people can read the mail."""
        self.username = name
        """For AUTH: all mail of this user is in this mailbox, whatever the recipients."""
        self.password = "any"  # noqa: S105 - the server takes every one

    def __repr__(self) -> str:
        return f"<Mailbox {self.name} at {self.url}>"

    def address(self, address: str = "test") -> str:
        """An address of this mailbox: ``bob`` becomes ``bob+NAME@example.test``.

        A domain is allowed: ``bob@shop.example``; a quoted local part stays quoted.
        """
        local_part, at, domain = address.rpartition("@")
        if not at:
            local_part, domain = domain, "example.test"
        quote = '"' if local_part.endswith('"') else ""
        return f"{local_part.removesuffix(quote)}+{self.name}{quote}@{domain}"

    @property
    def messages(self) -> list[ReceivedMessage]:
        """All messages, in the order of arrival; at most the newest 500."""
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
        """Wait for a message; returns the newest that matches.

        Args:
            query: a query as in the web desk's search field.
            to: text in a recipient.
            subject: text in the subject.
            after: only later messages than this one count; returns the first of them.
            timeout_seconds: how long to wait.

        Raises:
            NoMessageError: none arrived in time.
            ValueError: the query is invalid.
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
        """Wait for this many messages (at most 20), in the order of arrival; otherwise as `wait_for`."""
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

    def hold(
        self, stage: str, *, count: int | None = 1, deadline_seconds: float = 60.0, on_error: str = "defer"
    ) -> Breakpoint:
        """Hold the next sessions to this mailbox's addresses, or of its user, at ``rcpt`` or ``message``.

        At ``mail`` only those of its user. Raises ValueError for other stages, at which nothing is known of a
        mailbox: `ComplaintsServer.hold` has them. The arguments are explained there.
        """
        of_user = {"authenticated": self.name}
        conditions: dict[str, dict[str, Any] | None] = {"mail": of_user, "rcpt": None, "message": None}
        if stage not in conditions:
            raise ValueError(f"{stage!r}, expected mail, rcpt or message")
        tagged = {"recipient": f"*+{self.name}@*"}
        when: dict[str, Any] = conditions[stage] or {"any": [tagged, of_user]}
        return arm(self._server, stage, when, count, deadline_seconds, on_error)

    def clear(self) -> None:
        """Delete all messages of the mailbox."""
        self._server.get("messages", method="DELETE", query=self._query())

    def _query(self, wanted: str = "") -> str:
        return f"mailbox:{self.name} {wanted}".rstrip()

    def _what_is_there(self, wanted: str, count: int, timeout_seconds: float) -> str:
        here = self._server.get_json("messages", query=self._query(), limit=_SHOWN)["messages"]
        elsewhere = self._server.get_json("messages", query=f"-{self._query()}", limit=_SHOWN)["messages"]
        what = " message" if count == 1 else f"t {count} messages"
        lines = [
            f"No{what} {f'with {wanted} ' if wanted else ''}within {timeout_seconds:g} s.",
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
    """The newest messages, one on each line."""
    yield title if messages else f"{title} none."
    for one in messages:
        at = datetime.fromisoformat(one["created_at"]).astimezone()
        recipients = ", ".join(one["recipients"][:3])
        yield f"  {at:%H:%M:%S} {one['subject']!r} from {one['mail_from'] or '<>'} to {recipients}"


@contextmanager
def running_complaints(*options: str) -> Iterator[ComplaintsServer]:
    """Run ``gatepost complaints`` on free ports of this machine while the block lasts.

    Its mail is stored in a temporary folder that is deleted at the end. ``options`` are more options of the
    command. Raises RuntimeError with the server's output if it does not start.
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
    """The environment, in which ``gatepost`` is the package that the tests import.

    It has none of the variables for options of a server that the developer starts.
    """
    paths = [str(Path(gatepost.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    others = {name: text for name, text in os.environ.items() if not name.startswith("GATEPOST_COMPLAINTS_")}
    return {**others, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _started(process: subprocess.Popen[bytes], log: Path) -> ComplaintsServer:
    give_up = time.monotonic() + _START_SECONDS
    while True:
        ended = process.poll() is not None
        output = log.read_text("utf-8", "replace")
        smtp, web = _SMTP.search(output), _WEB.search(output)
        if smtp and web:
            return ComplaintsServer(smtp_host=smtp[1], smtp_port=int(smtp[2]), url=web[0])
        if ended or time.monotonic() > give_up:
            raise RuntimeError(f"gatepost complaints did not start; its output:\n{output}")
        time.sleep(_LOOK_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
