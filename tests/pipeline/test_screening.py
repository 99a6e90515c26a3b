"""The one walk through the stages, as transcripts; and its three users walk alike.

A line of a transcript is what the session does, ``->``, what the rules say: who is asked, whether the
client is refused, whether the recipient is taken out, and what is pending then.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from gatepost.config import load
from gatepost.config.conditions import Condition
from gatepost.explain import explain
from gatepost.model.mail import Envelope, Message, Recipient, Session, Stage, Transaction
from gatepost.model.verdict import Action, ReplyTiming, Verdict
from gatepost.pipeline import Pipeline, Screening, Threads
from gatepost.pipeline.finder import Finder
from gatepost.pipeline.rule import Hook, Rule
from gatepost.testing import make_transaction, run_filter, running_gateway

SESSION = Session(
    id="s",
    client=ip_address("192.0.2.1"),
    client_port=1,
    listener="l",
    connected_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def at(name, stages, action=None, *, only="", when=None, fails=False, timing=None, **options):
    """A rule that hits at these stages; ``only`` where that is the HELO, the sender or the recipient."""

    async def hook(session, envelope, recipient):
        if fails:
            raise LookupError(name)
        facts = (session.helo, envelope and envelope.mail_from, recipient and recipient.local_part)
        return Verdict(reason=name, timing=timing) if not only or only in facts else None

    hooks = {
        Stage[stage.upper()]: Hook(
            function=hook, arguments=("session", "envelope", "recipient"), is_async=True
        )
        for stage in stages.split()
    }
    condition = Condition.parse(when) if when else None
    return Rule(name=name, hooks=hooks, when=condition, action=action and Action(action), **options)


TRANSCRIPTS = {
    "without rules all is accepted": (
        [],
        """
        connect -> nothing
        helo h -> nothing
        mail s -> nothing
        rcpt a -> nothing
        message -> a accept
        """,
    ),
    "each hook is asked at its stage": (
        [at("all", "connect helo mail rcpt message", only="nobody")],
        """
        connect -> asked all
        helo h -> asked all
        mail s -> asked all
        rcpt a -> asked all
        rcpt b -> asked all
        message -> asked all, a accept, b accept
        """,
    ),
    "rules of one stage are asked in file order, up to the first final one": (
        [
            at("one", "mail", "tag"),
            at("two", "mail", "accept"),
            at("three", "mail", "reject"),
        ],
        """
        mail s -> asked one two, pending one two
        rcpt a -> pending one two
        message -> a accept by two
        """,
    ),
    "a refusal is answered at once, and nothing of it is pending": (
        [at("tag", "connect", "tag"), at("no", "connect", "reject"), at("behind", "connect", "defer")],
        """
        connect -> asked tag no, refused 550 by no
        """,
    ),
    "each recipient is refused alone": (
        [at("no", "rcpt", "reject", only="a"), at("later", "rcpt", "defer", only="b")],
        """
        mail s -> nothing
        rcpt a -> asked no, refused 550 by no
        rcpt b -> asked no later, refused 451 by later
        rcpt c -> asked no later
        message -> c accept
        """,
    ),
    "a hook whose condition needs the recipient is asked at RCPT": (
        [at("late", "connect", "reject", when={"recipient": "b@*"})],
        """
        connect -> nothing
        mail s -> nothing
        rcpt a -> nothing
        rcpt b -> asked late, refused 550 by late
        """,
    ),
    "a hook whose condition needs the message is asked with the message": (
        [at("late", "helo", "reject", when={"size": ">1B"})],
        """
        helo h -> nothing
        mail s -> nothing
        rcpt a -> nothing
        rcpt b -> nothing
        message -> asked late, a reject by late, b reject by late
        """,
    ),
    "a recipient's hook whose condition needs the message is asked for each": (
        [at("late", "rcpt", "discard", only="b", when={"size": ">1B"})],
        """
        mail s -> nothing
        rcpt a -> nothing
        rcpt b -> nothing
        message -> asked late late, a accept, b discard by late
        """,
    ),
    "what a second EHLO replaces is forgotten, what the client led to stays": (
        [at("client", "connect", "tag"), at("name", "helo", "quarantine", only="bad")],
        """
        connect -> asked client, pending client
        helo bad -> asked name, pending client name
        helo good -> asked name, pending client
        mail s -> pending client
        rcpt a -> pending client
        message -> a accept
        """,
    ),
    "a second EHLO is asked about even if the first led to a final verdict": (
        [at("name", "helo", "discard", only="bad"), at("no", "helo", "reject", only="worse")],
        """
        helo bad -> asked name, pending name
        helo worse -> asked name no, refused 550 by no
        """,
    ),
    "the session's pending verdicts hold in each of its transactions, a transaction's in itself": (
        [at("name", "helo", "tag"), at("sender", "mail", "discard", only="s")],
        """
        helo h -> asked name, pending name
        mail s -> asked sender, pending name sender
        rcpt a -> taken out, pending name sender
        message -> a discard by sender
        mail t -> asked sender, pending name
        rcpt a -> pending name
        message -> a accept
        """,
    ),
    "RSET ends what a transaction found": (
        [at("one", "rcpt", "quarantine", only="a")],
        """
        mail s -> nothing
        rcpt a -> asked one, taken out, pending one(a)
        mail s -> nothing
        rcpt b -> asked one
        message -> b accept
        """,
    ),
    "a reload asks about the client and its EHLO anew": (
        [at("old", "connect helo", "discard")],
        [at("new", "connect helo mail", "tag")],
        """
        connect -> asked old, pending old
        helo h -> pending old
        reload h -> asked new, pending new new
        mail s -> asked new, pending new new new
        rcpt a -> pending new new new
        message -> a accept
        """,
    ),
    "a reload stops at the client that the new rules refuse": (
        [at("old", "connect", "tag")],
        [at("new", "connect", "reject"), at("name", "helo", "tag")],
        """
        connect -> asked old, pending old
        helo h -> pending old
        reload h -> asked new, refused 550 by new
        """,
    ),
    "a reload to rules that ask about neither leaves nothing": (
        [at("old", "connect helo", "discard")],
        [],
        """
        connect -> asked old, pending old
        reload h -> nothing
        mail s -> nothing
        rcpt a -> nothing
        message -> a accept
        """,
    ),
    "on_error defer refuses at once": (
        [at("broken", "mail", "accept", fails=True), at("next", "mail")],
        """
        mail s -> asked broken!, refused 451 by broken
        """,
    ),
    "on_error skip asks the next rule": (
        [at("broken", "mail", fails=True, on_error="skip"), at("next", "mail", "reject")],
        """
        mail s -> asked broken! next, refused 550 by next
        """,
    ),
    "on_error quarantine is pending, and final": (
        [at("broken", "mail", "tag", fails=True, on_error="quarantine"), at("next", "mail rcpt", "reject")],
        """
        mail s -> asked broken!, pending broken
        rcpt a -> taken out, pending broken
        message -> a quarantine by broken
        """,
    ),
    "an observing rule decides nothing": (
        [at("watch", "connect rcpt message", "reject", observe=True)],
        """
        connect -> asked watch
        mail s -> nothing
        rcpt a -> asked watch
        message -> asked watch, a accept
        """,
    ),
    "a rule further up is still asked, one behind a final verdict is not": (
        [at("up", "rcpt", "reject", only="b"), at("early", "connect", "discard"), at("down", "mail rcpt")],
        """
        connect -> asked early, pending early
        mail s -> pending early
        rcpt a -> asked up, taken out, pending early
        rcpt b -> asked up, refused 550 by up, pending early
        message -> a discard by early
        """,
    ),
    "a recipient is taken out alone, and a rule further up may refuse the message itself": (
        [
            at("up", "message", "reject", when={"recipient": "a@*"}),
            at("out", "rcpt", "discard", only="a"),
            at("behind", "message", "quarantine"),
        ],
        """
        mail s -> nothing
        rcpt a -> asked out, taken out, pending out(a)
        rcpt b -> asked out, pending out(a)
        message -> asked up behind, a reject by up, b quarantine by behind
        """,
    ),
    "a recipient that is accepted for good is not taken out": (
        [at("friend", "mail", "accept"), at("out", "connect rcpt", "discard")],
        """
        connect -> asked out, pending out
        mail s -> asked friend, pending out friend
        rcpt a -> pending out friend
        message -> a accept by friend
        """,
    ),
    "a tag takes nobody out": (
        [at("tag", "rcpt", "tag")],
        """
        mail s -> nothing
        rcpt a -> asked tag, pending tag(a)
        message -> a accept
        """,
    ),
}


class Door:
    """Plays a session as a front door does, and writes down what the rules say."""

    def __init__(self, *pipelines):
        self._pipelines = list(pipelines)
        self._walk = self._session_walk = Screening(self._pipelines.pop(0))
        self._session = SESSION
        self._envelope = None

    async def say(self, line):
        word, _, argument = line.partition(" ")
        if word == "message":
            return await self._message()
        if word == "mail":
            self._envelope = Envelope(mail_from=argument)
            early, self._walk = await self._session_walk.mail(self._session, self._envelope, "t")
        elif word == "rcpt":
            recipient = Recipient(address=f"{argument}@example.com")
            early = await self._walk.rcpt(self._session, self._envelope, recipient)
            if not early.refusal:
                accepted = (*self._envelope.recipients, recipient)
                self._envelope = replace(self._envelope, recipients=accepted)
        else:
            self._walk = self._session_walk
            self._session = replace(self._session, helo=argument)
            if word == "connect":
                early = await self._walk.connect(self._session)
            elif word == "helo":
                early = await self._walk.helo(self._session)
            else:
                early = await self._walk.reload(self._pipelines.pop(0), self._session)
        refusal = early.refusal
        return self._told(
            early.evaluations,
            f"refused {refusal.reply.code} by {refusal.rule}" if refusal else "",
            "taken out" if early.taken_out else "",
            f"pending {' '.join(map(_pending, self._walk.pending))}" if self._walk.pending else "",
        )

    async def _message(self):
        transaction = Transaction(
            id="t",
            session=self._session,
            envelope=self._envelope,
            message=Message(content=b"Subject: x\r\n\r\n"),
            received_at=SESSION.connected_at,
        )
        decision = await self._walk.decide(transaction)
        ends = zip(self._envelope.recipients, decision.outcomes, strict=True)
        return self._told(
            decision.evaluations,
            *(f"{r.local_part} {o.action}" + (f" by {o.rule}" if o.rule else "") for r, o in ends),
        )

    @staticmethod
    def _told(evaluations, *words):
        asked = " ".join(e.rule + ("!" if e.result == "error" else "") for e in evaluations)
        return ", ".join(filter(None, (f"asked {asked}" if asked else "", *words))) or "nothing"


def _pending(one):
    recipient = f"({one.recipient.partition('@')[0]})" if one.recipient else ""
    return one.verdict.reason.removeprefix("LookupError: ") + recipient


@pytest.fixture
def threads():
    threads = Threads(size=1)
    yield threads
    threads.close()


@pytest.fixture
def pipeline(threads):
    def pipeline(rules):
        return Pipeline(rules, filter_seconds=5.0, threads=threads)

    return pipeline


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_transcript(name, pipeline):
    *rules, transcript = TRANSCRIPTS[name]
    expected = [line.strip() for line in transcript.strip().splitlines()]
    door = Door(*map(pipeline, rules))
    said = [line.partition(" -> ")[0] for line in expected]
    assert [f"{line} -> {await door.say(line)}" for line in said] == expected


async def test_evaluations_are_those_of_the_session_then_those_of_the_transaction(pipeline):
    session = Screening(pipeline([at("all", "connect helo mail rcpt message", only="nobody")]))
    await session.connect(SESSION)
    await session.helo(SESSION)
    envelope = Envelope(mail_from="s", recipients=(Recipient(address="a"),))
    _, first = await session.mail(SESSION, envelope, "t")
    await first.rcpt(SESSION, envelope, envelope.recipients[0])
    _, second = await session.mail(SESSION, envelope, "t")
    await first.decide(replace(make_transaction(), envelope=envelope))
    stages = [stage.name for stage in Stage]
    assert [e.stage.name for e in session.evaluations] == stages[:2]
    assert [e.stage.name for e in first.evaluations] == stages
    assert [e.stage.name for e in second.evaluations] == stages[:3]


async def test_a_second_ehlo_is_evaluated_instead_of_the_first(pipeline):
    session = Screening(pipeline([at("name", "connect helo", "tag", only="bad")]))
    await session.connect(SESSION)
    for helo in ("bad", "good"):
        await session.helo(replace(SESSION, helo=helo))
    assert [(e.stage.name, str(e.result)) for e in session.evaluations] == [
        ("CONNECT", "pass"),
        ("HELO", "pass"),
    ]


async def test_a_stage_without_rules_costs_no_question(pipeline):
    session = Screening(pipeline([at("late", "message")]))
    early, transaction = await session.mail(SESSION, Envelope(mail_from="s"), "t")
    assert early is await session.connect(SESSION)
    assert early is await transaction.rcpt(SESSION, Envelope(mail_from="s"), Recipient(address="a"))


async def test_how_a_reply_is_sent_is_said_with_the_stage(pipeline):
    slow, slower = ReplyTiming(delay_seconds=1.0), ReplyTiming(delay_seconds=2.0)
    rules = [at("slow", "connect mail", "tag", timing=slow), at("no", "mail", "reject", timing=slower)]
    session = Screening(pipeline(rules))
    assert (await session.connect(SESSION)).timing == slow
    early, _ = await session.mail(SESSION, Envelope(mail_from="s"), "t")
    assert (early.timing, early.refusal.timing) == (slower, slower)


# --- its users

FILTER = '''
"""Writes down what it is asked, and answers at one stage."""
import json
from dataclasses import dataclass

from gatepost import Envelope, Recipient, Session, Transaction, Verdict, hookimpl


@dataclass(frozen=True, kw_only=True)
class Witness:
    notes: str
    answer_at: str = ""

    def _asked(self, hook, session, *facts):
        known = [hook, session.helo, session.extended, session.authenticated, *facts]
        with open(self.notes, "a") as notes:
            notes.write(json.dumps(known) + "\\n")
        return Verdict(reason=f"at {hook}") if hook == self.answer_at else None

    @hookimpl
    async def filter_connect(self, session: Session):
        return self._asked("connect", session)

    @hookimpl
    def filter_helo(self, session: Session):
        return self._asked("helo", session)

    @hookimpl
    async def filter_mail(self, session: Session, envelope: Envelope):
        return self._asked("mail", session, envelope.mail_from, len(envelope.recipients))

    @hookimpl
    def filter_rcpt(self, session: Session, envelope: Envelope, recipient: Recipient):
        accepted = [one.address for one in envelope.recipients]
        return self._asked("rcpt", session, envelope.mail_from, accepted, recipient.address)

    @hookimpl
    async def filter_message(self, transaction: Transaction):
        recipients = [one.address for one in transaction.envelope.recipients]
        content = transaction.message.content.decode()
        return self._asked("message", transaction.session, recipients, content)
'''


@pytest.mark.parametrize(
    ("answer_at", "recipients", "asked"),
    [
        ("", ["a@example.com", "b@example.com"], ["connect", "helo", "mail", "rcpt", "rcpt", "message"]),
        ("connect", ["a@example.com"], ["connect"]),
        ("helo", ["a@example.com"], ["connect", "helo"]),
        ("mail", ["a@example.com"], ["connect", "helo", "mail"]),
        ("rcpt", ["a@example.com"], ["connect", "helo", "mail", "rcpt"]),
        (
            "message",
            ["a@example.com", "b@example.com"],
            ["connect", "helo", "mail", "rcpt", "rcpt", "message"],
        ),
    ],
)
def test_the_handler_explain_and_the_kit_walk_alike(answer_at, recipients, asked, tmp_path):
    transaction = make_transaction(
        "Subject: x\n\ny\n", mail_from="s@example.org", recipients=recipients, helo="h.example"
    )
    (tmp_path / "witness.py").write_text(FILTER)
    notes = {user: tmp_path / user for user in ("handler", "explain", "kit")}

    def rules(user):
        settings = {"notes": str(notes[user]), "answer_at": answer_at}
        rule = {"name": "witness", "filter": f"{tmp_path / 'witness.py'}:Witness", "with": settings}
        return {"relay": [{"recipients": "*@example.com", "to": "inbox"}], "rules": [rule]}

    with running_gateway(rules("handler")) as gateway:
        reply = gateway.send(transaction)
        record = gateway.journal()[-1]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"listen": ["127.0.0.1:0"], **rules("explain")}))
    explained = explain(load(path), transaction)
    verdict = run_filter(
        Finder(tmp_path).filter_class("witness.py:Witness"),
        transaction,
        notes=str(notes["kit"]),
        answer_at=answer_at,
    )

    told = {
        user: [json.loads(line) for line in file.read_text().splitlines()] for user, file in notes.items()
    }
    assert [hook for hook, *_ in told["kit"]] == asked
    assert told["handler"] == told["explain"] == told["kit"]
    assert _evaluations(record) == _evaluations(explained)
    assert (reply.code == 550) == bool(verdict) == bool(answer_at)
    assert all(
        (end.outcome.reply.code if end.outcome.reply else 250) == reply.code for end in explained.recipients
    )
    assert verdict is None or verdict.reason == explained.evaluations[-1].reason


def _evaluations(found):
    return [replace(evaluation, seconds=0.0) for evaluation in found.evaluations]
