"""The audit log: each look at a message, each change, login and refusal is one line."""

import asyncio
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest
from gatepost.config import Config
from gatepost.config.forward import ForwardSettings
from gatepost.gateway.release import forward
from gatepost.model.learnt import Learnt
from gatepost.model.user import Need
from gatepost.store import Box, StoreError
from gatepost.testing.upstream import FakeUpstream
from gatepost.web.actions import Forwarder
from gatepost.web.app import create_app
from gatepost.web.learning import Learning
from gatepost.web.pages import journal
from gatepost.web.pages.conversation import Said

METHODS = ("GET", "POST", "DELETE")
LOOKS = {
    "message.read",
    "message.source",
    "message.attachment",
    "conversation.read",
    "conversation.watch",
    "session.read",
}


@pytest.fixture
def audited(caplog):
    """What was written since the last call: action, result, user and objects."""
    caplog.set_level("INFO", "gatepost.audit")

    def take():
        lines = [one for one in caplog.records if one.name == "gatepost.audit"]
        found = [one.msg.fields() for one in lines]
        caplog.clear()
        return [(one["action"], one["result"], one["user"], one["objects"]) for one in found]

    return take


async def log_in(http, role):
    return await http.post("/login", data={"name": role, "password": f"{role}'s secret"})


async def test_looks_and_changes_are_noted_with_user_and_message(client_of, accounts, keep, audited):
    kept_id = await keep(box=Box.QUARANTINE)
    async with client_of(accounts=accounts()) as http:
        await log_in(http, "operator")
        assert audited() == [("login", "ok", "operator", None)]
        await http.get("/")
        await http.get("/quarantine?q=hello")
        await http.get("/journal")
        assert audited() == [], "lists are not"
        await http.get(f"/messages/{kept_id}")
        await http.get(f"/messages/{kept_id}/source")
        await http.get(f"/messages/{kept_id}/attachments/9")
        await http.get(f"/api/v1/messages/{kept_id}/raw")
        await http.get("/api/v1/messages/latest")
        await http.post(f"/api/v1/quarantine/{kept_id}/release")
        await http.post("/messages/change", data={"id": kept_id, "do": "delete"})
        await http.delete("/api/v1/messages?query=subject:hello")
        await http.post("/logout")
    assert audited() == [
        ("message.read", "ok", "operator", [kept_id]),
        ("message.source", "ok", "operator", [kept_id]),
        ("message.attachment", "failed", "operator", [kept_id, "9"]),
        ("message.source", "ok", "operator", [kept_id]),
        ("message.read", "ok", "operator", [kept_id]),
        ("message.release", "ok", "operator", [kept_id]),
        ("message.delete", "ok", "operator", [kept_id]),
        ("message.delete", "ok", "operator", ["query:subject:hello"]),
        ("logout", "ok", "operator", None),
    ]


async def test_what_was_refused_and_what_failed_is_noted_too(client_of, accounts, keep, desk, audited):
    kept_id = await keep(box=Box.QUARANTINE)
    desk.noted.answer = "550 5.7.1 No"
    async with client_of(accounts=accounts()) as http:
        await log_in(http, "reader")
        await http.post(f"/messages/{kept_id}/release", data={"to": "own"})
        await http.delete("/api/v1/messages?all=true")
        await http.post("/logout")
        await log_in(http, "operator")
        await http.post(f"/messages/{kept_id}/release", data={"to": "own"})
    assert audited() == [
        ("login", "ok", "reader", None),
        ("message.release", "refused", "reader", [kept_id]),
        ("message.delete", "refused", "reader", None),
        ("logout", "ok", "reader", None),
        ("login", "ok", "operator", None),
        ("message.release", "failed", "operator", [kept_id]),
    ]


async def test_a_failed_login_is_noted_without_what_was_typed(client_of, accounts, audited, caplog):
    async with client_of(accounts=accounts(password="secret")) as http:
        await http.post("/login", data={"name": "reader", "password": "guess-1"})
        await http.post("/login", data={"name": "guess-2", "password": "guess-3"})
        await http.get("/api/v1/info", headers={"authorization": "Bearer guess-4"})
        assert "guess" not in caplog.text
    assert audited() == [
        ("login", "failed", "reader", None),
        ("login", "failed", None, None),
        ("login", "failed", None, None),
    ]


async def test_a_line_quotes_what_came_from_outside(client_of, accounts, caplog):
    caplog.set_level("INFO", "gatepost.audit")
    async with client_of(accounts=accounts()) as http:
        await log_in(http, "reader")
        await http.get("/messages/x%0Aaudit%20message.release")
    (line,) = [one.getMessage() for one in caplog.records if "message.read" in one.getMessage()]
    assert line == (
        "audit message.read failed client=127.0.0.1 role=reader user='reader' "
        r"objects=['x\naudit message.release']"
    )


async def test_a_desk_without_a_login_knows_no_users_and_notes_nothing(http, keep, audited):
    assert (await http.get(f"/messages/{await keep()}")).status_code == 200
    assert audited() == []


async def test_what_only_leads_on_is_no_look(client_of, accounts, keep, desk, audited):
    transaction_id = desk.archive.kept_message(await keep()).transaction_id
    async with client_of(accounts=accounts()) as http:
        await log_in(http, "reader")
        assert (await http.get(f"/messages/{transaction_id}")).status_code == 303
    assert [action for action, *_ in audited()] == ["login"]


async def test_every_change_is_noted(desk, routes, requests):
    app = create_app(desk)
    found = routes(app)
    noted = {f"{method} {path}" for path, route in found for method in METHODS if route.action(method)}
    changes = {
        name for name, need in requests(app) if need is not Need.NOTHING and not name.startswith("GET")
    }
    assert changes - noted == set()
    actions = {route.action(method) for _, route in found for method in METHODS}
    assert actions >= LOOKS


@pytest.fixture
async def as_operator(client_of, accounts, audited):
    async with client_of(accounts=accounts()) as http:
        await log_in(http, "operator")
        audited()
        yield http


def fails(*_args, **_fields):
    raise StoreError("the disk is gone")


def breaks(*_args, **_fields):
    raise RuntimeError


BROKEN = {
    "GET /messages/{id}": ("message.read", "mailbox.message", None),
    "GET /messages/{id}/source": ("message.source", "mailbox.message", None),
    "GET /api/v1/messages/{id}": ("message.read", "archive.record", None),
    "POST /messages/{id}/release": ("message.release", "archive.claim_release", {"to": "own"}),
    "POST /api/v1/quarantine/{id}/release": ("message.release", "archive.claim_release", None),
    "POST /messages/change": ("message.delete", "mailbox.remove", {"do": "delete", "id": ["{id}"]}),
    "POST /messages/change ": ("message.delete", "mailbox.delete", {"do": "delete", "id": ["{id}", "x"]}),
    "POST /messages/change  ": ("message.change", "mailbox.mark", {"do": "seen", "id": ["{id}"]}),
    "DELETE /api/v1/messages?id={id}": ("message.delete", "mailbox.delete", None),
    "DELETE /api/v1/messages/{id}": ("message.delete", "mailbox.delete", None),
    "DELETE /api/v1/quarantine/{id}": ("message.delete", "mailbox.delete", None),
}


@pytest.mark.parametrize("how", [fails, breaks])
@pytest.mark.parametrize("request_line", BROKEN)
async def test_what_fails_with_the_store_is_noted_once_with_its_message(
    as_operator, keep, desk, audited, monkeypatch, request_line, how
):
    kept_id = await keep(box=Box.QUARANTINE)
    action, broken, form = BROKEN[request_line]
    place, name = broken.split(".")
    monkeypatch.setattr(getattr(desk, place), name, how)
    method, path = request_line.split()
    given = form and {key: str(value).replace("{id}", kept_id) for key, value in form.items() if key != "id"}
    if form and "id" in form:
        given["id"] = [one.replace("{id}", kept_id) for one in form["id"]]
    answer = await as_operator.request(method, path.replace("{id}", kept_id), data=given)
    assert answer.status_code in (500, 503)
    (line,) = audited()
    assert line[:3] == (action, "failed", "operator")
    assert kept_id in line[3]


async def test_what_was_done_is_noted_as_done_although_its_page_cannot_be_shown(
    as_operator, keep, desk, audited, monkeypatch
):
    kept_id = await keep(box=Box.QUARANTINE)
    release = desk.release

    def release_and_break(message, to):
        monkeypatch.setattr(desk.mailbox, "message", fails)
        return release(message, to)

    desk.release = release_and_break
    page = {"hx-request": "true"}
    answer = await as_operator.post(f"/messages/{kept_id}/release", data={"to": "own"}, headers=page)
    assert (answer.status_code, len(desk.noted.released)) == (503, 1)
    assert audited() == [("message.release", "ok", "operator", [kept_id])]


async def test_what_a_desk_that_stops_cuts_off_is_noted_as_interrupted(desk, accounts, audited, keep):
    """It may have been done, or not."""
    kept_id = await keep()
    began = asyncio.Event()

    async def remove(*_args, **_fields):
        began.set()
        await asyncio.Event().wait()

    desk.remove = remove
    transport = httpx.ASGITransport(create_app(desk, accounts=accounts()))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8025") as http:
        await log_in(http, "operator")
        form = {"do": "delete", "id": kept_id}
        asked = asyncio.create_task(http.post("/messages/change", data=form))
        await began.wait()
        asked.cancel()
        assert (await asked).status_code == 503
    assert audited()[1:] == [("message.delete", "interrupted", "operator", [kept_id])]


SOME = {
    "do=delete": ("message.delete", "ok", ["one", "two"]),
    "do=delete&id=absent": ("message.delete", "ok", ["one", "two"]),
    "do=seen&id=absent": ("message.change", "ok", ["one", "two"]),
}


@pytest.mark.parametrize("form", SOME)
@pytest.mark.parametrize("by", ["page", "api"])
async def test_of_many_messages_those_are_noted_that_were_changed(as_operator, keep, audited, form, by):
    ids = {name: await keep(name) for name in ("one", "two")}
    action, result, named = SOME[form]
    asked = [*ids.values(), *(["absent"] if "absent" in form else [])]
    if by == "page":
        do = "delete" if "delete" in form else "seen"
        await as_operator.post("/messages/change", data={"do": do, "id": asked})
    elif "delete" in form:
        await as_operator.request("DELETE", "/api/v1/messages", params={"id": asked})
    else:
        await as_operator.post("/api/v1/messages/seen", json={"ids": asked, "seen": True})
    assert audited() == [(action, result, "operator", [ids[name] for name in named])]


@pytest.mark.parametrize(
    ("method", "path", "given"),
    [
        ("POST", "/messages/change", {"data": {"do": "delete", "id": "absent"}}),
        ("POST", "/messages/change", {"data": {"do": "delete", "id": ["absent", "other"]}}),
        ("POST", "/messages/change", {"data": {"do": "seen", "id": ["absent", "other"]}}),
        ("POST", "/messages/change", {"data": {"do": "seen"}}),
        ("POST", "/messages/delete-all", {"data": {"q": '"'}}),
        ("POST", "/api/v1/messages/seen", {"json": {"ids": ["absent"], "seen": True}}),
        ("DELETE", "/api/v1/messages?id=absent", {}),
    ],
)
async def test_what_changes_no_message_has_failed(as_operator, keep, audited, method, path, given):
    await keep()
    await as_operator.request(method, path, **given)
    assert [result for _, result, *_ in audited()] == ["failed"]


async def test_an_object_is_not_longer_than_a_query(as_operator, audited):
    await as_operator.get(f"/messages/{'x' * 5000}")
    ((*_, (named,)),) = audited()
    assert (len(named), named[-1]) == (2101, "…")


async def test_a_conversation_on_the_page_of_its_transaction_is_read_there(
    as_operator, keep, desk, audited, monkeypatch
):
    transaction_id = desk.archive.kept_message(await keep()).transaction_id
    await as_operator.get(f"/journal/{transaction_id}")
    assert audited() == [], "it shows none"
    line = Said(at=datetime.now(UTC), direction="D", text="secret", reply_class="", transaction_id="")
    monkeypatch.setattr(journal, "conversation_of", lambda *_: (line,))
    assert "secret" in (await as_operator.get(f"/journal/{transaction_id}")).text
    assert audited() == [("conversation.read", "ok", "operator", [transaction_id])]


async def test_who_uses_the_desk_with_the_single_password_cannot_choose_what_a_line_looks_like(
    client_of, accounts, caplog
):
    caplog.set_level("INFO", "gatepost.audit")
    names = (" Maria\t", "a\nb", "x" * 5000, "\u202eevil", "' role=x objects=['1']")
    async with client_of(accounts=accounts(password="secret")) as http:
        for name in names:
            await http.get("/api/v1/messages/latest", auth=(name, "secret"))
    lines = [one.getMessage() for one in caplog.records if "message.read" in one.getMessage()]
    found = [line.partition(" user=")[2] for line in lines]
    cut = "x" * 64
    assert found == [
        "'Maria'",
        "'a\ufffdb'",
        f"'{cut}…'",
        "'\ufffdevil'",
        '''"' role=x objects=['1']"''',
    ]


@pytest.mark.parametrize("succeeds", [True, False])
@pytest.mark.parametrize("what", ["forward", "learn"])
async def test_what_a_server_refuses_has_failed_although_a_page_says_so(
    as_operator, keep, desk, audited, tmp_path, what, succeeds
):
    kept_id = await keep(box=Box.QUARANTINE)
    learnt = Learnt(rule="r", succeeded=succeeds, text="")
    desk.learning = Learning(rules=lambda: ["r"], learn=lambda *_: [learnt])
    with FakeUpstream({} if succeeds else {"rcpt": "550 5.1.1 No such user"}) as upstream:
        section = ForwardSettings.model_validate({"to": upstream.url})
        config = Config.model_validate({"web": {"forward": section}})
        desk.forward = Forwarder(settings=section, send=partial(forward, config, tmp_path))
        form = {"to": "bob@example.net", "kind": "spam"}
        answer = await as_operator.post(f"/messages/{kept_id}/{what}", data=form)
    assert answer.status_code == 200
    result = "ok" if succeeds else "failed"
    assert audited() == [(f"message.{what}", result, "operator", [kept_id])]
