"""Journal, sessions and overview, as a browser gets them."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import pytest
from gatepost.config.store import StoreSettings
from gatepost.model.mail import Stage
from gatepost.model.record import Disposition, RecipientRecord, Record
from gatepost.model.verdict import Action, Evaluation, Match, Result
from gatepost.store import Box, Conversation, Kept, SessionSummary, open_store
from gatepost.traffic.events import event_of
from gatepost.web.app import create_app
from gatepost.web.desk import Desk

NOW = datetime.now(UTC)
HOSTILE = '"><script>alert(1)</script>'
RECORD = Record(
    id="01m84transaction",
    session_id="01m84session0000",
    received_at=NOW,
    client="192.0.2.1",
    helo=f"helo{HOSTILE}",
    tls="TLSv1.3",
    authenticated=f"user{HOSTILE}",
    mail_from=f"ann{HOSTILE}@example.com",
    recipients=(
        RecipientRecord(address="bob@example.net", disposition=Disposition.RELAYED, action=Action.ACCEPT),
        RecipientRecord(
            address=f"carol{HOSTILE}@example.net",
            disposition=Disposition.QUARANTINED,
            action=Action.QUARANTINE,
            rule="legal-words",
            reason=f"says {HOSTILE}",
            reply=f"250 2.0.0 {HOSTILE}",
        ),
    ),
    size=4321,
    message_id=f"<1{HOSTILE}@example.com>",
    subject="=?utf-8?q?caf=C3=A9?= " + HOSTILE,
    evaluations=(
        Evaluation(
            rule="legal-words",
            stage=Stage.MESSAGE,
            result=Result.HIT,
            action=Action.QUARANTINE,
            observed=False,
            reason=f"says {HOSTILE}",
            recipients=(),
            seconds=0.0123,
            matches=(Match(where="subject", text=HOSTILE),),
        ),
    ),
    reply=f"250 2.0.0 Ok {HOSTILE}",
    upstream="mail.example.net:25",
    upstream_reply=f"250 queued {HOSTILE}",
    seconds=0.034,
)
KEPT = Kept(
    id="01m84kept0000000",
    box=Box.QUARANTINE,
    mail_from="ann@example.com",
    recipients=("carol@example.net",),
    prepended=b"",
    content=b"Subject: x\r\n\r\nx\r\n",
    rule="legal-words",
    reason="",
)
SAID = [
    ("*", b"connected 192.0.2.1 5000"),
    ("S", b"220 mx.example.net\r\n"),
    ("C", b"MAIL FROM:<" + HOSTILE.encode() + b"\x1b[31m>\r\n"),
    ("*", b"transaction 01m84transaction"),
    ("S", b"250 2.1.0 Ok\r\n"),
    ("D", b"line\r\n" * 250),
    ("S", b"550 5.7.1 No\r\n"),
]
AT = int(NOW.timestamp() * 1_000_000)
CONVERSATION = Conversation(
    session=SessionSummary(
        id=RECORD.session_id,
        client="192.0.2.1",
        client_port=5000,
        listener="127.0.0.1:2525",
        started_at=NOW - timedelta(seconds=1),
        ended_at=NOW,
        helo=f"helo{HOSTILE}",
        tls=None,
        authenticated=None,
        transactions=1,
        last_reply="550 5.7.1 No",
        left_out=70_000,
    ),
    lines=tuple(
        event_of(at=AT, session_id=RECORD.session_id, direction=who, data=data) for who, data in SAID
    ),
)


class StoredConversations:
    """One stored session."""

    def sessions(self, *, client=None, address=None, limit=50, before=None):
        found = client in (None, "192.0.2.1") and address in (None, "ann@example.com") and before is None
        return [CONVERSATION.session][: found * limit]

    def conversation(self, session_id):
        return CONVERSATION if session_id == RECORD.session_id else None


class EmptyMailbox:
    def changes(self):
        return 1

    def counts(self):
        return SimpleNamespace(inbox=0, quarantined=0, unread=0)


@pytest.fixture
async def store(tmp_path):
    opened = open_store(StoreSettings(url="sqlite:///gatepost.db"), tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def app(store):
    return create_app(
        Desk(mailbox=EmptyMailbox(), archive=store.archive, conversations=StoredConversations())
    )


@pytest.fixture
async def get(app):
    """The text of a page; its status must be this."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8025") as client:

        async def page(address, *, status=200, **headers):
            response = await client.get(address, headers=headers)
            assert response.status_code == status, response.text
            return response.text

        yield page


async def test_the_journal_says_what_became_of_which_message(store, get):
    await store.commit(RECORD, [KEPT])
    page = await get("/journal")
    assert 'href="/journal/01m84transaction"' in page
    for text in (
        "192.0.2.1",
        "bob@example.net",
        "+1",
        "relayed",
        "quarantined",
        "legal-words",
        "4.3 kB",
        "café",
    ):
        assert text in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("bob@example.net", True),
        ("is:refused", False),
        ("rule:legal-words is:quarantined", True),
        ("id:x", False),
    ],
)
async def test_the_journal_is_searched(store, get, query, found):
    await store.commit(RECORD)
    page = await get(f"/journal?q={query}")
    assert ("/journal/01m84transaction" in page) is found
    assert ("No transaction matches" in page) is not found


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/journal/{session}", "/journal/{transaction}"),
        ("/journal/{kept}", "/journal/{transaction}"),
        ("/sessions/{transaction}", "/sessions/{session}#{transaction}"),
        ("/sessions/{kept}", "/sessions/{session}#{transaction}"),
        ("/journal/{several}", "/journal?q=id%3A{several}"),
        ("/sessions?q={kept}", "/sessions/{session}"),
        ("/journal/unknown", None),
        ("/sessions/unknown", None),
    ],
)
async def test_any_id_leads_to_the_page(store, app, path, leads_to):
    await store.commit(RECORD, [KEPT])
    for number in range(2):
        await store.commit(replace(RECORD, id=f"other{number}", session_id="01m84session0001"))
    ids = {
        "session": RECORD.session_id,
        "transaction": RECORD.id,
        "kept": KEPT.id,
        "several": "01m84session0001",
    }
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8025") as client:
        answer = await client.get(path.format(**ids))
        assert answer.headers.get("location") == (leads_to and leads_to.format(**ids))
        assert answer.status_code == (303 if leads_to else 404)
        if leads_to:
            assert (await client.get(answer.headers["location"])).status_code == 200


async def test_a_refusal_before_rcpt_is_shown_like_any_other(store, get):
    refused = replace(RECORD.evaluations[0], stage=Stage.CONNECT, action=Action.REJECT)
    await store.commit(replace(RECORD, recipients=(), evaluations=(refused,), reply="550 5.7.1 No"))
    for query in ("is:refused", "rule:legal-words"):
        page = await get(f"/journal?q={query}")
        assert re.search(r'class="rule">legal-words<', page)
        assert "is-bad" in page
    assert "Refused by the rule <strong>legal-words</strong>" in await get("/journal/01m84transaction")


async def test_what_is_no_search_is_said_and_kept_in_the_box(get):
    page = await get("/journal?q=is:lost")
    assert "expected is: with one of relayed, inbox" in page
    assert 'value="is:lost"' in page


def chips(page):
    return re.findall(r'class="chip" href="/journal\?q=is%3A([a-z-]+)"', page)


async def test_only_what_can_be_or_has_been_is_offered_to_choose_from(store, app, get):
    every = [str(one) for one in Disposition]
    assert chips(await get("/journal")) == every
    app.state.desk.expected = frozenset({Disposition.INBOX, Disposition.REFUSED})
    assert chips(await get("/journal")) == ["inbox", "refused"]
    assert "hidden" in re.search(r'<a href="/quarantine"[^>]*>', await get("/journal"))[0]
    await store.commit(RECORD)
    assert chips(await get("/journal")) == ["relayed", "inbox", "quarantined", "refused"]
    app.state.desk.expected |= {Disposition.QUARANTINED}
    assert "hidden" not in re.search(r'<a href="/quarantine"[^>]*>', await get("/journal"))[0]


@pytest.mark.parametrize("observed", [False, True])
async def test_what_no_rule_only_observed_is_no_column(store, get, observed):
    evaluations = (replace(RECORD.evaluations[0], observed=observed),)
    await store.commit(replace(RECORD, evaluations=evaluations))
    assert ("Only observed" in await get("/overview?span=hour")) is observed


async def test_the_journal_is_turned_page_by_page(store, get):
    for number in range(60):
        at = NOW - timedelta(minutes=number)
        await store.commit(replace(RECORD, id=f"r{number:02}", received_at=at))
    first = await get("/journal?q=client:192.0.2.1")
    seen = re.findall(r'href="/journal/(r\d+)"', first)
    older = re.search(r'rel="next" href="([^"]+)"', first)[1].replace("&amp;", "&")
    assert older == "/journal?q=client%3A192.0.2.1&before=r49"
    second = await get(older)
    seen += re.findall(r'href="/journal/(r\d+)"', second)
    assert seen == [f"r{number:02}" for number in range(60)]
    assert 'rel="next"' not in second


async def test_a_record_shows_all_that_is_known(store, get):
    await store.commit(RECORD, [KEPT])
    page = await get("/journal/01m84transaction")
    for text in (
        "4,321 bytes",
        "34 ms",
        "mail.example.net:25",
        'href="/messages/01m84kept0000000"',
        'href="/sessions/01m84session0000#01m84transaction"',
        "12 ms",
        "550 5.7.1 No",
    ):
        assert text in page
    assert "220 mx.example.net" not in page  # before the transaction


async def test_a_session_shows_its_conversation_and_its_transactions(store, get):
    await store.commit(RECORD)
    page = await get("/sessions/01m84session0000")
    assert "220 mx.example.net" in page
    assert 'id="01m84transaction"' in page
    assert page.count('href="/journal/01m84transaction"') == 2
    assert "... 50 more lines or more" in page
    assert r"\x1b[31m" in page
    assert "70 kB" in page


@pytest.mark.parametrize(
    ("query", "found"),
    [("", True), ("192.0.2.1", True), ("192.0.2.2", False), ("<ann@example.com>", True), ("bob", False)],
)
async def test_sessions_are_found_by_client_or_address(get, query, found):
    assert ("/sessions/01m84session0000" in await get(f"/sessions?q={query}")) is found


@pytest.mark.parametrize("path", ["/journal/nothing", "/sessions/nothing"])
async def test_what_is_not_there_is_not_found(get, path):
    await get(path, status=404)


async def counted(get, span):
    """The overview, which on a busy machine takes more than one request."""
    while "still being counted" in (page := await get(f"/overview?span={span}")):
        pass
    return page


@pytest.mark.parametrize("span", ["hour", "day", "week", "month", "", "nonsense"])
async def test_the_overview_counts_and_draws(store, get, span):
    await store.commit(RECORD)
    page = await counted(get, span)
    assert 'class="chart-relayed"' in page
    assert "192.0.2.1" in page
    assert "legal-words" in page
    assert "is%3Aquarantined" in page


async def test_an_overview_of_nothing_says_so(get):
    assert "No mail in the last day" in await counted(get, "day")


@pytest.mark.parametrize("mail_from", [RECORD.mail_from, '"ann smith"@example.com', ""])
async def test_links_of_the_overview_find_what_they_count(store, get, mail_from):
    await store.commit(replace(RECORD, mail_from=mail_from))
    page = await counted(get, "hour")
    links = {link.replace("&amp;", "&") for link in re.findall(r'href="(/journal\?[^"]+)"', page)}
    assert len(links) == 4  # relayed, quarantined, a client and a sender
    for link in links:
        assert "/journal/01m84transaction" in await get(link), link


async def test_without_a_feed_the_live_page_says_so(get):
    assert "No live conversation here" in await get("/live")
    await get("/live/events", status=404)


@pytest.mark.parametrize(
    "path",
    [
        "/journal",
        "/journal/01m84transaction",
        "/sessions",
        "/sessions/01m84session0000",
        "/overview",
        f"/journal?q={HOSTILE}",
        f"/live?q={HOSTILE}",
    ],
)
async def test_what_clients_say_is_text_on_every_page(store, get, path):
    await store.commit(RECORD, [KEPT])
    page = await get(path)
    assert "<script>alert" not in page
    assert not re.search(r"<[^>]+\sstyle=", page)
    assert not re.search(r"<style|<script(?![^>]*\ssrc=)", page)


async def test_the_node_is_shown_where_there_are_several(store, get):
    await store.commit(replace(RECORD, id="01m84transactiona", node="mx-a"))
    assert "on mx-a" not in await get("/journal")
    assert 'href="/journal?q=node%3Amx-a">mx-a</a>' in await get("/journal/01m84transactiona")
    await store.commit(replace(RECORD, id="01m84transactionb", node="mx-b"))
    page = await get("/journal")
    assert page.count("on mx-a") == page.count("on mx-b") == 1
    assert "on mx-a" not in await get("/journal?q=node:mx-b")
