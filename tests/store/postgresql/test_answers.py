"""The answers are those of SQLite, whatever is in the mail and whatever is looked for."""

from datetime import UTC, datetime, timedelta

import pytest
from gatepost.config.store import StoreSettings
from gatepost.store import JournalQuery, KeptQuery, QueryError, Top, parse_query, sqlite
from gatepost.store.postgresql import open_mailbox
from gatepost.testing import make_message
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

WORDS = [
    "café",
    "CAFÉ",
    "Ünïcode",
    "straße",
    "İstanbul",
    "発票",
    "お元気",
    "a_b",
    "50%",
    "x\\y",
    "net 30",
    "I",
    "\u0131",  # a dotless i
]
START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
async def both(store, settings, tmp_path, make_record, make_kept, until):
    """A mailbox of each kind with the same messages, in which words are read."""
    embedded = StoreSettings(url="sqlite:///gatepost.db")
    other = sqlite.open_store(embedded, tmp_path)
    for number, word in enumerate(WORDS):
        record = make_record(
            received_at=START + timedelta(hours=number),
            mail_from=f"{word}@Example.com",
            authenticated=word if number % 2 else None,
            helo=word,
            client=f"192.0.2.{number % 4}",
        )
        kept = make_kept(
            id=f"m{number:02}",
            mail_from=f"{word}@Example.com",
            recipients=(f"Bob+{word}@example.org", f"{word}@example.net"),
            content=make_message(
                subject=f"{word} {WORDS[number - 1]}",
                text=f"about {word}, {word}",
                attachments={f"{word}.pdf": b"x"},
            ),
            reason=word,
        )
        for one in (store, other):
            await one.commit(record, [kept])
    with open_mailbox(settings, tmp_path) as first, sqlite.open_mailbox(embedded, tmp_path) as second:
        for mailbox in (first, second):
            await until(lambda mailbox=mailbox: mailbox.count(parse_query("about")) == len(WORDS))
            mailbox.mark(["m01", "m05"], seen=True)
            mailbox.delete(["m03"], actor="ann")
        await until(lambda: second.facets(parse_query("")).messages == len(WORDS) - 1)
        yield first, second
    await other.close()


KEYS = [
    "",
    "from:",
    "to:",
    "subject:",
    "tag:",
    "recipient:",
    "mailbox:",
    "user:",
    "client:192.0.2.",
    "is:",
    "header:",
    "bcc:",
]
PARTS = [
    *WORDS,
    "*",
    "é",
    "e",
    "unread",
    "read",
    "deleted",
    "quarantined",
    "1",
    "Bob",
    "_",
    "%",
    "ß",
    "ss",
    "SS",
    "票",
]
TERM = st.tuples(
    st.sampled_from(["", "-"]), st.sampled_from(KEYS), st.sampled_from(PARTS), st.sampled_from(["", "*"])
)


async def test_searches_find_the_same(both):
    @effort(max_examples=60, suppress_health_check=[HealthCheck.differing_executors])
    @given(st.lists(TERM.map("".join), min_size=1, max_size=3).map(" ".join))
    def ask(text):
        try:
            query = parse_query(text)
        except QueryError:
            return
        first, second = (
            ([one.id for one in mailbox.page(query).messages], mailbox.count(query), mailbox.facets(query))
            for mailbox in both
        )
        assert first == second

    ask()


PATTERN = st.lists(
    st.sampled_from([*PARTS, "@Example.com", "@example.org", "m0", "\0", "\ud800"]), max_size=3
).map("".join)
FIELDS = ["mail_from", "recipient", "address", "user", "rule", "client", "message_id"]


async def test_the_journal_and_the_kept_messages_are_the_same(both):
    @effort(max_examples=60, suppress_health_check=[HealthCheck.differing_executors])
    @given(st.sampled_from(FIELDS), PATTERN)
    def ask(field, pattern):
        answers = []
        for mailbox in both:
            records = mailbox.archive.records(JournalQuery(**{field: pattern}), limit=99)
            kept = []
            if field in KeptQuery.__dataclass_fields__:
                kept = mailbox.archive.kept(KeptQuery(state=None, **{field: pattern}), limit=99)
            answers.append((records, [one.id for one in kept]))
        assert answers[0] == answers[1]

    ask()


@pytest.mark.parametrize("of", Top)
async def test_those_with_most_transactions_are_the_same_and_in_the_same_order(both, of):
    first, second = (mailbox.archive.statistics().top(of, START, limit=99) for mailbox in both)
    assert first
    assert first == second
