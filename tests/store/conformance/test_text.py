"""Words and phrases in messages, as a reader sees them."""

import pytest
from gatepost.store import parse_query


@pytest.fixture
def find(backend, settings, tmp_path, until):
    """A mailbox that is open until the test ends, and what it finds: mail is told apart by its subject."""
    mailbox = backend.open_mailbox(settings, tmp_path)

    def subjects(text):
        return [message.shown_subject for message in mailbox.page(parse_query(text), limit=1000).messages]

    yield subjects
    mailbox.close()


MULTIPART = b"""\
From: =?utf-8?q?Zo=C3=AB?= <zoe@example.com>\r
To: Bob <bob@example.com>, team@example.com\r
Cc: Carol <carol@example.com>\r
Subject: =?utf-8?b?w4RwZmVsIHVuZA==?=\r
 =?utf-8?b?IEJpcm5lbg==?=\r
Content-Type: multipart/mixed; boundary=b\r
\r
--b\r
Content-Type: text/html; charset=utf-8\r
Content-Transfer-Encoding: quoted-printable\r
\r
<style>p { color: hidden }</style><p>caf=C3=A9 <b>in</b>voice &amp; more<!-- unseen --></p>second\r
--b\r
Content-Type: application/pdf; name="tax report.pdf"\r
\r
octets\r
--b--\r
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cafe", True),
        ("cafe\u0301", True),
        ("caf", True),
        ("afé in", True),
        ("voice*", False),
        ("fe", False),
        ("se", True),
        ("d", False),
        ("caf*", True),
        ('"cafe inv*"', True),
        ('"caf* invoice"', False),
        ('"report zoe"', False),
        ("CAFÉ", True),
        ("invoice", True),
        ('"more second"', True),
        ('"second more"', False),
        ("hidden", False),
        ("unseen", False),
        ("color", False),
        ("inv*", True),
        ("subject:apfel", True),
        ("subject:Birnen", True),
        ("subject:cafe", False),
        ("from:zoe", True),
        ("from:zoe@example.com", True),
        ("from:ann@example.com", True),
        ("to:carol@example.com", True),
        ("to:dave@example.org", True),
        ("to:team", True),
        ("to:zoe", False),
        ("report.pdf", True),
        ('"tax report"', True),
        ("has:attachment", True),
        ("-has:attachment", False),
        ("cafe -invoice", False),
        ("cafe -absent", True),
        ("cafe absent", False),
        ("-absent", True),
        ('from:"OR * NEAR ( ^ {x} : \\\\"', False),
        ("subject:\0a", False),
    ],
    ids=repr,
)
async def test_a_message_is_found_by_what_a_reader_sees(
    store, make_record, make_kept, find, until, text, found
):
    await store.commit(make_record(), [make_kept(content=MULTIPART)])
    await until(lambda: find("from:zoe"))
    assert bool(find(text)) == found


SCRIPTS = """\
From: Shop <shop@example.com>\r
To: "Bob, the buyer" <bob@example.net>\r
Cc: Carol <carol@example.com>, Erin <erin@xn--mnchen-3ya.example>\r
Reply-To: returns@example.com\r
Message-ID: <20261128.5582@example.com>\r
X-Campaign: Spring; id=77\r
Subject: Passwort zurücksetzen: AX-5582\r
Content-Type: text/plain; charset=utf-8\r
\r
GRÖSSE 42. 您的发票号码. ご注文ありがとうございます. ใบเสร็จรับเงิน. 주문이 도착했습니다.\r
\uff33\uff2b\uff35\uff11\uff12\uff13. Ελλάδα. Москва.\r
""".encode()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("wort", True),
        ("558", True),
        ("AX-55", True),
        ("ax5582", False),
        ("größe", True),
        ("grosse", True),
        ("发票", True),
        ("票", True),
        ("发号", False),
        ("您的发票号码", True),
        ("注文", True),
        ("ござい", True),
        ("เสร็จ", True),
        ("주문", True),
        ("sku123", True),
        ("ΕΛΛΑΔΑ", True),
        ("москв", True),
        ("cc:carol", True),
        ("cc:bob", False),
        ("to:buyer", True),
        ("bcc:dave", True),
        ("bcc:bob", False),
        ("bcc:erin", False),
        ("bcc:carol", False),
        ("reply-to:returns", True),
        ("returns", False),
        ("message-id:20261128.5582", True),
        ("message-id:9999", False),
        ("header:campaign", True),
        ('header:"x-campaign: spring"', True),
        ("header:dave", False),
        ("-header:campaign", False),
        ("wort header:campaign cc:carol", True),
        ("wort header:campaign cc:absent", False),
    ],
    ids=ascii,
)
async def test_a_message_is_found_by_parts_of_words_in_any_script(
    store, make_record, make_kept, find, until, text, found
):
    to = ("bob@example.net", "carol@example.com", "dave@example.org", "erin@MÜNCHEN.example")
    await store.commit(make_record(), [make_kept(content=SCRIPTS, recipients=to)])
    await until(lambda: find("from:shop"))
    assert bool(find(text)) == found


@pytest.mark.parametrize(("html", "found"), [('<img src="cid:logo@example">', False), ("<p>Hi</p>", True)])
async def test_an_image_that_the_html_shows_is_no_attachment(
    store, make_record, make_kept, find, until, html, found
):
    content = (
        "Subject: Newsletter\r\nContent-Type: multipart/related; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: text/html\r\n\r\n{html}\r\n"
        "--b\r\nContent-Type: image/gif; name=logo.gif\r\nContent-ID: <logo@example>\r\n"
        "Content-Disposition: inline\r\n\r\nGIF89a\r\n--b--\r\n"
    ).encode()
    await store.commit(make_record(), [make_kept(content=content)])
    await until(lambda: find("subject:newsletter"))
    assert bool(find("has:attachment")) is found
    assert bool(find("logo.gif")), "its name is found all the same"


async def test_the_list_shows_the_decoded_subject_sender_and_the_first_words(
    store, backend, make_record, make_kept, settings, tmp_path, until
):
    await store.commit(make_record(), [make_kept(content=MULTIPART)])
    with backend.open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: mailbox.page(parse_query("")).messages[0].snippet)
        (message,) = mailbox.page(parse_query("")).messages
    assert message.shown_subject == "Äpfel und Birnen"
    assert message.shown_from == "Zoë <zoe@example.com>"
    assert message.snippet == "café invoice & more second"
    assert message.attachments == 1


PART = "--b\r\nContent-Type: {}\r\n\r\n{}\r\n"


@pytest.mark.parametrize(
    ("parts", "snippet"),
    [
        ([("text/plain", "See  you"), ("text/calendar", "BEGIN:VCALENDAR")], "See you"),
        ([("text/calendar", "BEGIN:VCALENDAR"), ("text/html", "<p>See</p> you")], "See you"),
        ([("text/plain", "Attached"), ("text/csv; name=a.csv", "1;2")], "Attached"),
        ([("text/plain; name=a.txt", "1;2"), ("text/plain", "Attached")], "Attached"),
        ([("text/plain", "One"), ("text/plain", "Two")], "One Two"),
        ([("text/calendar", "BEGIN:VCALENDAR")], ""),
    ],
)
async def test_the_first_words_are_those_of_the_message_not_of_what_is_attached(
    store, backend, make_record, make_kept, settings, tmp_path, until, find, parts, snippet
):
    content = "Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    content += "".join(PART.format(*part) for part in parts) + "--b--\r\n"
    await store.commit(make_record(), [make_kept(content=content.encode())])
    with backend.open_mailbox(settings, tmp_path) as mailbox:
        await until(lambda: find("subject:s"))
        assert [message.snippet for message in mailbox.page(parse_query("")).messages] == [snippet]
    assert all(bool(find(f'"{word}"')) for _, text in parts for word in text.split()[:1] if "<" not in word)
