"""To a user of some domains a store with the mail of others answers as one without it, to each request."""

import contextlib
import re
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import quote

import httpx
import pytest
from gatepost.config.store import StoreSettings
from gatepost.model.mail import new_id
from gatepost.model.user import Role, User
from gatepost.model.verdict import Reply
from gatepost.store import Box, State, open_store, parse_query
from gatepost.web.accounts import Accounts
from gatepost.web.actions import Actions
from gatepost.web.app import create_app
from gatepost.web.desk import Desk

STORE = StoreSettings(url="sqlite:///gatepost.db")
OK = Reply.parse("250 2.0.0 Ok")
NAME = "administrator"
DOMAINS = frozenset({"example.net", "xn--bcher-kva.example"})
LOGIN = {"name": NAME, "password": f"{NAME}'s secret"}
OWN = {
    "own one": ("bob@example.net",),
    "own two": ("Bob@EXAMPLE.NET", "liese@bücher.example"),
    "own three": ("bob+tag@example.net.",),
    "own four": ("liese@xn--bcher-kva.example",),
}
OTHERS = {
    "other": ("eve@other.example",),
    "mixed": ("bob@example.net", "eve@other.example"),
    "below": ("bob@sub.example.net",),
    "longer": ("bob@notexample.net",),
    "literal": ("bob@[192.0.2.1]",),
    "quoted": ('"bob@example.net"@other.example',),
    "nowhere": ("postmaster",),
    "confusable": ("bob@b\u00fcch\u0435r.example",),
    "seen": ("eve+tag@other.example",),
    "deleted": ("eve@other.example",),
}
SEARCHES = (
    "", "own", "other", "-other", "mix*", "to:bob", "to:eve", "from:ann@example.com", "-from:xyz",
    "is:unread", "is:read", "is:quarantined", "is:released", "is:inbox", "is:deleted", "-is:read",
    "has:attachment", "-has:attachment", "rule:words", "recipient:bob@example.net", "recipient:*",
    "-recipient:bob@example.net", "mailbox:tag", "mailbox:*", "sender:*", "client:*", "larger:1",
    "smaller:1GB", "after:2020-01-01", "before:2100-01-01", "subject:own", 'subject:"', "what:ever",
    "id:{own}", "id:{other}", "id:{transaction}", "id:{session}",
)  # fmt: skip
SOME = tuple(quote(one, safe="{}") for one in ("", "other", "to:eve", "is:deleted", "id:{transaction}"))
JOURNAL = (
    "recipient=*", "recipient=eve@other.example", "address=*", "mail_from=ann@example.com", "client=*",
    "disposition=inbox", "disposition=quarantined", "rule=words", "id={other}", "session_id={session}",
    "before={transaction}", "node=*", "user=*", "since=2020-01-01T00:00:00Z",
)  # fmt: skip
PATHS = (
    *(f"/?q={quote(one, safe='{}')}" for one in SEARCHES),
    *(f"/api/v1/messages?limit=1&query={quote(one, safe='{}')}" for one in SEARCHES),
    *(f"/messages/facets?q={one}" for one in SOME),
    *(f"/api/v1/messages/latest?query={one}" for one in SOME),
    *(f"/api/v1/quarantine?limit=1&query={one}" for one in SOME),
    *(f"/api/v1/wait?timeout=0&count=9&query={one}" for one in SOME),
    *(f"/api/v1/wait?timeout=0&count=2&after={{{one}}}" for one in ("own", "other", "transaction")),
    *(f"/messages/list?in={one}" for one in ("held", "released", "deleted")),
    *(f"/api/v1/journal?limit=1&{one}" for one in JOURNAL),
    *(f"/journal?q={quote(one.replace('=', ':'), safe='{}')}" for one in JOURNAL),
)
TABS = ("headers", "source", "conversation", "verdicts", "checks")
CHANGES = (
    ("POST", "/messages/change", {"data": {"do": "seen", "id": ["{own}", "{other}", "{mixed}"]}}),
    ("POST", "/messages/change", {"data": {"do": "delete", "id": ["{other}"]}}),
    ("POST", "/messages/change", {"data": {"do": "delete", "id": ["{other}", "{mixed}"]}}),
    ("POST", "/messages/{other}/release", {"data": {"to": "own", "state": "held"}}),
    ("POST", "/messages/{mixed}/release", {"data": {"to": "others", "others": "bob@example.net"}}),
    ("POST", "/messages/{other}/forward", {"data": {"to": "bob@example.net"}}),
    ("POST", "/messages/{other}/undo", {}),
    ("POST", "/messages/{other}/learn", {"data": {"kind": "spam"}}),
    ("POST", "/api/v1/messages/seen", {"json": {"ids": ["{own}", "{other}"], "seen": False}}),
    ("POST", "/api/v1/messages/seen", {"json": {"ids": ["{transaction}", "{session}"], "seen": True}}),
    ("POST", "/api/v1/quarantine/{other}/release", {"json": {}}),
    ("POST", "/api/v1/quarantine/{mixed}/release", {"json": {"to": ["bob@example.net"]}}),
    ("POST", "/api/v1/messages/{other}/forward", {"json": {}}),
    ("DELETE", "/api/v1/messages/{other}", {}),
    ("DELETE", "/api/v1/quarantine/{transaction}", {}),
    ("DELETE", "/api/v1/messages?id={other}&id={transaction}&id={mixed}", {}),
    ("DELETE", "/api/v1/messages?query=-own", {}),
    ("POST", "/messages/delete-all", {"data": {"in": "held", "q": "subject:mixed"}}),
    ("POST", "/messages/change", {"data": {"do": "delete", "id": ["{own}", "{other}"]}}),
    ("DELETE", "/api/v1/messages?all=true", {}),
    ("POST", "/messages/delete-all", {"data": {"in": "messages"}}),
)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00| UTC)?|\d\d:\d\d:\d\d")


@pytest.fixture
async def both(message, hashes, tmp_path):
    """A desk with the mail of others and one without, and the ids of some messages."""
    own = {name: message(name, to=to, box=_box(name)) for name, to in OWN.items()}
    others = {name: message(f"{name} {'x' * 9}", to=to, box=_box(name)) for name, to in OTHERS.items()}
    session = own["own one"][0].session_id
    others["other"] = replace(others["other"][0], session_id=session), others["other"][1]
    ids = {
        "own": own["own one"][1].id,
        "other": others["other"][1].id,
        "mixed": others["mixed"][1].id,
        "deleted": others["deleted"][1].id,
        "transaction": others["other"][0].id,
        "session": session,
        "absent": new_id(),
    }
    accounts = Accounts(users=[User(name=NAME, role=Role.ADMINISTRATOR, domains=DOMAINS)], hashes=hashes)
    async with contextlib.AsyncExitStack() as stack:
        desks = []
        for name, mail in (("alone", own), ("beside", own | others)):
            (folder := tmp_path / name).mkdir()
            opened = open_store(STORE, folder)
            stack.push_async_callback(opened.close)
            # from both ends: before, between and behind their own
            for one in sorted(mail, key=lambda one: one[::-1]):
                record, kept = mail[one]
                await opened.commit(record, (kept,))
            desk = stack.enter_context(
                Desk.open(STORE, folder, mode="gateway", actions=Actions(release=lambda *_: OK))
            )
            if mail is not own:
                desk.mailbox.mark([others["seen"][1].id], seen=True)
                desk.mailbox.delete([ids["deleted"]], actor="somebody")
            app = create_app(desk, accounts=accounts)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8025")
            await stack.enter_async_context(http)
            assert (await http.post("/login", data=LOGIN)).status_code == 303
            desks.append(SimpleNamespace(desk=desk, app=app, http=http, there=len(mail)))
        yield desks[0], desks[1], ids, others


def _box(name):
    return Box.QUARANTINE if name in ("own two", "own four", "other", "mixed", "deleted") else Box.INBOX


async def _indexed(until, desk):
    async def count():
        return desk.desk.mailbox.count(parse_query("-absent"))

    await until(count, desk.there - (1 if desk.there > len(OWN) else 0))


async def _answer(desk, method, path, **given):
    answer = await desk.http.request(method, path, **given)
    fields = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return answer.status_code, fields, _MOMENT.sub("TIME", answer.text)


async def _pages(desk, path):
    """A list of the API to its end, or one page."""
    found = []
    while path:
        found.append(await _answer(desk, "GET", path))
        following = re.search(r'"next":"(\w+)"', found[-1][2])
        path = following and f"{path.partition('&before')[0]}&before={following[1]}"
    return found


def _filled(value, ids):
    if isinstance(value, str):
        for name, some_id in ids.items():
            value = value.replace(f"{{{name}}}", some_id)
        return value
    if isinstance(value, list):
        return [_filled(one, ids) for one in value]
    return {key: _filled(one, ids) for key, one in value.items()} if isinstance(value, dict) else value


def _asked(requests, app, ids):
    """All pages and operations that show something, with each id; and those that search."""
    for name, need in requests(app):
        method, path = name.split()
        if method != "GET" or path.endswith("events") or path.startswith(("/log", "/readyz")):
            continue
        if not User(name="", role=Role.ADMINISTRATOR, domains=DOMAINS).may(need):
            continue
        path = re.sub(r"\{number:int\}", "1", path)
        if path == "/api/v1/wait":
            continue
        for some_id in ids.values() if "{" in path else ("",):
            yield re.sub(r"\{.*?\}", some_id, path)
    yield from (_filled(path, ids) for path in PATHS)
    yield from (f"/messages/{ids['own']}?tab={tab}" for tab in TABS)


@pytest.mark.long
async def test_nothing_that_is_shown_depends_on_the_mail_of_others(both, requests, until):
    alone, beside, ids, _ = both
    for desk in (alone, beside):
        await _indexed(until, desk)
    differing = []
    shown = 0
    for path in _asked(requests, alone.app, ids):
        without, with_others = [await _pages(desk, path) for desk in (alone, beside)]
        shown += "own one" in without[0][2]
        if without != with_others:
            differing.append((path, without, with_others))
    assert [path for path, *_ in differing] == [], differing[0]
    assert shown > 50


async def test_no_change_depends_on_the_mail_of_others_or_changes_it(both, until):
    alone, beside, ids, others = both
    for desk in (alone, beside):
        await _indexed(until, desk)
    for method, path, body in CHANGES:
        asked, given = (method, _filled(path, ids)), _filled(body, ids)
        for fields in ({}, {"hx-request": "true"}):
            answers = [await _answer(desk, *asked, headers=fields, **given) for desk in (alone, beside)]
            assert answers[0] == answers[1], asked
    for name, (_, kept) in others.items():
        found = beside.desk.archive.kept_message(kept.id)
        assert found.state is (State.DELETED if name == "deleted" else State.HELD), name
    assert beside.desk.mailbox.counts().unread == len(others) - 2
    assert alone.desk.mailbox.counts().unread == 0
