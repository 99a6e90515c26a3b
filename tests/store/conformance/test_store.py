"""What the gateway relies on: what comes back is what was put in, and no answer before it is stored."""

import asyncio
from dataclasses import replace

import pytest
from gatepost.config.store import Keep
from gatepost.model.edits import AddHeader, PrefixSubject, RemoveHeader, apply
from gatepost.store import JournalQuery, KeptQuery, StoreError, StoreUnavailable
from gatepost.store.sql import writer
from gatepost.store.sql.retention import Retention


async def test_what_was_committed_comes_back_as_it_was(store, make_record, make_kept):
    record, kept = make_record(), make_kept()
    await store.commit(record, (kept,))
    assert store.archive.record(record.id) == record
    message = store.archive.kept_message(kept.id)
    assert (message.prepended, message.content) == (kept.prepended, kept.content)
    assert message.delivered_form == kept.prepended + kept.content
    assert (message.mail_from, message.recipients) == (kept.mail_from, kept.recipients)
    assert (message.box, message.rule, message.reason) == (kept.box, kept.rule, kept.reason)
    assert (message.subject, message.header_from) == ("Hello", "Ann <ann@example.com>")
    assert message.message_id == "<1@example.com>"
    assert (message.created_at, message.transaction_id, message.client) == (
        record.received_at,
        record.id,
        record.client,
    )


async def test_the_largest_numbers_that_the_settings_allow_delete_nothing_and_stop_nothing(
    backend, backend_name, settings, tmp_path, make_record, make_kept, monkeypatch, until, caplog
):
    monkeypatch.setattr(writer, "_SWEEP_SECONDS", 0.02)
    sweep, swept = Retention.sweep, []
    monkeypatch.setattr(Retention, "sweep", lambda *given: (sweep(*given), swept.append(1)))
    most = Keep(messages=10**18 - 1, days=100_000, journal=10**18 - 1)
    opened = backend.open_store(settings.model_copy(update={"keep": most}), tmp_path)
    await opened.commit(record := make_record(), (make_kept(),))
    await until(lambda: len(swept) > 1 or backend_name == "memory")
    await opened.commit(make_record(), (make_kept(),))
    assert record.id in {one.id for one in opened.archive.records(JournalQuery(), limit=9)}
    assert len(opened.archive.kept(KeptQuery(), limit=9)) == 2
    await opened.close()
    assert "retention postponed" not in caplog.text


EDITS = (
    RemoveHeader("Authentication-Results"),
    AddHeader("X-Kind", 'a "quoted" täg, long enough to be folded in two lines of the header section'),
    PrefixSubject("[held] "),
)


async def test_a_message_is_kept_as_received_with_its_edits(store, make_record, make_kept):
    """Lists show it as it would be delivered."""
    content = b"Authentication-Results: forged\r\nSubject: Hello\r\n\r\nHi\r\n"
    kept = make_kept(content=content, edits=EDITS)
    plain = make_kept(content=content)
    await store.commit(make_record(), (kept, plain))
    message = store.archive.kept_message(kept.id)
    assert (message.content, message.edits) == (content, EDITS)
    assert (
        message.delivered_form == b"".join(kept.pieces) == b"".join((kept.prepended, *apply(content, EDITS)))
    )
    assert message.size == len(message.delivered_form)
    assert message.subject == "[held] Hello"
    assert store.archive.kept_message(plain.id).edits == ()
    (other, listed) = sorted(store.archive.kept(KeptQuery(), limit=9), key=lambda found: found.size)
    assert (other.subject, listed.subject, listed.size) == ("Hello", "[held] Hello", message.size)
    store.archive.delete([kept.id], actor="me")
    deleted = store.archive.kept_message(kept.id)
    assert (deleted.content, deleted.edits, deleted.size) == (b"", (), message.size)
    await store.withdraw([plain.id])


async def test_what_has_no_header_section_is_all_body(store, make_record, make_kept):
    kept = make_kept(content=b"Hello\r\nSubject: no\r\n\r\nbye\r\n")
    await store.commit(make_record(), (kept,))
    message = store.archive.kept_message(kept.id)
    assert message.delivered_form == kept.prepended + b"\r\n" + kept.content
    assert (message.subject, message.size) == ("", len(message.delivered_form))


async def test_a_journalled_record_appears_without_waiting(store, make_record, until):
    record = make_record()
    store.journal(record)
    assert store.backlog == 1
    await until(lambda: not store.backlog)
    assert store.archive.record(record.id) == record


async def test_a_later_record_of_the_same_transaction_replaces_the_former(store, make_record, until):
    first = make_record(reply="451 4.4.2 in doubt")
    await store.commit(first)
    store.journal(replace(first, reply="250 2.0.0 Ok"))
    await until(lambda: not store.backlog)
    assert store.archive.record(first.id) == replace(first, reply="250 2.0.0 Ok")


async def test_a_withdrawn_message_was_never_there(store, make_record, make_kept, everything):
    stays, goes = make_kept(), make_kept()
    await store.commit(make_record(), (stays, goes))
    await store.withdraw([goes.id])
    assert everything(store)[1] == {stays.id}


async def test_many_tasks_are_each_answered_for_their_own(store, make_record, make_kept, everything):
    pairs = [(make_record(), make_kept()) for _ in range(300)]
    await asyncio.gather(*(store.commit(record, (kept,)) for record, kept in pairs))
    assert everything(store) == ({r.id for r, _ in pairs}, {k.id for _, k in pairs})


HOSTILE = "a\x00b\udcffc\ud800\u202e\U0001f4a3\r\n\x1b[2J"


async def test_text_of_any_kind_is_stored(store, make_record, make_kept):
    base = make_record()
    evil = replace(
        base,
        helo=HOSTILE,
        authenticated=HOSTILE,
        mail_from=HOSTILE,
        message_id=HOSTILE,
        subject=HOSTILE,
        reply=HOSTILE,
        upstream_reply=HOSTILE,
        recipients=tuple(replace(r, address=HOSTILE, reason=HOSTILE, reply=HOSTILE) for r in base.recipients),
        evaluations=tuple(replace(e, reason=HOSTILE, recipients=(HOSTILE,)) for e in base.evaluations),
    )
    content = b"From: \xff\xfe\x00\r\nSubject: \xed\xa0\x80\r\n\r\n\x00\xff"
    kept = make_kept(mail_from=HOSTILE, recipients=(HOSTILE,), reason=HOSTILE, content=content)
    await store.commit(evil, (kept,))
    stored = HOSTILE.replace("\x00", "\ufffd").replace("\udcff", "\ufffd").replace("\ud800", "\ufffd")
    record = store.archive.record(evil.id)
    assert {record.helo, record.mail_from, record.subject, record.recipients[0].address} == {stored}
    assert record.evaluations == evil.evaluations
    assert store.archive.kept_message(kept.id).content == content
    assert [r.id for r in store.archive.records(JournalQuery(mail_from=HOSTILE), limit=2)] == [evil.id]
    assert [k.id for k in store.archive.kept(KeptQuery(recipient=HOSTILE), limit=2)] == [kept.id]


@pytest.mark.parametrize(
    ("content", "subject"),
    [
        (b"", ""),
        (b"\r\nSubject: body\r\n", ""),
        (b"X: y\r\n\r\nSubject: body\r\n", ""),
        (b"subject :\r\n\tfolded\r\n  twice\r\n", "folded twice"),
        (b"Subject: one\r\nSubject: two\r\n\r\n", "one"),
        (b"Subject: bare\n feed\n\nSubject: body", "bare feed"),
        (b"Subject: " + b"x" * 500 + b"\r\n\r\n", "x" * 200),
    ],
)
async def test_lists_show_the_first_subject_of_the_header_section(
    store, make_record, make_kept, content, subject
):
    kept = make_kept(content=content)
    await store.commit(make_record(), (kept,))
    assert store.archive.kept_message(kept.id).subject == subject


async def test_who_gives_up_waiting_disturbs_nobody(store, make_record, make_kept):
    tasks = [asyncio.create_task(store.commit(make_record(), (make_kept(),))) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome] == [outcomes[3]]


async def test_close_writes_what_is_queued_and_then_refuses(backend, settings, tmp_path, make_record, caplog):
    store = backend.open_store(settings, tmp_path)
    records = [make_record() for _ in range(1200)]
    for record in records:
        store.journal(record)
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.commit(make_record())
    store.journal(make_record())
    assert "takes no more records" in caplog.text
    with backend.open_archive(settings, tmp_path) as archive:
        assert len(archive.records(JournalQuery(), limit=2000)) == 1200


async def test_commit_returns_after_the_commit_is_visible_to_everybody(
    store, backend, settings, tmp_path, make_record, make_kept
):
    with backend.open_archive(settings, tmp_path) as other:
        for _ in range(20):
            kept = make_kept()
            await store.commit(make_record(), (kept,))
            assert other.kept_message(kept.id).content == kept.content


async def test_a_commit_that_fails_stores_nothing(store, make_record, make_kept, everything):
    record, kept = make_record(), make_kept()
    await store.commit(record, [kept])
    with pytest.raises(StoreError):
        await store.commit(make_record(), [make_kept(), kept])
    assert everything(store) == ({record.id}, {kept.id})


async def test_a_store_that_cannot_keep_up_refuses_mail_and_loses_records_and_says_so(
    store, make_record, make_kept, everything, caplog
):
    assert (store.overloaded, store.lost) == (False, 0)
    store.BACKLOG_LIMIT = store.JOURNAL_LIMIT = 0
    assert store.overloaded
    store.journal(make_record())
    assert store.lost == 1
    assert "takes no more records" in caplog.text
    with pytest.raises(StoreUnavailable, match="cannot keep up"):
        await store.commit(make_record(), [make_kept()])
    with pytest.raises(StoreUnavailable):
        await store.withdraw(["any"])
    assert everything(store) == (set(), set())


async def test_a_closed_store_takes_nothing_more(store, make_record, make_kept):
    await store.close()
    for change in (store.commit(make_record(), [make_kept()]), store.withdraw(["any"])):
        with pytest.raises(StoreUnavailable, match="the store is closed"):
            await change


@pytest.mark.parametrize("opener", ["open_archive", "open_mailbox", "open_conversations"])
def test_what_reads_makes_no_store(no_store, backend, settings, tmp_path, opener):
    with pytest.raises(StoreError, match="there is no store"):
        getattr(backend, opener)(settings, tmp_path)
    assert list(tmp_path.iterdir()) == []
