"""A message becomes a view: text, tree, attachments; whatever it is, and soon."""

import base64
import dataclasses
import json
import os
from pathlib import Path

import pytest
from gatepost.model.verdict import Match
from gatepost.store.excerpt import read_excerpt
from gatepost.web.view import MessageView, Node, Piece, attachment, highlight, view_message
from gatepost.web.view.attachments import safe_filename
from gatepost.web.view.codes import find_codes
from hypothesis import given, settings
from hypothesis import strategies as st

TOP = b"From: a@example.com\r\nTo: b@example.com\r\nSubject: s\r\nMIME-Version: 1.0\r\n"
MIXED = TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
ALTERNATIVE = TOP + b"Content-Type: multipart/alternative; boundary=b\r\n\r\n"
PLAIN = b"--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n"
HTML = b"--b\r\nContent-Type: text/html\r\n\r\n<p>rich</p>\r\n"
PDF = (
    b"--b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Disposition: attachment\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nYWJj\r\n"
)
FORWARDED = (
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner/one\r\n"
    b"Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\ninner\r\n"
    b"--i\r\nContent-Type: image/png; name=p.png\r\n\r\nPNG\r\n--i--\r\n"
)
END = b"--b--\r\n"


def page(html: str) -> MessageView:
    return view_message(TOP + b"Content-Type: text/html; charset=utf-8\r\n\r\n" + html.encode())


def drawn(node: Node) -> str:
    """The tree on one line, with the numbers."""
    children = ", ".join(map(drawn, node.children))
    return f"{node.number} {node.content_type}{f' ({children})' if children else ''}"


def test_what_a_list_of_fields_shows():
    view = view_message(
        b"From: =?utf-8?q?Zo=C3=AB?= <zoe@example.com>\r\nTo: a@example.com,\r\n b@example.com\r\n"
        b"Cc: c@example.com\r\n"
        b"Subject: Re:\x1b[31m \xe2\x80\xaegpj.exe\r\nDate: Tue, 01 Dec 2026 09:30:00 +0000\r\n\r\n"
    )
    assert (view.author, view.to, view.cc) == (
        "Zoë <zoe@example.com>",
        "a@example.com, b@example.com",
        "c@example.com",
    )
    assert view.subject == "Re:\ufffd[31m \ufffdgpj.exe"
    assert view.date == "Tue, 01 Dec 2026 09:30:00 +0000"
    assert [header.name for header in view.headers] == ["From", "To", "Cc", "Subject", "Date"]


@pytest.mark.parametrize(
    ("content", "text", "has_html", "attachments"),
    [
        (b"\r\nhello\r\n", "hello", False, []),
        (TOP + b"\r\nhello\r\n", "hello", False, []),
        (ALTERNATIVE + PLAIN + HTML + END, "plain", True, []),
        (ALTERNATIVE + HTML + PLAIN + END, "plain", True, []),
        (ALTERNATIVE + HTML + END, "rich", True, []),
        (MIXED + PLAIN + PDF + PLAIN + END, "plain\n\nplain", False, ["a.pdf"]),
        (MIXED + HTML + PLAIN + END, "rich\n\nplain", True, []),
        (
            MIXED
            + b"--b\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n"
            + (PLAIN + HTML + END).replace(b"--b", b"--i")
            + PDF
            + END,
            "plain",
            True,
            ["a.pdf"],
        ),
        (MIXED + PLAIN + FORWARDED + END, "plain", False, ["inner one.eml", "p.png"]),
        (
            MIXED + b"--b\r\nContent-Disposition: attachment\r\n\r\nnotes\r\n" + END,
            None,
            False,
            ["part-2.txt"],
        ),
        (
            MIXED + b"--b\r\nContent-Type: text/plain; name=n.log\r\n\r\nnotes\r\n" + END,
            None,
            False,
            ["n.log"],
        ),
        (
            ALTERNATIVE + PLAIN + b"--b\r\nContent-Type: text/calendar\r\n\r\nX\r\n" + END,
            "plain",
            False,
            ["part-3.ics"],
        ),
        (TOP + b"Content-Type: application/pdf\r\n\r\n%PDF", None, False, ["part-1.pdf"]),
        (TOP + b"Content-Type: message/rfc822\r\n\r\nSubject: i\r\n\r\ninner", "inner", False, ["i.eml"]),
        (b"", "", False, []),
    ],
)
def test_which_parts_are_the_text_and_which_are_attachments(content, text, has_html, attachments):
    view = view_message(content)
    assert view.text == text
    assert (view.html is not None) is has_html
    assert [one.filename for one in view.attachments] == attachments


PNG = b"\x89PNG\r\n\x1a\n0"


def related(html, *images):
    """A page with images, each its further header fields and its content."""
    parts = [(b"Content-Type: text/html", html), *images]
    return (
        TOP
        + b"Content-Type: multipart/related; boundary=b\r\n\r\n"
        + b"".join(b"--b\r\n" + fields + b"\r\n\r\n" + content + b"\r\n" for fields, content in parts)
        + b"--b--\r\n"
    )


def image(content_id=b"<logo@example>", name=b"logo.png", content=PNG, extra=b""):
    return b"Content-Type: image/png; name=" + name + b"\r\nContent-ID: " + content_id + extra, content


INLINE = b"\r\nContent-Disposition: inline"
SHOWN = b'<img src="cid:logo@example">'


@pytest.mark.parametrize(
    ("content", "attachments", "inline"),
    [
        (related(SHOWN, image()), [], ["logo.png"]),
        (related(SHOWN, image(extra=INLINE)), [], ["logo.png"]),
        (related(SHOWN, image(extra=b"\r\nContent-Disposition: attachment")), [], ["logo.png"]),
        (related(b"<img src='CID:LOGO%40example'>", image()), [], ["logo.png"]),
        (related(b"<img src=cid:logo&#64;example>", image()), [], ["logo.png"]),
        (related(b'<img src = " cid:logo@example ">', image(b" logo@example ")), [], ["logo.png"]),
        (related(b'<td background="cid:logo@example">', image()), [], ["logo.png"]),
        (related(b"<p style=\"background:url('cid:logo@example')\">", image()), [], ["logo.png"]),
        (related(b"<style>p{background:url(cid:logo@example)}</style>", image()), [], ["logo.png"]),
        (related(SHOWN, image(), image(name=b"again.png")), [], ["logo.png", "again.png"]),
        (TOP + b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\nContent-Type: message/rfc822\r\n\r\n"
         + related(SHOWN, image()) + b"\r\n--m--\r\n", ["s.eml"], ["logo.png"]),
        # To no HTML they belong, whatever they claim.
        (related(b"<p>Hi", image(extra=INLINE)), ["logo.png"], []),
        (related(b"<!-- " + SHOWN + b" -->", image(extra=INLINE)), ["logo.png"], []),
        (related(b"<script>'" + SHOWN + b"'</script>", image()), ["logo.png"], []),
        (related(b'cid:logo@example <a href="cid:logo@example">logo</a>', image()), ["logo.png"], []),
        (related(b'<img data-src="cid:logo@example">', image()), ["logo.png"], []),
        (related(b'<img src="cid:other@example">', image()), ["logo.png"], []),
        (related(SHOWN, (b"Content-Type: image/png; name=logo.png" + INLINE, PNG)), ["logo.png"], []),
        (related(SHOWN, image(), image(name=b"x.png", content=PNG + b"1")), ["x.png"], ["logo.png"]),
        # What no browser paints is not shown in its place.
        (related(SHOWN, image(name=b"setup.exe", content=b"MZ")), ["setup.exe"], []),
        (related(SHOWN, image(name=b"a.svg", content=b"<svg/>")), ["a.svg"], []),
    ],
)  # fmt: skip
def test_an_image_that_the_html_shows_is_no_attachment(content, attachments, inline):
    view = view_message(content)
    assert [one.filename for one in view.attachments] == attachments
    assert [one.filename for one in view.inline_images] == inline
    assert read_excerpt(content).attachments == len(attachments), "lists and search count the same"


PDF_PART = b"Content-Type: application/pdf; name=a.pdf\r\n"
BASE64 = b"Content-Transfer-Encoding: base64\r\n\r\n"
UUENCODED = b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 a.txt\r\n#0V%T\r\n`\r\nend"


@pytest.mark.parametrize(
    ("parts", "files"),
    [
        ([PDF_PART + BASE64 + b"QQ==QUJD"], 1),
        ([PDF_PART + BASE64 + b"QQ==QUJD"] * 2, 2),
        ([PDF_PART + BASE64 + b"QUJD-_-_"], 1),
        ([PDF_PART + b"Content-Transfer-Encoding: quoted-printable\r\n\r\na= \r\nb=20 "], 1),
        ([PDF_PART + b"Content-Transfer-Encoding: quoted-printable\r\n" + BASE64 + b"QUJD"], 1),
        ([PDF_PART + b"Content-Type: application/zip\r\n" + BASE64 + b"QUJD"], 1),
        ([PDF_PART + UUENCODED], 1),
        ([b"Content-Type: text/plain; name=a.txt\r\n" + UUENCODED], 1),
        ([b"Content-Type: (x) text/plain\r\n\r\nhello"], 0),
        ([b"Content-Type: pdf; name=a.pdf\r\n" + BASE64 + b"QUJD"], 1),
        (
            [
                b"Content-Type: message/rfc822\r\n"
                + BASE64
                + base64.b64encode(MIXED + b"--b\r\n" + PDF_PART + BASE64 + b"QUJD\r\n--b--\r\n")
                + b"=QUJD"
            ],
            2,
        ),
        (
            [
                b"Content-Type: text/html\r\n\r\n<img src=cid:i>",
                b"Content-Type: image/png\r\nContent-ID: <i>\r\n" + BASE64 + b"iVBORw0KGgp4eA===QUJD",
            ],
            0,
        ),
    ],
)
def test_a_part_that_readers_decode_in_several_ways_is_one_attachment(parts, files):
    content = MIXED + b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    assert len(view_message(content).attachments) == files
    assert read_excerpt(content).attachments == files, "lists and search count the same"


def test_the_tree_numbers_every_part_and_the_number_gives_its_octets():
    content = MIXED + PLAIN + PDF + FORWARDED + END
    view = view_message(content)
    assert drawn(view.tree) == (
        "1 multipart/mixed (2 text/plain, 3 application/pdf, "
        "4 message/rfc822 (5 multipart/mixed (6 text/plain, 7 image/png)))"
    )
    assert [(one.number, one.size, one.content_type) for one in view.attachments] == [
        (3, 3, "application/pdf"),
        (4, len(FORWARDED) - 39, "message/rfc822"),
        (7, 3, "image/png"),
    ]
    for one in view.attachments:
        found, octets = attachment(content, one.number)
        assert (found.filename, found.content_type, found.size) == (one.filename, one.content_type, one.size)
        assert len(octets) == one.size
    assert attachment(content, 3)[1] == b"abc"
    assert attachment(content, 2)[1] == b"plain"
    assert [attachment(content, number) for number in (-1, 0, 1, 5, 8)] == [None] * 5


@pytest.mark.parametrize(
    ("content", "tree", "fault"),
    [
        (MIXED + PLAIN, "1 multipart/mixed (2 text/plain)", "the final boundary is missing"),
        (
            MIXED + PLAIN.replace(b"--b", b"--x") + b"--x--\r\n",
            "1 multipart/mixed (2 text/plain)",
            "its parts have another boundary than it declares",
        ),
        (
            MIXED + b"all is lost\r\n",
            "1 multipart/mixed (2 text/plain)",
            "a multipart without parts: its boundary is nowhere",
        ),
        (
            MIXED.replace(b"; boundary=b", b"") + PLAIN + END,
            "1 multipart/mixed (2 text/plain)",
            "another boundary",
        ),
        (MIXED + PLAIN + END + PLAIN + END, "1 multipart/mixed (2 text/plain, 3 text/plain)", ""),
        (b"\r\n\r\n" + MIXED + PLAIN + END, "1 multipart/mixed (2 text/plain)", ""),
        (b"From sender Mon\r\n" + MIXED + PLAIN + END, "1 multipart/mixed (2 text/plain)", ""),
        (
            MIXED
            + b"--b\r\nContent-Type: multipart/digest; boundary=d\r\n\r\n"
            + b"--d\r\n\r\nSubject: x\r\n\r\ny\r\n--d--\r\n"
            + END,
            "1 multipart/mixed (2 multipart/digest (3 message/rfc822 (4 text/plain)))",
            "",
        ),
        (
            TOP
            + b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            + base64.b64encode(MIXED + PLAIN + END),
            "1 message/rfc822 (2 multipart/mixed (3 text/plain))",
            "",
        ),
        (
            MIXED + b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + PLAIN + END,
            "1 multipart/mixed (2 multipart/mixed, 3 text/plain)",
            "",
        ),
    ],
)
def test_a_broken_structure_shows_what_is_there(content, tree, fault):
    view = view_message(content)
    assert drawn(view.tree) == tree
    assert fault in view.tree.fault
    assert any(finding.code == "broken-structure" for finding in view.lint) is bool(
        fault or "2 multipart/mixed," in tree
    )


@pytest.mark.parametrize(
    ("headers", "octets", "text"),
    [
        ("Content-Type: text/plain; charset=iso-8859-1", b"\x93caf\xe9\x94", "“café”"),
        ("Content-Type: text/plain; charset=nonsense", "grün".encode(), "grün"),
        ("Content-Type: text/plain; charset=utf-16", "a\ud7ff".encode("utf-16"), "a\ud7ff"),
        ("Content-Transfer-Encoding: base64", b"Z3\r\nI=", "gr"),
        ("Content-Transfer-Encoding: quoted-printable", b"a=3Db=\r\nc", "a=bc"),
        ("Content-Type: text/plain", b"a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("Content-Type: text/plain", b"\x00\x1b[2J\x7fx\ty", "\ufffd\ufffd[2J\ufffdx\ty"),
        ("Content-Type: text/html", b"<meta charset=windows-1251><p>\xcf\xf0", "Пр"),
    ],
)
def test_text_is_decoded_and_holds_no_controls(headers, octets, text):
    assert view_message(TOP + headers.encode() + b"\r\n\r\n" + octets).text == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<h1>Hi</h1><p>one\n  two</p><p>three<br>four</p>", "Hi\n\none two\n\nthree\nfour"),
        ("<table><tr> <td> a </td> <td><img src=x alt=b> c</td> </tr></table>", "a [b] c"),
        ("<ul><li>a</li><li>b</li></ul>", "- a\n- b"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ("<style>x{}</style><script>y</script><title>t</title><!-- c -->z", "z"),
        ("a&nbsp;&lt;b&gt; &amp;amp;", "a\xa0<b> &amp;"),
        ("<pre>a\n  b</pre>c", "a\nb\n\nc"),
        ("<a href=https://example.com><img src=x alt=Shop></a>", "[Shop]"),
        ("<div><div><div>deep</div></div></div><div>next</div>", "deep\nnext"),
    ],
)
def test_of_html_a_readable_text_is_made(html, text):
    assert page(html).text == text


def test_links_come_in_order_each_once_without_the_end_of_the_sentence():
    content = (
        ALTERNATIVE + b"--b\r\n\r\nSee https://a.test/x. (http://b.test/y_(z)) <https://c.test>, ftp://d.test"
        b" https://a.test/x!\r\n--b\r\nContent-Type: text/html\r\n\r\n<a href=https://e.test/?a=1&amp;b=2>e</a>"
        b"<a href='https://c.test'>c</a><a href=mailto:f@f.test>f</a>\r\n" + END
    )
    view = view_message(content)
    assert view.links == (
        "https://a.test/x",
        "http://b.test/y_(z)",
        "https://c.test",
        "https://e.test/?a=1&b=2",
    )
    assert [link.href for link in view.anchors] == [
        "https://e.test/?a=1&b=2",
        "https://c.test",
        "mailto:f@f.test",
    ]


@pytest.mark.parametrize(
    ("words", "href", "misleading"),
    [
        ("https://bank.example/login", "https://evil.test/", True),
        ("www.bank.example", "https://evil.test/bank.example", True),
        ("bank.example", "https://bank.example.evil.test/", True),
        ("bank.example", "https://bank.example@evil.test/", True),
        ("bank.example", "https://www.bank.example/login", False),
        ("Sign in", "https://evil.test/", False),
        ("see bank.example", "https://evil.test/", False),
        ("a@bank.example", "mailto:a@evil.test", False),
    ],
)
def test_words_that_name_another_host_than_the_link_are_told(words, href, misleading):
    (link,) = page(f"<a href='{href}'><b>{words}</b></a>").anchors
    assert (link.text, link.misleading) == (words, misleading)


@pytest.mark.parametrize(
    ("subject", "text", "codes"),
    [
        ("", "Your verification code is 123456.", ["123456"]),
        ("", "Your code: 123-456\nIt expires in 10 minutes.", ["123456"]),
        ("", "Your code is 123 456", ["123456"]),
        (
            "",
            "Enter this code to sign in:\n\n   8271\n\nIt is valid for 15 minutes. © 2026 Example",
            ["8271"],
        ),
        ("042917 is your Example code", "Hello", ["042917"]),
        ("", "G-482913 is your Google verification code.", ["G-482913"]),
        ("", "Use the one-time password 90 12 34 to log in", ["901234"]),
        ("", "PIN 4711", ["4711"]),
        ("", "Code: abc123", ["abc123"]),
        ("", "Your code is 2024", ["2024"]),
        ("", "Your confirmation code is K7XQ2P", ["K7XQ2P"]),
        ("", "Your recovery code:\n\nABCD-1234-EF56", ["ABCD-1234-EF56"]),
        ("", "Your verification code is AB12-CD34-EF56.", ["AB12-CD34-EF56"]),
        ("", "Your code: A1B2C3-D4E5F6", ["A1B2C3-D4E5F6"]),
        ("", "The code is ABCDE-12345-FGHIJ-67890-KLMNO", ["ABCDE-12345-FGHIJ-67890-KLMNO"]),
        ("", "The code is ABCDE-FGHIJ-KLMNO-PQRST-12345", ["ABCDE-FGHIJ-KLMNO-PQRST-12345"]),
        ("", "Your recovery codes:\n\n1a2b3-c4d5e\nx7kq-29mp\n", ["1a2b3-c4d5e", "x7kq-29mp"]),
        ("", "Your code is AB-123-456", ["AB-123-456"]),
        ("", "Your code is 12345-67890", ["1234567890"]),
        ("", "Your code is 123456 789012", ["123456789012"]),
        ("", "Your code is 550e8400-e29b-41d4-a716-446655440000", []),
        ("", "Your code is FR-4829-AB1, or AB12-X", []),
        ("", "Ihr Bestätigungscode lautet: 552211", ["552211"]),
        ("", "Votre code de vérification est 771122", ["771122"]),
        ("", "Su código de verificación es 334455", ["334455"]),
        ("", "Il tuo codice è 665544", ["665544"]),
        ("", "Twój kod weryfikacyjny to 123321", ["123321"]),
        ("", "Din kode er 4455", ["4455"]),
        ("", "Ваш код подтверждения: 908070", ["908070"]),
        ("", "您的验证码是 135790\uff0c请勿泄露", ["135790"]),
        ("", "確認コード\uff1a246810", ["246810"]),
        ("", "認証コード\uff1a\uff13\uff18\uff12\uff19\uff11\uff10", ["382910"]),
        ("", "認証コード\uff1a\uff13\uff18\uff12\uff0d\uff19\uff11\uff10", ["382910"]),
        ("", "رمز التحقق هو \u0664\u0668\u0663\u0669\u0662\u0660", ["483920"]),
        ("", "رمز: \u06f4\u06f8\u06f3\u06f9", ["4839"]),
        ("", "Your code is \uff13\uff18\uff12\uff19\uff11\uff10, or 382910", ["382910"]),
        ("", "인증번호 [112358] 를 입력", ["112358"]),
        ("", "<b>Code</b> and code 123456 or code 654321", ["123456", "654321"]),
        ("", "1 2 3 4 5 6 is your code", ["123456"]),
        ("", "Your code:\n\n1\n2\n3\n4\n5\n6\n\nIt expires.", ["123456"]),
        ("", "Your code: | 4 | 0 | 7 | 1 |", ["4071"]),
        ("", "Your code:\n K   7   X   Q   2   P\n", ["K7XQ2P"]),
        ("", "Your code is 123\u00a0456", ["123456"]),
        ("", "Your code is 12\u202f34\u202f56", ["123456"]),
        ("", "Your code is 123\u2011456", ["123456"]),
        ("", "Your code is 12\u200b3456", ["123456"]),
        ("", "Your code is 1-2-3-4-5-6.", ["123456"]),
        ("", "Your code is 123-456-789.", ["123456789"]),
        ("", "Your code is 12-34-56-78.", ["12345678"]),
        ("", "Enter the code WDJB-MJHT on the device", ["WDJB-MJHT"]),
        ("", "Your recovery codes:\n\nABCDE-FGHIJ\nKLMNO-PQRST\n", ["ABCDE-FGHIJ", "KLMNO-PQRST"]),
        ("", "THE ALL-NEW COLLECTION IS A HIT: BUY-NOW", []),
        ("", "Options: A B C D", []),
        ("", "Phone 555-123-4567, SSN 123-45-6789", []),
        ("", "Happy new year 2026, see you at 10:30 on 2026-12-24", []),
        ("", "Order number 12345678 was shipped. Total: $1234.56 or 1234,56 EUR", []),
        ("", "Call +1 555 123 4567 or (555) 123-4567", []),
        ("", "Invoice 20260017 of 12.05.2026, customer 884422", []),
        ("", "Your code is in the app. https://example.com/verify?code=123456", []),
        ("", "The meeting is in room 4711 at noon", []),
        ("", "", []),
    ],
)
def test_one_time_codes(subject, text, codes):
    assert list(find_codes(subject, text)) == codes


@pytest.mark.parametrize(
    "html",
    [
        "<div style='display:none'>Your code is 111111</div><p>Your code is 222222</p>",
        "<span style='font-size:0'>Code: 111111</span><table><tr><td>Code<td>2<td>2<td>2<td>2<td>2<td>2",
        "<p style='VISIBILITY : Hidden !important'>Code <b>111111</b></p><p>Code <b>222222</b></p>",
        "<p style='max-height:0;overflow:hidden'>Code 111111</p><p>Code 222222</p>",
        "<p style='opacity:0'>Code 111111<br>.</p><p>Code 222222</p>",
        "<p hidden>Code 111111</p><p>Code 222222</p>",
    ],
)
def test_a_code_that_nobody_sees_comes_last(html):
    assert page(html).codes == ("222222", "111111")


def test_a_code_is_found_in_the_html_where_the_text_has_none():
    content = (
        b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nSee the HTML.\r\n"
        b"--b\r\nContent-Type: text/html\r\n\r\n<p>Your code is <b>482913</b></p>\r\n--b--\r\n"
    )
    assert view_message(content).codes == ("482913",)


def test_the_code_stands_before_other_numbers():
    text = (
        "Order number 55443322\n\nYour verification code is 918273.\n\nExample, 94043 CA, PIN code help: 1800"
    )
    assert find_codes("", text)[0] == "918273"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system32\\cmd.exe", "cmd.exe"),
        ("a\x00b\r\nc.txt", "a_b__c.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("a\u200bb\ufeff.doc", "ab.doc"),
        ("می\u200cروم.pdf", "می\u200cروم.pdf"),
        ("PDF\u200cی.zip", "PDF\u200cی.zip"),
        ("ن\u200d.txt", "ن\u200d.txt"),
        ("क्\u200dष क्\u200cष.txt", "क्\u200dष क्\u200cष.txt"),
        ("👩🏽\u200d🚀 ❤️\u200d🔥.png", "👩🏽\u200d🚀 ❤️\u200d🔥.png"),
        ("in\u200dvo\u200cice.pdf\u200d.exe\u200c", "invoice.pdf.exe"),
        ("نیم\u200c\u200c.pdf", "نیم.pdf"),
        ("نیم\u200f\u202efdp.exe", "نیمfdp.exe"),
        ("☃\u2063\u200d.txt", "☃.txt"),
        (".htaccess", "htaccess"),
        ("..", "part"),
        ("", "part"),
        ("///", "part"),
        ("\x00\x01", "part"),
        ("con.txt", "_con.txt"),
        ("COM1", "_COM1"),
        ("aux.h", "_aux.h"),
        ("console.txt", "console.txt"),
        ("name. . ", "name"),
        ('a"b<c>d|e?f*g:h.txt', "a_b_c_d_e_f_g_h.txt"),
        ("é.txt", "é.txt"),
        ("x" * 10_000 + ".pdf", "x" * 116 + ".pdf"),
        ("ä" * 300 + ".tar.gz", "ä" * 58 + ".gz"),
        ("x." + "y" * 300, "x." + "y" * 118),
        ("請求書.pdf", "請求書.pdf"),
        ("a\ud800.txt", "a_.txt"),
    ],
    ids=ascii,
)
def test_file_names_are_safe_everywhere(name, safe):
    """RELIABILITY 97."""
    assert safe_filename(name, "part") == safe


@given(st.text(max_size=300))
def test_no_file_name_leads_anywhere(name):
    safe = safe_filename(name, "part")
    assert safe
    assert safe not in (".", "..")
    assert not set(safe) & set('/\\:*?"<>|\r\n\0')
    assert len(safe.encode()) <= 125


def test_a_long_text_is_cut_and_the_view_says_so():
    view = view_message(TOP + b"\r\n" + "ä".encode() * (3 << 20))
    assert 0 <= (1 << 19) - len(view.text) < 1000
    assert set(view.text) == {"ä"}
    assert view.notes == ("The text is long: only its beginning is shown.",)
    assert page("<p>x</p>" * 30_000).notes == ("The HTML is long: only its beginning is shown.",)


@pytest.mark.parametrize(
    ("where", "text", "reason", "pieces"),
    [
        ("subject", "Win the lottery", '"lottery" in subject', ["Win the ", "*lottery*"]),
        (
            "text/plain",
            "...big  Lottery now...",
            '"lottery" in text/plain and 2 more',
            ["...big ", "*Lottery*", " now..."],
        ),
        ("subject", "the LOTTERY", "", ["Win ", "*the lottery*", " now"]),
        ("text/plain", "b c", "", ["a ", "*b c*", " d"]),
        ("header X-Mailer", "bulk", "", ["The ", "*Bulk*", " Mailer"]),
        ("message", "Eicar-Signature", "ClamAV found Eicar-Signature", ["*Eicar-Signature*"]),
        ("text/plain", "not there", "", ["*not there*"]),
        ("text/plain", "(((a+)+)+)$", '"(((a+)+)+)$" in text/plain', ["*(((a+)+)+)$*"]),
    ],
)
def test_the_matched_words_are_marked(where, text, reason, pieces):
    content = b"Subject: Win the lottery now\r\nX-Mailer: The Bulk Mailer\r\n\r\na\r\nb\r\nc\r\nd"
    found = highlight(Match(where=where, text=text), view_message(content), reason=reason)
    assert [f"*{piece.text}*" if piece.is_hit else piece.text for piece in found] == pieces
    assert all(isinstance(piece, Piece) for piece in found)


def test_finding_the_match_is_linear(within_yardsticks):
    view = view_message(TOP + b"\r\n" + b"a " * 500_000)
    with within_yardsticks(200):
        for _ in range(20):
            highlight(Match(where="text/plain", text="a " * 150 + "b"), view)


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [
                *(TOP, MIXED, ALTERNATIVE, PLAIN, HTML, PDF, FORWARDED, END, b"\r\n", b"\n", b"--b\r\n"),
                *(b"Content-Type: ", b"multipart/mixed; boundary=", b"--b--", b"message/rfc822\r\n"),
                *(b"Content-Transfer-Encoding: base64\r\n", b"; charset=utf-16\r\n", b"=?utf-8?b?"),
                *(b'filename*0*="', b"Date: x\r\n"),
            ]
        )
        | st.binary(max_size=30),
        max_size=12,
    ).map(b"".join)
)
def test_every_message_has_a_view(content):
    view = view_message(content)
    json.dumps(dataclasses.asdict(view))
    for one in view.attachments:
        assert attachment(content, one.number)[0].size == one.size


@pytest.mark.parametrize(
    "make",  # so that not all of them are in memory all the time
    [
        lambda: MIXED + b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" * 100_000,
        lambda: b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(50_000)
        ),
        lambda: b"Content-Type: message/rfc822\r\n\r\n" * 200_000,
        lambda: MIXED + PLAIN * 200_000,
        lambda: MIXED + FORWARDED * 30_000,
        lambda: b"\n" * 20_000_000,
        lambda: b"\r" * 20_000_000,
        lambda: b"\0" * 20_000_000,
        lambda: b"--" * 10_000_000,
        lambda: b"--x\n" * 5_000_000,
        lambda: b"a:b\r\n" * 2_000_000,
        lambda: b'From: "' + b"(" * 2_000_000,
        lambda: TOP + b"Content-Transfer-Encoding: base64\r\n\r\n" + b"YWJj" * 7_000_000,
        lambda: TOP + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=" * 20_000_000,
        lambda: TOP + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n= " + b" " * 20_000_000,
        lambda: TOP + b"\r\n" + b"http://a " * 2_000_000,
        lambda: TOP + b"\r\n" + b"code 123456 " * 2_000_000,
        lambda: TOP + b"\r\n" + b"1 2 3 4 " * 2_000_000,
        lambda: TOP + b"\r\n" + (b"x" * 79 + b"\r\n") * 350_000,
        lambda: TOP + b"Content-Type: text/plain" + b"; a*0*=x" * 400_000,
    ],
    ids=lambda make: f"{(content := make())[-12:]!r}...{len(content)}",
)
@pytest.mark.long
def test_no_message_takes_long(make, within_yardsticks):
    """RELIABILITY 91, 92, 93, 94."""
    content = make()
    with within_yardsticks(1000):
        view_message(content)


def test_every_file_of_real_mail_has_a_view(within_yardsticks):
    folder = os.environ.get("GATEPOST_CORPUS")
    if not folder:
        pytest.skip("GATEPOST_CORPUS is not set")
    contents = [path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    with within_yardsticks(300):
        views = [view_message(content, remote_images=True) for content in contents]
    for view, content in zip(views, contents, strict=True):
        json.dumps(dataclasses.asdict(view))
        for one in view.attachments:
            assert attachment(content, one.number)[0].size == one.size
