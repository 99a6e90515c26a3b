"""What a user of each role may do: every route and every operation, asked as each of them."""

import re
from dataclasses import replace

import pytest
from gatepost.config.desk_user import DeskUser
from gatepost.config.web import WebSettings
from gatepost.model.user import EVERYTHING, Need, Role, User
from gatepost.web.access import Guarded
from gatepost.web.accounts import Accounts, LoggedIn
from gatepost.web.api import OPERATIONS
from gatepost.web.app import create_app

OPERATOR_ONLY = {
    "POST /messages/change",
    "POST /messages/delete-all",
    "POST /messages/{id}/undo",
    "POST /messages/{id}/release",
    "POST /messages/{id}/forward",
    "POST /messages/{id}/learn",
    "POST /lists/change",
    "POST /held/{hold}/answer",
    "DELETE /api/v1/messages",
    "POST /api/v1/messages/seen",
    "DELETE /api/v1/messages/{id}",
    "POST /api/v1/messages/{id}/forward",
    "POST /api/v1/messages/{id}/learn",
    "POST /api/v1/quarantine/{id}/release",
    "DELETE /api/v1/quarantine/{id}",
    "POST /api/v1/lists",
    "POST /api/v1/held/{hold}/answer",
}
ADMINISTRATOR_ONLY = {
    "POST /held/breakpoints",
    "POST /held/breakpoints/{breakpoint}/remove",
    "POST /api/v1/messages",
    "POST /api/v1/breakpoints",
    "DELETE /api/v1/breakpoints",
    "DELETE /api/v1/breakpoints/{breakpoint}",
}
FOR_EVERYBODY = {
    "GET /login",
    "POST /login",
    "GET /login/oidc",
    "GET /login/oidc/callback",
    "GET /healthz",
    "GET /readyz",
}


async def test_every_route_and_every_operation_declares_what_it_needs(desk, routes, requests):
    app = create_app(desk)
    assert [path for path, route in routes(app) if not isinstance(route, Guarded)] == []
    found = dict(requests(app))
    assert len(found) > len(OPERATIONS) + 40
    assert {f"{one.method} /api/v1{one.path}": one.needs for one in OPERATIONS}.items() <= found.items()
    assert {name for name, need in found.items() if need is Need.NOTHING} == FOR_EVERYBODY


@pytest.mark.parametrize(
    ("role", "refused"),
    [
        (Role.READER, OPERATOR_ONLY | ADMINISTRATOR_ONLY),
        (Role.OPERATOR, ADMINISTRATOR_ONLY),
        (Role.ADMINISTRATOR, set()),
    ],
)
async def test_what_a_role_may_not_do_is_refused_before_anything_happens(
    client_of, accounts, requests, keep, desk, role, refused
):
    kept_id = await keep()
    needs = dict(requests(create_app(desk)))
    user = User(name="", role=role)
    assert {name for name, need in needs.items() if not user.may(need)} == refused
    safe = {name for name in needs if name.startswith("GET") and not name.endswith("/events")}
    async with client_of(accounts=accounts()) as http:
        await http.post("/login", data={"name": str(role), "password": f"{role}'s secret"})
        got_403 = set()
        for name in safe | refused:
            method, path = name.split()
            path = re.sub(r"\{number:int\}", "1", path.replace("{id}", kept_id))
            answer = await http.request(method, re.sub(r"\{.*?\}", "x", path))
            if answer.status_code == 403:
                got_403.add(name)
    assert got_403 == refused
    assert desk.archive.kept_message(kept_id).content, "nothing was deleted"


@pytest.mark.parametrize("path", ["/lists/change", "/api/v1/lists"])
async def test_a_refusal_says_what_is_missing(client_of, accounts, path):
    async with client_of(accounts=accounts()) as http:
        await http.post("/login", data={"name": "reader", "password": "reader's secret"})
        answer = await http.post(path)
    assert answer.status_code == 403
    if path.startswith("/api"):
        assert answer.json()["type"] == "/api/#problem-not-permitted"
        assert answer.json()["detail"] == "Your role is reader; this needs more"
    else:
        assert "You may not do this" in answer.text


async def test_a_reader_is_offered_nothing_that_would_be_refused_and_marks_nothing_as_read(
    client_of, accounts, keep
):
    kept_id = await keep()
    async with client_of(accounts=accounts()) as http:
        for role in ("reader", "operator"):
            await http.post("/login", data={"name": role, "password": f"{role}'s secret"})
            list_before = (await http.get("/")).text
            message = (await http.get(f"/messages/{kept_id}")).text
            offered = [
                word in list_before + message
                for word in ("Delete all", 'data-do="release"', 'value="delete"')
            ]
            assert offered == [role == "operator"] * 3
            assert "is-unread" in list_before, "a reader has looked at it, and changed nothing"
            assert ("is-unread" in (await http.get("/")).text) == (role == "reader")


@pytest.mark.parametrize(
    ("name", "password", "status"),
    [
        ("reader", "reader's secret", 303),
        ("reader", "operator's secret", 403),
        ("Reader", "reader's secret", 403),
        ("", "reader's secret", 403),
        ("nobody", "reader's secret", 403),
        ("nobody", "", 403),
    ],
)
async def test_a_user_logs_in_with_name_and_password(client_of, accounts, name, password, status):
    async with client_of(accounts=accounts()) as http:
        answer = await http.post("/login", data={"name": name, "password": password})
    assert answer.status_code == status
    assert ("Wrong name or password" in answer.text) == (status == 403)


async def test_the_single_password_stays_beside_users_but_makes_nobody_one_of_them(client_of, accounts):
    async with client_of(accounts=accounts(password="secret")) as http:
        taken = await http.post("/login", data={"name": "reader", "password": "secret"})
        assert taken.status_code == 403, "it would be noted in that user's name"
        assert (await http.get("/api/v1/info", auth=("reader", "secret"))).status_code == 401
        assert (await http.get("/api/v1/info", auth=("reader", "reader's secret"))).status_code == 200
        bearer = {"authorization": "Bearer secret"}
        assert (await http.delete("/api/v1/messages?all=true", headers=bearer)).status_code == 200
        assert (await http.post("/login", data={"name": "Maria", "password": "secret"})).status_code == 303


async def test_changed_users_are_those_of_open_sessions_too(tmp_path, hashed):
    file = tmp_path / "users.yaml"

    def settings(role, *names):
        return WebSettings(users_file=file, users=[DeskUser(name=name, role=role) for name in names])

    def write(password):
        file.write_text("".join(f'{name}: "{hashed(password)}"\n' for name in ("ann", "bob")))

    write("old")
    known = Accounts.of(settings("operator", "ann", "bob"), None)
    ann = await known.log_in("ann", "old")
    assert known.now(ann).role is Role.OPERATOR
    known.renew(settings("reader", "ann", "bob"))
    assert known.now(ann).role is Role.READER
    write("new")
    known.renew(settings("reader", "ann", "bob"))
    assert known.now(ann) is None
    assert await known.log_in("ann", "old") is None
    again = await known.log_in("ann", "new")
    known.renew(settings("reader", "bob"))
    assert known.now(again) is None
    with pytest.raises(
        ValueError, match="no password of the user 'cyd'; expected a line that gatepost passwd cyd"
    ):
        known.renew(settings("reader", "cyd"))
    assert (await known.log_in("bob", "new")).user.role is Role.READER, "wrong settings change nothing"
    known.renew(WebSettings())
    assert not known.are_open, "the last user is gone, and nobody may come in without a login"
    assert await known.log_in("bob", "new") is None
    as_bob = LoggedIn(user=replace(EVERYTHING, name="bob"))
    assert known.now(as_bob) is as_bob.user
    known.renew(settings("reader", "bob"))
    assert known.now(as_bob) is None, "by the single password, with a name that is a user's now"
    anybody = LoggedIn(user=EVERYTHING)
    assert known.now(anybody) is EVERYTHING


@pytest.mark.parametrize("role", Role)
async def test_pages_name_the_user_and_only_keys_that_work(client_of, accounts, role):
    async with client_of(accounts=accounts()) as http:
        await http.post("/login", data={"name": str(role), "password": f"{role}'s secret"})
        for path in ("/", "/journal", "/overview", "/api/"):
            page = (await http.get(path)).text
            assert f"<strong>{role}</strong>" in page
            for key in ("select", "mark as unread", "delete", "undo deleting"):
                assert (f"<dd>{key}</dd>" in page) == (role is not Role.READER)
            assert "<dd>search</dd>" in page


async def test_a_desk_without_a_login_names_nobody(http, client_of):
    assert 'class="mode user' not in (await http.get("/")).text
    async with client_of(password="secret") as asked:
        await asked.post("/login", data={"password": "secret"})
        assert '<span class="user-role">Administrator' in (await asked.get("/")).text


@pytest.mark.parametrize("role", Role)
async def test_the_page_of_the_api_says_what_each_operation_needs(client_of, accounts, role):
    async with client_of(accounts=accounts()) as http:
        await http.post("/login", data={"name": str(role), "password": f"{role}'s secret"})
        page = (await http.get("/api/")).text
    said = dict(re.findall(r'class="operation" id="(\w+)".*?<dt>Role</dt><dd>(.*?)</dd>', page, re.DOTALL))
    user = User(name="", role=role)
    assert said.keys() == {one.name for one in OPERATIONS}
    for one in OPERATIONS:
        assert said[one.name].startswith(str(one.needs.role))
        assert ("of all domains" in said[one.name]) == one.needs.is_of_all_domains
        assert ("not yours" in said[one.name]) != user.may(one.needs)
    index = page.partition('class="api-index"')[2].partition("</nav>")[0]
    assert index.count('class="badge"') == sum(not user.may(one.needs) for one in OPERATIONS)
    assert said["releaseMessage"].startswith("operator")
