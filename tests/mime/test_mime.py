"""Every message gives a view, in linear time, and nothing in it hides from who looks."""

import base64
import cProfile
import os
from pathlib import Path

import pytest
from gatepost.mime import read_message
from gatepost.mime.fields import header_section_start
from gatepost.mime.parameters import read_structured
from gatepost.mime.scan import scan_parts
from gatepost.mime.structure import read_structure
from gatepost.mime.words import decode_words
from hypothesis import given, settings
from hypothesis import strategies as st

TOP = b"From: a@example.com\r\nSubject: x\r\n"
ENCODED = TOP + b"Content-Transfer-Encoding: "
MULTIPART = TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


def corpus() -> list[Path]:
    folder = os.environ.get("GATEPOST_CORPUS")
    return (
        [p for p in sorted(Path(folder).rglob("*")) if p.is_file() and p.name != "SOURCES.md"]
        if folder
        else []
    )


def words(content: bytes) -> str:
    return "\n".join(text.text for text in read_message(content).texts)


def files(content: bytes) -> list[tuple[str, str, bytes]]:
    return [(a.filename, a.content_type, a.read()) for a in read_message(content).attachments]


def test_headers_come_in_the_order_of_the_message_unfolded_and_decoded():
    view = read_message(
        b"Received: one\r\nX-A: 1\r\nreceived: two\r\n\tand more\r\nSubject : =?utf-8?q?caf=C3=A9?=\r\n"
        + "X-8bit: Grüße =?utf-8?b?w6Q=?=\r\n".encode()
        + b"X-Latin: \xe4\r\nno field\r\nEmpty:\r\n\r\nX-Body: 1\r\n"
    )
    assert [(h.name, h.value) for h in view.headers] == [
        ("Received", "one"),
        ("X-A", "1"),
        ("received", "two\tand more"),
        ("Subject", "café"),
        ("X-8bit", "Grüße ä"),
        ("X-Latin", "ä"),
        ("Empty", ""),
    ]
    assert view.subject == "café"
    assert view.header("RECEIVED") == "one"
    assert view.header("X-Absent") is None


@pytest.mark.parametrize(
    ("encoded", "shown"),
    [
        ("=?utf-8?q?a_b?=", "a b"),
        ("=?UTF-8?Q?=C3?=\t=?utf-8?q?=A4?=", "ä"),
        ("a =?utf-8?q?b?= c", "a b c"),
        ("=?utf-8*en?q?b?=", "b"),
        ("=?utf-8?b?w6Q?=", "ä"),
        ("=?undefined?q?a?=", "a"),
        ("=?utf-7?q?+AGE-?=", "a"),
        ("=?utf-8?q?a", "a"),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("via=?utf-8?q?gra?=", "viagra"),
    ],
)
def test_encoded_words(encoded, shown):
    assert decode_words(encoded) == shown


def test_texts_and_attachments_of_a_nested_message():
    inner = (
        b"Subject: inner\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\ninner text\r\n--i\r\n"
    )
    inner += b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    inner += b"YWJj\r\n--i--\r\n"
    content = MULTIPART + b"--b\r\nContent-Type: text/html; charset=iso-8859-1\r\n\r\n<b>\xe4</b>\r\n"
    content += b"--b\r\nContent-Type: text/plain; name=notes.txt\r\n\r\nnotes\r\n"
    content += (
        b"--b\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n"
        + inner
        + b"--b--\r\n"
    )
    view = read_message(content)
    assert [(t.content_type, t.text, t.filename) for t in view.texts] == [
        ("text/html", "<b>ä</b>", ""),
        ("text/plain", "notes", "notes.txt"),
        ("text/plain", "inner text", ""),
    ]
    assert [(a.filename, a.content_type) for a in view.attachments] == [
        ("notes.txt", "text/plain"),
        ("", "message/rfc822"),
        ("a.pdf", "application/pdf"),
    ]
    assert view.attachments[2].read() == b"abc"
    assert view.warnings == ()


@pytest.mark.parametrize(
    ("charset", "octets", "text", "warns"),
    [
        ("utf-8", "ä".encode(), "ä", False),
        ("ISO-8859-15", b"\xa4", "€", False),
        ("gb2312", "中".encode("gb18030"), "中", False),
        ("windows-1252", b"\x80", "€", False),
        ("", b"\xe4", "ä", True),
        ("us-ascii", "ä".encode(), "ä", False),
        ("big5", b"\xff\xff", "\ufffd\ufffd", True),
        *[(name, b"viagra", "viagra", True) for name in ("undefined", "idna", "zlib", "punycode", "rot13")],
        *[(name, b"viagra", "viagra", True) for name in ("unicode_escape", "a" * 10_000, "x/../y", "é")],
    ],
)
def test_charsets_known_unknown_and_dangerous(charset, octets, text, warns):
    """RELIABILITY 95."""
    content = TOP + f'Content-Type: text/plain; charset="{charset}"\r\n\r\n'.encode() + octets
    view = read_message(content)
    assert view.texts[0].text == text
    assert bool(view.warnings) == warns


def nested(levels: int) -> bytes:
    opening = b"".join(
        b"Content-Type: multipart/mixed; boundary=x%06d\r\n\r\n--x%06d\r\n" % (n, n) for n in range(levels)
    )
    return TOP + opening + b"Content-Type: text/plain\r\n\r\nviagra\r\n--x%06d--\r\n" % (levels - 1)


def forwarded(levels: int) -> bytes:
    return (TOP + b"Content-Type: message/rfc822\r\n\r\n") * levels + TOP + b"\r\nviagra"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(nested(300), id="91 nesting 300"),
        pytest.param(nested(1000), id="91 nesting 1,000"),
        pytest.param(forwarded(1000), id="91 message/rfc822 1,000"),
        pytest.param(b"   \r\n" + MULTIPART + b"--b\r\n\r\nviagra\r\n--b--\r\n", id="white space first"),
        pytest.param(b" x\r\n" + MULTIPART + b"--b\r\n\r\nviagra\r\n--b--\r\n", id="a fold first"),
        pytest.param(b" viagra\r\nFrom: a\r\n\r\n", id="the first line"),
        pytest.param(b" \r\njunk viagra\r\nFrom: a\r\n\r\n", id="junk in the header section"),
        pytest.param(b"\r\nviagra", id="no header section"),
        pytest.param(b"viagra", id="one line"),
        pytest.param(MULTIPART + b"--other\r\n\r\nviagra\r\n", id="another boundary"),
        pytest.param(TOP + b"Content-Type: multipart/mixed\r\n\r\n--c\r\n\r\nviagra\r\n", id="no boundary"),
        pytest.param(MULTIPART + b"viagra\r\n--c\r\n", id="no part"),
        pytest.param(ENCODED + b"base64\r\n\r\ndmlh!Z3Jh=", id="base64"),
        pytest.param(TOP + b"Content-Type: text\r\n\r\nviagra", id="no subtype"),
        pytest.param(ENCODED + b"base64 \r\n\r\ndmlhZ3Jh", id="space behind base64"),
        pytest.param(ENCODED + b"base64 (c)\r\n\r\ndmlhZ3Jh", id="comment behind base64"),
        pytest.param(TOP + b"Content-Type: message/global\r\n\r\nA: y\r\n\r\nviagra", id="message/global"),
        pytest.param(
            TOP + b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64 (c)\r\n\r\n"
            + base64.b64encode(b"Subject: y\r\n\r\nviagra"), id="an encoded message"),
    ],
)  # fmt: skip
def test_the_words_of_a_broken_message_are_found(content):
    assert "viagra" in words(content)


def test_what_could_not_be_parsed_is_said():
    assert "nested more than 50 deep" in read_message(nested(1000)).warnings[0]
    assert read_message(MULTIPART + b"x").warnings == (
        "readers may see another structure: a multipart without parts",
    )


def test_a_broken_attachment_is_read_and_keeps_its_neighbours():
    part = b"--b\r\nContent-Type: image/png; name=%b\r\nContent-Transfer-Encoding: base64\r\n\r\n%b\r\n"
    content = (
        MULTIPART
        + part % (b"a.png", b"YWJj")
        + part % (b"b.png", b"!!YWJjZ")
        + part % (b"c.png", b"")
        + b"--b--"
    )
    assert files(content) == [
        ("a.png", "image/png", b"abc"),
        ("b.png", "image/png", b"abc"),
        ("c.png", "image/png", b""),
    ]


def test_an_attachment_of_a_broken_message_is_found():
    content = b"  \r\n" + MULTIPART + b"--b\r\n\r\nhi\r\n--b\r\nContent-Type: application/x-msdownload\r\n"
    content += b"Content-Disposition: attachment;\r\n filename*0*=utf-8''%e2%82%ac;\r\n filename*1=.exe\r\n"
    content += b"Content-Transfer-Encoding: base64\r\n\r\nTVo=\r\n--b--\r\n"
    assert files(content) == [("€.exe", "application/x-msdownload", b"MZ")]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(
    ("parameter", "filename"),
    [
        ('filename="../../etc/passwd"', "../../etc/passwd"),
        ('filename="a\0.exe"', "a\0.exe"),
        ('filename="=?utf-8?q?a=2Eexe?="', "a.exe"),
        ("filename*=utf-8''%E2%80%AEgpj.exe", "\u202egpj.exe"),
        (f'filename="{"a" * 10_000}.exe"', "a" * 10_000 + ".exe"),
        ('filename="ä.exe"', "ä.exe"),
        ("filename=my.exe", "my.exe"),
        ('filename="a;b.exe"', "a;b.exe"),
    ],
)
def test_hostile_file_names_come_through_unchanged(parameter, filename, broken):
    """RELIABILITY 97."""
    content = (b" \r\n" if broken else b"") + MULTIPART + b"--b\r\nContent-Disposition: attachment; "
    content += parameter.encode() + b"\r\n\r\nx\r\n--b--\r\n"
    assert [name for name, _, _ in files(content)] == [filename]


@pytest.mark.parametrize(
    ("value", "name", "expected"),
    [
        ("text/plain; CHARSET = utf-8 ; x=y", "charset", "utf-8"),
        (r'a/b; name="C:\temp\"x\".txt"', "name", r'C:\temp"x".txt'),
        ("a/b; name*1=c; name*0*=utf-8''%C3%A4; name*2*=%C3%A4", "name", "äcä"),
        ("a/b; name=old; name*=utf-8''new", "name", "new"),
        ("a/b; name=my file.exe; x=y", "name", "my file.exe"),
        ('a/b; name="open', "name", "open"),
        ("a/b", "name", ""),
    ],
)
def test_parameters(value, name, expected):
    assert read_structured(value.encode()).first(name.encode()) == expected


MIB = 1 << 20
ENCODED_WORDS = b"=?utf-8?q?a " * (MIB // 12)
HOSTILE = {
    "92 40,000 parts": MULTIPART + b"--b\r\n\r\nx\r\n" * 40_000 + b"--b--\r\n",
    "92 40,000 headers": TOP + b"".join(b"X-%d: y\r\n" % n for n in range(40_000)) + b"\r\n",
    "92 a million fields in a part": MULTIPART + b"--b\r\n" + b"a:\r\n" * MIB + b"\r\n",
    "92 many delimiters": MULTIPART + b"--b\n" * (MIB // 2),
    "93 4,000 parameters": TOP + b"Content-Type: text/plain" + b"; a*0*=x" * 4_000 + b"\r\n\r\nx",
    "93 200,000 parameters": TOP + b"Content-Type: text/plain" + b"; name*0*=x" * 200_000 + b"\r\n\r\nx",
    "94 Message-ID": b"Message-ID: " + b"<" * (2 * MIB) + b"\r\n\r\nx",
    "94 From": b'From: "' + b"a" * (2 * MIB) + b"\r\n\r\nx",
    "94 To": b"To: " + b"(" * (2 * MIB) + b"\r\n\r\nx",
    "encoded-words in a field": TOP + b"X: " + ENCODED_WORDS + b"\r\n\r\nx",
    "encoded-words in a part": MULTIPART + b"--b\r\nX: " + ENCODED_WORDS + b"\r\n\r\nx\r\n--b--\r\n",
    "encoded-words in a file name": MULTIPART
    + b'--b\r\nContent-Type: a/b; name="'
    + ENCODED_WORDS
    + b'"\r\n\r\nx',
    "encoded-words in an encoded message": TOP
    + b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(b"X: " + ENCODED_WORDS + b"\r\n\r\nx"),
    "a large message, often forwarded": forwarded(250) + b"x\r\n" * MIB,
    "empty words": TOP + b"X: " + b"=?" * MIB + b"\r\n\r\nx",
    "folds": TOP + b"X: a\r\n" + b" b\r\n" * (MIB // 2) + b"\r\n",
    "no line end": b"x" * (2 * MIB),
    "no empty line": b"x\r\n" * MIB,
    "dashes": MULTIPART + b"-" * (2 * MIB),
    "boundaries": MULTIPART + b"--b" * MIB,
    "declared boundaries": b" \n" + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" * 40_000,
    "quotes": TOP + b"Content-Type: text/plain; name=" + b'"\\' * MIB + b"\r\n\r\nx",
    "spaces": TOP + b"Content-Type: text/plain;" + b" " * (2 * MIB) + b"=\r\n\r\nx",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.long
def test_the_time_stays_linear_on_hostile_messages(content, within_yardsticks):
    """RELIABILITY 92, 93, 94. With much room: quadratic would be a minute and more."""
    with within_yardsticks(1000):
        view = read_message(content)
        scan_parts(content)
    assert view.texts or view.attachments


def test_the_parts_behind_the_limit_are_one_last_text():
    view = read_message(MULTIPART + b"--b\r\n\r\nx\r\n" * 40_000 + b"--b\r\n\r\nviagra\r\n--b--\r\n")
    assert len(view.texts) <= 10_001
    assert "viagra" in view.texts[-1].text


PIECES = [
    b"\r\n", b"\n", b" ", b"--b", b"--", b"Content-Type: ", b"multipart/mixed; boundary=b", b"message/rfc822",
    b"text/html", b"Content-Transfer-Encoding: base64", b"quoted-printable", b"=?utf-8?b?", b"?=", b"=C3",
    b"YWJj", b"Subject: ", b"; name*0*=", b"multipart/digest; boundary=b", b"charset=utf-16", b"\0", b"\xff",
    b'"', b"From ", b":",
]  # fmt: skip


@given(st.binary(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join))
@settings(max_examples=400)
def test_no_message_raises(content):
    view = read_message(content)
    assert all(isinstance(attachment.read(), bytes) for attachment in view.attachments)
    assert all(isinstance(part.read(), bytes) for part in scan_parts(content).parts)


@given(st.text(max_size=200), st.sampled_from(["7bit", "base64", "quoted-printable"]))
def test_the_scan_of_a_sound_message_reads_what_its_structure_shows(text, encoding):
    octets = text.encode("utf-8").replace(b"\r", b"").replace(b"\n", b"\r\n")
    body = {"7bit": octets.replace(b"--", b""), "base64": base64.encodebytes(octets)}.get(
        encoding, octets.hex().encode()
    )
    part = (
        b"Content-Type: text/plain; charset=utf-8; name=a.txt\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n"
    )
    content = MULTIPART + b"--b\r\n" + part % (encoding.encode(), body) + b"--b--\r\n"
    structure = read_structure(content)
    assert not structure.doubts
    assert scan_parts(content).parts == list(structure.root.children)


@pytest.mark.skipif(not corpus(), reason="GATEPOST_CORPUS is not set")
def test_every_message_of_the_corpus_gives_a_view():
    doubtful = 0
    for path in corpus():
        content = path.read_bytes()
        view = read_message(content)
        assert all(isinstance(attachment.read(), bytes) for attachment in view.attachments), path
        assert view.texts or view.attachments or not content.partition(b"\n\n")[2].strip(), path
        if read_structure(content).doubts:
            doubtful += 1
            assert view.warnings, path
    assert doubtful < len(corpus()) / 5


@pytest.mark.parametrize(
    ("content", "start"),
    [
        (b"A: b\r\n", 0),
        (b"\r\n \r\nA: b\r\n", 5),
        (b"\n\tfold\nFrom x\nA: b\n", 14),
        (b">From x\r\nA: b\r\n", 9),
        (b" no line end", 0),
        (b"\r", 0),
        (b"\n\n\r", 2),
        (b"", 0),
    ],
)
def test_leading_lines_are_passed_over_as_far_as_they_are_whole(content, start):
    assert header_section_start(content) == start


@pytest.mark.parametrize("encoding", [b"base64", b"7bit"])
def test_a_large_part_is_passed_over_in_as_many_steps_as_a_small_one(encoding):
    """What is done in Python does not grow with the size: only searches and copies do."""

    def calls(size: int) -> int:
        body = {b"base64": base64.encodebytes(bytes(range(256)) * (size // 256))}.get(
            encoding, b"so many words in a line of text\r\n" * (size // 33)
        )
        part = b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: %b\r\n\r\n%b\r\n"
        content = MULTIPART + b"--b\r\n\r\nhi\r\n--b\r\n" + part % (encoding, body) + b"--b--\r\n"
        profile = cProfile.Profile()
        profile.runcall(read_message, content)
        return sum(entry.callcount for entry in profile.getstats())

    calls(1 << 10)  # what is cached is there from here on
    assert calls(5 << 20) == calls(64 << 10)
