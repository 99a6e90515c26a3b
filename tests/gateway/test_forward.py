"""A stored message that is forwarded goes to the server of `web.forward`, unchanged, to all or to nobody."""

from datetime import UTC, datetime

import pytest
from gatepost.config import Config
from gatepost.gateway.release import forward
from gatepost.model.edits import AddHeader
from gatepost.model.mail import new_id
from gatepost.store import Box, JournalQuery, KeptMessage, State, open_archive
from gatepost.testing import make_message
from gatepost.testing.upstream import Close, FakeUpstream, Then

NO_EXTENSIONS = ("SIZE 1000000",)


def make_kept(content=None, *, mail_from="app@example.org", to=("a@example.com", "b@example.com"), **more):
    """A message in the inbox of complaints mode."""
    content = make_message(subject="Hello") if content is None else content
    return KeptMessage(
        id=new_id(),
        box=Box.INBOX,
        state=State.HELD,
        transaction_id=new_id(),
        created_at=datetime.now(UTC),
        client="127.0.0.1",
        mail_from=mail_from,
        recipients=to,
        rule=None,
        reason="",
        size=len(content),
        subject="Hello",
        header_from="",
        message_id="<1@example.org>",
        **{"prepended": b"Received: from app.example.org; now\r\n", "content": content, **more},
    )


@pytest.fixture
def send(tmp_path):
    """Forward a message to the server; returns the record."""

    def forward_to(upstream, kept, to=None, *, server=None, **settings):
        web = {"forward": {"to": server or upstream.url, **settings}}
        return forward(Config.model_validate({"web": web}), tmp_path, kept, to)

    return forward_to


@pytest.fixture
def journal(tmp_path):
    """The records of the store."""

    def records():
        with open_archive(Config().store, tmp_path) as archive:
            return archive.records(JournalQuery(), limit=10)

    return records


def ends(record):
    return [(one.address, str(one.disposition), one.reply) for one in record.recipients]


def test_the_bytes_and_the_envelope_are_those_of_the_message_and_the_journal_has_it(send, journal):
    content = b"Subject: Hello\r\n\r\n.dot\r\n..\r\nend"
    kept = make_kept(content, edits=(AddHeader("X-Tag", "yes"),))
    with FakeUpstream({"dot": "250 2.0.0 Queued as 4711"}) as upstream:
        record = send(upstream, kept)
        (message,) = upstream.messages
    assert message.content == kept.delivered_form + b"\r\n"
    assert b"X-Tag: yes\r\n" in message.content
    assert message.mail_from == "app@example.org"
    assert [one.address for one in message.recipients] == list(kept.recipients)
    assert ends(record) == [(one, "relayed", "250 2.0.0 Queued as 4711") for one in kept.recipients]
    assert {one.reason for one in record.recipients} == {f"forwarded: {kept.id}"}
    assert (record.upstream, record.mail_from) == (upstream.url.removeprefix("smtp://"), "app@example.org")
    assert journal() == [record]


def test_others_get_it_and_the_sender_may_be_another(send):
    kept = make_kept(mail_from="app@staging.internal")
    with FakeUpstream() as upstream:
        assert ends(send(upstream, kept, ["me@example.net"], sender="test@example.net"))[0][1] == "relayed"
        assert ends(send(upstream, kept, ["me@example.net"], sender="<>"))[0][1] == "relayed"
        senders = [message.mail_from for message in upstream.messages]
        recipients = [[one.address for one in message.recipients] for message in upstream.messages]
    assert senders == ["test@example.net", ""]
    assert recipients == [["me@example.net"]] * 2


@pytest.mark.parametrize(
    ("content", "to", "parameters"),
    [
        ("Subject: x\r\n\r\nplain\r\n", "b@example.com", set()),
        ("Subject: x\r\n\r\nGrüße\r\n", "b@example.com", {"BODY=8BITMIME"}),
        ("Subject: Grüße\r\n\r\nx\r\n", "b@example.com", {"BODY=8BITMIME", "SMTPUTF8"}),
        ("Subject: x\r\n\r\nx\r\n", "ü@example.com", {"SMTPUTF8"}),
    ],
)
def test_what_the_message_needs_is_asked_for_and_refused_where_it_is_missing(send, content, to, parameters):
    kept = make_kept(content.encode(), to=(to,))
    with FakeUpstream() as upstream:
        assert ends(send(upstream, kept))[0][1] == "relayed"
        (message,) = upstream.messages
    assert {one for one in message.parameters if not one.startswith("SIZE=")} == parameters
    with FakeUpstream(extensions=NO_EXTENSIONS) as upstream:
        record = send(upstream, kept)
        assert len(upstream.messages) == (not parameters)
    wanted = "550 5.6.7" if "SMTPUTF8" in parameters else "554 5.6.3" if parameters else "250 "
    assert record.reply.startswith(wanted)


@pytest.mark.parametrize(
    ("script", "ends_with", "why"),
    [
        (
            {"rcpt": Then(None, "550 5.1.1 No such user")},
            [("a@example.com", "abandoned", ""), ("b@example.com", "refused", "550 5.1.1 No such user")],
            "550 5.1.1 No such user",
        ),
        (
            {"rcpt": Then("450 4.2.1 Busy", "550 5.1.1 Who")},
            [("a@example.com", "deferred", "450 4.2.1 Busy"), ("b@example.com", "refused", "550 5.1.1 Who")],
            "450 4.2.1 Busy",
        ),
        (
            {"mail": "553 5.7.1 Sender not owned"},
            [(f"{one}@example.com", "refused", "553 5.7.1 Sender not owned") for one in "ab"],
            "553 5.7.1 Sender not owned",
        ),
        (
            {"dot": "554 5.7.1 Spam"},
            [(f"{one}@example.com", "refused", "554 5.7.1 Spam") for one in "ab"],
            "554 5.7.1 Spam",
        ),
        (
            {"dot": Close()},
            [(f"{one}@example.com", "in-doubt", None) for one in "ab"],
            "no reply after the end of data",
        ),
    ],
)
def test_what_the_server_says_is_each_recipients_result(send, journal, script, ends_with, why):
    with FakeUpstream(script) as upstream:
        record = send(upstream, make_kept())
        assert len(upstream.messages) == ("dot" in script), "to all or to nobody"
        assert record.upstream == upstream.url.removeprefix("smtp://")
    found = ends(record)
    assert [(address, end) for address, end, _ in found] == [(address, end) for address, end, _ in ends_with]
    assert all(reply in (said, None) for (_, _, said), (_, _, reply) in zip(found, ends_with, strict=True))
    assert why in record.upstream_reply
    assert journal() == [record]


def test_a_server_that_is_down_is_named_with_the_reason(send):
    with FakeUpstream() as upstream:
        pass
    record = send(upstream, make_kept())
    assert {(end, reply[:9]) for _, end, reply in ends(record)} == {("deferred", "451 4.4.1")}
    assert record.upstream == upstream.url.removeprefix("smtp://")
    assert "refused" in record.upstream_reply.lower() or "connect" in record.upstream_reply.lower()


def test_a_wrong_password_is_said_as_such(send, tmp_path):
    (tmp_path / "password").write_text("wrong\n")
    with FakeUpstream(users={"app": "right"}) as upstream:
        server = {
            "host": upstream.host,
            "port": upstream.port,
            "auth": {"username": "app", "password_file": tmp_path / "password"},
        }
        record = send(upstream, make_kept(), server=server)
        assert "535" in record.upstream_reply
        (tmp_path / "password").write_text("right\n")
        assert ends(send(upstream, make_kept(), server=server))[0][1] == "relayed"


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\n.\nMAIL FROM:<x@example.com>\n", b"\0"])
def test_a_message_that_no_server_may_be_sent_stays(send, journal, newline):
    """Bare newlines in front of a dot would smuggle commands into the next server."""
    with FakeUpstream() as upstream:
        record = send(upstream, make_kept(b"Subject: x\r\n\r\nbare" + newline + b"x\r\n"))
        assert upstream.connections == 0
    assert {reply[:10] for _, _, reply in ends(record)} == {"550 5.6.11"}
    assert journal() == [record]


@pytest.mark.parametrize(
    ("sender", "to", "replies"),
    [
        ("app", ("a@example.com",), ["501 5.1.7"]),
        ("a@b>\r\nRCPT TO:<x@example.com", ("a@example.com",), ["501 5.1.7"]),
        ("a@example.org", ("bob", "b@example.com"), ["501 5.1.3", ""]),
        ("a@example.org", ("",), ["501 5.1.3"]),
        ("a@example.org", ("a@example.com> NOTIFY=NEVER",), ["501 5.1.3"]),
        ("a@example.org", ("a@example.com>\r\nRCPT TO:<x@example.com",), ["501 5.1.3"]),
    ],
)
def test_an_address_that_would_not_be_one_in_a_command_is_not_sent(send, sender, to, replies):
    with FakeUpstream() as upstream:
        record = send(upstream, make_kept(mail_from=sender, to=to))
        assert upstream.connections == 0
    assert [reply[:9] for _, _, reply in ends(record)] == replies


def test_the_bare_postmaster_is_a_recipient(send):
    with FakeUpstream() as upstream:
        assert ends(send(upstream, make_kept(to=("postmaster",))))[0][1] == "relayed"
