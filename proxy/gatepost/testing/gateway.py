"""The real gateway inside a test: in a thread of its own, on a free port, with a store of its own."""

import asyncio
import smtplib
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any, Protocol, TypeVar

import uvloop
import yaml

from gatepost.config import LoadedConfig, load
from gatepost.mail import Transaction
from gatepost.record import Record
from gatepost.service import Service
from gatepost.store import Archive, Box, JournalQuery, KeptMessage, KeptQuery
from gatepost.testing.samples import make_transaction
from gatepost.verdict import Reply

__all__ = ["RunningGateway", "running_gateway"]

_PATIENCE_SECONDS = 30.0
"""For each thing that the test waits for: longer than any healthy gateway takes."""
_LIMIT = 1000
_NO_FILES: Mapping[str, str | bytes] = {}

T = TypeVar("T")


Rules = str | Mapping[str, Any]
"""What rules.yaml holds, as text or as a mapping."""


class Upstream(Protocol):
    """A server to relay to, such as `FakeUpstream`."""

    @property
    def host(self) -> str:
        """Its IP address."""

    @property
    def port(self) -> int:
        """The port that it listens on."""


class RunningGateway:
    """A gateway that takes mail."""

    def __init__(self, service: Service, take: Callable[[Rules], None]) -> None:
        self._service = service
        self._take = take
        self.host, self.port = service.addresses[0]

    def reload(self, rules: Rules) -> None:
        """Take new rules, as at SIGHUP; raises ConfigError, and the old ones stay."""
        self._take(rules)

    def send(self, transaction: Transaction | None = None) -> Reply:
        """Send one transaction over a connection of its own; what the client is told in the end.

        That is the reply to the end of data, or the first refusal after which nothing could follow:
        of the greeting, of MAIL, of the last recipient if all were refused, of DATA. Sent are the
        transaction's envelope, HELO name and message; client address, TLS and user are the test's own.
        """
        transaction = transaction or make_transaction()
        session, envelope = transaction.session, transaction.envelope
        text: bytes | str
        try:
            with smtplib.SMTP(
                self.host, self.port, local_hostname=session.helo, timeout=_PATIENCE_SECONDS
            ) as smtp:
                smtp.command_encoding = "utf-8"
                smtp.ehlo_or_helo_if_needed()
                mail = " ".join((f"FROM:<{envelope.mail_from}>", *envelope.parameters))
                answers = [smtp.docmd("MAIL", mail)]
                if answers[0][0] == 250:
                    answers = [
                        smtp.docmd("RCPT", " ".join((f"TO:<{recipient.address}>", *recipient.parameters)))
                        for recipient in envelope.recipients
                    ]
                if any(code in (250, 251) for code, _ in answers):
                    answers = [smtp.data(transaction.message.content)]
                code, text = answers[-1]
        except smtplib.SMTPResponseException as refused:
            code, text = refused.smtp_code, refused.smtp_error
        said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        reply = Reply.parse(f"{code} {said}")
        return replace(reply, text=reply.text.replace(f"\n{reply.enhanced} ", "\n"))

    def journal(self) -> list[Record]:
        """What became of each transaction, the latest first; at most 1,000."""
        return self._archive().records(JournalQuery(), limit=_LIMIT)

    def inbox(self) -> list[KeptMessage]:
        """The messages in the inbox, the latest first; at most 1,000."""
        return self._kept(Box.INBOX)

    def quarantine(self) -> list[KeptMessage]:
        """The messages in quarantine, the latest first; at most 1,000."""
        return self._kept(Box.QUARANTINE)

    def _kept(self, box: Box) -> list[KeptMessage]:
        archive = self._archive()
        found = (archive.kept_message(kept.id) for kept in archive.kept(KeptQuery(box=box), limit=_LIMIT))
        return [message for message in found if message]

    def _archive(self) -> Archive:
        """The store, once all that is queued for the journal has been written."""
        store = self._service.store
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while store.backlog:
            if time.monotonic() > give_up:
                raise TimeoutError("the gateway's store does not write its journal")
            time.sleep(0.005)
        return store.archive


@contextmanager
def running_gateway(
    rules: Rules,
    *,
    upstream: Upstream | None = None,
    files: Mapping[str, str | bytes] = _NO_FILES,
) -> Iterator[RunningGateway]:
    """Run a gateway with these rules while the block lasts.

    ``rules`` is what rules.yaml holds, as text or as a mapping. What it leaves out is chosen for a
    test: a free port on loopback, a store in a temporary folder, and a route for everybody to the
    inbox, or with ``upstream`` one for ``*@example.com`` to it. ``files`` are written beside
    rules.yaml, by name. Raises ConfigError for rules that ``gatepost check`` would refuse.
    """
    with tempfile.TemporaryDirectory(prefix="gatepost-") as folder:
        for name, content in files.items():
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        path = Path(folder, "rules.yaml")

        def settings(rules: Rules) -> LoadedConfig:
            path.write_text(_with_defaults(rules, upstream), encoding="utf-8")
            return load(path)

        loaded = settings(rules)
        with _event_loop() as loop:
            service = _wait_for(loop, _started(loaded))

            async def take(loaded: LoadedConfig) -> None:
                service.reload(loaded)

            try:
                yield RunningGateway(service, lambda rules: _wait_for(loop, take(settings(rules))))
            finally:
                _wait_for(loop, service.stop())


def _with_defaults(rules: Rules, upstream: Upstream | None) -> str:
    """The rules as YAML, with the keys that a test would repeat put behind them."""
    text = dedent(rules) if isinstance(rules, str) else _dumped(rules)
    if upstream:
        route = {"recipients": "*@example.com", "to": f"smtp://{upstream.host}:{upstream.port}"}
    else:
        route = {"recipients": "*", "to": "inbox"}
    defaults = {
        "hostname": "gateway.example.net",
        "listen": [{"address": "127.0.0.1:0"}],
        "relay": [route],
    }
    given = yaml.safe_load(text) or {}
    missing = {key: value for key, value in defaults.items() if key not in given}
    return f"{text}\n{_dumped(missing)}"


def _dumped(data: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(data), sort_keys=False) if data else ""


async def _started(loaded: LoadedConfig) -> Service:
    service = Service(loaded)
    await service.start()
    return service


@contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop that the gateway uses too, running in a thread."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gatepost", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        _wait_for(loop, loop.shutdown_asyncgens())
        _wait_for(loop, loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_PATIENCE_SECONDS)
        loop.close()


def _wait_for(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(_PATIENCE_SECONDS)
