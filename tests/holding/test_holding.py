"""A session that is held: what is shown, and what each answer and each failure does."""

import asyncio

import pytest
from gatepost.config import ConfigError
from gatepost.config.conditions import Condition
from gatepost.holding import Answer, Held, NotHeldError, TooManyError
from gatepost.model.mail import Stage
from gatepost.model.verdict import Action, Reply, Result, Verdict
from gatepost.store import Box
from gatepost.testing.upstream import FakeUpstream

BOB, CAROL, DAN = "bob@example.com", "carol@example.com", "dan@example.com"
MESSAGE = b"Subject: hi\r\n\r\nbody\r\n.\r\n"
DIALOGUE = {
    Stage.CONNECT: None,
    Stage.HELO: "EHLO client.example.org",
    Stage.MAIL: "MAIL FROM:<ann@example.org>",
    Stage.RCPT: f"RCPT TO:<{BOB}>",
    Stage.MESSAGE: MESSAGE,
}
USUAL = {Stage.CONNECT: "220", Stage.HELO: "250", Stage.MAIL: "250", Stage.RCPT: "250", Stage.MESSAGE: "250"}
KNOWN_AT = {
    Stage.CONNECT: {"client": "127.0.0.1"},
    Stage.HELO: {"helo": "client.*"},
    Stage.MAIL: {"sender": "ann@*"},
    Stage.RCPT: {"recipient": "bob@*"},
    Stage.MESSAGE: {"size": ">1B"},
}
STAGES = pytest.mark.parametrize("stage", Stage, ids=lambda one: one.name.lower())


def hold(name="look", **settings):
    return {"name": name, "filter": "match", "action": "hold"} | settings


def at(stage, **more):
    return hold(hold={"stage": stage.name.lower(), **more.pop("hold", {})}, **more)


def answer(reply=None, **edits):
    return Answer(actor="test", reply=Reply.parse(reply) if reply else None, **edits)


async def reach(client, stage):
    """Say everything up to a stage, and its own command; the task returns the stage's reply."""
    before = [DIALOGUE[one] for one in Stage if Stage.CONNECT < one < stage]
    if stage > Stage.CONNECT:
        await client.reply()
        if before:
            await client.say(*before)
    if stage is Stage.MESSAGE:
        await client.say("DATA")
    return asyncio.create_task(client.say(DIALOGUE[stage]) if DIALOGUE[stage] else client.reply())


@STAGES
async def test_a_session_stops_and_goes_on_as_decided(gateway, stage):
    running = await gateway(at(stage))
    reply = await reach(await running.client(), stage)
    session = await running.one()
    held = session.held
    assert (session.by, session.breakpoint, held.stage) == ("look", None, stage)
    assert str(held.session.client) == "127.0.0.1"
    assert held.session.helo == ("client.example.org" if stage >= Stage.HELO else "")
    assert (held.envelope and held.envelope.mail_from) == ("ann@example.org" if stage >= Stage.MAIL else None)
    assert (held.recipient and held.recipient.address) == (BOB if stage is Stage.RCPT else None)
    assert held.content == (MESSAGE[:-3] if stage is Stage.MESSAGE else b"")
    assert [(one.action, one.reply) for one in held.decided] == [(Action.ACCEPT, "")]
    assert not reply.done()
    await running.desk.answer(held.id, answer())
    assert (await reply).startswith(USUAL[stage])
    assert running.desk.count == 0


@STAGES
@pytest.mark.parametrize("chosen", ["550 5.7.1 Not you", "450 4.2.1 Later", "421 4.3.2 Go away"])
async def test_a_refusal_is_chosen_and_421_closes(gateway, stage, chosen):
    running = await gateway(at(stage))
    client = await running.client()
    reply = await reach(client, stage)
    await running.desk.answer((await running.one()).held.id, answer(chosen))
    assert await reply == chosen
    closed = chosen.startswith("421") or stage is Stage.CONNECT
    assert (await client.say("NOOP") == "") is closed
    if closed and stage is Stage.RCPT:
        await client.leave()
    if stage is not Stage.RCPT:
        (record,) = await running.journal()
        assert record.reply == chosen
        assert record.rules == ("look",)
    assert await running.kept() == []


@STAGES
async def test_what_a_rule_refuses_is_accepted_if_somebody_says_so(gateway, stage):
    code = 251 if stage is Stage.RCPT else int(USUAL[stage])
    no = {"name": "no", "filter": "match", "action": "reject", "when": KNOWN_AT[stage]}
    running = await gateway(at(stage), no)
    client = await running.client()
    reply = await reach(client, stage)
    held = (await running.one()).held
    assert [(one.action, one.rule, one.reply[:3]) for one in held.decided] == [(Action.REJECT, "no", "550")]
    await running.desk.answer(held.id, answer(f"{code} 2.0.0 As you like"))
    named = stage < Stage.MAIL  # the greeting and the reply to EHLO name the server and what it offers
    assert (await reply).startswith("2" if named else f"{code} 2.0.0 As you like")
    rest = [DIALOGUE[one] for one in Stage if stage < one < Stage.MESSAGE]
    if stage < Stage.MESSAGE:
        assert (await client.say(*rest, "DATA", MESSAGE)).startswith("250 ")
    assert len(await running.kept()) == 1


@STAGES
async def test_a_refusal_stays_and_the_journal_names_its_rule(gateway, stage):
    no = {"name": "no", "filter": "match", "action": "reject", "when": KNOWN_AT[stage]}
    running = await gateway(at(stage), no)
    client = await running.client()
    reply = await reach(client, stage)
    await running.desk.answer((await running.one()).held.id, answer())
    assert (await reply).startswith("550 5.7.1")
    await client.leave()
    await running.nothing_held()
    async with asyncio.timeout(30):
        while not (records := await running.journal()):
            await asyncio.sleep(0.01)
    assert records[0].rules == ("no",)
    told = [(one.rule, one.action) for one in records[0].evaluations]
    assert ("look", Action.HOLD) in told
    assert any("test: go on" in one.reason for one in records[0].evaluations)


@pytest.mark.parametrize("on_error", ["defer", "skip", "quarantine"])
@STAGES
async def test_after_the_deadline_on_error_answers(gateway, stage, on_error):
    running = await gateway(at(stage, on_error=on_error, hold={"deadline": "30ms"}))
    client = await running.client()
    reply = await (await reach(client, stage))
    if on_error == "defer":
        assert reply == "451 4.3.0 Temporary failure, try again later"
        return
    assert reply.startswith(USUAL[stage])
    rest = [DIALOGUE[one] for one in Stage if stage < one < Stage.MESSAGE]
    if stage < Stage.MESSAGE:
        assert (await client.say(*rest, "DATA", MESSAGE)).startswith("250 ")
    assert len(await running.kept(Box.QUARANTINE)) == (on_error == "quarantine")
    assert len(await running.kept()) == (on_error == "skip")
    (record,) = await running.journal()
    (ended,) = [one for one in record.evaluations if one.result is Result.TIMEOUT]
    assert "no answer within 0.03 s" in ended.reason


async def fail_desk(running):
    running.following.cancel()


async def fail_stop(running):
    running.service._holder.stop()


@pytest.mark.parametrize("failure", [fail_desk, fail_stop])
@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.RCPT, Stage.MESSAGE])
async def test_a_desk_or_a_server_that_ends_lets_on_error_answer(gateway, stage, failure):
    running = await gateway(at(stage))
    reply = await reach(await running.client(), stage)
    await running.one()
    await failure(running)
    assert (await reply).startswith("451 4.3.0")


async def test_without_a_desk_on_error_answers_at_once(gateway):
    running = await gateway(at(Stage.MESSAGE, on_error="quarantine"), desk=False)
    reply = await reach(await running.client(), Stage.MESSAGE)
    assert (await reply).startswith("250")
    ((kept,), (record,)) = await running.kept(Box.QUARANTINE), await running.journal()
    assert kept.rule == "look"
    assert "there is no web desk" in record.evaluations[-1].reason


async def test_a_desk_that_does_not_answer_is_not_waited_for(gateway, monkeypatch):
    monkeypatch.setattr("gatepost.holding.holder._DESK_SECONDS", 0.05)
    running = await gateway(at(Stage.HELO))
    await fail_desk(running)
    await asyncio.sleep(0)
    assert (await (await reach(await running.client(), Stage.HELO))).startswith("451")


@pytest.mark.parametrize("stage", [Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.MESSAGE])
async def test_a_client_that_leaves_ends_it_and_keeps_its_message(gateway, stage):
    with FakeUpstream() as upstream:
        running = await gateway(at(stage), upstream=upstream)
        client = await running.client()
        await reach(client, stage)
        held = (await running.one()).held
        await client.leave()
        await running.nothing_held()
        with pytest.raises(NotHeldError, match="the client has left"):
            await running.desk.answer(held.id, answer())
        if stage >= Stage.MAIL:
            async with asyncio.timeout(30):
                while not (records := await running.journal()):
                    await asyncio.sleep(0.01)
            assert [str(one) for one in records[0].dispositions] == ["abandoned"]
        assert upstream.messages == ()


async def test_a_client_that_has_closed_its_sending_side_before_is_answered(gateway):
    running = await gateway(at(Stage.MESSAGE))
    client = await running.client()
    said = [DIALOGUE[one].encode() + b"\r\n" for one in (Stage.HELO, Stage.MAIL, Stage.RCPT)]
    await client.reply()
    client.writer.write(b"".join([*said, b"DATA\r\n", MESSAGE]))
    client.writer.write_eof()
    session = await running.one()
    await running.desk.answer(session.held.id, answer("250 2.0.0 Got it"))
    replies = [await client.reply() for _ in range(5)]
    assert replies[-1] == "250 2.0.0 Got it"
    assert len(await running.kept()) == 1


async def test_the_envelope_and_the_message_that_are_relayed_are_the_changed_ones(gateway):
    with FakeUpstream() as upstream:
        running = await gateway(at(Stage.MESSAGE), upstream=upstream)
        client = await running.client()
        await client.reply()
        await client.say("EHLO x", "MAIL FROM:<ann@example.org>", f"RCPT TO:<{BOB}>", f"RCPT TO:<{CAROL}>")
        await client.say("DATA")
        reply = asyncio.create_task(client.say(MESSAGE))
        held = (await running.one()).held
        changed = answer(
            mail_from="other@example.org", recipients=(CAROL, DAN), content=b"Subject: new\r\n\r\n.dot"
        )
        await running.desk.answer(held.id, changed)
        assert (await reply).startswith("250")
        (message,) = upstream.messages
    assert message.mail_from == "other@example.org"
    assert [one.address for one in message.recipients] == [CAROL, DAN]
    assert message.content.endswith(b"+0000\r\nSubject: new\r\n\r\n.dot\r\n")
    (record,) = await running.journal()
    assert record.mail_from == "other@example.org"
    assert (record.subject, record.size) == ("new", 22)
    assert [(one.address, str(one.disposition)) for one in record.recipients] == [
        (BOB, "discarded"),
        (CAROL, "relayed"),
        (DAN, "relayed"),
    ]
    told = record.evaluations[-1].reason
    assert "sender <ann@example.org> replaced by <other@example.org>" in told
    assert f"recipients added: {DAN}; recipients removed: {BOB}" in told
    assert "message of 21 bytes replaced by one of 22 bytes" in told


async def test_a_reply_that_was_chosen_never_hides_a_refusal_of_upstream(gateway):
    with FakeUpstream({"dot": "554 5.7.1 Spam"}) as upstream:
        running = await gateway(at(Stage.MESSAGE), upstream=upstream)
        reply = await reach(await running.client(), Stage.MESSAGE)
        await running.desk.answer((await running.one()).held.id, answer("250 2.0.0 Fine", recipients=(DAN,)))
        assert await reply == "554 5.7.1 Spam"
    (record,) = await running.journal()
    assert [(one.address, str(one.disposition)) for one in record.recipients] == [(DAN, "refused")]


@pytest.mark.parametrize(
    ("stage", "wrong", "why"),
    [
        (Stage.CONNECT, {"reply": "250 OK"}, "the reply code 250 at connect, expected 220, 4xx or 5xx"),
        (Stage.RCPT, {"reply": "354 Go"}, "the reply code 354 at rcpt, expected 250 or 251, 4xx or 5xx"),
        (Stage.RCPT, {"mail_from": "x@y"}, "can be changed at the stage message, not at rcpt"),
        (Stage.MESSAGE, {"recipients": ()}, "no recipients"),
        (Stage.MESSAGE, {"reply": "550 No", "mail_from": "x@y.z"}, "a message that is refused"),
        (Stage.MESSAGE, {"mail_from": "x> SIZE=1"}, "the sender 'x> SIZE=1' is not an address"),
        (Stage.MESSAGE, {"recipients": (BOB, "x\r\nRSET@example.com")}, "is not an address"),
        (Stage.MESSAGE, {"recipients": ("x@elsewhere.example",)}, "has no route"),
        (Stage.MESSAGE, {"recipients": ("x@discarded.example",)}, "another destination than the other"),
        (Stage.MESSAGE, {"recipients": ("bøb@example.com",)}, "is not an address"),
        (Stage.MESSAGE, {"recipients": (BOB,) * 3}, "3 recipients, expected at most 2"),
        (Stage.MESSAGE, {"content": b"a: b\n\nx"}, "the message is not acceptable"),
        (Stage.MESSAGE, {"content": b"x" * 3000}, "the message is not acceptable"),
        (Stage.MESSAGE, {"content": b"a: b\r\n" * 500 + b"\r\n"}, "the message is not acceptable"),
    ],
)
async def test_an_answer_that_cannot_be_carried_out_is_explained_and_the_session_held_on(
    gateway, stage, wrong, why
):
    running = await gateway(
        at(stage),
        relay=[
            {"recipients": "*@example.com", "to": "inbox"},
            {"recipients": "*@discarded.example", "to": "discard"},
        ],
        limits={"recipients": 2, "line": 2000, "header_size": 1000, "message_size": "1MiB"},
    )
    reply = await reach(await running.client(), stage)
    held = (await running.one()).held
    with pytest.raises(ValueError, match=why.replace("(", r"\(")):
        await running.desk.answer(held.id, answer(**wrong))
    assert running.desk.count == 1
    await running.desk.answer(held.id, answer())
    assert (await reply).startswith(USUAL[stage])


async def test_only_so_many_sessions_are_held(gateway, monkeypatch):
    monkeypatch.setattr("gatepost.holding.held_sessions._HELD_LIMIT", 2)
    running = await gateway(at(Stage.HELO))
    held = [await reach(await running.client(), Stage.HELO) for _ in range(2)]
    while running.desk.count < 2:
        await asyncio.sleep(0.005)
    assert (await (await reach(await running.client(), Stage.HELO))).startswith("451")
    for one in running.desk.sessions():
        await running.desk.answer(one.held.id, answer())
    assert all(reply.startswith("250") for reply in await asyncio.gather(*held))


async def test_a_rule_that_observes_holds_nothing(gateway):
    running = await gateway(at(Stage.MAIL, mode="observe"))
    assert (await (await reach(await running.client(), Stage.MESSAGE))).startswith("250")
    (record,) = await running.journal()
    assert [(one.action, one.observed) for one in record.evaluations] == [(Action.HOLD, True)]


async def test_a_session_may_be_held_at_each_of_its_stages_by_several_rules(gateway):
    rules = [at(stage) | {"name": stage.name.lower()} for stage in Stage]
    running = await gateway(*rules, at(Stage.RCPT) | {"name": "again"})
    client = await running.client()
    task = asyncio.create_task(reach(client, Stage.MESSAGE))
    seen = []
    for _ in Stage:
        held = (await running.one()).held
        seen.append([one.rule for one in held.holds])
        await running.desk.answer(held.id, answer())
    assert (await (await task)).startswith("250")
    assert seen == [["connect"], ["helo"], ["mail"], ["rcpt", "again"], ["message"]]


# Breakpoints


@STAGES
async def test_a_breakpoint_holds_as_many_sessions_as_it_says(gateway, stage):
    running = await gateway(relays=False)
    armed = running.desk.arm(stage, count=2, actor="test")
    for _ in range(2):
        reply = await reach(await running.client(), stage)
        session = await running.one()
        assert (session.by, session.breakpoint) == (f"breakpoint {armed.id}", armed.id)
        await running.desk.answer(session.held.id, answer())
        assert (await reply).startswith(USUAL[stage])
    assert running.desk.breakpoints() == []
    assert not any(running.service._holder.armed)
    reply = await reach(await running.client(), stage)
    assert (await reply).startswith(USUAL[stage])


@pytest.mark.parametrize(
    ("stage", "when", "holds"),
    [
        (Stage.CONNECT, {"client": "127.0.0.0/8"}, True),
        (Stage.CONNECT, {"client": "192.0.2.0/24"}, False),
        (Stage.RCPT, {"recipient": "bob@*"}, True),
        (Stage.RCPT, {"recipient": "carol@*"}, False),
        (Stage.MESSAGE, {"recipient": "bob@*", "header": {"Subject": "h*"}}, True),
        (Stage.MESSAGE, {"not": {"size": "<1KiB"}}, False),
    ],
)
async def test_a_breakpoint_holds_only_what_its_condition_matches(gateway, stage, when, holds):
    running = await gateway(relays=False)
    running.desk.arm(stage, condition=Condition.parse(when), actor="test")
    reply = await reach(await running.client(), stage)
    if holds:
        await running.desk.answer((await running.one()).held.id, answer())
    assert (await reply).startswith(USUAL[stage])
    assert len(running.desk.breakpoints()) == (not holds)


async def test_a_breakpoint_that_is_removed_or_whose_desk_is_gone_holds_nothing(gateway, monkeypatch):
    monkeypatch.setattr("gatepost.holding.holder._DESK_SECONDS", 0.05)
    running = await gateway(relays=False)
    armed = running.desk.arm(Stage.HELO, actor="test")
    assert running.desk.disarm(armed.id)
    assert not running.desk.disarm(armed.id)
    assert (await (await reach(await running.client(), Stage.HELO))).startswith("250")
    running.desk.arm(Stage.HELO, actor="test")
    await fail_desk(running)
    assert (await (await reach(await running.client(), Stage.HELO))).startswith("250")


async def test_no_more_than_32_breakpoints_are_armed(gateway):
    running = await gateway()
    for _ in range(32):
        running.desk.arm(Stage.HELO, actor="test")
    with pytest.raises(TooManyError, match="already 32"):
        running.desk.arm(Stage.HELO, actor="test")


async def test_two_answers_at_once_are_one_after_the_other(gateway):
    running = await gateway(at(Stage.HELO))
    reply = await reach(await running.client(), Stage.HELO)
    held = (await running.one()).held
    answers = [running.desk.answer(held.id, answer(code)) for code in ("550 5.7.1 first", "450 4.7.1 second")]
    done = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(one) for one in done] == [type(None), NotHeldError]
    assert await reply == "550 5.7.1 first"


async def test_a_worker_that_dies_ends_its_sessions(gateway):
    running = await gateway(at(Stage.HELO))
    await reach(await running.client(), Stage.HELO)
    held = (await running.one()).held
    for task in asyncio.all_tasks():
        if "_handle_client" in str(task.get_coro()):
            task.cancel()
    await running.nothing_held()
    with pytest.raises(NotHeldError, match="its worker has ended"):
        running.desk.session(held.id)


# Values and settings


def test_what_is_known_survives_the_way_between_processes(gateway_held):
    data, content = gateway_held.to_json(), gateway_held.content
    assert Held.from_json(data, content) == gateway_held


@pytest.fixture
def gateway_held():
    from gatepost.model.mail import Envelope, Recipient  # noqa: PLC0415
    from gatepost.testing import make_transaction  # noqa: PLC0415

    transaction = make_transaction(authenticated="\udcff", tls="TLSv1.3")
    return Held(
        id="0" * 16,
        stage=Stage.RCPT,
        since=transaction.received_at,
        session=transaction.session,
        transaction_id="1" * 16,
        envelope=Envelope(mail_from="\udce9@x", parameters=("SIZE=1",)),
        recipient=Recipient(address="ü@x", parameters=("NOTIFY=NEVER",)),
        decided=(),
        holds=(),
        size=None,
    )


def test_a_filter_cannot_ask_for_a_hold():
    with pytest.raises(ValueError, match="only a rule's settings"):
        Verdict(reason="x", action=Action.HOLD)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (hold(hold={"deadline": "5m"}), "deadline is 300 s, expected at most 240 s before the stage message"),
        (hold(hold={"stage": "message", "deadline": "10m"}), "expected at most 540 s at the stage message"),
        (hold(hold={"stage": "data"}), "expected connect, helo, mail, rcpt or message"),
        (hold(action="reject", hold={}), "hold without action: hold"),
        (hold(reply="550 5.7.1 No"), "reply with action: hold"),
        (hold(when={"sender": "*"}, hold={"stage": "helo"}), "asked at mail, later than it shall hold"),
    ],
)
async def test_settings_that_cannot_hold_are_named(gateway, rule, why):
    with pytest.raises(ConfigError, match=why):
        await gateway(rule)
