"""A message is forwarded in the desk: the dialog, what each recipient's result was, and what is refused."""

import json
import re
from functools import partial

import pytest
from gatepost.config import Config
from gatepost.config.forward import ForwardSettings
from gatepost.gateway.release import forward
from gatepost.store import Box, State
from gatepost.testing.upstream import Close, FakeUpstream, Then
from gatepost.web.actions import Forwarder

HX = {"hx-request": "true"}
QUEUED = "250 2.0.0 Queued as 4711"


@pytest.fixture
def forwarding(desk, tmp_path):
    """Let the desk forward to a server, with these settings."""

    def to(upstream, **settings):
        section = ForwardSettings.model_validate({"to": upstream.url, **settings})
        config = Config.model_validate({"web": {"forward": section}})
        desk.forward = Forwarder(settings=section, send=partial(forward, config, tmp_path))

    return to


def words(html):
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


async def test_the_dialog_has_the_recipients_and_says_where_mail_goes(http, keep, forwarding):
    kept_id = await keep("Hello", to=("bob@example.net", "<b>@example.net"))
    with FakeUpstream() as upstream:
        forwarding(upstream, sender="test@example.net", recipients="*@example.net")
        page = (await http.get(f"/messages/{kept_id}", headers=HX)).text
    (dialog,) = re.findall(r'<dialog id="forward".*?</dialog>', page, re.DOTALL)
    assert ">\nbob@example.net\n&lt;b&gt;@example.net</textarea>" in dialog
    for text in (upstream.url.removeprefix("smtp://"), "test@example.net", "Allowed: *@example.net"):
        assert text in words(dialog)


async def test_it_is_sent_and_its_page_says_so(http, keep, desk, forwarding):
    kept_id = await keep("Hello", to=("a b@example.net", "bob@example.net"))
    with FakeUpstream({"dot": QUEUED}) as upstream:
        forwarding(upstream)
        form = {"to": "bob@example.net\r\n\r\nme@example.com, you@example.com\r\nbob@example.net"}
        answer = await http.post(f"/messages/{kept_id}/forward?tab=source", data=form, headers=HX)
        (message,) = upstream.messages
    assert [one.address for one in message.recipients] == [
        "bob@example.net",
        "me@example.com",
        "you@example.com",
    ]
    server = upstream.url.removeprefix("smtp://")
    notice = json.loads(answer.headers["hx-trigger"])["desk:notice"]["text"]
    assert notice == f"Forwarded to {server}."
    said = words(answer.text)
    assert f"Forwarded to {server} bob@example.net forwarded {QUEUED} me@example.com forwarded" in said
    assert "forwarded by web desk (127.0.0.1)" in said
    assert re.search(r'id="tab-source"[^>]* aria-current="true"', answer.text), "the tab stays"
    assert desk.archive.kept_message(kept_id).state is State.RELEASED


NOT_SENT = (
    "Not forwarded bob@example.net not sent The server accepted this recipient, but nothing was sent because "
    "it refused another. me@example.com refused 550 5.1.1 No such &lt;b&gt;user&lt;/b&gt;"
)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            {"rcpt": Then(None, "550 5.1.1 No such <b>user</b>")},
            NOT_SENT,
        ),
        ({"dot": "451 4.2.0 Later"}, "Not forwarded bob@example.net refused for now 451 4.2.0 Later"),
        ({"dot": Close()}, "bob@example.net in doubt The server got the whole message and did not answer"),
    ],
)
async def test_a_failure_has_the_servers_own_words(http, keep, desk, forwarding, script, says):
    kept_id = await keep("Hello")
    with FakeUpstream(script) as upstream:
        forwarding(upstream)
        form = {"to": "bob@example.net\nme@example.com"}
        answer = await http.post(f"/messages/{kept_id}/forward", data=form, headers=HX)
    assert says in words(answer.text)
    assert "hx-trigger" not in answer.headers
    assert desk.archive.kept_message(kept_id).state is State.HELD


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("", "Enter the recipients"),
        (" \r\n,", "Enter the recipients"),
        ("nobody", "Not an address: nobody"),
        ("a@b>\r\nRCPT", "Not an address: a@b&gt;"),
        ("a@b\u202e", "Not an address"),
        ("stranger@example.org", "mail is only forwarded to *@example.net, *@example.com (--forward-only"),
        ("\n".join(f"a{n}@example.com" for n in range(101)), "At most 100"),
    ],
)
async def test_wrong_recipients_get_nothing(http, keep, forwarding, to, says):
    kept_id = await keep("Hello")
    with FakeUpstream() as upstream:
        forwarding(upstream, recipients=["*@example.net", "*@example.com"])
        answer = await http.post(f"/messages/{kept_id}/forward", data={"to": to}, headers=HX)
        assert upstream.connections == 0
    assert says in words(answer.text)


async def test_a_server_that_is_not_there_has_refused_nothing(http, keep, forwarding):
    kept_id = await keep("Hello", to=("bob@example.net",))
    with FakeUpstream() as upstream:
        forwarding(upstream)
    answer = await http.post(f"/messages/{kept_id}/forward", data={"to": "bob@example.net"}, headers=HX)
    assert "bob@example.net not sent 451 4.4.1 The destination cannot be reached" in words(answer.text)
    assert "refused for now" not in answer.text


async def test_without_a_server_there_is_no_button(http, keep, desk):
    kept_id = await keep("Hello")
    assert "Forward" not in (await http.get(f"/messages/{kept_id}", headers=HX)).text
    answer = await http.post(f"/messages/{kept_id}/forward", data={"to": "a@example.com"})
    assert answer.status_code == 404


async def test_a_held_message_can_be_forwarded_and_stays_held(http, keep, desk, forwarding):
    kept_id = await keep("Held", box=Box.QUARANTINE)
    with FakeUpstream() as upstream:
        forwarding(upstream)
        page = (await http.get(f"/messages/{kept_id}", headers=HX)).text
        assert 'data-do="release"' in page
        assert 'data-do="forward"' in page
        await http.post(f"/messages/{kept_id}/forward", data={"to": "bob@example.net"}, headers=HX)
        assert len(upstream.messages) == 1
    assert desk.archive.kept_message(kept_id).state is State.HELD


async def test_other_sites_cannot_forward(http, keep, forwarding):
    kept_id = await keep("Hello")
    with FakeUpstream() as upstream:
        forwarding(upstream)
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
            form = {"to": "a@example.com"}
            answer = await http.post(f"/messages/{kept_id}/forward", data=form, headers=headers)
            assert answer.status_code == 403
        assert upstream.connections == 0
