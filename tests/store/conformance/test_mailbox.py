"""Kept messages as people read them."""

import threading
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest
from gatepost.model.edits import AddHeader, PrefixSubject
from gatepost.model.verdict import Reply
from gatepost.store import (
    Box,
    Counts,
    JournalQuery,
    KeptQuery,
    Page,
    Position,
    Query,
    QueryError,
    State,
    StoreError,
    parse_query,
)
from gatepost.store.query import Later
from gatepost.testing import make_message
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
async def messages(store, make_record, make_kept):
    """Four messages a, b, c, d, one a day; d is the newest."""
    described = {
        "a": (
            {"client": "192.0.2.1", "evaluations": (), "node": "mx-a"},
            {"recipients": ("bob+One@example.org",), "rule": None},
        ),
        "b": (
            {"client": "2001:db8::1", "authenticated": "Ann", "node": "mx-b"},
            {"box": Box.INBOX, "rule": "tag+b"},
        ),
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


@pytest.fixture
async def mailbox(messages, unfilled_index, backend, settings, tmp_path, until):
    """Of these messages."""
    with backend.open_mailbox(settings, tmp_path) as opened:
        if not unfilled_index:
            await until(lambda: opened.count(parse_query("-absent")) == 4)
        yield opened


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
        ("node:mx-a", "a"),
        ("node:MX-*", "ba"),
        ("-node:mx-a", "dcb"),
        ("node:mx", ""),
        ("tag:one", "a"),
        ("tag:two+x", "c"),
        ("tag:x", ""),
        ("tag:tag", ""),
        ("recipient:BOB+one@example.org", "a"),
        ("recipient:bob@example.org", ""),
        ("recipient:ob+One@example.org", ""),
        ("-recipient:tag@x", "dba"),
        ("mailbox:ann", "b"),
        ("mailbox:one", "a"),
        ("tag:quoted", "c"),
        ("tag:quote", ""),
        ("rule:no-executables", "dc"),
        ("rule:words", "cb"),
        ("rule:words rule:no-executables", "c"),
        ("rule:quiet", ""),
        ("rule:tag+b", "b"),
        ("id:b", "b"),
        ("id:transaction-c", "c"),
        ("id:session", "dcba"),
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


def spread(facets):
    """As ``value=messages``, in order."""
    return tuple(
        " ".join(f"{one.value}={one.messages}" for one in kind)
        for kind in (facets.mailboxes, facets.recipients)
    )


async def test_facets_count_mailboxes_and_recipients_of_what_matches(mailbox, unfilled_index, until):
    if unfilled_index:
        assert mailbox.facets(Query()).messages == 0
        return
    facets = mailbox.facets(Query())
    assert (facets.messages, facets.unread, facets.attachments) == (4, 4, 0)
    assert spread(facets) == (
        "ann=1 bob=1 one=1 quoted=1 two+x=1",
        (
            "carol@example.org=2 dave@example.org=2 "
            '"a b+quoted"@x=1 bob+one@example.org=1 bob+two+x@[ipv6:::1]=1 tag@x=1'
        ),
    )
    for facet in facets.mailboxes:
        assert mailbox.count(parse_query(f"mailbox:{facet.value}")) == facet.messages
    mailbox.mark(["c"], seen=True)
    facets = mailbox.facets(parse_query("user:bob"))
    assert (facets.messages, facets.unread) == (1, 0)
    assert spread(facets)[0] == "bob=1 quoted=1 two+x=1"
    assert mailbox.facets(parse_query("is:unread")).messages == 3
    mailbox.delete(["c"], actor="ann")
    await until(lambda: mailbox.facets(Query()).messages == 3)
    assert spread(mailbox.facets(Query())) == (
        "ann=1 one=1",
        "carol@example.org=2 dave@example.org=2 bob+one@example.org=1",
    )
    assert mailbox.facets(parse_query("is:deleted")).messages == 0


async def test_what_was_deleted_is_found_only_where_it_is_asked_for(mailbox):
    mailbox.mark(["b", "c"], seen=True)
    assert mailbox.delete(["c", "none", "b"], actor="ann") == ["c", "b"]
    assert mailbox.delete(["c"], actor="bob") == []
    assert (found(mailbox, ""), found(mailbox, "is:deleted")) == ("da", "cb")
    assert mailbox.counts() == Counts(inbox=0, quarantined=2, unread=2)
    assert mailbox.mark(["c"], seen=True) == 0
    message = mailbox.message("c")
    assert (message.state, message.changed_by, message.content) == (State.DELETED, "ann", b"")


async def test_what_was_released_stays_and_is_not_in_quarantine_any_more(mailbox):
    reply = Reply(code=250, enhanced="2.0.0", text="Ok")
    claim = mailbox.archive.claim_release(mailbox.message("c"), actor="ann")
    assert mailbox.archive.finish_release(claim, to=["x@example.com"], reply=reply)
    assert (found(mailbox, "is:released"), found(mailbox, "is:quarantined")) == ("c", "da")
    assert found(mailbox, "") == "dcba"
    assert mailbox.counts() == Counts(inbox=1, quarantined=2, unread=4)


def seen_by_readers(mailbox):
    """All that the pages show."""
    words = ["", "is:deleted", "is:unread", "is:quarantined", "tag:one", "rule:words", "larger:1k", "hi", "d"]
    queries = [parse_query(text) for text in words]
    return (
        [mailbox.page(query) for query in queries],
        [mailbox.count(query) for query in queries],
        [mailbox.message(name) for name in "abcd"],
        mailbox.counts(),
        mailbox.facets(Query()),
    )


@pytest.fixture
async def marked(mailbox, store, make_record, make_kept, unfilled_index, until):
    """The mailbox with a message that is seen, one that is released, and one with edits."""
    edits = (AddHeader("X-Kind", "news"), PrefixSubject("[edited] "))
    content = make_message(subject="hi", text="hi there", attachments={"a.pdf": b"x"})
    await store.commit(make_record(), [make_kept(id="e", edits=edits, content=content)])
    mailbox.mark(["a", "e"], seen=True)
    claim = mailbox.archive.claim_release(mailbox.message("c"), actor="carol")
    mailbox.archive.finish_release(claim, to=["x@example.com"], reply=Reply.parse("250 2.0.0 Ok"))
    if not unfilled_index:
        await until(lambda: mailbox.count(parse_query("subject:edited")) == 1)
    return mailbox


@pytest.mark.parametrize("name", list("abcde"))
async def test_a_message_that_was_put_back_is_as_it_was(marked, name, until):
    before, whole = seen_by_readers(marked), marked.message(name)
    removed = marked.remove(name, actor="ann")
    assert removed.message == whole
    deleted = marked.message(name)
    assert (deleted.state, deleted.changed_by, deleted.content) == (State.DELETED, "ann", b"")
    assert found(marked, "is:deleted") == name
    assert name not in found(marked, "")
    await until(lambda: marked.facets(Query()).messages in (0, 4))  # the index has let go of it
    assert marked.put_back(removed)
    assert marked.message(name) == whole
    assert seen_by_readers(marked) == before


async def test_a_message_is_put_back_once_and_only_from_its_last_deletion(marked, store):
    first = marked.remove("a", actor="ann")
    assert marked.remove("a", actor="bob") is None
    assert marked.remove("none", actor="bob") is None
    assert marked.put_back(first)
    assert not marked.put_back(first)
    second = marked.remove("a", actor="bob")
    assert not marked.put_back(first)
    assert found(marked, "is:deleted") == "a"
    assert marked.put_back(second)
    gone = marked.remove("a", actor="bob")
    await store.withdraw(["a"])
    assert not marked.put_back(gone)
    assert found(marked, "is:deleted") == ""


async def test_all_that_match_are_deleted_and_nothing_else(mailbox):
    assert mailbox.delete_matching(parse_query("is:quarantined client:192.0.2.*"), actor="ann") == 2
    assert found(mailbox, "") == "db"
    assert mailbox.delete_matching(parse_query("is:deleted"), actor="bob") == 0
    assert mailbox.message("a").changed_by == "ann"
    assert mailbox.delete_matching(Query(), actor="ann") == 2


async def test_a_change_is_noticed_whoever_makes_it(mailbox, store, make_record, make_kept):
    seen = {mailbox.changes()}
    for change in (
        lambda: mailbox.mark(["a"], seen=True),
        lambda: mailbox.delete(["a"], actor="ann"),
        lambda: mailbox.archive.delete(["b"], actor="ann"),
    ):
        change()
        assert mailbox.changes() not in seen
        seen.add(mailbox.changes())
    await store.commit(make_record(), [make_kept()])
    assert mailbox.changes() not in seen
    seen.add(mailbox.changes())
    await store.withdraw(["c"])
    assert mailbox.changes() not in seen
    seen.add(mailbox.changes())
    claim = mailbox.archive.claim_release(mailbox.message("d"), actor="ann")
    mailbox.archive.finish_release(claim, to=["x@example.com"], reply=Reply(code=250, text="Ok"))
    assert mailbox.changes() not in seen


async def test_a_page_begins_where_the_one_before_ended_though_messages_arrive(
    mailbox, store, make_record, make_kept
):
    first = mailbox.page(Query(), limit=2)
    await store.commit(make_record(), [make_kept(id="e")])
    second = mailbox.page(Query(), limit=2, before=first.next)
    assert [message.id for message in second.messages] == ["b", "a"]
    assert found(mailbox, "") == "edcba"
    assert "".join(one.id for one in mailbox.page(Query(terms=(Later(than="c"),))).messages) == "ed"
    assert not mailbox.page(Query(terms=(Later(than="unknown"),))).messages


async def test_words_find_no_deleted_message(mailbox):
    mailbox.delete(["b"], actor="ann")
    for text in ("is:deleted b", "is:deleted -absent", "is:deleted -has:attachment"):
        assert found(mailbox, text) == ""
    assert found(mailbox, "is:deleted") == "b"


async def test_without_a_store_there_is_no_mailbox(no_store, backend, settings, tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        backend.open_mailbox(settings, tmp_path)
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


@pytest.mark.parametrize("text", ["\0", "\ud800"], ids=["NUL", "lone surrogate"])
async def test_text_that_no_database_takes_finds_nothing(mailbox, text):
    archive = mailbox.archive
    for one in fields(JournalQuery):
        if one.type == str | None:
            assert archive.records(JournalQuery(**{one.name: text}), limit=9) == [], one.name
    for one in fields(KeptQuery):
        if one.type == str | None:
            assert archive.kept(KeptQuery(**{one.name: text}), limit=9) == [], one.name
    assert archive.records(JournalQuery(), limit=9, before=text) == []
    assert archive.kept(KeptQuery(), limit=9, before=text) == []
    assert (archive.record(text), archive.kept_message(text)) == (None, None)
    assert (archive.delete([text], actor="ann"), mailbox.mark([text], seen=True)) == ([], 0)
    assert (mailbox.message(text), mailbox.remove(text, actor="ann")) == (None, None)
    assert mailbox.page(parse_query(""), before=text).messages == ()


async def test_mail_that_arrives_while_people_search_is_stored_and_found(
    store, backend, make_record, make_kept, settings, tmp_path, until
):
    errors = []
    stop = threading.Event()

    def look(mailbox):
        while not stop.is_set():
            try:
                page = mailbox.page(parse_query("hi -absent"), limit=20)
                mailbox.mark([message.id for message in page.messages[:3]], seen=True)
                mailbox.count(parse_query("is:unread"))
                mailbox.delete([message.id for message in page.messages[3:4]], actor="ann")
            except Exception as error:
                errors.append(error)
                raise

    with backend.open_mailbox(settings, tmp_path) as mailbox:
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


async def test_arrivals_come_in_the_order_of_their_commits_each_once(
    mailbox, store, make_record, make_kept, unfilled_index, until
):
    if unfilled_index:
        assert mailbox.arrivals(Position(number=0), limit=9).messages == (), "their texts are not read"
        return
    first = mailbox.arrivals(Position(number=0), limit=3)
    assert "".join(one.id for one in first.messages) == "abc"
    rest = mailbox.arrivals(first.position, limit=3)
    assert [one.id for one in rest.messages] == ["d"]
    assert rest.messages == mailbox.page(parse_query(""), limit=1).messages
    nothing = mailbox.arrivals(rest.position, limit=3)
    assert (nothing.messages, nothing.position) == ((), rest.position)
    late = make_record(id="transaction-e", received_at=START)
    content = b"Subject: e\r\n\r\nThe text of e\r\n"
    await store.commit(late, [make_kept(id="e", content=content), make_kept(id="f", content=content)])
    await until(lambda: len(mailbox.arrivals(rest.position, limit=3).messages) == 2)
    (one, other) = mailbox.arrivals(rest.position, limit=3).messages
    assert (one.id, other.id, one.snippet) == ("e", "f", "The text of e")


async def test_arrivals_leave_out_what_is_deleted_or_withdrawn(
    mailbox, store, make_record, make_kept, unfilled_index, until
):
    if unfilled_index:
        return
    mailbox.delete(["b"], actor="test")
    assert "".join(one.id for one in mailbox.arrivals(Position(number=0), limit=9).messages) == "acd"
    mailbox.delete(["d"], actor="test")
    position = mailbox.arrivals(Position(number=0), limit=9).position
    await store.commit(make_record(id="transaction-e"), [make_kept(id="e")])
    await until(lambda: mailbox.arrivals(position, limit=9).messages)
    last = mailbox.arrivals(position, limit=9).position
    await store.withdraw(["e"])
    assert mailbox.arrivals(position, limit=9).messages == ()
    await store.commit(make_record(id="transaction-f"), [make_kept(id="f")])
    await until(lambda: mailbox.arrivals(last, limit=9).messages)
    assert [one.id for one in mailbox.arrivals(position, limit=9).messages] == ["f"]


async def test_arrivals_go_on_after_all_messages_are_gone(
    mailbox, store, make_record, make_kept, unfilled_index, until
):
    if unfilled_index:
        return
    position = mailbox.arrivals(Position(number=0), limit=9).position
    await store.withdraw("abcd")
    await store.commit(make_record(id="transaction-e"), [make_kept(id="e"), make_kept(id="f")])
    for start in (position, Position(number=0)):
        await until(lambda start=start: mailbox.arrivals(start, limit=9).messages)
        assert "".join(one.id for one in mailbox.arrivals(start, limit=9).messages) == "ef"


@pytest.mark.parametrize(("days", "behind"), [(0, "abcd"), (1.5, "cd"), (9, "")])
def test_arrivals_begin_at_a_moment(mailbox, unfilled_index, days, behind):
    position = mailbox.position_before(START + timedelta(days=days))
    found = "".join(one.id for one in mailbox.arrivals(position, limit=9).messages)
    assert found == ("" if unfilled_index else behind)
