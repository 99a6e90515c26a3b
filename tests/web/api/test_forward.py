"""The API forwards a message to the server of the settings, and has each recipient's reply."""

from functools import partial

import pytest
from gatepost.config import Config
from gatepost.config.forward import ForwardSettings
from gatepost.gateway.release import forward
from gatepost.store import Box, State
from gatepost.testing.upstream import Close, FakeUpstream, Then
from gatepost.web.actions import Forwarder

API = "/api/v1"


@pytest.fixture
def forwarding(desk, tmp_path):
    """Let the desk forward to a server, with these settings."""

    def to(upstream, **settings):
        section = ForwardSettings.model_validate({"to": upstream.url, **settings})
        config = Config.model_validate({"web": {"forward": section}})
        desk.forward = Forwarder(settings=section, send=partial(forward, config, tmp_path))

    return to


async def test_a_message_is_forwarded_to_its_recipients_and_noted(http, keep, desk, forwarding):
    kept_id = await keep()
    with FakeUpstream({"dot": "250 2.0.0 Queued as 4711"}) as upstream:
        forwarding(upstream)
        answer = await http.post(f"{API}/messages/{kept_id}/forward")
        (message,) = upstream.messages
    assert answer.status_code == 200
    server = upstream.url.removeprefix("smtp://")
    assert answer.json() == {
        "transaction_id": answer.json()["transaction_id"],
        "server": server,
        "mail_from": "ann@example.org",
        "reply": "250 2.0.0 Queued as 4711",
        "recipients": [
            {"address": "bob@example.com", "disposition": "relayed", "reply": "250 2.0.0 Queued as 4711"}
        ],
    }
    assert message.content == (await http.get(f"{API}/messages/{kept_id}/raw")).content
    kept = desk.archive.kept_message(kept_id)
    assert (kept.state, kept.note) == (State.RELEASED, "bob@example.com: 250 2.0.0 Queued as 4711")
    record = (await http.get(f"{API}/journal/{answer.json()['transaction_id']}")).json()
    assert (record["upstream"], record["recipients"][0]["reason"]) == (server, f"forwarded: {kept_id}")
    assert (await http.get(f"{API}/info")).json()["forwards_to"] == server


async def test_it_may_be_forwarded_again_and_to_others(http, keep, forwarding):
    kept_id = await keep()
    with FakeUpstream() as upstream:
        forwarding(upstream)
        for to in (["me@example.net"], ["me@example.net", "postmaster", '"a b"@example.net']):
            answer = await http.post(f"{API}/messages/{kept_id}/forward", json={"to": to})
            assert [one["address"] for one in answer.json()["recipients"]] == to
        assert len(upstream.messages) == 2


async def test_a_quarantined_message_stays_in_quarantine(http, keep, desk, forwarding):
    kept_id = await keep(box=Box.QUARANTINE)
    with FakeUpstream() as upstream:
        forwarding(upstream)
        assert (await http.post(f"{API}/messages/{kept_id}/forward")).status_code == 200
        assert len(upstream.messages) == 1
    assert desk.archive.kept_message(kept_id).state is State.HELD


@pytest.mark.parametrize(
    ("script", "status", "kind", "recipients", "detail"),
    [
        (
            {"rcpt": Then(None, "550 5.1.1 No such user")},
            502,
            "not-taken",
            [("a@example.com", "abandoned", ""), ("b@example.com", "refused", "550 5.1.1 No such user")],
            "The server's reply: 550 5.1.1 No such user",
        ),
        (
            {"dot": "554 5.7.1 Spam"},
            502,
            "not-taken",
            [(f"{one}@example.com", "refused", "554 5.7.1 Spam") for one in "ab"],
            "The server's reply: 554 5.7.1 Spam",
        ),
        (
            {"dot": Close()},
            504,
            "in-doubt",
            [(f"{one}@example.com", "in-doubt", None) for one in "ab"],
            "no reply after the end of data",
        ),
    ],
)
async def test_a_failure_has_each_recipients_reply(
    http, keep, desk, forwarding, script, status, kind, recipients, detail
):
    kept_id = await keep()
    with FakeUpstream(script) as upstream:
        forwarding(upstream)
        answer = await http.post(
            f"{API}/messages/{kept_id}/forward", json={"to": ["a@example.com", "b@example.com"]}
        )
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"/api/#problem-{kind}")
    assert detail in problem["detail"]
    found = [(one["address"], one["disposition"], one["reply"]) for one in problem["recipients"]]
    assert [one[:2] for one in found] == [one[:2] for one in recipients]
    assert all(wanted in (said, None) for (*_, said), (*_, wanted) in zip(found, recipients, strict=True))
    assert desk.archive.kept_message(kept_id).state is State.HELD
    assert (await http.get(f"{API}/journal/{problem['transaction_id']}")).status_code == 200


@pytest.mark.parametrize(
    ("patterns", "to", "allowed"),
    [
        (["*@example.com"], ["bob@example.com", "BOB@EXAMPLE.COM"], True),
        (["*@example.com", "me@example.net"], ["me@example.net"], True),
        (["*@example.com"], ["bob@example.com", "stranger@elsewhere.example"], False),
        (["*@example.com"], ["stranger%elsewhere.example@example.com"], False),
        (["*@example.com"], ['"stranger@elsewhere.example"@example.com'], False),
        (["*@example.com"], ["elsewhere.example!stranger@example.com"], False),
        (["*@example.com"], ["bob@sub.example.com"], False),
        (["*@example.com"], ["postmaster"], False),
        (["me@example.net"], None, False),
    ],
)
async def test_only_allowed_recipients_get_mail(http, keep, forwarding, patterns, to, allowed):
    kept_id = await keep()
    with FakeUpstream() as upstream:
        forwarding(upstream, recipients=patterns)
        answer = await http.post(f"{API}/messages/{kept_id}/forward", json={"to": to})
        assert upstream.connections == allowed
    assert answer.status_code == (200 if allowed else 403)
    if not allowed:
        assert answer.json()["type"] == "/api/#problem-not-allowed"
        assert f"only forwarded to {', '.join(patterns)} (--forward-only" in answer.json()["detail"]


@pytest.mark.parametrize("operation", ["messages/{}/forward", "quarantine/{}/release"])
@pytest.mark.parametrize(
    "address",
    ["bob", "a@example.com>\r\nRCPT TO:<x@example.com", "<a@example.com>", "a b@example.com", "@x:a@b", ""],
)
async def test_an_address_that_could_be_a_command_is_not_accepted(
    http, keep, desk, forwarding, operation, address
):
    kept_id = await keep(box=Box.QUARANTINE)
    with FakeUpstream() as upstream:
        forwarding(upstream)
        answer = await http.post(f"{API}/{operation.format(kept_id)}", json={"to": [address]})
        assert upstream.connections == 0
    assert (answer.status_code, answer.json()["errors"][0]["where"]) == (400, "body to.0")
    assert desk.released == []


async def test_without_a_server_the_problem_names_the_option(http, keep, desk):
    desk.forward = None
    answer = await http.post(f"{API}/messages/{await keep()}/forward")
    assert (answer.status_code, answer.json()["type"]) == (409, "/api/#problem-no-forward")
    assert "--forward-to smtp://HOST:PORT" in answer.json()["detail"]
    assert (await http.get(f"{API}/info")).json()["forwards_to"] is None


async def test_another_site_cannot_forward(http, keep, forwarding):
    kept_id = await keep()
    with FakeUpstream() as upstream:
        forwarding(upstream)
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
            answer = await http.post(f"{API}/messages/{kept_id}/forward", headers=headers)
            assert answer.status_code == 403
        assert (await http.post(f"{API}/messages/0000000000000000/forward")).status_code == 404
        assert upstream.connections == 0


async def test_a_server_that_is_not_there_has_no_reply(http, keep, desk, forwarding):
    with FakeUpstream() as upstream:
        forwarding(upstream)
    answer = await http.post(f"{API}/messages/{await keep()}/forward")
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (502, "/api/#problem-not-taken")
    assert problem["title"] == "The server has not taken the message"
    assert problem["detail"].startswith("The server has not answered: ")


@pytest.mark.parametrize("stage", ["rcpt", "dot"])
async def test_an_address_that_the_server_names_instead_gets_nothing(http, keep, desk, forwarding, stage):
    """RFC 5321 section 3.4: it would be the server's word against that of the person who forwards."""
    kept_id = await keep()
    with FakeUpstream() as other:
        elsewhere = f"<bob@[127.0.0.1]> or 127.0.0.1:{other.port}"
        with FakeUpstream({stage: f"551 5.1.6 User not local; please try {elsewhere}"}) as upstream:
            forwarding(upstream)
            answer = await http.post(f"{API}/messages/{kept_id}/forward")
            assert upstream.connections == 1
        assert other.connections == 0
    assert (answer.status_code, answer.json()["type"]) == (502, "/api/#problem-not-taken")
    assert answer.json()["recipients"][0]["reply"].startswith("551 5.1.6 User not local")
    assert desk.archive.kept_message(kept_id).state is State.HELD
