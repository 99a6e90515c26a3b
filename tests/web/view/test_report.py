"""Reports about other messages: bounces, receipts, complaints."""

import pytest
from gatepost.web.view import view_message
from gatepost.web.view.status_codes import status_words

RETURNED = (
    "Content-Type: message/rfc822\n\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nMessage-ID: <1@example.com>\n\nHi"
)
BOUNCE = """\
Reporting-MTA: dns; mx.example.com
Arrival-Date: Mon, 23 Nov 2026 18:00:00 +0000

Final-Recipient: rfc822; bob@example.net
Original-Recipient: rfc822;robert@example.net
Action: Failed
Status: 5.1.1
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; 550 5.1.1 <bob@example.net>:
    User unknown; really
Last-Attempt-Date: Mon, 23 Nov 2026 18:00:01 +0000

Final-Recipient: RFC822;carol@example.net
Original-Recipient: rfc822;Carol@Example.net
Action: delayed
Status: 4.2.2 (full)
Will-Retry-Until: Sat, 28 Nov 2026 18:00:00 +0000
"""


def report(body, kind="delivery-status", *, returned=RETURNED, encoding=""):
    parts = ["\n\nSorry.", f"Content-Type: message/{kind}{encoding}\n\n{body}", returned]
    text = (
        f"From: a@example.com\nContent-Type: multipart/report; report-type={kind}; boundary=b\n\n"
        + "".join(f"--b\n{part}\n" for part in parts if part)
    )
    return view_message(f"{text}--b--\n".replace("\n", "\r\n").encode()).report


def test_a_bounce_says_what_became_of_the_message_for_whom():
    said = report(BOUNCE)
    assert (said.kind, said.reporter, said.feedback_type) == ("delivery-status", "mx.example.com", "")
    assert (said.subject, said.message_id) == ("Grüße", "<1@example.com>")
    assert [(field.name, field.value) for field in said.fields] == [
        ("Reporting-MTA", "dns; mx.example.com"),
        ("Arrival-Date", "Mon, 23 Nov 2026 18:00:00 +0000"),
    ]
    bob, carol = said.recipients
    assert (bob.address, bob.original_address) == ("bob@example.net", "robert@example.net")
    assert (bob.action, bob.status, bob.meaning) == (
        "failed",
        "5.1.1",
        "Not delivered: there is no such mailbox",
    )
    assert bob.diagnostic == "550 5.1.1 <bob@example.net>: User unknown; really"
    assert (bob.remote_server, bob.last_attempt) == ("mx.example.net", "Mon, 23 Nov 2026 18:00:01 +0000")
    assert (carol.address, carol.original_address, carol.action) == ("carol@example.net", "", "delayed")
    assert carol.meaning == "Not delivered yet: the mailbox is full"
    assert (carol.diagnostic, carol.retry_until) == ("", "Sat, 28 Nov 2026 18:00:00 +0000")


def test_a_receipt_says_what_was_done():
    said = report(
        "Reporting-UA: mail.example.net; Mailer 2.0\nFinal-Recipient: rfc822;bob@example.net\n"
        "Original-Message-ID: <7@example.com>\nDisposition: manual-action/MDN-sent-manually; Displayed\n",
        "disposition-notification",
    )
    assert (said.kind, said.message_id) == ("disposition-notification", "<7@example.com>")
    assert said.reporter == "mail.example.net; Mailer 2.0"
    assert [(one.address, one.action, one.status) for one in said.recipients] == [
        ("bob@example.net", "displayed", "")
    ]


def test_a_complaint_says_of_what_kind_it_is():
    said = report(
        "Feedback-Type: Abuse\nUser-Agent: SomeGenerator/1.0\nOriginal-Rcpt-To: <bob@example.net>\n"
        "Source-IP: 192.0.2.1\n",
        "feedback-report",
    )
    assert (said.kind, said.feedback_type, said.reporter) == ("feedback-report", "abuse", "SomeGenerator/1.0")
    assert [(one.address, one.action) for one in said.recipients] == [("bob@example.net", "")]
    assert said.fields[-1].value == "192.0.2.1"


@pytest.mark.parametrize(
    ("body", "recipients"),
    [
        ("", []),
        ("\n\n\n", []),
        ("no fields at all", []),
        ("Reporting-MTA: dns; mx\n", []),
        ("Reporting-MTA: dns; mx\n \t\nAction: failed\n", [("", "failed", "")]),
        ("Reporting-MTA: dns; mx\n\n\n\nFinal-Recipient: bob\nAction: failed\n", [("bob", "failed", "")]),
        ("Reporting-MTA: mx\n\nOriginal-Recipient: rfc822;a@b\nStatus: 9.9.9\n", [("a@b", "", "9.9.9")]),
        (
            "Reporting-MTA: mx\n\nFinal-Recipient: utf-8; gr\\x{FC}n@example.com\nAction: failed\n",
            [("grün@example.com", "failed", "")],
        ),
        (
            "Reporting-MTA: mx\n\nFinal-Recipient: utf-8; \\x{FFFFFF}\\x{D800}\\x{7}@b\nAction: failed\n",
            [("\\x{FFFFFF}\ufffd\\x{7}@b", "failed", "")],
        ),
        ("A: b\n\n" + "Final-Recipient: rfc822;a@b\nAction: failed\n\n" * 300, [("a@b", "failed", "")] * 100),
    ],
)
def test_a_broken_report_is_read_as_far_as_it_can_be(body, recipients):
    said = report(body, returned="")
    assert [(one.address, one.action, one.status) for one in said.recipients] == recipients
    assert (said.message_id, said.subject) == ("", "")


def test_headers_alone_may_be_returned():
    returned = "Content-Type: text/rfc822-headers\n\nSubject: Hello\nMessage-ID: <2@example.com>"
    assert report(BOUNCE, returned=returned).message_id == "<2@example.com>"


def test_a_report_may_be_encoded():
    said = report(
        "UmVwb3J0aW5nLU1UQTogZG5zOyBteAoKRmluYWwtUmVjaXBpZW50OiByZmM4MjI7YUBiCkFjdGlvbjogZmFpbGVkCg==",
        "global-delivery-status",
        encoding="\nContent-Transfer-Encoding: base64",
    )
    assert (said.reporter, said.recipients[0].address) == ("mx", "a@b")


def test_a_report_in_a_forwarded_message_is_not_its_own():
    nested = "Content-Type: message/delivery-status\n\n" + BOUNCE
    message = (
        "Content-Type: multipart/mixed; boundary=a\n\n--a\n\nLook\n--a\nContent-Type: message/rfc822\n\n"
        f"Content-Type: multipart/report; boundary=b\n\n--b\n{nested}\n--b--\n--a--\n"
    )
    assert view_message(message.encode()).report is None


@pytest.mark.parametrize(
    "body", ["A: b\n\n" * 100_000, "\n" * 500_000, "A: b\n\n" + "C" * 600_000, " \n" * 300_000]
)
def test_time_is_bounded(within_yardsticks, body):
    with within_yardsticks(150):
        report(body)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("5.1.1", "Not delivered: there is no such mailbox"),
        ("4.2.2", "Not delivered yet: the mailbox is full"),
        ("2.1.5", "Delivered"),
        ("2.0.0", "Delivered"),
        ("5.0.0", "Not delivered: no reason is told"),
        ("5.7.999", "Not delivered: security or policy forbids it"),
        ("5.99.1", "Not delivered: for a reason that is not registered"),
        ("5.001.01", "Not delivered: there is no such mailbox"),
        ("5.1.1 (bad address)", "Not delivered: there is no such mailbox"),
        ("5.1.1000", ""),
        ("3.1.1", ""),
        ("550", ""),
        ("", ""),
    ],
)
def test_a_status_is_said_in_words(status, words):
    assert status_words(status) == words
