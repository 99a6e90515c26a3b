"""Kept messages as people read them."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from gatepost.store import Box, Counts, Mailbox, Page, Query, QueryError, State, StoreError, parse_query
from gatepost.store.index import Index
from gatepost.verdict import Reply
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
async def messages(store, make_record, make_kept):
    """Four messages a, b, c, d, one a day; d is the newest."""
    described = {
        "a": (
            {"client": "192.0.2.1", "evaluations": ()},
            {"recipients": ("bob+One@example.org",), "rule": None},
        ),
        "b": ({"client": "2001:db8::1", "authenticated": "Ann"}, {"box": Box.INBOX, "rule": "tag+b"}),
        "c": (
            {"client": "192.0.2.20", "authenticated": "bob"},
            {"recipients": ("bob+two+x@[IPv6:::1]", "tag@x", '"a b+quoted"@x')},
        ),
        "d": (
            {"client": "198.51.100.1", "evaluations": ()},
            {"content": b"Subject: d\r\n\r\n" + b"x" * 2000},
        ),
    }
    for day, (name, (record, kept)) in enumerate(described.items()):
        content = kept.pop("content", b"Message-ID: <%b@example.com>\r\n\r\n%b\r\n" % ((name.encode(),) * 2))
        await store.commit(
            make_record(id=f"transaction-{name}", received_at=START + timedelta(days=day), **record),
            [make_kept(id=name, content=content, **kept)],
        )


@pytest.fixture(params=["indexed", "not indexed"])
async def mailbox(request, messages, settings, tmp_path, until):
    """Of these messages; where they are not indexed another process has the index, and does nothing."""
    other = Index(tmp_path / "gatepost.db")
    if request.param == "not indexed":
        other.open()
    with Mailbox.open(settings, tmp_path) as opened:
        if request.param == "indexed":
            await until(lambda: opened.count(parse_query("-absent")) == 4)
        yield opened
    other.close()


def found(mailbox, text):
    return "".join(message.id for message in mailbox.page(parse_query(text)).messages)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", "dcba"),
        ("client:192.0.2.1", "a"),
        ("client:192.0.2.*", "ca"),
        ("-client:192.0.2.*", "db"),
        ("client:2001:DB8::1", "b"),
        ("client:192.0.2._", ""),
        ("user:ann", "b"),
        ("-user:ann", "dca"),
        ("user:nobody", ""),
        ("tag:one", "a"),
        ("tag:two+x", "c"),
        ("tag:x", ""),
        ("tag:tag", ""),
        ("tag:quoted", "c"),
        ("tag:quote", ""),
        ("rule:no-executables", "dc"),
        ("rule:words", "cb"),
        ("rule:words rule:no-executables", "c"),
        ("rule:quiet", ""),
        ("rule:tag+b", "b"),
        ("id:b", "b"),
        ("id:transaction-c", "c"),
        ("id:a@example.com", "a"),
        ("id:<a@example.com>", "a"),
        ("-id:a", "dcb"),
        ("before:2026-11-03T00:00Z", "ba"),
        ("after:2026-11-03T00:00Z", "dc"),
        ("after:2026-11-02T00:00Z before:2026-11-04T00:00Z", "cb"),
        ("larger:1KB", "d"),
        ("smaller:1KB", "cba"),
        ("is:inbox", "b"),
        ("is:quarantined", "dca"),
        ("-is:quarantined", "b"),
        ("is:released", ""),
        ("is:deleted", ""),
        ("is:unread", "dcba"),
        ("is:read", ""),
    ],
    ids=repr,
)
async def test_messages_are_found_by_what_is_known_of_them(mailbox, text, ids):
    assert found(mailbox, text) == ids
    assert mailbox.count(parse_query(text)) == len(ids)


async def test_pages_follow_each_other_without_gap_or_end(mailbox):
    first = mailbox.page(Query(), limit=2)
    second = mailbox.page(Query(), limit=2, before=first.next)
    assert [[message.id for message in page.messages] for page in (first, second)] == [["d", "c"], ["b", "a"]]
    assert first.next
    assert second.next is None
    assert mailbox.page(Query(), limit=9, before="no number") == Page(messages=(), next=None)


async def test_what_was_seen_is_marked_and_counted(mailbox):
    assert mailbox.counts() == Counts(inbox=1, quarantined=3, unread=4)
    assert mailbox.mark(["a", "b", "none", "a"], seen=True) == 2
    assert mailbox.mark(["a"], seen=True) == 0
    assert [message.unread for message in mailbox.page(Query()).messages] == [True, True, False, False]
    assert (found(mailbox, "is:unread"), found(mailbox, "is:read")) == ("dc", "ba")
    assert mailbox.counts().unread == 2
    assert mailbox.mark(["a", "c"], seen=False) == 1
    assert mailbox.counts().unread == 3


async def test_what_was_deleted_is_found_only_where_it_is_asked_for(mailbox):
    mailbox.mark(["b", "c"], seen=True)
    assert mailbox.delete(["c", "none", "b"], who="ann") == ["c", "b"]
    assert mailbox.delete(["c"], who="bob") == []
    assert (found(mailbox, ""), found(mailbox, "is:deleted")) == ("da", "cb")
    assert mailbox.counts() == Counts(inbox=0, quarantined=2, unread=2)
    assert mailbox.mark(["c"], seen=True) == 0
    message = mailbox.message("c")
    assert (message.state, message.changed_by, message.content) == (State.DELETED, "ann", b"")


async def test_what_was_released_stays_and_is_not_in_quarantine_any_more(mailbox):
    reply = Reply(code=250, enhanced="2.0.0", text="Ok")
    assert mailbox.archive.mark_released("c", who="ann", to=["x@example.com"], reply=reply)
    assert (found(mailbox, "is:released"), found(mailbox, "is:quarantined")) == ("c", "da")
    assert found(mailbox, "") == "dcba"
    assert mailbox.counts() == Counts(inbox=1, quarantined=2, unread=4)


async def test_all_that_match_are_deleted_and_nothing_else(mailbox):
    assert mailbox.delete_matching(parse_query("is:quarantined client:192.0.2.*"), who="ann") == 2
    assert found(mailbox, "") == "db"
    assert mailbox.delete_matching(parse_query("is:deleted"), who="bob") == 0
    assert mailbox.message("a").changed_by == "ann"
    assert mailbox.delete_matching(Query(), who="ann") == 2


async def test_more_are_deleted_than_one_step_takes(store, make_record, make_kept, settings, tmp_path, until):
    await asyncio.gather(*(store.commit(make_record(), [make_kept()]) for _ in range(250)))
    with Mailbox.open(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.count(parse_query("hi")) == 250)
        ids = [message.id for message in mailbox.page(Query(), limit=250).messages]
        assert mailbox.mark(ids, seen=True) == 250
        assert len(mailbox.delete(ids[:120], who="ann")) == 120
        assert mailbox.delete_matching(parse_query("hi"), who="ann") == 130
        with closing(sqlite3.connect(tmp_path / "gatepost.db-search")) as index:
            await until(lambda: index.execute("SELECT count(*) FROM words").fetchone() == (0,))


async def test_a_change_is_noticed_whoever_makes_it(mailbox, store, make_record, make_kept):
    seen = {mailbox.changes()}
    for change in (
        lambda: mailbox.mark(["a"], seen=True),
        lambda: mailbox.delete(["a"], who="ann"),
        lambda: mailbox.archive.delete(["b"], who="ann"),
    ):
        change()
        assert mailbox.changes() not in seen
        seen.add(mailbox.changes())
    await store.commit(make_record(), [make_kept()])
    assert mailbox.changes() not in seen


async def test_without_a_store_there_is_no_mailbox(settings, tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        Mailbox.open(settings, tmp_path)
    assert list(tmp_path.iterdir()) == []


WORDS = st.sampled_from(
    ["from:", "-", '"', "*", "d", "tag:", "AND", "NEAR(", "é", "\0", "\ud800", "(", "%", "\n"]
)


async def test_whatever_is_looked_for_there_is_an_answer(mailbox):
    @effort(max_examples=60, suppress_health_check=[HealthCheck.differing_executors])
    @given(st.lists(st.one_of(WORDS, st.text(max_size=8)), max_size=10).map("".join))
    def ask(text):
        try:
            query = parse_query(text)
        except QueryError:
            return
        assert mailbox.count(query) >= len(mailbox.page(query).messages) >= 0

    ask()


async def test_mail_that_arrives_while_people_search_is_stored_and_found(
    store, make_record, make_kept, settings, tmp_path, until
):
    errors = []
    stop = threading.Event()

    def look(mailbox):
        while not stop.is_set():
            try:
                page = mailbox.page(parse_query("hi -absent"), limit=20)
                mailbox.mark([message.id for message in page.messages[:3]], seen=True)
                mailbox.count(parse_query("is:unread"))
                mailbox.delete([message.id for message in page.messages[3:4]], who="ann")
            except Exception as error:
                errors.append(error)
                raise

    with Mailbox.open(settings, tmp_path) as mailbox:
        threads = [threading.Thread(target=look, args=(mailbox,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        ids = []
        for _ in range(100):
            kept = make_kept(rule=None)
            ids.append(kept.id)
            await store.commit(make_record(), [kept])
        stop.set()
        for thread in threads:
            thread.join()
        here = mailbox.count(Query())
        await until(lambda: mailbox.count(parse_query("hi")) == here)
        assert not errors
        assert here + mailbox.count(parse_query("is:deleted")) == 100
        assert all(mailbox.message(kept_id) for kept_id in ids)
