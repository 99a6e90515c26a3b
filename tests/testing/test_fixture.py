"""What a developer's test suite does with the complaints server."""

import contextlib
import smtplib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from urllib.parse import urlsplit

import pytest
from gatepost.testing import make_message
from gatepost.testing.breakpoints import NothingHeldError
from gatepost.testing.complaints import NoMessageError, running_complaints

HTML = '<p data-test="x">Your code: <b>482913</b> <a href="https://shop.example/confirm?t=1">Confirm</a></p>'
PATIENCE_SECONDS = 60.0


def send(mailbox, *recipients, user=None, content=None, **parts):
    with smtplib.SMTP(mailbox.smtp_host, mailbox.smtp_port, timeout=PATIENCE_SECONDS) as smtp:
        if user:
            smtp.login(user, "secret")
        smtp.sendmail("shop@example.org", recipients, content or make_message(**parts))


def wait(mailbox, *arguments, **options):
    return mailbox.wait_for(*arguments, **{"timeout_seconds": PATIENCE_SECONDS} | options)


def test_a_message_is_waited_for_and_read(mailbox):
    send(
        mailbox,
        mailbox.address("bob"),
        subject="Welcome, Zoë",
        text="Your code: 482913\r\n",
        html=HTML,
        attachments={"terms.pdf": b"%PDF-1"},
    )
    message = wait(mailbox, subject="welcome", to="bob")
    assert message.subject == "Welcome, Zoë"
    assert message.mail_from == "shop@example.org"
    assert message.recipients == (mailbox.address("bob"),)
    assert message.text.strip() == "Your code: 482913"
    assert 'data-test="x"' in message.html
    assert message.links == ("https://shop.example/confirm?t=1",)
    assert message.codes == ("482913",)
    assert message.main_link == message.anchors[0]
    assert (message.main_link.text, message.main_link.href) == ("Confirm", message.links[0])
    (attachment,) = message.attachments
    assert (attachment.filename, attachment.content_type, attachment.content) == (
        "terms.pdf",
        "application/pdf",
        b"%PDF-1",
    )
    assert (message.to, message.bcc) == ("recipient@example.com", (mailbox.address("bob"),))
    assert message.raw.startswith(b"Received: ")
    assert b"\r\nSubject: Welcome, =?utf-8?" in message.raw
    assert message.email["To"] == "recipient@example.com"
    assert message.received_at.tzinfo is not None
    assert "Welcome" in repr(message)


def test_images_in_the_html_are_no_attachments(mailbox):
    message = EmailMessage()
    message["Subject"] = "Newsletter"
    message.set_content('<img src="cid:logo@example">', subtype="html")
    gif = {"maintype": "image", "subtype": "gif", "disposition": "inline"}
    message.add_related(b"GIF89a", cid="<logo@example>", filename="logo.gif", **gif)
    message.add_related(b"GIF89a?", cid="<other@example>", filename="other.gif", **gif)
    send(mailbox, mailbox.address(), content=message.as_bytes())
    received = wait(mailbox)
    assert [(one.filename, one.content) for one in received.inline_images] == [("logo.gif", b"GIF89a")]
    assert [one.filename for one in received.attachments] == ["other.gif"], "no HTML shows it"


def test_what_was_said_over_smtp_can_be_read(mailbox):
    send(mailbox, "customer@example.net", user=mailbox.username, subject="x", text="Hi")
    said = wait(mailbox).conversation.splitlines()
    assert said[0].lower() == "c: mail from:<shop@example.org>" or "size=" in said[0].lower()
    assert "D: Subject: x" in said
    assert said[-1].startswith("S: 250 2.0.0 ")
    assert not [line for line in said if "auth" in line.lower()], "only this transaction's"


def test_it_waits_until_the_message_comes(mailbox):
    timer = threading.Timer(0.2, send, (mailbox, mailbox.address()), {"subject": "late"})
    timer.start()
    assert wait(mailbox).subject == "late"
    timer.join()


def test_the_next_message_is_waited_for_and_not_the_last_one_again(mailbox):
    send(mailbox, mailbox.address(), subject="Your code", text="code 111222")
    first = wait(mailbox, subject="code")
    send(mailbox, mailbox.address(), subject="Your code", text="code 333444")
    second = wait(mailbox, subject="code", after=first)
    assert (first.codes, second.codes) == (("111222",), ("333444",))
    both = mailbox.wait_for_several(2, timeout_seconds=PATIENCE_SECONDS)
    assert [message.id for message in both] == [first.id, second.id]
    assert [message.id for message in mailbox.messages] == [first.id, second.id]


def test_an_address_of_a_mailbox_is_one_whatever_it_is_made_of(mailbox):
    name = mailbox.name
    assert mailbox.address() == f"test+{name}@example.test"
    assert mailbox.address("bob@shop.example") == f"bob+{name}@shop.example"
    assert mailbox.address('"a@b"@shop.example') == f'"a@b+{name}"@shop.example'


def test_a_mailbox_sees_only_its_own(complaints_server):
    mine, other = complaints_server.mailbox(), complaints_server.mailbox()
    send(other, other.address("bob"), subject="to the other's address")
    send(other, "customer@example.net", user=other.username, subject="by the other's user")
    wait(other, subject="by the")
    send(mine, mine.address("bob@shop.example"), subject="mine")
    send(mine, "customer@example.net", user=mine.username, subject="by my user")
    wait(mine, subject="by my user")
    assert [message.subject for message in mine.messages] == ["mine", "by my user"]
    mine.clear()
    assert mine.messages == []
    assert len(other.messages) == 2


def test_where_nothing_comes_the_failure_says_what_is_there(complaints_server):
    mailbox = complaints_server.mailbox()
    send(mailbox, mailbox.address("bob"), subject="Something else")
    wait(mailbox)
    with pytest.raises(NoMessageError) as failed:
        mailbox.wait_for("has:attachment", subject='Wel"come', timeout_seconds=0.1)
    first, *rest = str(failed.value).splitlines()
    assert first == 'No message with has:attachment subject:"Wel come" within 0.1 s.'
    assert any("'Something else' from shop@example.org to bob+" in line for line in rest)
    assert rest[-1] == f"Look at {complaints_server.url}"


def test_a_wrong_query_is_said_at_once(mailbox):
    with pytest.raises(ValueError, match="is:blue"):
        mailbox.wait_for("is:blue")


def test_malformed_mail_is_read_too(mailbox):
    send(mailbox, mailbox.address(), content=b"Subject: \xff\r\n\r\nbare\r\n")
    message = wait(mailbox)
    assert message.raw.endswith(b"Subject: \xff\r\n\r\nbare\r\n")
    assert (message.html, message.links, message.attachments) == ("", (), ())
    assert (message.anchors, message.main_link) == ((), None)
    assert message.problems


@pytest.mark.long
def test_the_server_ends_with_its_block():
    with running_complaints() as server:
        send(server, "bob@example.com")
        assert server.mailbox("x").messages == []
    with pytest.raises(OSError):
        smtplib.SMTP(server.smtp_host, server.smtp_port, timeout=PATIENCE_SECONDS)
    with pytest.raises(OSError):
        server.get("info")


def test_a_server_that_does_not_start_says_why():
    with pytest.raises(RuntimeError, match="no-such-option"), running_complaints("--no-such-option"):
        pass


def test_who_goes_away_leaves_its_place_to_others(complaints_server):
    address = urlsplit(complaints_server.url)
    request = f"GET /api/v1/wait?query=tag:none&timeout=300 HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n"
    for _ in range(3):
        with contextlib.ExitStack() as waiting:
            for _ in range(60):
                one = socket.create_connection((address.hostname, address.port), PATIENCE_SECONDS)
                waiting.enter_context(one).sendall(request.encode())
            mailbox = complaints_server.mailbox()
            send(mailbox, mailbox.address())
            wait(mailbox)


def test_variables_for_a_server_of_the_developer_are_not_for_this_one(monkeypatch):
    monkeypatch.setenv("GATEPOST_COMPLAINTS_KEEP", "none of them")
    with running_complaints() as server:
        assert server.get_json("info")


def test_a_mailbox_holds_its_own_sessions_and_a_test_answers(mailbox, complaints_server):
    other = complaints_server.mailbox()
    message = mailbox.hold("message")
    with ThreadPoolExecutor() as pool:
        send(other, other.address("bob"), subject="not held")
        sending = pool.submit(send, mailbox, mailbox.address("bob"), subject="held", text="as sent")
        session = message.wait(PATIENCE_SECONDS)
        assert (session.stage, session.mail_from) == ("message", "shop@example.org")
        assert session.recipients == (mailbox.address("bob"),)
        assert b"as sent" in session.raw
        with pytest.raises(ValueError, match="'no address' is not an address"):
            session.change(recipients=["no address"])
        session.change(message=session.raw.replace(b"as sent", b"as changed"))
        sending.result()
        with pytest.raises(OSError, match="answered by"):
            session.go_on()
    assert "as changed" in wait(mailbox).text
    message.remove()


def test_a_server_holds_sessions_at_each_stage(complaints_server):
    mailbox = complaints_server.mailbox()
    breakpoints = {
        stage: complaints_server.hold(stage, when={"client": "127.0.0.1"}) for stage in ("connect", "helo")
    }
    breakpoints["mail"] = mailbox.hold("mail")
    breakpoints["rcpt"] = mailbox.hold("rcpt", deadline_seconds=0.05, on_error="skip")
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(send, mailbox, mailbox.address("bob"), user=mailbox.username)
        for stage, known in (("connect", ""), ("helo", ""), ("mail", mailbox.username)):
            session = breakpoints[stage].wait(PATIENCE_SECONDS)
            assert (session.stage, session.username or "") == (stage, known)
            session.go_on()
        sending.result()
    assert wait(mailbox).recipients == (mailbox.address("bob"),)


def test_a_breakpoint_that_nobody_reaches_says_so(mailbox):
    breakpoint_ = mailbox.hold("rcpt")
    with pytest.raises(NothingHeldError, match=r"No session was held at rcpt within 0\.05 s\."):
        breakpoint_.wait(0.05)
    breakpoint_.remove()
    send(mailbox, mailbox.address("bob"))
    assert wait(mailbox)
    with pytest.raises(ValueError, match="'helo', expected mail, rcpt or message"):
        mailbox.hold("helo")
