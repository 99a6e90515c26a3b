"""The real application over a real store, asked by HTTP."""

import asyncio
from dataclasses import replace

import httpx
import pytest
from gatepost.config.forward import ForwardSettings
from gatepost.config.store import StoreSettings
from gatepost.gateway.imports import import_messages
from gatepost.model.mail import Stage, new_id
from gatepost.model.record import Disposition
from gatepost.model.verdict import Action, Evaluation, Match, Reply, Result
from gatepost.store import Box, ConversationPart, Kept, SessionSummary, open_store
from gatepost.testing import make_message, make_record, make_transaction
from gatepost.web.actions import Actions, Forwarder
from gatepost.web.app import create_app
from gatepost.web.desk import Desk
from gatepost.web.learning import Learning

SETTINGS = StoreSettings(url="sqlite:///gatepost.db", conversations=True)


def conversation(transaction, recipient):
    """What was said in the transaction's session."""
    said = [
        ("C", b"MAIL FROM:<ann@example.org>\r\n"),
        ("*", f"transaction {transaction.id}".encode()),
        ("S", b"250 2.1.0 Ok\r\n"),
        ("C", f"RCPT TO:<{recipient}>\r\n".encode()),
        ("S", b"250 2.1.5 Ok\r\n"),
        ("D", b"Subject: \xff\r\n"),
        ("S", b"250 2.0.0 Ok\r\n"),
        ("C", b"QUIT\r\n"),
    ]
    session, at = transaction.session, transaction.received_at
    return ConversationPart(
        session=SessionSummary(
            id=session.id,
            client=str(session.client),
            client_port=session.client_port,
            listener=session.listener,
            started_at=session.connected_at,
            ended_at=None,
            helo=session.helo,
            tls=session.tls,
            authenticated=session.authenticated,
            transactions=1,
            last_reply="250 2.0.0 Ok",
            left_out=0,
        ),
        number=0,
        lines=[(int(at.timestamp() * 1_000_000), direction, data) for direction, data in said],
        octets=1000,
    )


@pytest.fixture
async def store(tmp_path):
    opened = open_store(SETTINGS, tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def keep(store, until):
    """Receive a message for an address; gives its id. If ``spoken`` there is a conversation too."""

    async def keep_one(
        recipient="bob@example.com",
        *,
        content=None,
        box=Box.INBOX,
        mail_from="ann@example.org",
        authenticated=None,
        spoken=False,
        **parts,
    ):
        content = content or make_message(**({"subject": "Hello", "text": "Hi Bob\r\n"} | parts))
        transaction = make_transaction(
            content, mail_from=mail_from, recipients=recipient, authenticated=authenticated
        )
        disposition = Disposition.INBOX if box is Box.INBOX else Disposition.QUARANTINED
        record = make_record(transaction, disposition=disposition, rule="words")
        kept = Kept(
            id=new_id(),
            box=box,
            mail_from=mail_from,
            recipients=(recipient,),
            prepended=b"Received: from client.example.org by mx.example.com; now\r\n",
            content=content,
            rule="words" if box is Box.QUARANTINE else None,
            reason="the subject says Hello",
        )
        evaluation = Evaluation(
            rule="words",
            stage=Stage.MESSAGE,
            result=Result.HIT,
            action=Action.QUARANTINE,
            observed=box is Box.INBOX,
            reason="the subject says Hello",
            recipients=(recipient,),
            seconds=0.0015,
            matches=(Match(where="subject", text="Hello"),),
        )
        if spoken:
            store.converse(conversation(transaction, recipient))
        await store.commit(replace(record, evaluations=(evaluation,)), (kept,))
        await until(lambda: not (spoken and store.backlog))
        return kept.id

    return keep_one


@pytest.fixture
def desk(store, tmp_path):
    """A gateway's desk whose release notes what it was given, and says what the test wants."""
    released = []

    def release(message, to):
        released.append((message.id, to))
        return opened.answer

    relayed = replace(make_record(make_transaction(), disposition=Disposition.RELAYED), upstream="mx:25")
    forward = Forwarder(settings=ForwardSettings.model_validate("smtp://mx"), send=lambda *_: relayed)
    actions = Actions(release=release, forward=forward)
    smtp = ("127.0.0.1:2525",)
    with Desk.open(SETTINGS, tmp_path, mode="gateway", actions=actions, smtp=smtp) as opened:
        opened.released = released
        opened.answer = Reply(code=250, enhanced="2.0.0", text="Ok: queued")
        yield opened


@pytest.fixture
def app(desk):
    return create_app(desk)


@pytest.fixture
async def http(app):
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8025") as client:
        yield client


@pytest.fixture
def until():
    """Wait until a condition holds that another task brings about."""

    async def wait(condition):
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def importing(desk, tmp_path):
    """Let the desk import, as that of complaints mode does."""

    def run(messages, client):
        return import_messages(SETTINGS, tmp_path, messages, client=client)

    desk.imports = run


@pytest.fixture
def learning(desk):
    """Let these rules learn, or fail with an exception; returns the calls."""

    def by(*answers):
        calls = []

        def learn(kept, kind, actor):
            calls.append((kept.id, kept.content, kind, actor))
            if isinstance(answers[0], Exception):
                raise answers[0]
            return answers

        desk.learning = Learning(rules=lambda: ["some"] * len(answers), learn=learn)
        return calls

    return by
