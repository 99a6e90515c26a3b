"""Looking up, deleting and marking: what people do with the store."""

import asyncio
import random
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from gatepost.model.mail import Stage
from gatepost.model.record import Disposition, RecipientRecord
from gatepost.model.verdict import Action, Evaluation, Reply, Result
from gatepost.store import Box, ConflictError, JournalQuery, KeptQuery, State, find
from gatepost.store.memory.journal import rules_hit
from gatepost.store.query import parse_journal_query


@pytest.fixture
async def archive(store, make_record, make_kept):
    """Three transactions: b is an hour, c two hours after a."""
    first = make_record(id="a")
    refused = RecipientRecord(
        address="dave@example.com", disposition=Disposition.REFUSED, action=Action.REJECT, rule="words"
    )
    await store.commit(first)
    await store.commit(
        replace(
            first,
            id="b",
            received_at=first.received_at + timedelta(hours=1),
            client="192.0.2.20",
            mail_from="",
            authenticated="carol",
            node="mx-b",
            evaluations=(),
        )
    )
    await store.commit(
        replace(
            first,
            id="c",
            received_at=first.received_at + timedelta(hours=2),
            client="2001:db8::1",
            mail_from=None,
            node="mx-a",
            recipients=(refused,),
            evaluations=(),
            message_id="<100%_sure@example.com>",
        ),
        [make_kept(id="kept-of-c")],
    )
    return store.archive


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, "cba"),
        ({"client": "192.0.2.1"}, "a"),
        ({"client": "192.0.2.*"}, "ba"),
        ({"mail_from": "ann@EXAMPLE.com"}, "a"),
        ({"mail_from": "*@example.com"}, "a"),
        ({"mail_from": ""}, "b"),
        ({"mail_from": "*"}, "ba"),
        ({"recipient": "bob@example.net"}, "ba"),
        ({"address": "BOB@example.net"}, "ba"),
        ({"address": "ann@example.*"}, "a"),
        ({"address": '"b\\ob"@example.net.'}, "ba"),
        ({"mail_from": '"ann"@example.com'}, "a"),
        ({"address": "*@example.com"}, "ca"),
        ({"session_id": "session", "client": "2001:*"}, "c"),
        ({"session_id": "other"}, ""),
        ({"id": "b"}, "b"),
        ({"id": "kept-of-c"}, "c"),
        ({"id": "session"}, "cba"),
        ({"id": "session", "client": "192.0.2.20"}, "b"),
        ({"user": "CAROL"}, "b"),
        ({"user": "c*l"}, "b"),
        ({"user": ""}, ""),
        ({"user": "*"}, "b"),
        ({"node": "MX-B"}, "b"),
        ({"node": "mx-*"}, "cb"),
        ({"node": "mx"}, ""),
        ({"id": "d"}, ""),
        ({"recipient": "*@example.*"}, "cba"),
        ({"recipient": "bob@example.ne_"}, ""),
        ({"message_id": "<1@example.com>"}, "ba"),
        ({"message_id": "<100%_*"}, "c"),
        ({"message_id": "%"}, ""),
        ({"message_id": "<___@*"}, ""),
        ({"rule": "no-executables"}, "ba"),
        ({"rule": "words"}, "ca"),
        ({"rule": "quiet"}, ""),
        ({"disposition": Disposition.RELAYED}, "ba"),
        ({"disposition": Disposition.REFUSED, "recipient": "dave@*"}, "c"),
        ({"client": "' OR 1=1 --"}, ""),
    ],
    ids=str,
)
async def test_records_are_found_by_what_is_known_of_them(archive, query, found):
    assert "".join(record.id for record in archive.records(JournalQuery(**query), limit=9)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "cba"),
        ("from:<>", "b"),
        ("from:ann", "a"),
        ("to:BOB@example.net", "ba"),
        ("dave", "c"),
        ("address:example.com is:refused", "c"),
        ("2001:db8::1", "c"),
        ("client:192.0.2.*", "ba"),
        ("<1@example.com>", "ba"),
        ("id:kept-of-c", "c"),
        ("id:session from:ann", "a"),
        ("user:carol", "b"),
        ("node:mx-a", "c"),
        ("rule:words session:session", "ca"),
        ("after:2026-11-23T18:30Z before:2026-11-23T19:30Z", "b"),
    ],
    ids=repr,
)
async def test_records_are_found_by_what_a_person_writes(archive, text, found):
    query = parse_journal_query(text)
    assert "".join(record.id for record in archive.records(query, limit=9)) == found


def answer(rule, action, *, result=Result.HIT, observed=False, stage=Stage.CONNECT):
    return Evaluation(
        rule=rule,
        stage=stage,
        result=result,
        action=action and Action(action),
        observed=observed,
        reason=f"because of {rule}",
        recipients=(),
        seconds=0.0,
    )


EARLY = {
    "a rule refuses": ("550 5.7.1 No", [answer("tag", "tag"), answer("no", "reject")], "refused", "no"),
    "a rule defers": ("451 4.7.1 Later", [answer("no", "defer", stage=Stage.MAIL)], "deferred", "no"),
    "a filter fails": ("451 4.3.0 Fault", [answer("no", "defer", result=Result.ERROR)], "deferred", "no"),
    "Gatepost refuses": ("530 5.7.0 TLS", [], "refused", None),
    "Gatepost refuses after a rule was asked": ("552 5.3.4 Size", [answer("tag", "tag")], "refused", None),
    "an observed failure decides nothing": (
        "552 5.3.4 Size",
        [answer("seen", "defer", result=Result.ERROR, observed=True)],
        "refused",
        None,
    ),
    "the client left": ("", [answer("skipped", None, result=Result.TIMEOUT)], "abandoned", None),
}


@pytest.mark.parametrize(("reply", "evaluations", "disposition", "rule"), EARLY.values(), ids=EARLY)
async def test_what_ended_before_rcpt_is_found_like_any_other(
    store, make_record, reply, evaluations, disposition, rule
):
    record = make_record(recipients=(), reply=reply, evaluations=tuple(evaluations), mail_from=None)
    await store.commit(record)
    assert record.dispositions == (disposition,)
    assert (record.early_end.rule, record.rules) == (rule, (rule,) if rule else ())
    assert record.early_end.reason == (f"because of {rule}" if rule else "")
    for other in Disposition:
        found = store.archive.records(JournalQuery(disposition=other), limit=9)
        assert bool(found) == (other == disposition), other
    for name in ("no", "seen", "skipped"):
        found = store.archive.records(JournalQuery(rule=name), limit=9)
        assert bool(found) == (name == rule), name


RULES = ["one", "Two.2_2-2", "x" * 64, "x" * 65, "söme", 'quo"ted\\', "none"]


async def test_records_of_a_rule_are_found_newest_first_whatever_they_were_before(store, make_record):
    """A record is replaced by another one of the same transaction, with other rules and at another time."""
    chance = random.Random(1)
    start = make_record().received_at
    last = {}
    for _ in range(120):
        number = chance.randrange(25)
        recipients = [
            RecipientRecord(
                address=f"{name}@example.com",
                disposition=Disposition.DEFERRED,
                action=Action.DEFER,
                rule=chance.choice([None, None, *RULES]),
            )
            for name in ("ann", "bob")
        ]
        asked = [
            answer(
                chance.choice(RULES[:-1]),
                chance.choice([None, "tag", "defer", "reject"]),
                result=chance.choice([*Result]),
                observed=chance.random() < 0.3,
            )
            for _ in range(chance.choice([0, 0, 1, 3]))
        ]
        record = make_record(
            id=f"r{number:02}",
            received_at=start + timedelta(minutes=chance.randrange(9)),
            recipients=tuple(recipients) if number % 2 else (),
            evaluations=tuple(asked),
            reply=chance.choice(["451 4.7.1 Later", ""]),
        )
        await store.commit(record)
        last[record.id] = record
    newest_first = sorted(last.values(), key=lambda record: (record.received_at, record.id), reverse=True)
    for rule in RULES:
        wanted = [record for record in newest_first if rule in {*rules_hit(record), *record.rules}]
        found, page = [], store.archive.records(JournalQuery(rule=rule), limit=3)
        while page:
            found += page
            page = store.archive.records(JournalQuery(rule=rule), limit=3, before=page[-1].id)
        assert [record.id for record in found] == [record.id for record in wanted], rule
        half = JournalQuery(rule=rule, since=start + timedelta(minutes=4))
        assert store.archive.records(half, limit=99) == [
            one for one in wanted if one.received_at >= half.since
        ]


async def test_a_record_with_recipients_has_their_dispositions_whatever_its_reply(store, make_record):
    record = make_record(reply="550 5.7.1 No", evaluations=(answer("no", "reject"),))
    await store.commit(record)
    assert record.early_end is None
    assert record.dispositions == ("relayed", "quarantined")
    assert store.archive.records(JournalQuery(disposition=Disposition.REFUSED), limit=9) == []


async def test_an_identifier_names_a_session_a_transaction_or_a_kept_message(store, make_record, make_kept):
    for name in ("t1", "t2"):
        kept = [make_kept(id=f"{name}-k1"), make_kept(id=f"{name}-k2", box=Box.INBOX)]
        await store.commit(make_record(id=name, session_id="s1"), kept)
    await store.commit(make_record(id="t3", session_id="s2"))
    await store.commit(make_record(id="t4", session_id="s3"), [make_kept(id="deleted")])
    store.archive.delete(["deleted"], actor="Ann")

    def named(some_id):
        found = find(store.archive, some_id)
        return [record.id for record in found.records], [kept.id for kept in found.kept]

    assert named("s1") == (["t2", "t1"], ["t2-k2", "t2-k1", "t1-k2", "t1-k1"])
    assert named("t1") == (["t1"], ["t1-k2", "t1-k1"])
    assert named("t1-k1") == (["t1"], ["t1-k1"])
    assert named("s2") == named("t3") == (["t3"], [])
    assert named("s3") == named("t4") == named("deleted") == (["t4"], ["deleted"])
    for nothing in ("", "t", "T1", "*", "x" * 10_000, "\0"):
        assert named(nothing) == ([], [])


async def test_records_are_found_by_time(archive):
    start = archive.record("a").received_at
    half, third = start + timedelta(minutes=30), start + timedelta(minutes=90)
    ids = [
        "".join(record.id for record in archive.records(query, limit=9))
        for query in (
            JournalQuery(since=half),
            JournalQuery(until=half),
            JournalQuery(since=half, until=third),
            JournalQuery(since=start, until=start),
        )
    ]
    assert ids == ["cb", "a", "b", ""]


async def test_pages_show_each_record_once(store, make_record):
    written = [make_record(id=f"r{number:02}") for number in range(25)]  # all of the same moment
    for record in written:
        await store.commit(record)
    seen, page = [], store.archive.records(JournalQuery(), limit=10)
    while page:
        seen += page
        page = store.archive.records(JournalQuery(), limit=10, before=page[-1].id)
    assert seen == written[::-1]
    assert store.archive.records(JournalQuery(), limit=10, before="gone") == []


async def test_kept_messages_are_found_and_paged(store, make_record, make_kept):
    messages = [make_kept(box=box) for box in (Box.INBOX, Box.QUARANTINE) * 6]
    record = make_record()
    await store.commit(record, messages)
    other = make_kept(
        mail_from="", recipients=("Zoë@example.com",), rule=None, content=b"Subject: 50% _off_\r\n\r\n"
    )
    await store.commit(make_record(), (other,))

    def found(limit=20, before=None, **query):
        return [kept.id for kept in store.archive.kept(KeptQuery(**query), limit=limit, before=before)]

    quarantined = [kept.id for kept in messages if kept.box is Box.QUARANTINE][::-1]
    everything = [other.id, *quarantined]
    assert found(box=Box.QUARANTINE) == everything
    assert found(box=Box.QUARANTINE, limit=3, before=everything[2]) == everything[3:6]
    assert found(before="gone") == []
    for query in ({"mail_from": ""}, {"recipient": "zoë@*"}, {"subject": "50% _*"}):
        assert found(**query) == [other.id]
    assert found(transaction_id=record.id, recipient="CAROL@example.org", box=Box.QUARANTINE) == quarantined
    assert found(rule="no-executables", box=Box.QUARANTINE, message_id="<1@*") == quarantined
    assert found(rule="no") == found(subject="50%") == found(state=State.RELEASED) == []


async def test_what_is_deleted_is_gone_and_who_did_it_is_known(store, make_record, make_kept):
    kept, stays = make_kept(), make_kept()
    await store.commit(make_record(), (kept, stays))
    archive = store.archive
    seen = archive.kept_message(kept.id)
    assert archive.delete([kept.id, "unknown", kept.id], actor="ann") == [kept.id]
    assert archive.delete([kept.id], actor="bob") == []
    message = archive.kept_message(kept.id)
    assert (message.state, message.changed_by, message.delivered_form) == (State.DELETED, "ann", b"")
    assert message.changed_at is not None
    assert [kept.id for kept in archive.kept(KeptQuery(), limit=9)] == [stays.id]
    with pytest.raises(ConflictError, match="was deleted by ann meanwhile"):
        archive.claim_release(seen, actor="ann")
    claim = archive.claim_release(archive.kept_message(stays.id), actor="ann")
    await store.withdraw([stays.id])
    assert not archive.finish_release(claim, to=("x@y",), reply=Reply(code=250, text="Ok"))


async def test_what_is_released_stays_and_says_so(store, make_record, make_kept):
    kept = make_kept()
    await store.commit(make_record(), (kept,))
    reply = Reply(code=250, enhanced="2.0.0", text="Ok: queued")
    claim = store.archive.claim_release(store.archive.kept_message(kept.id), actor="ann")
    assert store.archive.finish_release(claim, to=("x@example.com", "y@example.com"), reply=reply)
    message = store.archive.kept_message(kept.id)
    assert (message.state, message.changed_by, message.content) == (State.RELEASED, "ann", kept.content)
    assert message.note == "x@example.com, y@example.com: 250 2.0.0 Ok: queued"
    assert store.archive.kept(KeptQuery(), limit=9) == []


async def test_nothing_is_found_where_nothing_is(store):
    assert store.archive.record("unknown") is None
    assert store.archive.kept_message("unknown") is None
    assert store.archive.records(JournalQuery(), limit=9) == []
    assert store.archive.kept(KeptQuery(), limit=9) == []


async def test_threads_and_commands_read_while_the_gateway_writes(
    store, backend, settings, tmp_path, make_record, make_kept, monkeypatch
):
    monkeypatch.setattr(
        "gatepost.store.sqlite.driver.BUSY_SECONDS", 60.0
    )  # of a slow disk, not of a lost lock
    seen, stop = [], threading.Event()

    def read():
        with backend.open_archive(settings, tmp_path) as archive:
            while not stop.is_set():
                for kept in archive.kept(KeptQuery(), limit=3):
                    seen.append(archive.kept_message(kept.id).content)
                    archive.delete([kept.id], actor="ann")

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        await store.commit(make_record(), (make_kept(),))
    stop.set()
    for thread in threads:
        thread.join()
    assert len(store.archive.records(JournalQuery(), limit=99)) == 50
    assert len(store.archive.kept(KeptQuery(state=None), limit=99)) == 50


async def test_an_address_is_found_in_each_of_its_spellings(store, make_record):
    spelt = ("ann@bücher.example", "ann@xn--bcher-kva.example", '"ann"@XN--bcher-kva.example')
    for number, address in enumerate(spelt):
        await store.commit(replace(make_record(), id=f"r{number}", mail_from=address))
    for address in spelt:
        found = store.archive.records(JournalQuery(mail_from=address), limit=9)
        assert {record.id for record in found} == {"r0", "r1", "r2"}, address
    assert not store.archive.records(JournalQuery(mail_from="ann@bucher.example"), limit=9)


async def test_a_store_that_can_be_written_is_writable_while_others_write(store, make_record, everything):
    writing = [asyncio.create_task(store.commit(make_record())) for _ in range(50)]
    for _ in range(20):
        await asyncio.to_thread(store.archive.check_writable)
    await asyncio.gather(*writing)
    assert len(everything(store)[0]) == 50
