"""Who may ask, from where, and what a browser may do with the answer."""

import asyncio
from base64 import b64encode
from dataclasses import replace
from ipaddress import ip_network

import pytest
from gatepost.config.tokens import Token, hash_of, tokens_text
from gatepost.model.user import EVERYTHING, Role, User
from gatepost.web import access
from gatepost.web.accounts import Accounts, LoggedIn
from gatepost.web.app import create_app
from gatepost.web.attempts import Attempts, Login, guesser
from gatepost.web.oidc import Identity
from gatepost.web.security import Guard, Security
from gatepost.web.sessions import MemorySessions
from starlette.responses import PlainTextResponse

OWN = {"origin": "http://127.0.0.1:8025"}
PASSWORD = "correct horse"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8025", 200),
        ("localhost:8025", 200),
        ("LOCALHOST.", 200),
        ("[::1]:8025", 200),
        ("desk.example.com", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8025", 421),
        ("192.0.2.1", 421),
        ("", 421),
        ("desk.example.com@evil.example", 421),
    ],
)
async def test_only_our_own_names_are_answered_to(client_of, host, status):
    async with client_of(hosts=["desk.example.com"]) as http:
        answer = await http.get("/", headers={"host": host})
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("mode", "host", "name"),
    [
        ("complaints", "mail.test:8025", "mail.test"),
        ("complaints", "Mail_1.", "mail_1"),
        ("complaints", "192.0.2.1:80", "192.0.2.1"),
        ("complaints", "[2001:db8::1]:80", "2001:db8::1"),
        ("gateway", "mail.test", "mail.test"),
        ("gateway", "2001:db8::1", "2001:db8::1"),
    ],
)
async def test_an_unknown_host_name_comes_with_what_to_type(client_of, desk, mode, host, name):
    desk.mode = mode
    says = {
        "complaints": f"\ngatepost complaints --host {name}\n",
        "gateway": f"\nweb: {{hosts: ['{name}']}}\n\nThen run:\n\ngatepost reload --replace\n",
    }[mode]
    async with client_of() as http:
        page = await http.get("/", headers={"host": host})
        problem = await http.get("/api/v1/info", headers={"host": host})
    assert page.status_code == problem.status_code == 421
    assert says in page.text
    assert says.strip() in problem.json()["detail"]
    async with client_of(hosts=[name]) as http:
        assert (await http.get("/", headers={"host": host})).status_code == 200, "it helps"


@pytest.mark.parametrize("host", ["$(reboot)", "a'b", "-x", "a b", "<b>", ";"])
async def test_what_is_no_host_name_is_not_proposed(client_of, desk, host):
    desk.mode = "complaints"
    async with client_of() as http:
        answer = await http.get("/", headers={"host": host})
    assert (answer.status_code, "--host" in answer.text) == (421, False)


@pytest.mark.parametrize("hosts", [["127.0.0.1", "evil.example"], []])
async def test_a_request_names_one_host(desk, hosts):
    sent = []

    async def send(message):
        sent.append(message)

    async def page(scope, receive, send):
        await PlainTextResponse("never")(scope, receive, send)

    guard = Guard.of(("127.0.0.1", 8025), [], Accounts())
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", h.encode()) for h in hosts]}
    await Security(page, guard, trouble=None)(scope, None, send)
    assert sent[0]["status"] == 421


@pytest.mark.parametrize(("host", "status"), [("192.0.2.7:8025", 303), ("evil.example", 421)])
@pytest.mark.long
async def test_a_desk_on_all_addresses_answers_to_addresses_but_not_to_names(client_of, host, status):
    async with client_of(("0.0.0.0", 8025), password=PASSWORD) as http:
        assert (await http.get("/", headers={"host": host})).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        (OWN, 303),
        (OWN | {"sec-fetch-site": "same-origin"}, 303),
        ({"sec-fetch-site": "none"}, 303),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:8025"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        (OWN | {"sec-fetch-site": "cross-site"}, 403),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/messages/change", "/messages/delete-all"])
async def test_changes_come_from_our_own_pages(http, keep, desk, path, headers, status):
    kept_id = await keep()
    answer = await http.post(path, data={"id": kept_id, "do": "delete"}, headers=headers)
    assert answer.status_code == status
    assert desk.mailbox.counts().inbox == (1 if status == 403 else 0)


async def test_the_api_takes_changes_only_from_our_own_pages_too(http):
    answer = await http.delete("/api/v1/messages", headers={"origin": "http://evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("mode", "dest", "status"),
    [
        ("navigate", "document", 200),
        ("navigate", "iframe", 403),
        ("no-cors", "image", 403),
        ("cors", "empty", 403),
    ],
)
async def test_other_sites_may_link_here_and_load_nothing(http, mode, dest, status):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode, "sec-fetch-dest": dest}
    assert (await http.get("/", headers=headers)).status_code == status


@pytest.mark.parametrize("path", ["/", "/nothing", "/static/desk.css", "/events/none", "/login"])
@pytest.mark.long
async def test_every_answer_tells_the_browser_to_be_careful(http, path):
    headers = (await http.get(path)).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["referrer-policy"] == "same-origin"
    assert ("no-store" in headers["cache-control"]) == (not path.startswith("/static"))


async def test_an_error_in_a_page_says_nothing_of_it_and_has_the_headers(http, desk, monkeypatch):
    monkeypatch.setattr(desk.mailbox, "page", lambda *_, **__: 1 / 0)
    answer = await http.get("/")
    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert "ZeroDivision" not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("announced", [True, False])
async def test_a_large_body_is_not_read(http, announced):
    async def pieces():
        for _ in range(3):
            yield b"x" * (512 << 10)

    content = b"x" * (2 << 20) if announced else pieces()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await http.post("/messages/change", content=content, headers=headers)).status_code == 413


@pytest.mark.parametrize(
    ("address", "password"), [(("0.0.0.0", 8025), None), (("192.0.2.1", 8025), None), (("127.0.0.1", 1), "")]
)
def test_others_need_a_password_and_an_empty_one_is_none(address, password):
    with pytest.raises(ValueError, match="password"):
        Guard.of(address, [], Accounts(password=password))


@pytest.mark.parametrize(("host", "status"), [("192.0.2.7:8025", 200), ("evil.example", 421)])
async def test_a_desk_that_is_open_on_purpose_still_checks_names(client_of, host, status):
    async with client_of(("0.0.0.0", 8025), needs_password=False) as http:
        assert (await http.get("/", headers={"host": host})).status_code == status


async def test_nothing_is_shown_before_the_login_and_all_after_it(client_of, keep):
    kept_id = await keep("Secret plans")
    async with client_of(password=PASSWORD) as http:
        for path in ("/", f"/messages/{kept_id}", f"/messages/{kept_id}/download", "/quarantine?q=a"):
            answer = await http.get(path)
            assert (answer.status_code, answer.text) == (303, "")
        assert answer.headers["location"] == "/login?next=%2Fquarantine%3Fq%3Da"
        assert (await http.get("/events")).status_code == 401
        assert (await http.post("/messages/change", data={"id": kept_id, "do": "delete"})).status_code == 401
        assert (await http.get("/", headers={"hx-request": "true"})).headers["hx-redirect"] == "/login"

        wrong = await http.post("/login", data={"password": "wrong", "next": "/"})
        assert (wrong.status_code, wrong.cookies) == (403, {})
        form = {"password": PASSWORD, "name": "Maria", "next": "/quarantine"}
        answer = await http.post("/login", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/quarantine")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("gatepost-8025=")
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Secret plans" in (await http.get("/")).text

        await http.post("/messages/change", data={"id": kept_id, "do": "delete"})
        assert "by <bdi>Maria (127.0.0.1)</bdi>" in (await http.get(f"/messages/{kept_id}")).text
        token = http.cookies["gatepost-8025"]
        await http.post("/logout")
        http.cookies.set("gatepost-8025", token)
        assert (await http.get("/")).status_code == 303


@pytest.mark.parametrize(
    "target", ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example"]
)
async def test_the_login_leads_only_to_our_own_pages(client_of, target):
    async with client_of(password=PASSWORD) as http:
        answer = await http.post("/login", data={"password": PASSWORD, "next": target})
        assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (f"Bearer {PASSWORD}", 404),
        (f"bearer {PASSWORD}", 404),
        ("Basic " + b64encode(f"maria:{PASSWORD}".encode()).decode(), 404),
        ("Bearer wrong", 401),
        ("Basic !!!", 401),
        (f"Digest {PASSWORD}", 401),
    ],
)
async def test_programs_bring_the_password_with_each_request(client_of, value, status):
    async with client_of(password=PASSWORD) as http:
        answer = await http.get("/api/v1/nothing", headers={"authorization": value})
        assert answer.status_code == status
        assert ("www-authenticate" in answer.headers) == (status == 401)


async def test_who_guesses_has_to_wait_even_with_the_right_password(client_of, monkeypatch):
    async def at_once(_seconds):
        pass

    monkeypatch.setattr(asyncio, "sleep", at_once)
    async with client_of(password=PASSWORD) as http:
        statuses = [(await http.post("/login", data={"password": "x"})).status_code for _ in range(12)]
        assert statuses == [403] * 10 + [429] * 2
        answer = await http.post("/login", data={"password": PASSWORD})
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 7


async def test_each_wrong_password_is_logged_with_its_address_and_never_the_password(client_of, caplog):
    async with client_of(password=PASSWORD) as http:
        await http.post("/login", data={"password": "guess-1"})
        await http.get("/metrics", headers={"authorization": "Bearer guess-2"})
        await http.get("/metrics", headers={"authorization": f"Bearer {PASSWORD}"})
    found = [one for one in caplog.records if "wrong password" in one.getMessage()]
    assert [(one.levelname, one.getMessage()) for one in found] == [
        ("WARNING", "web desk: wrong password client=127.0.0.1")
    ] * 2
    assert [one.msg.fields() for one in found] == [{"client": "127.0.0.1"}] * 2
    assert "guess" not in caplog.text


async def test_tries_come_back_and_sessions_end_with_time():
    now = [1000.0]
    attempts, sessions = (kind(clock=lambda: now[0]) for kind in (Attempts, MemorySessions))
    for _ in range(10):
        attempts.note_wrong("192.0.2.1")
    assert attempts.wait_seconds("192.0.2.1") > 0
    assert attempts.wait_seconds("192.0.2.2") == 0
    now[0] += 6.1
    assert attempts.wait_seconds("192.0.2.1") == 0
    maria = LoggedIn(user=EVERYTHING)
    token = await sessions.begin(maria)
    now[0] += 11 * 3600
    assert await sessions.logged_in(token) is maria
    now[0] += 13 * 3600
    assert await sessions.logged_in(token) is None


async def test_ten_thousand_log_ins_of_one_user_end_no_session_of_another_one():
    sessions = MemorySessions()
    bobs = await sessions.begin(LoggedIn(user=replace(EVERYTHING, name="bob")))
    ann = LoggedIn(user=replace(EVERYTHING, name="ann"))
    first, *anns = [await sessions.begin(ann) for _ in range(100)]
    assert await sessions.logged_in(first), "the one that is used stays"
    anns += [await sessions.begin(ann) for _ in range(9_900)]
    assert await sessions.logged_in(bobs)
    assert [bool(await sessions.peek(token)) for token in anns[-101:]] == [False, *[True] * 100]
    there = Identity(issuer="https://idp.example", subject="1", name="ann", groups=frozenset())
    of_provider = [
        await sessions.begin(replace(ann, identity=replace(there, subject=str(n)))) for n in range(2)
    ]
    assert all([await sessions.peek(token) for token in (*of_provider, *anns[-100:])]), "others of that name"


@pytest.mark.parametrize("given", ["", "secret ", "Secret", "s\udce9cret", "sécret"])
def test_only_the_password_is_the_password(given):
    assert not Accounts(password="secret").is_password(given)
    assert Accounts(password="secret").is_password("secret")
    assert Login.from_header("Bearer secret") == Login(name="", password="secret")


class Watching:
    """A browser with a stream of events that does nothing but wait."""

    def __init__(self, app, **headers):
        self.began, self.sent = asyncio.Event(), []
        fields = [
            (b"host", b"127.0.0.1"),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ]
        scope = {"type": "http", "method": "GET", "path": "/events", "headers": fields, "query_string": b""}
        self.task = asyncio.create_task(app(scope, asyncio.Event().wait, self._take))

    async def _take(self, message):
        self.sent.append(message)
        self.began.set()

    async def wait_for_end(self):
        await asyncio.wait_for(self.task, 30)
        assert self.sent[0]["status"] == 200
        assert self.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize("how", ["log out", "time", "removed", "new rights", "token revoked"])
async def test_events_end_soon_after_the_session_of_their_user(desk, hashes, how, tmp_path, monkeypatch):
    """A user who was removed would otherwise see new mail come for as long as the page is open."""
    monkeypatch.setattr(access, "_LOOK_SECONDS", 0.01)
    clock = [0.0]
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(tokens_text({"ci": Token(sha256=hash_of("gatepost_x"), role=Role.READER)}))
    users = [User(name="reader", role=Role.READER), User(name="operator", role=Role.OPERATOR)]
    accounts = Accounts(users=users, hashes=hashes, tokens=tokens)
    app = create_app(desk, accounts=accounts)
    guard = next(one.kwargs["guard"] for one in app.user_middleware if one.cls is Security)
    guard.sessions._clock = lambda: clock[0]
    kept = await guard.sessions.begin(await accounts.log_in("operator", "operator's secret"))
    ended = await guard.sessions.begin(await accounts.log_in("reader", "reader's secret"))
    other = Watching(app, cookie=f"{guard.cookie}={kept}")
    if how == "token revoked":
        watching = Watching(app, authorization="Bearer gatepost_x")
    else:
        watching = Watching(app, cookie=f"{guard.cookie}={ended}")
    await watching.began.wait()
    await other.began.wait()
    match how:
        case "log out":
            await guard.sessions.end(ended)
        case "time":
            clock[0] += 12 * 3600 - 1
            assert await guard.sessions.logged_in(kept)
            clock[0] += 2
        case "removed":
            accounts._take(users[1:], hashes)
        case "new rights":
            accounts._take([replace(users[0], domains=frozenset({"example.com"})), users[1]], hashes)
        case "token revoked":
            tokens.write_text(tokens_text({}))
    await watching.wait_for_end()
    assert not other.task.done()
    other.task.cancel()


async def test_events_stream_through_the_middleware(client_of):
    """Its own layer would otherwise hold back what is not at its end."""
    sent = []

    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        assert sent[-1]["body"] == b"one"
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""}
    await Security(page, Guard.of(("127.0.0.1", 8025), [], Accounts()), trouble=None)(scope, None, send)
    assert len(sent) == 3


ONE_CLIENT = [
    ("192.0.2.1", "192.0.2.1", True),
    ("192.0.2.1", "192.0.2.2", False),
    ("2001:db8::1", "2001:db8::ffff:2", True),
    ("2001:db8:0:0:1:2:3:4", "2001:db8:0:0:5:6:7:8", True),
    ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
    ("fe80::1%eth0", "fe80::2%eth1", True),
    ("::ffff:192.0.2.1", "192.0.2.1", True),
    ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ("", "", True),
    ("", "192.0.2.1", False),
]


@pytest.mark.parametrize(("one", "other", "same"), ONE_CLIENT)
def test_the_attempts_of_an_ipv6_network_count_together(one, other, same):
    assert (guesser(one) == guesser(other)) == same


async def test_another_address_of_the_same_network_gets_no_more_attempts(client_of, monkeypatch, caplog):
    async def at_once(_seconds):
        pass

    monkeypatch.setattr(asyncio, "sleep", at_once)
    async with client_of(password=PASSWORD, forwarded_from=[ip_network("127.0.0.1")]) as http:

        async def guess(address):
            fields = {"x-forwarded-for": address}
            return (await http.post("/login", data={"password": "x"}, headers=fields)).status_code

        statuses = [await guess(f"2001:db8::{number}:1") for number in range(1, 13)]
        assert statuses == [403] * 10 + [429] * 2
        assert await guess("2001:db8:0:1::1") == 403
    assert "wrong password client=2001:db8::7:1" in caplog.text, "the log has the whole address"


async def test_attempts_at_the_same_time_are_no_more_than_one_after_another(client_of, hashed):
    accounts = Accounts(users=[User(name="ann", role=Role.READER)], hashes={"ann": hashed("right")})
    checked = []
    log_in = accounts.log_in

    async def counted(name, password):
        checked.append(password)
        return await log_in(name, password)

    accounts.log_in = counted
    async with client_of(accounts=accounts) as http:
        asked = [http.get("/api/v1/info", auth=("ann", f"guess {number}")) for number in range(60)]
        statuses = [answer.status_code for answer in await asyncio.gather(*asked)]
    assert len(checked) <= 2
    assert sorted(set(statuses)) == [401, 429]


async def test_many_requests_with_the_right_password_at_the_same_time_are_answered(client_of, hashed):
    accounts = Accounts(users=[User(name="ann", role=Role.READER)], hashes={"ann": hashed("right")})
    async with client_of(accounts=accounts) as http:
        asked = [http.get("/api/v1/info", auth=("ann", "right")) for _ in range(60)]
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        app = http._transport.app
    guard = next(one.kwargs["guard"] for one in app.user_middleware if one.cls is Security)
    assert guard.attempts._turns == {}, "nothing is left of them"


TAKEN = ["token ci", "Token ci", "TOKEN  x", "oidc:ann", "OIDC:ann", " token ci"]


@pytest.mark.parametrize(("name", "status"), [*((name, 401) for name in TAKEN), ("tokens", 200), ("", 200)])
async def test_with_the_single_password_nobody_is_noted_as_a_program_or_a_providers_user(
    client_of, name, status
):
    async with client_of(password=PASSWORD) as http:
        given = b64encode(f"{name}:{PASSWORD}".encode()).decode()
        answer = await http.get("/api/v1/info", headers={"authorization": f"Basic {given}"})
        entered = await http.post("/login", data={"name": name, "password": PASSWORD})
    assert answer.status_code == status
    assert (entered.status_code == 303) == (status == 200)


async def test_a_new_log_in_ends_the_session_that_the_browser_had(client_of, accounts):
    async with client_of(accounts=accounts()) as http:
        tokens = []
        for name in ("reader", "operator"):
            await http.post("/login", data={"name": name, "password": f"{name}'s secret"})
            tokens.append(http.cookies["gatepost-8025"])
        found = []
        for token in tokens:
            http.cookies.clear()
            http.cookies.set("gatepost-8025", token)
            found.append((await http.get("/journal")).status_code)
    assert found == [303, 200]


async def test_a_cookie_that_was_set_before_the_log_in_is_no_session_after_it(client_of, accounts):
    async with client_of(accounts=accounts()) as http:
        http.cookies.set("gatepost-8025", "x" * 43)
        fields = {"cookie": f"gatepost-8025={'x' * 43}"}
        form = {"name": "reader", "password": "reader's secret"}
        entered = await http.post("/login", data=form, headers=fields)
        assert entered.status_code == 303
        assert "x" * 43 not in entered.headers["set-cookie"]
        assert (await http.get("/journal", headers=fields)).status_code == 303
