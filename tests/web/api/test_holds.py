"""Sessions that are held and breakpoints, through the API as a test uses it."""

import asyncio
import base64

import httpx
import pytest
from gatepost.config.store import StoreSettings
from gatepost.holding import Channel, Decided, Held, HeldSessions, Holder
from gatepost.model.mail import Stage
from gatepost.model.verdict import Action
from gatepost.testing import make_transaction
from gatepost.web.api import OPERATIONS
from gatepost.web.app import create_app
from gatepost.web.desk import Desk

API = "/api/v1"
PROBLEM = "application/problem+json"
SETTINGS = StoreSettings(url="sqlite:///gatepost.db", conversations=True)
CONTENT = b"Subject: hi\r\n\r\n\xff\r\n"


@pytest.fixture
def channel():
    made = Channel.make()
    yield made
    made.close()


@pytest.fixture
async def held(channel):
    sessions = HeldSessions(channel, arms=True)
    following = asyncio.create_task(sessions.follow())
    yield sessions
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


@pytest.fixture
def desk(store, tmp_path, held):
    with Desk.open(SETTINGS, tmp_path, mode="complaints", held=held) as opened:
        yield opened


@pytest.fixture
def session(channel):
    """A worker holds a session at a stage; the task returns how that ended."""
    tasks = []

    def begin(stage, check=lambda answer: ""):
        transaction = make_transaction(CONTENT, recipients=("bob@example.com",), mail_from="ann@example.org")
        is_message = stage is Stage.MESSAGE
        one = Held(
            id="0" * 15 + str(int(stage)),
            stage=stage,
            since=transaction.received_at,
            session=transaction.session,
            transaction_id=transaction.id if stage >= Stage.MAIL else "",
            envelope=transaction.envelope if stage >= Stage.MAIL else None,
            recipient=None,
            decided=(Decided(recipient=None, action=Action.ACCEPT, rule=None, reason="", reply=""),),
            holds=(),
            size=len(CONTENT) if is_message else None,
            content=CONTENT if is_message else b"",
        )
        left = asyncio.get_running_loop().create_future
        tasks.append(asyncio.create_task(Holder(channel).hold(one, left=left, check=check)))
        return tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()


async def test_a_breakpoint_is_armed_waited_for_and_answered(http, session):
    armed = (await http.post(f"{API}/breakpoints", json={"stage": "message", "count": 1.0})).json()
    assert armed | {"id": ""} == {
        "id": "",
        "stage": "message",
        "when": None,
        "remaining": 1,
        "deadline": 60.0,
        "on_error": "defer",
        "armed_by": "web desk (127.0.0.1)",
    }
    assert (await http.get(f"{API}/breakpoints")).json() == {"breakpoints": [armed]}
    assert (await http.get(f"{API}/held")).json() == {"held": []}
    wanted = {"breakpoint": armed["id"], "timeout": 20}
    waiting = asyncio.create_task(http.get(f"{API}/held", params=wanted))
    ended = session(Stage.MESSAGE, lambda answer: "too bold" if answer.mail_from == "bold@x" else "")
    (one,) = (await waiting).json()["held"]
    assert (one["stage"], one["breakpoint"], one["by"]) == (
        "message",
        armed["id"],
        f"breakpoint {armed['id']}",
    )
    assert (one["mail_from"], one["recipients"], one["size"]) == (
        "ann@example.org",
        ["bob@example.com"],
        len(CONTENT),
    )
    url = f"{API}/held/{one['id']}"
    assert (await http.get(url)).json() == one
    raw = await http.get(f"{url}/message")
    assert (raw.content, raw.headers["content-type"]) == (CONTENT, "message/rfc822")
    refused = await http.post(f"{url}/answer", json={"mail_from": "bold@x"})
    assert (refused.status_code, refused.json()["detail"]) == (400, "too bold")
    edits = {"mail_from": "<other@x>", "recipients": ["<a@x>", "b@x"], "message": "a: b\n\nü\r\n"}
    answered = await http.post(f"{url}/answer", json={"reply": "250 2.0.0 Fine", **edits})
    assert answered.json() == {"id": one["id"]}
    answer = (await ended).answer
    assert (str(answer.reply), answer.mail_from, answer.recipients) == (
        "250 2.0.0 Fine",
        "other@x",
        ("a@x", "b@x"),
    )
    assert answer.content == "a: b\r\n\r\nü\r\n".encode()
    again = await http.post(f"{url}/answer", json={})
    assert (again.status_code, again.json()["type"]) == (409, "/api/#problem-not-held")
    assert "answered by web desk (127.0.0.1)" in again.json()["detail"]
    assert (await http.get(f"{API}/breakpoints")).json() == {"breakpoints": []}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"reply": "hello"}, "'hello' is not a reply: expected like '550 5.7.1 Not accepted here'"),
        ({"reply": "550 4.7.1 x"}, "enhanced status code 4.7.1 does not fit reply code 550"),
        ({"reply": "250 Fine", "message_base64": "?"}, "message_base64 is not base64"),
        ({"message": "a", "message_base64": "YQ=="}, "expected one of them"),
        ({"recipients": []}, "at least 1 item"),
        ({"reply": "354 Go"}, "expected 250, 4xx or 5xx"),
        ({"other": 1}, "one of: reply, mail_from, recipients, message, message_base64"),
    ],
)
async def test_a_wrong_answer_is_explained(http, held, session, body, detail):
    held.arm(Stage.MESSAGE, actor="test")
    ended = session(Stage.MESSAGE)
    (one,) = (await http.get(f"{API}/held", params={"timeout": 20})).json()["held"]
    url = f"{API}/held/{one['id']}/answer"
    answer = await http.post(url, json=body)
    assert answer.status_code == 400
    assert detail in answer.json()["detail"]
    exact = base64.b64encode(CONTENT).decode()
    assert (await http.post(url, json={"message_base64": exact})).status_code == 200
    assert (await ended).answer.content == CONTENT


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"stage": "data"}, "body stage"),
        ({"stage": "rcpt", "count": 0}, "greater than or equal to 1"),
        ({"stage": "rcpt", "deadline": 3600}, "less than or equal to 240"),
        ({"stage": "rcpt", "on_error": "quarantine"}, "'defer' or 'skip'"),
        ({"stage": "rcpt", "when": {"to": "x"}}, "body when.to: found 'to', expected one of: sender"),
        ({"stage": "message", "when": {"score": ">5"}}, "no score, hit or auth: they are for rules"),
        ({"stage": "message", "when": {"not": {"hit": "x"}}}, "no score, hit or auth: they are for rules"),
        ({"stage": "mail", "when": {"recipient": "x@y"}}, "what is known at mail; this is at rcpt"),
    ],
)
async def test_a_wrong_breakpoint_is_explained(http, body, detail):
    answer = await http.post(f"{API}/breakpoints", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROBLEM)
    assert detail in answer.json()["detail"]


async def test_breakpoints_are_removed_one_by_one_or_all(http, held):
    first, *_ = [held.arm(Stage.RCPT, actor="test") for _ in range(3)]
    assert (await http.delete(f"{API}/breakpoints/{first.id}")).json() == {"disarmed": 1}
    assert (await http.delete(f"{API}/breakpoints/{first.id}")).status_code == 404
    assert (await http.delete(f"{API}/breakpoints")).json() == {"disarmed": 2}
    for _ in range(32):
        held.arm(Stage.RCPT, actor="test")
    full = await http.post(f"{API}/breakpoints", json={"stage": "rcpt"})
    assert (full.status_code, full.json()["type"]) == (409, "/api/#problem-too-many-breakpoints")


async def test_before_the_message_there_is_none_to_read(http, held, session):
    held.arm(Stage.CONNECT, actor="test")
    session(Stage.CONNECT)
    (one,) = (await http.get(f"{API}/held", params={"timeout": 20})).json()["held"]
    assert (one["mail_from"], one["recipients"], one["size"]) == (None, [], None)
    answer = await http.get(f"{API}/held/{one['id']}/message")
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "At the stage connect there is no message yet",
    )


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if "{hold}" in one.path], ids=lambda one: one.name
)
async def test_what_is_not_held_is_a_clear_404(http, operation):
    url = API + operation.path.replace("{hold}", "0" * 16)
    answer = await http.request(operation.method, url, **({"json": {}} if operation.method == "POST" else {}))
    assert (answer.status_code, answer.json()["detail"]) == (404, f"There is no held session {'0' * 16}")


async def test_in_front_of_a_mail_server_no_breakpoint_is_armed(store, tmp_path, channel):
    gateways = HeldSessions(channel, arms=False)
    for held, detail in ((gateways, "use a rule with action: hold"), (None, "runs without an SMTP server")):
        with Desk.open(SETTINGS, tmp_path, mode="gateway", held=held) as desk:
            transport = httpx.ASGITransport(app=create_app(desk))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8025") as http:
                answer = await http.post(f"{API}/breakpoints", json={"stage": "rcpt"})
        assert (answer.status_code, answer.json()["type"]) == (409, "/api/#problem-no-holds")
        assert detail in answer.json()["detail"]
