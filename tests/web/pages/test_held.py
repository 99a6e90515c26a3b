"""The page of sessions that are held, asked as a browser asks it."""

import asyncio
import re

import pytest
from gatepost.config.store import StoreSettings
from gatepost.holding import Channel, Decided, Held, HeldSessions, Holder
from gatepost.model.mail import Stage
from gatepost.model.verdict import Action
from gatepost.store import open_store
from gatepost.testing import make_transaction
from gatepost.web.desk import Desk

SETTINGS = StoreSettings(url="sqlite:///gatepost.db")
CONTENT = b"From: app@example.org\r\nSubject: Your order\r\n\r\nIt is on its way.\r\n"


@pytest.fixture
async def held(tmp_path):
    """The sessions of a desk whose workers are in this process."""
    channel = Channel.make()
    sessions = HeldSessions(channel, arms=True)
    following = asyncio.create_task(sessions.follow())
    sessions.holder = Holder(channel)
    sessions.tasks = []
    yield sessions
    for task in (following, *sessions.tasks):
        task.cancel()
    await asyncio.gather(following, *sessions.tasks, return_exceptions=True)
    channel.close()


@pytest.fixture
async def desk(tmp_path, held):
    store = open_store(SETTINGS, tmp_path)
    with Desk.open(SETTINGS, tmp_path, mode="complaints", held=held) as opened:
        yield opened
    await store.close()


async def hold(held, content=CONTENT, check=lambda answer: ""):
    held.arm(Stage.MESSAGE, actor="test")
    sender = "\u202eann@example.org"
    transaction = make_transaction(content, recipients=("<b>@example.com",), mail_from=sender)
    one = Held(
        id="0" * 16,
        stage=Stage.MESSAGE,
        since=transaction.received_at,
        session=transaction.session,
        transaction_id=transaction.id,
        envelope=transaction.envelope,
        recipient=None,
        decided=(Decided(recipient="<b>@example.com", action=Action.ACCEPT, rule=None, reason="", reply=""),),
        holds=(),
        size=len(content),
        content=content,
    )
    left = asyncio.get_running_loop().create_future
    task = asyncio.create_task(held.holder.hold(one, left=left, check=check))
    held.tasks.append(task)
    await held.wait(None, 20)
    return f"/held/{'0' * 16}", task


async def test_text_from_mail_is_shown_as_text(http, held):
    url, _ = await hold(held, b"Subject: x\r\n\r\n</textarea><script>alert(1)</script>\r\n")
    page = await http.get(url)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "&lt;/textarea&gt;" in page.text
    assert "\u202e" not in page.text.replace('value="\u202eann@example.org"', "")


async def test_the_form_sends_only_what_was_changed(http, held):
    url, task = await hold(held)
    same = {
        "mail_from": "\u202eann@example.org",
        "recipients": "<b>@example.com\r\n",
        "message": CONTENT.decode(),
        "reply": "",
    }
    answer = await http.post(f"{url}/answer", data=same)
    assert (answer.status_code, answer.headers["location"]) == (303, "/held")
    assert not (await task).answer.edits


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ({"reply": "550"}, ""),
        ({"reply": "hello"}, "is not a reply"),
        ({"recipients": " "}, "a message needs at least one"),
        ({"mail_from": "taken@x"}, "not that one"),
    ],
)
async def test_what_cannot_be_done_is_said_above_the_form_with_what_was_typed(http, held, sent, problem):
    url, task = await hold(held, check=lambda answer: "not that one" if answer.mail_from else "")
    answer = await http.post(f"{url}/answer", data=sent)
    if not problem:
        assert answer.status_code == 303
        assert (await task).answer.reply.code == 550
        return
    assert answer.status_code == 400
    assert problem in answer.text
    assert next(iter(sent.values())).strip() in answer.text
    assert held.count == 1


@pytest.mark.parametrize("body", [b"\xff\r\n", b"x\ny\r\n", b"x" * (300 << 10)], ids=["8-bit", "LF", "large"])
async def test_a_message_that_a_form_would_change_is_not_in_it(http, held, body):
    url, task = await hold(held, b"a: b\r\n\r\n" + body)
    page = await http.get(url)
    assert "cannot be shown here as text" in page.text
    assert 'name="message"' not in page.text
    await http.post(f"{url}/answer", data={"quick": "421 4.3.2 Bye", "message": "x"})
    ended = (await task).answer
    assert (ended.reply.code, ended.content) == (421, None)


async def test_what_is_not_held_any_more_is_said(http, held):
    url, task = await hold(held)
    await http.post(f"{url}/answer", data={})
    await task
    for answer in (await http.get(url), await http.post(f"{url}/answer", data={})):
        assert answer.status_code in (404, 409)
        assert "not held any more: answered by web desk (127.0.0.1)" in answer.text
    assert "No such session is held" in (await http.get("/held/none")).text


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ({"stage": "rcpt", "recipient": "bob"}, "&#39;bob&#39;, expected"),
        ({"stage": "helo", "recipient": "*@x.example"}, "known at the stages rcpt and message only"),
    ],
)
async def test_a_breakpoint_that_cannot_be_armed_is_explained(http, held, sent, problem):
    answer = await http.post("/held/breakpoints", data={"count": "1", **sent})
    assert answer.status_code == 400
    assert problem in answer.text
    assert held.breakpoints() == []
    assert (await http.post("/held/breakpoints", data={"stage": "data"})).status_code == 400


@pytest.mark.parametrize("role", ["reader", "operator"])
async def test_a_reader_sees_a_session_and_changes_nothing(client_of, accounts, held, role):
    url, _ = await hold(held)
    may = role == "operator"
    async with client_of(accounts=accounts()) as http:
        await http.post("/login", data={"name": role, "password": f"{role}'s secret"})
        page = (await http.get(url)).text
        assert ("an answer of yours" in page) == may
        assert ("an answer of an operator" in page) != may
        fields = dict(re.findall(r'<(?:input|textarea) name="(\w+)"([^>]*)>', page))
        assert [*fields] == ["mail_from", "recipients", "message", *(["reply"] if may else [])]
        assert {" readonly" in field for field in fields.values()} == {not may}
        assert (f'action="{url}/answer"' in page) == may
        assert ("</form>" in page.partition("held-one")[2].partition("</article>")[0]) == may
        assert "It is on its way." in page


async def test_the_page_of_one_node_of_several_says_that_it_is_of_this_one(client_of, held):
    for shares_store in (False, True):
        async with client_of(node="mx-b", shares_store=shares_store) as http:
            page = (await http.get("/held")).text
            assert ("of this node, <bdi>mx-b</bdi>; those of another node are" in page) == shares_store


async def test_an_empty_page_says_once_what_stops_sessions(http, held):
    held.arms = False
    assert (await http.get("/held")).text.count("action: hold") == 1
    await hold(held)
    assert (await http.get("/held")).text.count("action: hold") == 1


@pytest.mark.parametrize("path", ["/held", "/held/ID", "/api/v1/held", "/api/v1/held/ID"])
async def test_each_look_at_what_is_held_is_in_the_audit_log(client_of, accounts, held, caplog, path):
    caplog.set_level("INFO", "gatepost.audit")
    async with client_of(accounts=accounts()) as http:
        await http.post("/login", data={"name": "reader", "password": "reader's secret"})
        if not path.endswith("ID"):
            assert (await http.get(path)).status_code == 200, "nothing is held yet"
        url, _ = await hold(held)
        hold_id = url.removeprefix("/held/")
        answer = await http.get(path.replace("ID", hold_id))
        await http.get("/held/list")
    assert "ann@example.org" in answer.text
    _, *lines = [one.msg.fields() for one in caplog.records if one.name == "gatepost.audit"]
    assert [(one["action"], one["result"], one["objects"]) for one in lines] == [
        ("session.read", "ok", [hold_id])
    ]
