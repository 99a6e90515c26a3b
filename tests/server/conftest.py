"""A server on a free port, a gateway that plays a script, and a client that speaks transcripts."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
import uvloop
from gatepost.config.limits import Limits
from gatepost.config.listen import ListenerSettings
from gatepost.model.mail import Envelope, Recipient, Session
from gatepost.model.verdict import Reply
from gatepost.server import Server


def pytest_asyncio_loop_factories(config, item):
    """The gateway's event loop; at full length asyncio's own too."""
    more = {"asyncio": asyncio.SelectorEventLoop} if config.getoption("--long") else {}
    return {"uvloop": uvloop.new_event_loop, **more}


class Script:
    """A gateway that answers as told: a Reply, an exception to raise, or a function to await."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.calls: list[str] = []
        self.sessions: list[Session] = []
        self.messages: list[tuple[Envelope, bytes]] = []
        self.sent_by: list[Session] = []
        """The session of each message."""
        self.refusals: list[tuple[str, int]] = []
        self.refused_early: list[tuple[str | None, int]] = []
        self.auth_failed: list[tuple[str, int]] = []
        self.bad_commands: list[Session] = []
        """The session at each."""
        self.ended_as: Session | None = None
        self.refused_rcpt: list[tuple[str, int]] = []
        self.offers = frozenset({"SMTPUTF8"})
        self.closed = asyncio.Event()

    def session_handler(self, left) -> "ScriptedHandler":
        return ScriptedHandler(self)

    def extensions(self) -> frozenset[str]:
        return self.offers

    async def answer(self, hook: str, default: str | None) -> Any:
        self.calls.append(hook)
        answer = self.answers.get(hook)
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer):
            answer = await answer()
        if answer is None:
            answer = default
        return Reply.parse(answer) if isinstance(answer, str) else answer


@dataclass
class ScriptedHandler:
    script: Script
    envelope: Envelope | None = None
    recipients: list[Recipient] = field(default_factory=list)
    transaction_id: str = "01m84vek4zzmkmvx"

    async def connect(self, session: Session) -> Reply | None:
        self.script.sessions.append(session)
        return await self.script.answer("connect", None)

    async def helo(self, session: Session) -> Reply | None:
        self.script.sessions.append(session)
        return await self.script.answer("helo", None)

    async def introduce(self, session: Session, envelope: Envelope) -> Reply | None:
        self.script.sessions.append(session)
        return await self.script.answer("introduce", None)

    async def mail(self, session: Session, envelope: Envelope) -> Reply:
        self.script.sessions.append(session)
        self.envelope, self.recipients = envelope, []
        return await self.script.answer("mail", "250 2.1.0 OK")

    async def auth_failed(self, session: Session, user: str, reply: Reply) -> None:
        self.script.auth_failed.append((user, reply.code))

    def bad_command(self, session: Session) -> None:
        self.script.bad_commands.append(session)

    async def refused_early(self, session: Session, envelope: Envelope | None, reply: Reply) -> None:
        self.script.refused_early.append((envelope and envelope.mail_from, reply.code))

    async def refused_rcpt(self, recipient: Recipient, reply: Reply) -> None:
        self.script.refused_rcpt.append((recipient.address, reply.code))

    async def rcpt(self, recipient: Recipient) -> Reply:
        if "refused" in recipient.address:
            return Reply.parse("550 5.1.1 No such user")
        self.recipients.append(recipient)
        return await self.script.answer("rcpt", "250 2.1.5 OK")

    async def message(self, session: Session, content: bytes, received_at: datetime) -> Reply:
        assert received_at.tzinfo
        assert self.envelope
        envelope = Envelope(
            mail_from=self.envelope.mail_from,
            parameters=self.envelope.parameters,
            recipients=tuple(self.recipients),
        )
        reply = await self.script.answer("message", "250 2.0.0 Queued")
        self.script.messages.append((envelope, content))
        self.script.sent_by.append(session)
        return reply

    async def refused(self, reply: Reply, size: int) -> None:
        self.script.refusals.append((str(reply), size))
        await self.script.answer("refused", None)

    async def reset(self) -> None:
        await self.script.answer("reset", None)

    async def close(self, session: Session) -> None:
        self.script.ended_as = session
        self.script.closed.set()
        await self.script.answer("close", None)


class Client:
    """A raw SMTP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def reply(self) -> str:
        """One whole reply, its lines divided by newlines; empty at the end of the connection."""
        lines = []
        async with asyncio.timeout(30):
            while True:
                try:
                    line = (await self.reader.readline()).decode()
                except ConnectionError:
                    line = ""
                lines.append(line.rstrip("\r\n"))
                if line[3:4] != "-":
                    return "\n".join(lines)

    async def replies(self) -> list[str]:
        """All replies until the server closes."""
        return [reply async for reply in self._rest()]

    async def _rest(self) -> AsyncIterator[str]:
        while reply := await self.reply():
            yield reply

    async def talk(self, transcript: str) -> None:
        """Plays ``C:`` lines (those that follow each other leave in one write) and expects ``S:`` lines.

        A reply must begin with what the transcript says; ``S: closed`` is the end of the connection.
        """
        batch = b""
        for line in (line.strip() for line in transcript.strip().splitlines()):
            who, _, text = line.partition(":")
            text = text[1:]
            if who == "C":
                batch += text.encode() + b"\r\n"
                continue
            if batch:
                await self.send(batch)
                batch = b""
            reply = await self.reply()
            if text == "closed":
                assert not reply
            else:
                assert reply.startswith(text), f"expected {text!r}, got {reply!r}"
        if batch:
            await self.send(batch)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        await self.writer.start_tls(context, server_hostname="mx.test")

    def half_close(self) -> None:
        self.writer.write_eof()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


@dataclass
class Running:
    """A started server and the script behind it."""

    server: Server
    script: Script
    clients: list[Client] = field(default_factory=list)

    async def connect(self, tls: ssl.SSLContext | None = None, listener: int = 0, **options: Any) -> Client:
        host, port = self.server.addresses[listener]
        if tls:
            options["server_hostname"] = "mx.test"
        client = Client(*await asyncio.open_connection(host, port, ssl=tls, **options))
        self.clients.append(client)
        return client

    async def greeted(self, **options: Any) -> Client:
        client = await self.connect(**options)
        await client.talk("S: 220 mx.test")
        return client

    async def ready(self, **options: Any) -> Client:
        """A client that has said EHLO."""
        client = await self.greeted(**options)
        await client.talk("""
            C: EHLO client.test
            S: 250-mx.test
        """)
        return client

    async def in_transaction(self, **options: Any) -> Client:
        client = await self.ready(**options)
        await client.talk("""
            C: MAIL FROM:<a@example.org>
            C: RCPT TO:<b@example.com>
            S: 250 2.1.0
            S: 250 2.1.5
        """)
        return client

    async def talk(self, transcript: str) -> Client:
        """In a connection of its own that has said EHLO."""
        client = await self.ready()
        await client.talk(transcript)
        return client

    @property
    def contents(self) -> list[bytes]:
        return [content for _, content in self.script.messages]


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a server: ``start(limits={...}, listener={...}, bare_newline=..., tap=...)``."""
    started: list[Running] = []

    async def start(
        *, limits: dict[str, Any] | None = None, listener: dict[str, Any] | None = None, **options: Any
    ) -> Running:
        script = Script()
        server = Server(
            script,
            hostname="mx.test",
            limits=Limits(**limits or {}),
            listeners=[ListenerSettings(**{"address": "127.0.0.1:0", **(listener or {})})],
            **{"bare_newline": "reject", **options},
        )
        await server.start()
        running = Running(server, script)
        started.append(running)
        return running

    yield start
    for running in started:
        for client in running.clients:
            client.reset()
        await running.server.stop(0.5)


@pytest.fixture(scope="session")
def script_class() -> type[Script]:
    """For a test that starts its own server."""
    return Script


@pytest.fixture
async def mx(start: Start) -> Running:
    """A server with the default settings."""
    return await start()
