"""However an attachment's fields are spelt, a filter sees what a reader sees.

SPELLINGS is the table: the fields of a part, and the names that readers show for it, the likeliest first.
More names may be offered. What is added to it is tested with the reader and with the filter `attachments`.
"""

import base64
import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import gatepost_attachments
import gatepost_keywords
import pytest
from gatepost.mime import MimeView, read_message
from gatepost.mime.structure import read_structure
from gatepost.testing import make_transaction
from gatepost_attachments import Attachments
from gatepost_keywords import Keywords

sys.path.insert(0, str(Path(__file__).parent))
import writing_tnef as tnef

TOP = b"From: a@example.com\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
CONTENT = b"MZ is how such files begin"


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to write a name."""

    why: str
    fields: str
    names: tuple[str, ...]
    """The first is the likeliest."""


DISPOSITION = "Content-Disposition: attachment; "
SPELLINGS = [
    Spelling("plain", DISPOSITION + "filename=evil.exe", ("evil.exe",)),
    Spelling("quoted", DISPOSITION + 'filename="evil.exe"', ("evil.exe",)),
    Spelling("quoted-pair, RFC 5322 3.2.1", DISPOSITION + r'filename="evil.e\xe"', ("evil.exe",)),
    Spelling("every character a quoted-pair", DISPOSITION + r'filename="\e\v\i\l\.\e\x\e"', ("evil.exe",)),
    Spelling("a quoted quote", DISPOSITION + r'filename="a\"b.exe"', ('a"b.exe',)),
    Spelling("a backslash without quotes", DISPOSITION + r"filename=evil.e\xe", (r"evil.e\xe", "evil.exe")),
    Spelling(
        "a path of Windows keeps its backslashes",
        DISPOSITION + r'filename="C:\new\evil.exe"',
        (r"C:\new\evil.exe", "C:newevil.exe"),
    ),
    Spelling("comment behind", DISPOSITION + "filename=evil.exe (note)", ("evil.exe",)),
    Spelling("comment behind quotes", DISPOSITION + 'filename="evil.exe" (note)', ("evil.exe",)),
    Spelling(
        "comment first", "Content-Disposition: attachment; (note) filename=evil.exe", ("evil.exe",)
    ),
    Spelling("comment before =", DISPOSITION + "filename (c)=a.exe", ("a.exe",)),
    Spelling("comment behind =", DISPOSITION + "filename= (c) a.exe", ("a.exe",)),
    Spelling("comment before all", "Content-Disposition: (c) attachment; filename=a.exe", ("a.exe",)),
    Spelling("comments nested", DISPOSITION + "filename=a.exe (a (b) c)", ("a.exe",)),
    Spelling("comment with a semicolon", DISPOSITION + "(a; b) filename=a.exe", ("a.exe",)),
    Spelling("comment with quotes", DISPOSITION + '(a "b) filename=a.exe', ("a.exe",)),
    Spelling("comment with a quoted-pair", DISPOSITION + r"(a \) b) filename=a.exe", ("a.exe",)),
    Spelling("comment with a parameter", DISPOSITION + "(; filename=a.txt) filename=a.exe", ("a.exe",)),
    Spelling("comment that is not closed", DISPOSITION + "filename=a.exe (note", ("a.exe (note", "a.exe")),
    Spelling("no comment but a part of the name", DISPOSITION + "filename=evil(1).exe", ("evil(1).exe",)),
    Spelling("parentheses within quotes", DISPOSITION + 'filename="evil (1).exe"', ("evil (1).exe",)),
    Spelling(
        "blank before the colon, RFC 5322 4.5.8",
        "Content-Disposition : attachment; filename=a.exe",
        ("a.exe",),
    ),
    Spelling("tab before the colon", "Content-Disposition\t: attachment; filename=a.exe", ("a.exe",)),
    Spelling("blanks around =", DISPOSITION + "filename = a.exe", ("a.exe",)),
    Spelling("folded", 'Content-Disposition: attachment;\r\n\tfilename\r\n =\r\n "a.exe"', ("a.exe",)),
    Spelling("folded name", DISPOSITION + 'filename="a\r\n b.exe"', ("a b.exe",)),
    Spelling("in capitals", "CONTENT-DISPOSITION: ATTACHMENT; FILENAME=a.exe", ("a.exe",)),
    Spelling("no type, RFC 2183 asks for one", "Content-Disposition: ; filename=a.exe", ("a.exe",)),
    Spelling("the parameter alone", "Content-Disposition: filename=a.exe", ("a.exe",)),
    Spelling("no semicolon", "Content-Disposition: attachment filename=a.exe", ("a.exe",)),
    Spelling("a comma", "Content-Disposition: attachment, filename=a.exe", ("a.exe",)),
    Spelling("a semicolon too many", "Content-Disposition: attachment;; filename=a.exe;", ("a.exe",)),
    Spelling("quotes not closed", DISPOSITION + 'filename="a.exe', ("a.exe",)),
    Spelling("quotes within", DISPOSITION + 'filename=a".e"xe', ("a.exe",)),
    Spelling("behind the quotes", DISPOSITION + 'filename="evil".exe', ("evil.exe",)),
    Spelling("a semicolon in quotes", DISPOSITION + 'filename="a;b.exe"', ("a;b.exe",)),
    Spelling("blanks without quotes", DISPOSITION + "filename=my evil.exe", ("my evil.exe",)),
    Spelling("encoded-word", DISPOSITION + 'filename="=?utf-8?B?ZXZpbC5leGU=?="', ("evil.exe",)),
    Spelling("encoded-word without quotes", DISPOSITION + "filename==?utf-8?Q?evil=2Eexe?=", ("evil.exe",)),
    Spelling(
        "encoded-words, a character in two",
        DISPOSITION + 'filename="=?utf-8?Q?=D1=81=D1?=\r\n =?utf-8?Q?=87.exe?="',
        ("сч.exe",),
    ),
    Spelling(
        "all of it an encoded-word",
        "Content-Disposition: =?utf-8?Q?attachment;_filename=3Devil.exe?=",
        ("evil.exe",),
    ),
    Spelling("percent without RFC 2231", DISPOSITION + 'filename="evil%2Eexe"', ("evil%2Eexe", "evil.exe")),
    Spelling("8-bit", DISPOSITION + 'filename="счёт.exe"', ("счёт.exe",)),
    Spelling("RFC 2231", DISPOSITION + "filename*=utf-8''evil%2Eexe", ("evil.exe",)),
    Spelling("RFC 2231 in quotes", DISPOSITION + "filename*=\"utf-8''evil%2Eexe\"", ("evil.exe",)),
    Spelling("RFC 2231 without a charset", DISPOSITION + "filename*=evil%2Eexe", ("evil.exe",)),
    Spelling("RFC 2231 with a language", DISPOSITION + "filename*=utf-8'en'evil%2Eexe", ("evil.exe",)),
    Spelling(
        "a character cut by a continuation",
        DISPOSITION + "filename*0*=utf-8''%D1%81%D1%87%D1; filename*1*=%91%D1%82.exe",
        ("счёт.exe",),
    ),
    Spelling(
        "the charset of the first piece",
        DISPOSITION + "filename*0*=koi8-r''%CB; filename*1*=%D5%D0.exe",
        ("куп.exe",),
    ),
    Spelling("continued", DISPOSITION + 'filename*0="evil."; filename*1="exe"', ("evil.exe",)),
    Spelling("continued out of order", DISPOSITION + 'filename*1="exe"; filename*0="evil."', ("evil.exe",)),
    Spelling("with a gap", DISPOSITION + "filename*0=a.exe; filename*2=.txt", ("a.exe.txt", "a.exe")),
    Spelling("continued from one", DISPOSITION + "filename*1=evil; filename*2=.exe", ("evil.exe",)),
    Spelling("a piece twice", DISPOSITION + "filename*0=a.txt; filename*0=a.exe", ("a.txt", "a.exe")),
    Spelling("mixed pieces", DISPOSITION + "filename*0*=utf-8''ev%69; filename*1=l.exe", ("evil.exe",)),
    Spelling(
        "plain beside extended", DISPOSITION + "filename=a.txt; filename*=utf-8''a.exe", ("a.exe", "a.txt")
    ),
    Spelling("twice", DISPOSITION + "filename=a.txt; filename=a.exe", ("a.txt", "a.exe")),
    Spelling(
        "name beside filename",
        "Content-Type: application/x; name=a.exe\r\n" + DISPOSITION + "filename=a.txt",
        ("a.txt", "a.exe"),
    ),
    Spelling("name alone", "Content-Type: application/x; name=a.exe", ("a.exe",)),
    Spelling("name of a text", "Content-Type: text/plain; name=a.exe", ("a.exe",)),
    Spelling(
        "two fields of Content-Disposition",
        DISPOSITION + "filename=a.txt\r\n" + DISPOSITION + "filename=a.exe",
        ("a.txt", "a.exe"),
    ),
    Spelling(
        "ten fields of Content-Disposition, the last one",
        (DISPOSITION + "filename=a.txt\r\n") * 9 + DISPOSITION + "filename=a.exe",
        ("a.txt", "a.exe"),
    ),
    Spelling(
        "two fields of Content-Type",
        "Content-Type: text/plain; name=a.txt\r\nContent-Type: application/x; name=a.exe",
        ("a.txt", "a.exe"),
    ),
    Spelling("inline", "Content-Disposition: inline; filename=a.exe", ("a.exe",)),
    Spelling("behind a line that is no field", "no field\r\n" + DISPOSITION + "filename=a.exe", ("a.exe",)),
    Spelling("behind a line of blanks", "A: b\r\n \r\n" + DISPOSITION + "filename=a.exe", ("a.exe",)),
    Spelling(
        "after two thousand parameters", DISPOSITION + "x=y;" * 2000 + "filename=a.exe", ("a.exe",)
    ),
    Spelling(
        "a piece twice, joined",
        DISPOSITION + 'filename*0=a.txt; filename*0*="x;evil.exe"',
        ("a.txt", "a.txtx;evil.exe"),
    ),
    Spelling(
        "comments in the numbers",
        DISPOSITION + "filename*0(c)=evil.; filename*1(c)=exe; filename*0=",
        ("evil.exe",),
    ),
    Spelling(
        "quoted-pairs and garbage in pieces",
        DISPOSITION + r'filename*0="evil.\e"; filename*1="xe"x',
        ("evil.exex", "evil.exe"),
    ),
    Spelling("a stray quote first", DISPOSITION + '"; filename*1=il.exe; filename*0=ev', ("evil.exe",)),
    Spelling("quotes that do not pair", DISPOSITION + 'x="a; x=""; filename="x;evil.exe"', ("x;evil.exe",)),
    Spelling("a charset that nobody knows", DISPOSITION + "filename*=x-none''evil.exe", ("evil.exe",)),
    Spelling("a piece in single quotes", DISPOSITION + "filename*0*='evil.exe'", ("'evil.exe'",)),
    Spelling("name in Content-Disposition", DISPOSITION + "name=a.exe", ("a.exe",)),
    Spelling("filename in Content-Type", "Content-Type: application/x; filename=a.exe", ("a.exe",)),
    Spelling("a comma behind it", DISPOSITION + "filename=a.exe, x=y", ("a.exe, x=y", "a.exe")),
    Spelling("in angle brackets", DISPOSITION + 'filename="<evil.exe>"', ("<evil.exe>", "evil.exe")),
    Spelling(
        "a comment in an open comment",
        "Content-Disposition: attachment (x; filename(c)=evil.exe",
        ("evil.exe",),
    ),
    Spelling("RFC 2231 in single quotes", DISPOSITION + "filename*='evil.exe'", ("'evil.exe'",)),
    Spelling(
        "many pieces of one number",
        DISPOSITION + "filename*0=a; filename*0=b; filename*0=evil.exe",
        ("a", "abevil.exe"),
    ),
    Spelling(
        "behind a thousand others, before some",
        DISPOSITION + "x=y;" * 1000 + "filename=a.exe" + ";x=y" * 60,
        ("a.exe",),
    ),
    Spelling(
        "behind a hundred lines that are no fields",
        "junk\r\n" * 101 + DISPOSITION + "filename=a.exe",
        ("a.exe",),
    ),
]  # fmt: skip
IDS = [spelling.why for spelling in SPELLINGS]


def message(fields: str, body: bytes = base64.encodebytes(CONTENT).replace(b"\n", b"\r\n")) -> bytes:
    part = fields.encode() + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body
    head = TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    return head + b"--b\r\n\r\nhello\r\n--b\r\n" + part + b"\r\n--b--\r\n"


@pytest.mark.parametrize("spelling", SPELLINGS, ids=IDS)
def test_every_name_that_a_reader_shows_is_offered_the_likeliest_first(spelling):
    attachment = next(a for a in read_message(message(spelling.fields)).attachments if a.filenames)
    assert attachment.filename == attachment.filenames[0]
    assert set(spelling.names) <= set(attachment.filenames)
    assert [name for name in attachment.filenames if name in spelling.names] == list(spelling.names)
    assert attachment.read() == CONTENT


@pytest.mark.parametrize("spelling", SPELLINGS, ids=IDS)
async def test_a_filter_for_exe_hits_every_spelling(spelling):
    transaction = make_transaction(content=message(spelling.fields))
    verdict = await Attachments(extensions=["exe"]).filter_message(transaction)
    assert verdict
    assert "extension exe" in verdict.reason


@pytest.mark.parametrize(
    "spelling", [s for s in SPELLINGS if s.names[0].endswith("exe")], ids=lambda s: s.why
)
def test_the_web_desk_shows_the_likeliest_name(spelling):
    (_, part) = read_structure(message(spelling.fields)).root.children
    assert part.filename == spelling.names[0]


MULTIPARTS = {
    "plain": "Content-Type: multipart/mixed; boundary=b",
    "blank before the colon": "Content-Type : multipart/mixed; boundary=b",
    "comment": "Content-Type: multipart/mixed (c); (d) boundary=b (e)",
    "comment before all": "Content-Type: (c) multipart/mixed; boundary=b",
    "comment with a quote before all": 'Content-Type: (one " quote) multipart/mixed; boundary="b"',
    "quoted boundary with a quoted-pair": r'Content-Type: multipart/mixed; boundary="\b"',
    "quoted type": 'Content-Type: "multipart/mixed"; boundary=b',
    "blanks in the type": "Content-Type: multipart / mixed; boundary=b",
    "no semicolon": "Content-Type: multipart/mixed boundary=b",
    "RFC 2231": "Content-Type: multipart/mixed; boundary*=us-ascii''%62",
    "RFC 2231, continued": "Content-Type: multipart/mixed; boundary*0=; boundary*1=b",
    "boundary twice, the first": "Content-Type: multipart/mixed; boundary=b; boundary=c",
    "boundary twice, the second": "Content-Type: multipart/mixed; boundary=c; boundary=b",
    "two fields, the first": "Content-Type: multipart/mixed; boundary=b\r\nContent-Type: text/plain",
    "two fields, the second": "Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b",
    "no boundary": "Content-Type: multipart/mixed",
    "another boundary": "Content-Type: multipart/mixed; boundary=other",
    "white space at its end": 'Content-Type: multipart/mixed; boundary="b "',
    "a folded field": "Content-Type:\r\n multipart/mixed;\r\n\tboundary=b",
    "behind a line that is no field": "no field\r\nContent-Type: multipart/mixed; boundary=b",
    "8bit": "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit",
    "base64, against RFC 2045 6.4":
        "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64",
}  # fmt: skip


@pytest.mark.parametrize("fields", MULTIPARTS.values(), ids=MULTIPARTS)
def test_the_parts_of_a_multipart_are_found(fields):
    content = TOP + fields.encode() + b"\r\n\r\n--b\r\n\r\nhello\r\n--b\r\n"
    content += b"Content-Disposition: attachment; filename=evil.exe\r\n\r\nMZ\r\n--b--\r\n"
    view = read_message(content)
    assert "evil.exe" in names(view)
    assert any("hello" in text.text for text in view.texts)


DELIMITERS = {
    "plain": "--b",
    "blanks behind it": "--b  \t",
    "text behind it, RFC 2046 5.1.1: a prefix is enough": "--b and more",
    "letters behind it": "--bogus",
}


@pytest.mark.parametrize("line", DELIMITERS.values(), ids=DELIMITERS)
def test_a_part_begins_behind_each_line_that_begins_with_the_boundary(line):
    content = TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n" + line.encode()
    content += b"\r\nX: y\r\nContent-Disposition: attachment; filename=evil.exe\r\n\r\nMZ\r\n--b--\r\n"
    assert "evil.exe" in names(read_message(content))


ENCODINGS = {
    "plain": "Content-Transfer-Encoding: base64",
    "capitals": "Content-Transfer-Encoding: BASE64",
    "comment before": "Content-Transfer-Encoding: (c) base64",
    "comment behind": "Content-Transfer-Encoding: base64 (c)",
    "quoted": 'Content-Transfer-Encoding: "base64"',
    "semicolon": "Content-Transfer-Encoding: base64 ;",
    "a parameter": "Content-Transfer-Encoding: base64; x=y",
    "folded": "Content-Transfer-Encoding:\r\n base64",
    "blank before the colon": "Content-Transfer-Encoding : base64",
    "two fields, the first": "Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit",
    "two fields, the second": "Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64",
}


@pytest.mark.parametrize("fields", ENCODINGS.values(), ids=ENCODINGS)
def test_an_attachment_is_decoded_under_each_plausible_encoding(fields):
    content = TOP + b"Content-Type: application/x; name=a.exe\r\n" + fields.encode() + b"\r\n\r\n"
    content += base64.encodebytes(CONTENT)
    assert CONTENT in [a.read() for a in read_message(content).attachments]


@pytest.mark.parametrize("fields", ENCODINGS.values(), ids=ENCODINGS)
def test_a_text_is_decoded_under_each_plausible_encoding(fields):
    content = TOP + fields.encode() + b"\r\n\r\n" + base64.encodebytes(b"a wire transfer")
    assert "a wire transfer" in [text.text for text in read_message(content).texts]


def test_an_attachment_with_two_types_is_offered_under_both():
    content = message("Content-Type: image/png; name=a\r\nContent-Type: application/x-msdownload")
    offered = [a.content_type for a in read_message(content).attachments]
    assert offered == ["image/png", "application/x-msdownload"]


INNER = b"From: b@example.com\r\nSubject: inner\r\nContent-Type: application/x; name=evil.exe\r\n\r\nMZ"
FORWARDED = {
    "message/rfc822": ("Content-Type: message/rfc822", INNER),
    "message/global": ("Content-Type: message/global", INNER),
    "message/partial": ("Content-Type: message/partial; number=1; total=2; id=x", INNER),
    "message/external-body": ("Content-Type: message/external-body; access-type=x", INNER),
    "a type nobody knows": ("Content-Type: message/x-unknown", INNER),
    "base64, against RFC 2046 5.2.1": (
        "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64", base64.encodebytes(INNER)
    ),
    "base64 and 7bit": (
        ("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n"
        "Content-Transfer-Encoding: base64"),
        base64.encodebytes(INNER),
    ),
    "attached by its name": ("Content-Type: application/octet-stream; name=mail.eml", INNER),
    "attached by its name, encoded": (
        "Content-Type: application/octet-stream; name=mail.EML\r\nContent-Transfer-Encoding: base64",
        base64.encodebytes(INNER),
    ),
    "attached without a name": ("Content-Type: application/octet-stream", INNER),
    "attached as text": ("Content-Type: text/plain; name=mail.eml", INNER),
    "in a digest": ("Content-Type: multipart/digest; boundary=d", b"--d\r\n\r\n" + INNER + b"\r\n--d--"),
    "two types": ("Content-Type: text/plain\r\nContent-Type: message/rfc822", INNER),
    "within two": (
        "Content-Type: message/rfc822", b"Content-Type: application/octet-stream; name=b.eml\r\n\r\n" + INNER
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "body"), FORWARDED.values(), ids=FORWARDED)
def test_a_message_in_the_message_is_looked_into(fields, body):
    content = TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    content += fields.encode() + b"\r\n\r\n" + body + b"\r\n--b--\r\n"
    view = read_message(content)
    assert "evil.exe" in names(view)
    assert ("Subject", "inner") in [(header.name, header.value) for header in view.forwarded_headers]


UUENCODED = b"begin 644 evil.exe\r\n#35IX\r\n`\r\nend\r\n"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(TOP + b"\r\nhello\r\n" + UUENCODED + b"bye\r\n", id="in a text"),
        *[
            pytest.param(
                TOP + b"Content-Transfer-Encoding: %b\r\n\r\n" % name + UUENCODED, id=name.decode()
            )
            for name in (b"x-uuencode", b"uuencode", b"x-uue", b"uue", b"X-UUENCODE")
        ],
        pytest.param(
            TOP + b"Content-Type: application/x; name=a.txt\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n"
            + UUENCODED, id="a name beside it"),
        pytest.param(
            TOP + b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(UUENCODED),
            id="in an encoded text"),
    ],
)  # fmt: skip
def test_a_uuencoded_file_is_an_attachment(content):
    view = read_message(content)
    assert "evil.exe" in names(view)
    assert b"MZx" in [attachment.read() for attachment in view.attachments]


def names(view: MimeView) -> list[str]:
    return [name for attachment in view.attachments for name in attachment.filenames]


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Type: application/ms-tnef; name=winmail.dat",
        "Content-Type: application/octet-stream",
        "Content-Type: text/plain; name=notes.txt",
    ],
)
def test_what_is_in_winmail_dat_is_read_like_other_parts(fields):
    mail = tnef.tnef(
        tnef.body(b"a wire transfer"),
        tnef.attachment(tnef.title(b"mail.eml"), tnef.data(INNER)),
        tnef.attachment(tnef.title(b"other.js"), tnef.data(b"x")),
    )
    view = read_message(message(fields, base64.encodebytes(mail)))
    assert {"other.js", "mail.eml", "evil.exe"} <= set(names(view))
    assert "a wire transfer" in [text.text for text in view.texts]
    assert ("from winmail.dat",) in [attachment.how for attachment in view.attachments]


def test_files_in_files_are_opened_to_a_bound_and_then_it_is_said():
    content = INNER
    for _ in range(12):
        content = b"Content-Type: application/octet-stream; name=a.eml\r\n\r\n" + content
    assert "not all of the message was read" in read_message(content).warnings[0]


def test_a_part_on_which_readers_agree_is_shown_once_also_in_a_message_on_which_they_do_not():
    inner = b"Subject: inner\r\n\r\nthe inner text"
    fields = "no field\r\nContent-Type: message/rfc822"
    view = read_message(message(fields, base64.encodebytes(inner)))
    assert [text.text for text in view.texts if "inner text" in text.text] == ["the inner text"]
    assert [header.value for header in view.forwarded_headers] == ["inner"]


@pytest.mark.parametrize("first", ["", "\r\n", " indented\r\n", "no field\r\n", "\tx\r\ny\r\n"])
def test_what_is_body_where_there_is_no_header_section_is_a_text(first):
    content = f"{first}Subject: a wire transfer\r\n\r\nlunch".encode()
    view = read_message(content)
    fields = view.forwarded_headers if first else view.headers
    assert [(field.name, field.value) for field in fields] == [("Subject", "a wire transfer")]
    assert view.subject == ("" if first else "a wire transfer")
    assert any("lunch" in text.text for text in view.texts)
    assert not first or any(f"{first}Subject: a wire transfer" in text.text for text in view.texts)


EVIL = b"--b\r\nContent-Type: application/x; name=evil.exe\r\n\r\nMZ\r\n"
MIXED = TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
NOT_READ = (gatepost_attachments.NotReadError, gatepost_keywords.NotReadError)
BEYOND_BOUNDS = {
    "10,001 parts": MIXED + b"--b\r\n\r\nx\r\n" * 10_001 + EVIL + b"--b--\r\n",
    "11 messages in messages": b"Content-Type: application/octet-stream; name=a.eml\r\n\r\n" * 12 + INNER,
    "1,001 uuencoded files": TOP + b"\r\n" + b"begin 644 a\r\n`\r\nend\r\n" * 1001 + UUENCODED,
    "sixteen readings of a large text": TOP
    + b"".join(b"Content-Type: text/%d; charset=utf-8\r\n" % n for n in range(4))
    + b"Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n"
    + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"abcd" * 500_000,
}  # fmt: skip


@pytest.mark.parametrize("content", BEYOND_BOUNDS.values(), ids=BEYOND_BOUNDS)
async def test_beyond_the_bounds_a_filter_that_found_nothing_fails_or_hits(content):
    assert read_message(content).unread
    transaction = make_transaction(content=content)
    with pytest.raises(NOT_READ, match=r"more than|too many"):
        await Attachments(extensions=["js"]).filter_message(transaction)
    with pytest.raises(NOT_READ, match=r"more than|too many"):
        await Keywords(words=["no such word"]).filter_message(transaction)
    verdict = await Attachments(extensions=["js"], encrypted=True).filter_message(transaction)
    assert verdict
    assert verdict.reason.startswith("cannot be inspected: ")


def test_what_is_within_the_bounds_is_all_read():
    assert not read_message(message(DISPOSITION + "filename=a.exe")).unread


def test_readings_of_a_message_take_a_bounded_multiple_of_its_memory():
    content = BEYOND_BOUNDS["sixteen readings of a large text"]
    tracemalloc.start()
    view = read_message(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert view.texts
    assert peak < 16 * len(content)


ODD_BOUNDARIES = {
    "of 1,100 characters": (b"x" * 1100, b"x" * 1100),
    "with a blank before it": (b'" b"', b" b"),
    "empty": (b'""', b""),
}


@pytest.mark.parametrize(("declared", "line"), ODD_BOUNDARIES.values(), ids=ODD_BOUNDARIES)
def test_a_boundary_may_be_odd(declared, line):
    content = TOP + b"Content-Type: multipart/mixed; boundary=" + declared + b"\r\n\r\n--" + line
    content += b"\r\nX: y\r\nContent-Type: application/x; name=evil.exe\r\n\r\nMZ\r\n--" + line + b"--\r\n"
    assert "evil.exe" in names(read_message(content))


@pytest.mark.parametrize("charset", ["cp037", "cp500", "utf-16be", "utf-32"])
def test_a_name_is_also_read_as_ascii_where_some_readers_do_not_know_its_charset(charset):
    view = read_message(message(DISPOSITION + f"filename*={charset}''evil.exe"))
    assert "evil.exe" in names(view)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ("Content-Type: text/plain; format=flowed; delsp=yes", "this is wi \r\nre transfer"),
        ("Content-Type: text/plain; format=flowed", "> a wire \r\n> transfer"),
        ("Content-Type: text/plain; charset=us-ascii; charset=utf-7", "a wire +AHQAcgBhAG4AcwBmAGUAcg-"),
        ("Content-Type: text/plain; charset=utf-7; charset*=''us-ascii", "a wire +AHQAcgBhAG4AcwBmAGUAcg-"),
        ("Content-Transfer-Encoding: x-base64", base64.b64encode(b"a wire transfer").decode()),
        ("Content-Transfer-Encoding: quoted_printable", "a wire trans=\r\nfer"),
    ],
)
def test_a_text_is_also_read_as_some_readers_show_it(fields, body):
    view = read_message(TOP + fields.encode() + b"\r\n\r\n" + body.encode())
    assert any("wire transfer" in text.text for text in view.texts)


@pytest.mark.parametrize(
    "field", ['Content-Transfer-Encoding: "base64"', "Content-Transfer-Encoding : base64"]
)
def test_a_text_is_also_shown_undecoded_where_a_reader_may_not_take_its_encoding(field):
    body = base64.encodebytes(b"a wire transfer").replace(b"\n", b"\r\n")
    shown = [text.text for text in read_message(TOP + field.encode() + b"\r\n\r\n" + body).texts]
    assert shown == ["a wire transfer", body.decode()]


def test_what_follows_a_line_of_blanks_in_a_header_section_is_also_text():
    content = TOP + b"A: b\r\n \r\nX-Words: a wire transfer\r\n\r\nlunch"
    assert any("a wire transfer" in text.text for text in read_message(content).texts)
