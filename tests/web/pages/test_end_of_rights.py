"""A request that lasts is answered to its end only for a user who still may have it."""

import asyncio
from dataclasses import replace

import pytest
from gatepost.config.tokens import Token, hash_of, tokens_text
from gatepost.holding import Channel, HeldSessions
from gatepost.model.user import Role, User
from gatepost.store import Box, State
from gatepost.web import access, events, security
from gatepost.web.accounts import Accounts
from gatepost.web.app import create_app
from gatepost.web.security import Security

ANN = User(name="operator", role=Role.OPERATOR)
BEARER = "Bearer gatepost_x"
NO_LONGER = "The user was removed or has logged out, or has other rights now"
HOWS = ("log out", "removed", "password", "role", "domains", "token revoked", "token's role")


class Asking:
    """A request of a user whose rights end; ``body`` is sent but for its last byte, until `send_rest`."""

    is_full = False
    """True: the browser reads nothing more."""

    def __init__(self, app, method, target, body=b"", **headers):
        self.sent, self._body, self._rest = [], body, asyncio.Event()
        self.asked = asyncio.Event()
        path, _, query = target.partition("?")
        fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(b"host", b"127.0.0.1"), *fields],
            "query_string": query.encode(),
        }
        self._given = 0
        self.task = asyncio.create_task(app(scope, self._receive, self._take))

    async def _receive(self):
        self._given += 1
        if self._given == 1 and self._body:
            return {"type": "http.request", "body": self._body[:-1], "more_body": True}
        self.asked.set()
        if self._given == 2 and self._body:
            await self._rest.wait()
            return {"type": "http.request", "body": self._body[-1:], "more_body": False}
        return await asyncio.Event().wait()

    async def _take(self, message):
        if self.is_full:
            await asyncio.Event().wait()
        self.sent.append(message)

    def send_rest(self):
        self._rest.set()

    async def answer(self):
        await asyncio.wait_for(self.task, 30)
        return self.sent[0]["status"], b"".join(one.get("body", b"") for one in self.sent).decode()


@pytest.fixture
async def rights(desk, hashes, tmp_path):
    """An application, the field that brings the user's rights, and what ends them."""
    desk.held = HeldSessions(channel := Channel.make(), arms=True)
    tokens = tmp_path / "tokens.yaml"
    token = Token(sha256=hash_of("gatepost_x"), role=Role.OPERATOR)
    tokens.write_text(tokens_text({"ci": token}))
    accounts = Accounts(users=[ANN], hashes=hashes, tokens=tokens)
    app = create_app(desk, accounts=accounts)
    guard = next(one.kwargs["guard"] for one in app.user_middleware if one.cls is Security)
    session = await guard.sessions.begin(await accounts.log_in("operator", "operator's secret"))

    async def end(how):
        match how:
            case "log out":
                await guard.sessions.end(session)
            case "removed":
                accounts._take([], hashes)
            case "password":
                accounts._take([ANN], hashes | {"operator": hashes["reader"]})
            case "role":
                accounts._take([replace(ANN, role=Role.READER)], hashes)
            case "domains":
                accounts._take([replace(ANN, domains=frozenset({"example.com"}))], hashes)
            case "token revoked":
                tokens.write_text(tokens_text({}))
            case "token's role":
                tokens.write_text(tokens_text({"ci": token.model_copy(update={"role": Role.READER})}))

    def fields(how):
        if how.startswith("token"):
            return {"authorization": BEARER}
        return {"cookie": f"{guard.cookie}={session}"}

    yield app, fields, end
    channel.close()


@pytest.mark.parametrize("target", ["/api/v1/wait?timeout=300&query=absent", "/api/v1/held?timeout=300"])
@pytest.mark.parametrize("how", HOWS)
async def test_what_waits_is_refused_within_seconds(rights, monkeypatch, target, how):
    monkeypatch.setattr(access, "_LOOK_SECONDS", 0.01)
    app, fields, end = rights
    waiting = Asking(app, "GET", target, **fields(how))
    await waiting.asked.wait()
    await asyncio.sleep(0.05)
    assert not waiting.task.done()
    await end(how)
    status, body = await waiting.answer()
    assert (status, NO_LONGER in body) == (403, True)


async def test_what_comes_just_after_the_end_of_rights_is_not_shown(rights, keep):
    """Before it is looked at again whether the user may have it."""
    app, fields, end = rights
    waiting = Asking(app, "GET", "/api/v1/wait?timeout=300", **fields("removed"))
    await waiting.asked.wait()
    await end("removed")
    await keep("secret")
    status, body = await waiting.answer()
    assert (status, "secret" in body) == (403, False)


CHANGES = (
    ("/messages/change", "do=delete&id={id}"),
    ("/messages/{id}/release", "to=own&state=held"),
    ("/messages/delete-all", "in=messages&q="),
    ("/api/v1/messages/seen", '{"ids": ["{id}"], "seen": true}'),
    ("/api/v1/quarantine/{id}/release", '{"to": ["eve@example.net"]}'),
)


@pytest.mark.parametrize(("path", "body"), CHANGES)
@pytest.mark.parametrize("how", [None, *HOWS])
async def test_a_change_whose_end_was_held_back_is_not_made(
    rights, keep, desk, monkeypatch, caplog, path, body, how
):
    caplog.set_level("INFO", "gatepost.audit")
    monkeypatch.setattr(security, "_PROMPT_SECONDS", 0.0)
    app, fields, end = rights
    kept_id = await keep(box=Box.QUARANTINE)
    form = {} if path.startswith("/api") else {"content_type": "application/x-www-form-urlencoded"}
    body = body.replace("{id}", kept_id).encode()
    changing = Asking(app, "POST", path.replace("{id}", kept_id), body, **fields(how or ""), **form)
    await changing.asked.wait()
    if how:
        await end(how)
    changing.send_rest()
    status, said = await changing.answer()
    message = desk.archive.kept_message(kept_id)
    untouched = (message.state, desk.mailbox.counts().unread, desk.noted.released) == (State.HELD, 1, [])
    (line,) = [one.msg.fields() for one in caplog.records if one.name == "gatepost.audit"]
    assert (untouched, line["result"]) == ((True, "failed") if how else (False, "ok"))
    assert (status == 403) == (how is not None)
    if how and path.startswith("/api"):
        assert NO_LONGER in said


async def test_a_stream_ends_although_its_browser_reads_nothing(rights, monkeypatch):
    monkeypatch.setattr(access, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(events, "_END_SECONDS", 0.01)
    app, fields, end = rights
    watching = Asking(app, "GET", "/events", **fields("removed"))
    while not watching.sent:
        await asyncio.sleep(0.01)
    watching.is_full = True
    await end("removed")
    done, _ = await asyncio.wait({watching.task}, timeout=10)
    watching.task.cancel()
    assert done
