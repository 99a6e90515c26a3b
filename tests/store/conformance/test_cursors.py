"""Pages: every list goes on with what is older than its cursor, whether or not that is stored."""

import pytest
from gatepost.store import JournalQuery, KeptQuery
from gatepost.store.query import Query

LISTS = ["records", "kept", "messages", "sessions"]


@pytest.fixture
async def made(make_record, make_kept, make_session):
    """Records, messages and sessions, oldest first; the third of each is not stored."""
    rows = [(make_record(), make_kept(), make_session()) for _ in range(5)]
    records, messages, sessions = zip(*rows, strict=True)
    return {"records": records, "kept": messages, "messages": messages, "sessions": sessions}


@pytest.fixture
async def page(made, backend, settings, tmp_path, make_part):
    """The ids in a list that are older than a cursor, newest first."""
    store = backend.open_store(settings, tmp_path)
    for number in range(5):
        stored = 1 if number == 2 else number
        await store.commit(made["records"][stored], [made["kept"][number]])
        store.converse(make_part(made["sessions"][stored]))
    await store.withdraw([made["kept"][2].id])
    await store.close()
    with (
        backend.open_archive(settings, tmp_path) as archive,
        backend.open_mailbox(settings, tmp_path) as mailbox,
        backend.open_conversations(settings, tmp_path) as conversations,
    ):

        def ids(of, before=None, limit=9):
            match of:
                case "records":
                    found = archive.records(JournalQuery(), limit=limit, before=before)
                case "kept":
                    found = archive.kept(KeptQuery(), limit=limit, before=before)
                case "messages":
                    found = mailbox.page(Query(), limit=limit, before=before).messages
                case "sessions":
                    found = conversations.sessions(limit=limit, before=before)
            return [one.id for one in found]

        yield ids


def older(made, of, than):
    there = [one.id for number, one in enumerate(made[of]) if number != 2]
    return [one for one in reversed(there) if one < made[of][than].id]


@pytest.mark.parametrize("of", LISTS)
@pytest.mark.parametrize("than", range(5))
async def test_a_page_goes_on_with_what_is_older_even_if_its_cursor_is_not_stored(page, made, of, than):
    before = str(than + 1) if of == "messages" else made[of][than].id
    assert page(of, before) == older(made, of, than)
    assert page(of, before, limit=1) == older(made, of, than)[:1]


@pytest.mark.parametrize("of", LISTS)
@pytest.mark.parametrize("before", ["gone", "", "z", "-1", "9" * 40, "\N{ARABIC-INDIC DIGIT ONE}"], ids=ascii)
async def test_before_text_that_is_no_cursor_there_is_nothing(page, of, before):
    assert page(of)
    assert page(of, before) == []
