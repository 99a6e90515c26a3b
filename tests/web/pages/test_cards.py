"""What the page says of invitations, reports and sealed messages."""

import re

import pytest

INVITATION = b"""\
From: ann@example.com
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=b

--b

Please come
--b
Content-Type: text/calendar; method=CANCEL

BEGIN:VCALENDAR
METHOD:CANCEL
BEGIN:VEVENT
UID:<b>1
DTSTAMP:20261101T120000Z
DTSTART;TZID="<b>Zone":20261203T130000
DTEND:<b>
RRULE:<b>rule
SUMMARY:<b>Plan
LOCATION:<b>Room
STATUS:<b>
DESCRIPTION:<b>Bring
ORGANIZER;CN="<b>Ann":mailto:<b>ann@example.com
ATTENDEE;PARTSTAT="<b>DECLINED";CN=Bob:mailto:bob@example.com
END:VEVENT
END:VCALENDAR
--b--
"""
BOUNCE = b"""\
From: mailer-daemon@mx.example.com
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b

Sorry
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; <b>mx

Final-Recipient: rfc822; <b>bob@example.net
Original-Recipient: rfc822; <b>robert@example.net
Action: <b>failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 <b>no
Remote-MTA: dns; <b>mx.example.net
Will-Retry-Until: <b>never
--b
Content-Type: message/rfc822

Subject: <b>Hi
Message-ID: <b>

--b--
"""
SEALED = b"""\
From: ann@example.com
MIME-Version: 1.0
Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b

--b
Content-Type: application/octet-stream

-----BEGIN PGP MESSAGE-----
--b--
"""


async def words(http, kept_id, tab="text"):
    page = (await http.get(f"/messages/{kept_id}?tab={tab}")).text
    assert "<b>" not in page
    page = re.sub(r"<(?:style|script)\b.*?</(?:style|script)>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(page.split())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            INVITATION,
            [
                "Cancelled &lt;b&gt;Plan",
                "When Thursday, 3 December 2026, 13:00 (&lt;b&gt;Zone)",
                "Repeats &lt;b&gt;rule",
                "Where &lt;b&gt;Room",
                "Organizer &lt;b&gt;Ann &lt;b&gt;ann@example.com",
                "Bob bob@example.com &lt;b&gt;declined",
                "DTEND cannot be read: &lt;b&gt;",
                "The time zone &lt;b&gt;Zone has no VTIMEZONE",
            ],
        ),
        (
            BOUNCE,
            [
                "Delivery report &lt;b&gt;Hi &lt;b&gt;bob@example.net &lt;b&gt;failed 5.1.1",
                "Not delivered: there is no such mailbox 550 &lt;b&gt;no",
                "Server: &lt;b&gt;mx.example.net . Sent to &lt;b&gt;robert@example.net .",
                "Tried again until &lt;b&gt;never .",
                "Reported by &lt;b&gt;mx . About &lt;b&gt;",
            ],
        ),
        (
            SEALED,
            ["The message is encrypted with OpenPGP: it can be read only with the recipient&#39;s key."],
        ),
    ],
)
async def test_the_page_tells_what_a_message_is_and_nothing_of_it_is_markup(http, keep, content, says):
    page = await words(http, await keep(content=content))
    for text in says:
        assert text in page


async def test_other_tabs_have_no_cards(http, keep):
    assert "Cancelled" not in await words(http, await keep(content=INVITATION), "headers")


async def test_what_is_hidden_behind_a_text_is_told_too(http, keep):
    content = SEALED.replace(b"--b--", b"--b\nContent-Type: text/html\n\n<p>A footer of the list\n--b--")
    for tab in ("text", "html"):
        assert "encrypted with OpenPGP" in await words(http, await keep(content=content), tab)
