"""A store in a temporary folder, and records and messages to put into it."""

import asyncio
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gatepost.config.store import StoreSettings
from gatepost.model.mail import Stage, new_id
from gatepost.model.record import Disposition, RecipientRecord, Record
from gatepost.model.verdict import Action, Evaluation, Match, Result
from gatepost.store import (
    Box,
    ConversationPart,
    JournalQuery,
    Kept,
    KeptQuery,
    SessionSummary,
    open_store,
)
from gatepost.store.postgresql import driver

sys.path.insert(0, str(Path(__file__).parent))
from postgres_server import PostgresServer

RECORD = Record(
    id="",
    session_id="session",
    received_at=datetime(2026, 11, 23, 18, 0, 0, 123456, tzinfo=UTC),
    client="192.0.2.1",
    helo="client.example",
    tls="TLSv1.3",
    authenticated=None,
    mail_from="Ann@Example.com",
    recipients=(
        RecipientRecord(address="Bob@example.net", disposition=Disposition.RELAYED, action=Action.ACCEPT),
        RecipientRecord(
            address="carol@example.org",
            disposition=Disposition.QUARANTINED,
            action=Action.QUARANTINE,
            rule="no-executables",
            reason="an attachment a.exe",
            reply="250 2.0.0 Ok",
        ),
    ),
    size=1000,
    message_id="<1@example.com>",
    subject="=?utf-8?q?caf=C3=A9?=",
    evaluations=(
        Evaluation(
            rule="words",
            stage=Stage.MESSAGE,
            result=Result.HIT,
            action=Action.REJECT,
            observed=True,
            reason='says "viagra"',
            recipients=("Bob@example.net",),
            seconds=0.0015,
            matches=(Match(where="subject", text="viagra"),),
        ),
        Evaluation(
            rule="quiet",
            stage=Stage.RCPT,
            result=Result.PASS,
            action=None,
            observed=False,
            reason="",
            recipients=(),
            seconds=0.0,
        ),
    ),
    reply="250 2.0.0 Ok",
    upstream="mail.example.net:25",
    upstream_reply="250 2.0.0 Ok: queued",
    seconds=0.0123,
)

KEPT = Kept(
    id="",
    box=Box.QUARANTINE,
    mail_from="Ann@Example.com",
    recipients=("carol@example.org", "dave@example.org"),
    prepended=b"Received: from client.example by mx.example.net; Mon, 23 Nov 2026 18:00:00 +0000\r\n",
    content=b"From: Ann\r\n <ann@example.com>\r\nSubject: Hello\r\nMessage-ID: <1@example.com>\r\n\r\nHi\r\n",
    rule="no-executables",
    reason="an attachment a.exe",
)

SESSION = SessionSummary(
    id="",
    client="192.0.2.1",
    client_port=40000,
    listener="127.0.0.1:2525",
    started_at=datetime.now(UTC),
    ended_at=None,
    helo="client.example",
    tls=None,
    authenticated=None,
    transactions=0,
    last_reply="250 Ok",
    left_out=0,
)


@pytest.fixture(scope="session")
def one_postgresql():
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def postgresql(one_postgresql, monkeypatch):
    """A server for all tests; locks are waited for longer than on a machine that runs nothing beside."""
    monkeypatch.setattr(driver, "LOCK_SECONDS", 60.0)
    return one_postgresql


@pytest.fixture
def make_postgresql():
    """Start servers of a test's own, which it may stop, with these settings."""
    made = []

    def make(*options):
        made.append(PostgresServer(*options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def make_record():
    """A record with an id of its own, and with these fields."""
    return lambda **fields: replace(RECORD, **{"id": new_id(), **fields})


@pytest.fixture
def make_kept():
    """A message to keep with an id of its own, and with these fields."""
    return lambda **fields: replace(KEPT, **{"id": new_id(), **fields})


@pytest.fixture
def make_session():
    """A summary of a session with an id of its own, and with these fields."""
    return lambda **fields: replace(SESSION, **{"id": new_id(), **fields})


@pytest.fixture
def make_part():
    """A part of a session's conversation, with these lines of the client."""

    def part(session, number=0, *said, octets=1000):
        at = int(session.started_at.timestamp() * 1_000_000)
        lines = [(at, "C", data) for data in said]
        return ConversationPart(session=session, number=number, lines=lines, octets=octets)

    return part


@pytest.fixture
def settings():
    return StoreSettings(url="sqlite:///gatepost.db")


@pytest.fixture
async def store(settings, tmp_path):
    opened = open_store(settings, tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def until():
    """Wait until a condition holds that another thread or process brings about."""

    async def wait(condition):
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def everything():
    """The ids of all records and of all kept messages of a store."""

    def ids(store):
        records = store.archive.records(JournalQuery(), limit=10_000)
        messages = store.archive.kept(KeptQuery(state=None), limit=10_000)
        return {record.id for record in records}, {kept.id for kept in messages}

    return ids
