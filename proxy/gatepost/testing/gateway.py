"""The real gateway in a test: in its own thread, on a free port, with its own store."""

import asyncio
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
from gatepost.model.mail import Transaction
from gatepost.model.record import Record
from gatepost.model.verdict import Reply
from gatepost.process.service import Service
from gatepost.store import Archive, Box, JournalQuery, KeptMessage, KeptQuery
from gatepost.testing.samples import make_transaction
from gatepost.testing.sending import believing_listener, send

__all__ = ["RunningGateway", "Upstream", "running_gateway"]

_PATIENCE_SECONDS = 30.0
"""Time limit for each wait of a test: longer than any healthy gateway takes."""
_LIMIT = 1000
_NO_FILES: Mapping[str, str | bytes] = {}

T = TypeVar("T")


Rules = str | Mapping[str, Any]
"""The content of rules.yaml, as text or as a mapping."""


class Upstream(Protocol):
    """An upstream server, such as `FakeUpstream`."""

    @property
    def host(self) -> str:
        """Its IP address."""

    @property
    def port(self) -> int:
        """The port that it listens on."""


class RunningGateway:
    """A running gateway."""

    def __init__(self, service: Service, take: Callable[[Rules], None]) -> None:
        self._service = service
        self._take = take
        *addresses, self._believing = service.addresses
        self.addresses = tuple(addresses)
        """Host and port of each listener of the rules, for a client of your own."""
        self.host = addresses[0][0]
        """The host of the first listener."""
        self.port = addresses[0][1]
        """The port of the first listener."""

    def reload(self, rules: Rules) -> None:
        """Load new rules, as at SIGHUP; on ConfigError the old ones stay."""
        self._take(rules)

    def send(self, transaction: Transaction | None = None) -> Reply:
        """Send one transaction over a new connection; returns the final reply.

        That is the reply to the end of data, or the first refusal that ends the transaction:
        of the greeting, of EHLO, of MAIL, of the last recipient if all were refused, of DATA.

        It is sent as the transaction's own client would: with its address and port, HELO name, TLS and user,
        through a listener of the test kit, whatever ``listen`` says in the rules. Raises ValueError for what
        cannot be sent: TLS or a user after HELO, a TLS version other than 1.2 and 1.3.
        """
        return send(self._believing, transaction or make_transaction(), timeout_seconds=_PATIENCE_SECONDS)

    def journal(self) -> list[Record]:
        """The records of the journal, the newest first; at most 1,000."""
        return self._archive().records(JournalQuery(), limit=_LIMIT)

    def inbox(self) -> list[KeptMessage]:
        """The messages in the inbox, the newest first; at most 1,000."""
        return self._kept(Box.INBOX)

    def quarantine(self) -> list[KeptMessage]:
        """The messages in quarantine, the newest first; at most 1,000."""
        return self._kept(Box.QUARANTINE)

    def _kept(self, box: Box) -> list[KeptMessage]:
        archive = self._archive()
        found = (archive.kept_message(kept.id) for kept in archive.kept(KeptQuery(box=box), limit=_LIMIT))
        return [message for message in found if message]

    def _archive(self) -> Archive:
        """The store, after the journal has all transactions of the sessions that have ended."""
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while self._service.is_recording:
            if time.monotonic() > give_up:
                raise TimeoutError("the gateway's store did not write its journal in time")
            time.sleep(0.005)
        return self._service.store.archive


@contextmanager
def running_gateway(
    rules: Rules,
    *,
    upstream: Upstream | None = None,
    files: Mapping[str, str | bytes] = _NO_FILES,
) -> Iterator[RunningGateway]:
    """Run a gateway with these rules during the block.

    ``rules`` is the content of rules.yaml, as text or as a mapping. The defaults are those for a
    test: a free port on loopback, a store in a temporary folder, and a route for everybody to the
    inbox, or with ``upstream`` one for ``*@example.com`` to it. ``files`` are written beside
    rules.yaml, by name. Raises ConfigError for rules that ``gatepost check`` refuses.
    """
    with tempfile.TemporaryDirectory(prefix="gatepost-") as folder:
        for name, content in files.items():
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        path = Path(folder, "rules.yaml")
        own = Path(folder, ".test-kit")
        own.mkdir()
        listener = believing_listener(own)

        def settings(rules: Rules) -> LoadedConfig:
            path.write_text(_with_defaults(rules, upstream), encoding="utf-8")
            loaded = load(path)
            listen = (*loaded.config.listen, listener)
            return replace(loaded, config=loaded.config.model_copy(update={"listen": listen}))

        loaded = settings(rules)
        with _event_loop() as loop:
            service = _wait_for(loop, _started(loaded))

            try:
                yield RunningGateway(service, lambda rules: _wait_for(loop, service.reload(settings(rules))))
            finally:
                _wait_for(loop, service.stop())


def _with_defaults(rules: Rules, upstream: Upstream | None) -> str:
    """The rules as YAML, with default keys for tests appended."""
    text = dedent(rules) if isinstance(rules, str) else _dumped(rules)
    if upstream:
        route: dict[str, Any] = {
            "recipients": "*@example.com",
            "to": f"smtp://{upstream.host}:{upstream.port}",
        }
    else:
        route = {"recipients": "*", "clients": ["0.0.0.0/0", "::/0"], "to": "inbox"}
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
    """An event loop of the gateway's kind, running in a thread."""
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
