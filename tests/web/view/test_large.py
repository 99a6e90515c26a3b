"""What opening a large message costs, in work that does not depend on how fast the machine is just now."""

import base64
import itertools
import quopri
import random

import pytest
from gatepost.web.view import body, lint, plain_text, view_message
from gatepost.web.view.nesting import Nesting
from hypothesis import given
from hypothesis import strategies as st

SIZE = 5_000_000
TOP = b"From: a@example.org\r\nTo: b@example.com\r\nSubject: large\r\nMIME-Version: 1.0\r\n"
LINE = b"The quick brown fox jumps over the lazy dog and comes back again.\r\n"
PARAGRAPH = b'<p>The quick <b>brown</b> fox <a href="https://www.example.com/x">jumps</a> over it</p>\r\n'
CELL = b'<table><tr><td style="color:#333;padding:4px 8px;font-family:Arial">The quick</td></tr></table>\r\n'


def much(octets):
    return octets * (SIZE // len(octets))


def text(octets, content_type=b"text/plain; charset=utf-8", encoding=b"8bit"):
    fields = b"Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n" % (content_type, encoding)
    return TOP + fields + octets


def html(octets):
    return text(octets, b"text/html; charset=utf-8")


def latin_1(octets):
    return text(octets, b"text/plain; charset=iso-8859-1")


def field(name, octets):
    return TOP.replace(b"To: b@example.com\r\n", b"") + name + b": " + octets + b"\r\n\r\nx\r\n"


def numbered(octets):
    """Much of it, each with a number of its own in place of the signs @@."""
    pieces = (octets.replace(b"@@", b"%d" % number) for number in itertools.count())
    return b"".join(itertools.islice(pieces, SIZE // (len(octets) + 3)))


def mixed(part, count):
    return (
        TOP
        + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + (b"--b\r\n" + part) * count
        + b"--b--\r\n"
    )


def encoded(octets):
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


def related(html, *images):
    parts = [b"Content-Type: text/html\r\n\r\n" + html]
    for number, image in enumerate(images):
        fields = b"Content-Type: image/png\r\nContent-ID: <i%d>\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        parts.append(fields % number + encoded(PNG + image))
    return mixed(b"\r\n--b\r\n".join(parts) + b"\r\n", 1)


PNG = b"\x89PNG\r\n\x1a\n"
GERMAN = "Grüße aus München\r\n"
CASES = {
    "text": lambda: text(much(LINE)),
    "text of one line": lambda: text(much(LINE[:-2] + b" ")),
    "text of one word": lambda: text(b"x" * SIZE),
    "quoted text": lambda: text(much(b"> > > " + LINE)),
    "nothing but quoting": lambda: text(much(b">" * 70 + b"\r\n")),
    "numbers like codes": lambda: text(much(b"code 482913 is 12-34-56 AB12-CD34\r\n")),
    "URLs": lambda: text(much(b"see https://www.example.com/a/path?with=query now\r\n")),
    "text in UTF-8": lambda: text(much("Grüße, 你好世界 ありがとう\r\n".encode())),
    "text in Latin-1": lambda: latin_1(much(GERMAN.encode("latin-1"))),
    "text without its charset": lambda: text(much(GERMAN.encode()), b"text/plain"),
    "text in base64": lambda: text(encoded(much(LINE)[: SIZE * 3 // 4]), encoding=b"base64"),
    "text in quoted-printable": lambda: text(
        quopri.encodestring(much(GERMAN.encode())[: SIZE // 2]), encoding=b"quoted-printable"
    ),
    "empty lines": lambda: text(much(b"\r\n")),
    "signs of markup": lambda: text(much(b"<&>\"' " * 10 + b"\r\n")),
    "five texts": lambda: mixed(b"Content-Type: text/plain\r\n\r\n" + much(LINE)[: SIZE // 5], 5),
    "HTML": lambda: html(much(PARAGRAPH)),
    "HTML tables with styles": lambda: html(much(CELL)),
    "HTML without tags": lambda: html(b"<p>" + much(LINE)),
    "HTML comments": lambda: html(much(b"<!-- x --> y\r\n")),
    "HTML with a style sheet": lambda: html(b"<style>" + much(b".a{color:red;margin:0 auto}\r\n")),
    "HTML with an image in it": lambda: html(
        b'<img src="data:image/png;base64,' + much(b"iVBORw0KGgo") + b'">'
    ),
    "a table of paragraphs without ends": lambda: html(much(b"<tr><td>The quick<p>brown fox\r\n")),
    "header fields": lambda: TOP + much(b"X-A: The quick brown fox jumps over the dog\r\n") + b"\r\nx\r\n",
    "a long header field": lambda: TOP + b"X-A:" + much(b" The quick brown fox\r\n") + b"\r\nx\r\n",
    "encoded header fields": lambda: TOP + much(b"X-A: =?utf-8?B?R3LDvMOfZSBhdXM=?=\r\n") + b"\r\nx\r\n",
    "From fields": lambda: TOP + much(b"From: The quick <fox@example.com>\r\n") + b"\r\nx\r\n",
    "9,000 attachments": lambda: mixed(b"Content-Type: text/plain; name=a.txt\r\n\r\nHello\r\n", 9000),
    "9,000 texts": lambda: mixed(b"Content-Type: text/plain; charset=utf-8\r\n\r\nHello\r\n", 9000),
    "100 attachments": lambda: mixed(
        b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + encoded(bytes(SIZE * 3 // 400)),
        100,
    ),
    "empty parts": lambda: mixed(b"\r\n", SIZE // 7),
    "To": lambda: field(b"To", numbered(b"Ann Example <ann@@@example.com>,\r\n ") + b"a@b.example"),
    "Cc, encoded": lambda: field(b"Cc", numbered(b"=?utf-8?Q?R=2C=40?= <ann@@@example.com>,\r\n ")),
    "To of words": lambda: field(b"To", much(b"a b ")),
    "To of brackets": lambda: field(b"To", much(b"(")),
    "To of short addresses": lambda: field(b"To", much(b"a@b,")),
    "many To fields": lambda: TOP + numbered(b"To: Ann <ann@@@example.com>, b@example.com\r\n") + b"\r\nx",
    "Subject": lambda: field(b"Subject", much(b"The quick brown fox\r\n ")),
    "Subject, encoded": lambda: field(b"Subject", much(b"=?utf-8?B?R3LDvMOfZSBhdXM=?=\r\n ")),
    "short header fields": lambda: TOP + much(b"a:b\r\n") + b"\r\nx",
    "header fields of other names": lambda: TOP + numbered(b"X-@@: y\r\n") + b"\r\nx",
    "parameters": lambda: TOP + b"Content-Type: text/plain" + numbered(b"; a*@@*=x") + b"\r\n\r\nx",
    "no-break spaces": lambda: html(b"<p>" + much(b"&nbsp;")),
    "no-break spaces as they are": lambda: html(b"<p>" + much("\xa0".encode())),
    "no-break spaces in an attribute": lambda: html(b"<p title='" + much(b"&nbsp;") + b"'>x"),
    "ampersands": lambda: html(b"<p>" + much(b"& ")),
    "less-than signs": lambda: html(b"<p>" + much(b"< ")),
    "character references": lambda: html(much(b"&amp;&lt;&#228;&eacute;")),
    "one table": lambda: html(b"<table>" + much(b"<tr><td>The quick</td><td>brown</td></tr>\r\n")),
    "links": lambda: html(numbered(b'<a href="https://example.com/@@">link @@</a> ')),
    "buttons": lambda: html(
        numbered(b'<table><tr><td bgcolor=red><a class=btn href="https://example.com/@@">@@</a></table>')
    ),
    "different styles": lambda: html(numbered(b'<p style="margin:@@px 0;color:#333;font:12px Arial">x')),
    "100 pages": lambda: mixed(
        b"Content-Type: text/html\r\n\r\n" + (CELL * 1000)[: SIZE // 100] + b"\r\n", 100
    ),
    "100 style sheets": lambda: mixed(
        b"Content-Type: text/html\r\n\r\n<style>" + (b".a{color:red}\n" * 3500) + b"</style>\r\n", 100
    ),
    "remote images": lambda: html(numbered(b'<img src="https://example.com/@@.png" alt="an image">')),
    "images in their places": lambda: related(
        b"".join(b"<img src=cid:i%d>" % number for number in range(300)), *[bytes(12_000)] * 300
    ),
    "a large image in its place": lambda: related(b"<img src=cid:i0>", bytes(SIZE * 3 // 4)),
    "pages that refer to images": lambda: mixed(
        b"Content-Type: text/html\r\n\r\n<img src=cid:x>" + much(PARAGRAPH)[: SIZE // 5] + b"\r\n"
        b"--b\r\nContent-Type: image/png\r\nContent-ID: <x>\r\n\r\n" + PNG + b"\r\n",
        5,
    ),
    "an attachment": lambda: mixed(
        b"Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + encoded(random.Random(1).randbytes(SIZE * 3 // 4)),
        1,
    ),
}
QUICK = ("text", "HTML", "encoded header fields", "To", "no-break spaces")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in CASES]
)
def test_five_megabytes_of_anything_are_opened_in_the_time_of_some_yardsticks(name, within_yardsticks):
    content = CASES[name]()
    with within_yardsticks(60):
        view_message(content)


def test_each_text_is_decoded_once(monkeypatch):
    decoded, read = [], body.read_text

    def counted(octets, *args):
        decoded.append(len(octets))
        return read(octets, *args)

    monkeypatch.setattr(body, "read_text", counted)
    parts = b"Content-Type: text/plain\r\n\r\nplain\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>rich</p>\r\n"
    attached = b"Content-Type: text/csv\r\nContent-Transfer-Encoding: base64\r\n\r\nYSxi\r\n"
    view = view_message(mixed(parts + b"--b\r\n" + attached, 1))
    assert (view.text, [one.size for one in view.attachments]) == ("plain\n\nrich", [3])
    assert len(decoded) == 3


def test_of_a_long_text_only_the_beginning_is_decoded_and_all_of_it_can_be_had(monkeypatch):
    longest, read = [], body.read_text
    monkeypatch.setattr(
        body, "read_text", lambda octets, *args: (longest.append(len(octets)), read(octets, *args))[1]
    )
    content = text(encoded(much("ä\r\n".encode())), encoding=b"base64")
    view = view_message(content)
    assert max(longest) <= 1 << 20
    assert view.notes == ("The text is long: only its beginning is shown.",)
    assert plain_text(content) == much("ä\r\n".encode()).decode().replace("\r\n", "\n").rstrip("\n")
    assert max(longest) > SIZE - 10


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        (b"<p>" + b"a&nbsp;" * 60_000, 40_000 - 1),
        (b"<p>" + b"a&#160;" * 60_000, 40_000 - 1),
        (b"<p>" + "a\xa0".encode() * 60_000, 40_000 - 1),
    ],
)
def test_of_many_character_references_the_first_are_shown_and_the_rest_is_said_to_be_cut(page, shown):
    """The sanitiser's time grows with their square: of a page of 1 MB with nothing else it took seconds."""
    view = view_message(html(page))
    assert view.html.count("a&nbsp;") == shown
    assert view.notes == ("The HTML is long: only its beginning is shown.",)
    assert view_message(html(page[: len(page) // 2])).notes == ()


def test_all_pages_of_a_message_share_the_room():
    tags = b"Content-Type: text/html\r\n\r\n" + b"<i>x</i>" * 4_000 + b"\r\n"
    styles = b"Content-Type: text/html\r\n\r\n<style>" + b".a{color:red}\n" * 10_000 + b"</style>x\r\n"
    for part in (tags, styles):
        assert view_message(mixed(part, 1)).notes == ()
        assert view_message(mixed(part, 2)).notes == ("The HTML is long: only its beginning is shown.",)


def test_of_long_address_fields_the_beginning_names_recipients_and_the_page_says_so():
    addresses = [b"ann%d@example.com" % number for number in range(5_000)]
    view = view_message(field(b"To", b", ".join(addresses)))
    assert set(view.named) == {one.decode() for one in addresses[: len(view.named)]}
    assert 1_000 < len(view.named) < 5_000
    assert view.notes == ("To and Cc are long: recipients that only their end names are shown as Bcc.",)
    assert view_message(field(b"To", b", ".join(addresses[:1_000]))).notes == ()


def test_a_header_section_that_is_too_long_is_said():
    (note,) = view_message(CASES["a long header field"]()).notes
    assert note == "The header section is long: only its beginning is shown."
    assert view_message(TOP + b"X-A:" + b" x" * 1000 + b"\r\n\r\nx").notes == ()


def test_the_fields_that_say_what_a_message_is_are_read_behind_thousands_of_others():
    content = b"X-A: x\r\n" * 3000 + TOP + b"\r\nx\r\n"
    view = view_message(content)
    assert (view.author, view.to, view.subject) == ("a@example.org", "b@example.com", "large")
    assert (len(view.headers), view.notes) == (
        2000,
        ("Only the first 2000 of 3004 header fields are shown.",),
    )
    assert not {"missing-from", "missing-to", "missing-subject"} & {one.code for one in view.lint}
    twice = view_message(content.replace(b"Subject", b"To", 1))
    assert [one.text for one in twice.lint if one.code == "duplicate-field"] == [
        "the field To is there 2 times"
    ]


@given(st.lists(st.sampled_from([77, 78, 79, 80, 998, 999, 1200, 0, 1]), max_size=12), st.booleans())
def test_long_lines_are_counted_alike_however_they_are_cut(lengths, ends):
    content = b"\n".join(b"x" * (n - 1) + b"\r" if n and n % 2 else b"x" * n for n in lengths)
    content += b"\n" * ends
    lines = content.split(b"\n")
    expected = {}
    for limit in (998, 78):
        long_ones = [at for at, line in enumerate(lines, 1) if len(line.removesuffix(b"\r")) > limit]
        expected[limit] = (len(long_ones), long_ones[0] if long_ones else 0)
    for chunk in (1, 100, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lint, "_CHUNK", chunk)
            assert lint._long_lines(content) == expected


HOSTILE = {
    "open elements": "<div>" * 16_000,
    "closed elements": "<span>" * 8_000 + "x" + "</span>" * 8_000,
    "fonts": "".join(f"<font size={n}>" for n in range(16_000)),
    "fonts that a paragraph closes": "".join(f"<p><font size={n}></p>" for n in range(5_000)),
    "bold text that cells close": "".join(f"<table><tr><td><b id={n}></table>" for n in range(4_000)),
    "links in links": "<a href=http://a.example/>" * 16_000,
    "unknown elements that end at once": "<foo/>" * 16_000,
    "elements of drawings": "<svg><p>" + "<path/>" * 15_000,
    "lists": "<ul><li>" * 8_000,
    "some fonts, then paragraphs": "".join(f"<p><font size={n}></p>" for n in range(40)) + "<p>x" * 15_900,
    "alike": "<b><p>" * 8_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_page_makes_its_parser_reopen_elements_without_end(name, within_yardsticks):
    """A page of 120 kB with fonts that paragraphs close became one of gigabytes."""
    with within_yardsticks(300):
        view = view_message(html(HOSTILE[name].encode()))
    assert len(view.html) < 20_000_000


ORDINARY = {
    "paragraphs without ends": "<p>x" * 3_000,
    "rows without ends": "<table>" + "<tr><td>x<td><b>y</b>" * 2_000 + "</table>",
    "drawings": "<svg>" + "<path d='x'/>" * 3_000 + "</svg><p>x</p>",
    "bold text that never ends, alike": "<p><b>x</p>" * 3_000,
    "nested quotes": "<blockquote>" * 300 + "x" + "</blockquote>" * 300,
    "spans that never end": "<div><span>x</div>" * 1_500,
    "line breaks and images": "x<br><img src=cid:a><hr>" * 3_000,
}


@pytest.mark.parametrize("name", ORDINARY)
def test_what_careless_mail_leaves_open_is_shown_to_its_end(name):
    view = view_message(html(ORDINARY[name].encode() + b"<p>the end"))
    assert view.notes == ()
    assert view.text.endswith("the end")


def test_what_is_closed_is_not_counted():
    nesting = Nesting()
    for number in range(50_000):
        for closing in (False, True):
            assert nesting.take("font", f" size={number}", closing=closing)
            assert nesting.take("div", "", closing=closing)
    assert nesting.take("b", "", closing=True)
    assert not all(nesting.take("div", "", closing=False) for _ in range(3_000))


def test_sizes_are_those_after_transfer_decoding():
    part = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\nw6Q=\r\n"
    assert view_message(mixed(part, 1)).tree.children[0].size == 2
