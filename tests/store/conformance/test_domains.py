"""What a store finds for users of some domains: mail of which every recipient is in these domains."""

from dataclasses import replace

import pytest
from gatepost.store import Box, JournalQuery, KeptQuery, Query, parse_query
from gatepost.store.query import Is, Later, Mark, Within

OURS = ("example.net", "xn--bcher-kva.example")
ADDRESSES = {
    "own": ("bob@example.net",),
    "upper": ("Bob@EXAMPLE.NET",),
    "both": ("bob@example.net", "liese@bücher.example"),
    "idna": ("liese@xn--bcher-kva.example",),
    "dotted": ("bob@example.net.", "liese@bücher.example."),
    "mixed": ("bob@example.net", "carol@other.example"),
    "other": ("carol@other.example",),
    "longer": ("bob@notexample.net",),
    "below": ("bob@sub.example.net",),
    "quoted": ('"bob@example.net"@other.example',),
    "any": ("bob@exampleXnet",),
}
FOUND = ["own", "upper", "both", "idna", "dotted"]


@pytest.fixture
async def filled(store, make_record, make_kept):
    record = make_record()
    for name, addresses in ADDRESSES.items():
        recipients = tuple(replace(record.recipients[0], address=one) for one in addresses)
        box = Box.INBOX if name in ("own", "mixed") else Box.QUARANTINE
        await store.commit(
            make_record(id=f"transaction-{name}", recipients=recipients),
            [make_kept(id=name, recipients=addresses, box=box)],
        )
    await store.commit(make_record(id="transaction-none", recipients=()))


async def test_the_journal_has_only_transactions_with_all_recipients_in_them(filled, store):
    found = store.archive.records(JournalQuery(domains=OURS), limit=100)
    assert {record.id for record in found} == {f"transaction-{name}" for name in FOUND}
    one = store.archive.records(JournalQuery(domains=OURS, recipient="carol@*"), limit=100)
    assert one == [], "nor are others found by asking for them"
    assert store.archive.records(JournalQuery(domains=()), limit=100) == []


@pytest.fixture
async def mailbox(filled, unfilled_index, backend, settings, tmp_path, until):
    with backend.open_mailbox(settings, tmp_path) as opened:
        if not unfilled_index:
            await until(lambda: opened.count(parse_query("-absent")) == len(ADDRESSES))
        yield opened


def test_messages_are_found_listed_and_counted_only_with_all_recipients_in_them(mailbox, unfilled_index):
    own = Query(terms=(Within(domains=OURS),))
    if not unfilled_index:
        facets = mailbox.facets(own)
        assert facets.messages == len(FOUND)
        assert "carol@other.example" not in {one.value for one in facets.recipients}
    kept = mailbox.archive.kept(KeptQuery(domains=OURS), limit=100)
    assert [one.id for one in kept] == FOUND[::-1]
    assert [one.id for one in mailbox.page(own).messages] == FOUND[::-1]
    assert mailbox.count(own) == len(FOUND)
    inbox = Query(terms=(Is(mark=Mark.INBOX), *own.terms))
    assert [one.id for one in mailbox.page(inbox).messages] == ["own"]
    not_own = Query(terms=(Within(domains=OURS, negated=True),))
    assert mailbox.count(not_own) == len(ADDRESSES) - len(FOUND)
    assert mailbox.delete_matching(own, actor="test") == len(FOUND)
    assert mailbox.count(Query()) == len(ADDRESSES) - len(FOUND)


def test_a_page_begins_behind_a_message_that_may_be_deleted(mailbox):
    """As `DomainMailbox` asks for it."""
    names = [*ADDRESSES]
    mailbox.delete(["mixed"], actor="test")
    for place in ("own", "mixed", "any"):
        found = mailbox.page(Query(terms=(Later(than=place, negated=True),)), limit=100)
        wanted = [one for one in names[: names.index(place) + 1] if one != "mixed"]
        assert [one.id for one in found.messages] == wanted[::-1]
    behind = Query(terms=(Later(than="idna", negated=True), Within(domains=OURS)))
    assert [one.id for one in mailbox.page(behind, limit=2).messages] == ["idna", "both"]
