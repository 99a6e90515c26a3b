"""The audit log: each look at a message, each change, login and refusal is one line."""

import pytest
from gatepost.model.user import Need
from gatepost.store import Box
from gatepost.web.app import create_app

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
