"""Words and patterns are found where a reader sees them, however they are written."""

import asyncio
import os
import sys
import unicodedata
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from gatepost import Envelope, Message, Session, Transaction, Verdict
from gatepost_keywords import Keywords, _few_marks, _folded
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOP = b"From: a@example.com\r\nSubject: x\r\n"
HTML = TOP + b"Content-Type: text/html; charset=utf-8\r\n\r\n"
PLAIN = TOP + b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
MIB = 1 << 20


async def verdict(keywords: Keywords, content: bytes) -> Verdict | None:
    session = Session(id="s", client=ip_address("192.0.2.1"), client_port=1, listener="l", connected_at=NOW)
    envelope, message = Envelope(mail_from="a@example.com"), Message(content=content)
    return await keywords.filter_message(
        Transaction(id="t", session=session, envelope=envelope, message=message, received_at=NOW)
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("buy viagra now", True),
        ("VIAGRA", True),
        ("_viagra!", True),
        ("viagras", False),
        ("4viagra", False),
        ("via gra", False),
        ("vi\u00adag\u200bra", True),
        ("ｖｉａｇｒａ", True),  # noqa: RUF001 # full width is the case
        ("𝐯𝐢𝐚𝐠𝐫𝐚", True),  # noqa: RUF001 # so are mathematical letters
        ("ﬁnance", True),
        ("Straße", True),
        ("STRASSE", True),
        ("Übermut", True),
        ("u\u0308bermut", True),
        ("wire transfer", True),
        ("wire\r\n\t  TRANSFER", True),
        ("wire\u00a0transfer", True),
        ("wiretransfer", False),
        ("我们发票吧", True),
        ("発票です", False),
        ("", False),
        ("\u00e9viagra", False),
        ("viagra\u00e9", False),
        ("viagra\u0434", False),
        ("\U00010400viagra", False),
        ("viagra\U0001d7ce", False),
        ("\u65e5viagra\u65e5", True),
        ("\U0001f600viagra\U0001f600", True),
        ("\u20acviagra\u00bb", True),
        ("1\u53d1\u79681", True),
        ("\u00fcbermut\u00fc", False),
        ("\u00fc\u00fcbermut", False),
        ("a\rviagra\r", True),
        ("vi\x00agra", True),
        ("wire\x1ftransfer", True),
        ("wire\r\x00\ntransfer", True),
    ],
)
async def test_words_match_whole_and_without_regard_to_form(text, found):
    keywords = Keywords(words=["viagra", "finance", "strasse", "übermut", "Wire  Transfer", "发票"])
    assert bool(await verdict(keywords, PLAIN + text.encode())) == found


async def test_a_longer_word_does_not_hide_a_shorter_one():
    hit = await verdict(Keywords(words=["wire tran", "wire"]), PLAIN + b"a wire transfer")
    assert hit
    assert hit.reason == '"wire" in text/plain'


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("via<b></b>gra", True),
        ("via<!-- x -->gra", True),
        ("via<!-->gra", True),
        ('via<b title="<>">gra', True),
        ('via<b ">gra', True),
        ("via<unknown>gra", True),
        ("via<br>gra", False),
        ("via<p>gra", False),
        ("<p>wire</p><p>transfer", True),
        ("&#118;ia&#x67;ra", True),
        ("&#0000000118;iagra", True),
        ("via&shy;gra", True),
        ("<a href=http://viagra.example>x</a>", True),
        ("<img alt='viagra'>", True),
        ("<style>viagra</style>", False),
        ("<script>viagra</script >", False),
        ("<style>a</style>viagra", True),
        ("<scripted>viagra", True),
        ("<!-- viagra -->", False),
        ("<b class=viagra>", False),
        ("<title>viagra", True),
        ("<", False),
        ("<!--[if mso]>viagra<![endif]-->", True),
        ("via<!--[if gte mso 9]>gra<![endif]-->", True),
        ("via<!-- [IF MSO]>gra<![ENDIF] -->", True),
        ("<!--[if mso]><p>vi<b>a</b>gra</p><![endif]-->", True),
        ("<!--[if !mso]><!-->viagra<!--<![endif]-->", True),
        ("via<!--[if !mso]><!-- -->gra<!-- <![endif]-->", True),
        ("via<!--[if mso]>x<![endif]-->gra", True),
        ("<![if !mso]>viagra<![endif]>", True),
        ("<!--[if mso]><script>--> viagra", True),
        ("<!--[if mso]><!--<![endif]--> viagra", True),
        ("<!--[if mso]>viagra", True),
        ("via<!-- x --!>gra", True),
        ("via<!--->gra", True),
        ("</>viagra", True),
        ('<b ="x>viagra', True),
        ("<textarea><!--</textarea>viagra", True),
        ("<textarea>viagra</textarea>", True),
        ("<textarea><b>viagra", True),
        ("<title><style></title>viagra", True),
        ("<xmp><!-- </xmp>viagra", True),
        ("<noframes><script></noframes>viagra", True),
        ("<iframe>viagra</iframe>", True),
        ('<b title="<!--">viagra', True),
        ("<b title='<style>'>viagra", True),
        ("<title a='>'>viagra</title>", True),
        ("<noscript>viagra</noscript>", True),
        ("<template>viagra</template>", True),
        ("<plaintext>viagra", True),
        ("<![CDATA[viagra]]>", True),
        ("<svg><style><p>viagra", True),
        ("<svg><text>viagra</text></svg>", True),
        ("<b style='display:none'>viagra</b>", True),
        ("<b hidden>viagra</b>", True),
        ("<style>p::before { content: 'viagra' }</style>", True),
        ("<style>viagra { content: none }</style>", False),
        ("<input placeholder=viagra>", True),
        ("<input type=submit value='viagra'>", True),
        ("<b ARIA-LABEL='viagra'>", True),
        ("<option label=viagra>", True),
        ("<table summary='viagra'>", True),
        ("<a href \n=  'viagra'>", True),
        ("<img alt='viagra", True),
        ("<b data-x=viagra>", False),
        ("&#118iagra", True),
        ("&#X76;iagra", True),
        ("via&#8203;gra", True),
        ("via&#x200d;gra", True),
        ("via&NoBreak;gra", True),
        ("via&#173gra", True),
        ("via&#917760;gra", True),
        ("wire&nbsp;transfer", True),
        ("wire&Tab;transfer", True),
        ("via\0gra", True),
        ("via\x08gra", True),
        ("via\x7fg\ufff9ra", True),
        ("via\U000e0041gra", True),
    ],
)
async def test_html_is_read_as_its_reader_sees_it(html, found):
    assert bool(await verdict(Keywords(words=["viagra", "wire transfer"]), HTML + html.encode())) == found


EVERYWHERE = (
    b"Subject: word\r\nX-A: word\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nword\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\nword\r\n--b\r\nContent-Type: a/b; name=word.zip\r\n\r\nword\r\n"
    b"--b\r\nContent-Type: text/plain; name=notes.txt\r\n\r\nword\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("places", "where"),
    [
        (["subject"], ["subject"]),
        (["headers"], ["header Subject", "header X-A", "header Content-Type"][:2]),
        (["body"], ["text/plain", "attachment notes.txt"]),
        (["html"], ["text/html"]),
        (["attachment-names"], ["attachment word.zip"]),
    ],
)
@pytest.mark.parametrize("search", [{"words": ["word"]}, {"patterns": ["w[o]rd"]}])
async def test_only_the_chosen_places_are_searched(places, where, search):
    hit = await verdict(Keywords(**search, places=places), EVERYWHERE)
    assert hit
    assert [match.where for match in hit.matches] == where


FORWARDED = (
    b"Subject: a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: message/rfc822\r\n\r\nX-B: one\r\nSubject: two\r\n\r\nx\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("places", "where"),
    [
        (["subject"], ["subject of a forwarded message"]),
        (["headers"], ["header X-B of a forwarded message", "header Subject of a forwarded message"]),
        (["body", "html", "attachment-names"], []),
    ],
)
async def test_fields_of_forwarded_messages_are_searched(places, where):
    hit = await verdict(Keywords(words=["one", "two"], places=places), FORWARDED)
    assert [match.where for match in (hit.matches if hit else ())] == where


async def test_each_subject_is_searched():
    content = b"Subject: a\r\nSUBJECT: viagra\r\nX-Subject: b\r\n\r\nx"
    assert await verdict(Keywords(words=["viagra"], places=["subject"]), content)
    assert not await verdict(Keywords(words=["b"], places=["subject"]), content)


async def test_each_name_of_an_attachment_is_searched():
    content = b"Content-Type: a/b; name=one.txt\r\nContent-Disposition: attachment; filename=two.txt\r\n\r\nx"
    keywords = Keywords(words=["one", "two"], places=["attachment-names"])
    hit = await verdict(keywords, content)
    assert hit
    assert {match.where for match in hit.matches} == {"attachment one.txt", "attachment two.txt"}


@pytest.mark.parametrize(
    ("top", "octets"),
    [
        ("text/plain; charset=utf-8", "Grüße, Übermut".encode() + b"\xff"),
        ("text/plain; charset=utf-8", "Übermut".encode("latin-1")),
        ("text/plain", "Übermut".encode("latin-1")),
        ("text/plain", b"\xffviagra"),
        ("text/plain; charset=koi8-r", "Übermut".encode()),
        ("text/plain; charset=us-ascii", "我们发票吧".encode()),
        ("text/plain; charset=utf-16", b"viagra"),
        ("text/plain; charset=ibm037", b"viagra"),
        ("text/plain; charset=utf-7", b"+AHY-iagra"),
        ("text/plain; charset=cn-gb", "我们发票吧".encode("gbk")),
        ("text/plain", "発票".encode("iso2022_jp")),
        ("text/html", b"<meta charset=big5>" + "發票".encode("big5")),
    ],
)
async def test_a_word_is_found_in_each_reading_of_a_text(top, octets):
    keywords = Keywords(words=["viagra", "übermut", "发票", "発票", "發票"])
    assert await verdict(keywords, f"Content-Type: {top}\r\n\r\n".encode() + octets)


async def test_headers_are_searched_only_where_chosen():
    content = b"X-A: word\r\nSubject: x\r\n\r\nx"
    assert await verdict(Keywords(words=["word"]), content) is None


async def test_the_reason_names_word_and_place_and_the_match_shows_what_stands_there():
    body = b"Dear Sir, " * 50 + b"send a WIRE\r\n Transfer\0 today" + b" x" * 99
    hit = await verdict(Keywords(words=["wire transfer"]), PLAIN + body)
    assert hit
    assert hit.reason == '"wire transfer" in text/plain'
    assert "Sir, send a WIRE Transfer? today x" in hit.matches[0].text
    assert len(hit.matches[0].text) < 100


async def test_the_reason_counts_further_matches_and_says_what_was_broken():
    hit = await verdict(Keywords(words=["a b", "c"]), b" \r\nSubject: a b\r\n\r\na b c")
    assert hit
    assert hit.reason.startswith(
        '"a b" in subject of a forwarded message and 3 more (readers may see another structure: '
    )


async def test_a_place_named_by_the_sender_holds_no_control_characters():
    content = b"Content-Type: text/plain; name*=utf-8''w%0d%0a%1b%E2%80%AEx\r\n\r\nword"
    hit = await verdict(Keywords(words=["word"], places=["body"]), content)
    assert hit
    assert hit.matches[0].where == "attachment w ??x"


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(?=a)", r"'\(\?=a\)': invalid perl operator: .*RE2 has no look-around"),
        (r"(a)\1", "no back-references"),
        ("(", "missing"),
        ("a{2000}", "repetition size"),
    ],
)
def test_a_bad_pattern_is_named(pattern, says):
    with pytest.raises(ValueError, match=says):
        Keywords(patterns=["good", pattern])


@pytest.mark.parametrize("arguments", [{}, {"words": []}, {"words": ["a", " "]}, {"words": ["\u200b"]}])
def test_nothing_to_look_for_is_an_error(arguments):
    with pytest.raises(ValueError, match=r"nothing to look for|is empty"):
        Keywords(**arguments)


def test_the_settings_name_the_places_in():
    adapter = TypeAdapter(Keywords)
    assert adapter.validate_python({"words": ["a"], "in": ["subject"]}).places == ["subject"]
    for wrong in (["nowhere"], [], "subject"):
        with pytest.raises(ValidationError):
            adapter.validate_python({"words": ["a"], "in": wrong})


async def test_patterns_see_the_text_as_it_stands():
    keywords = Keywords(patterns=[r"(?i)invoice[ -]?\d{6}", "Ä+$", "never"])
    hit = await verdict(keywords, PLAIN + "ä INVOICE-123456 ÄÄ".encode())
    assert hit
    assert hit.reason == r'"(?i)invoice[ -]?\d{6}" in text/plain and 1 more'
    assert hit.matches[1].text == "ä INVOICE-123456 ÄÄ"
    assert await verdict(keywords, PLAIN + b"Invoice 12345") is None


async def test_a_pattern_set_out_of_memory_still_finds():
    """The set says the same for no match as for out of memory; the canary in it tells them apart."""
    keywords = Keywords(patterns=["x.{1000}y{100}" + chr(97 + n) for n in range(20)] + ["needle"])
    assert keywords._patterns
    keywords._patterns._set = type("Exhausted", (), {"Match": lambda self, octets: None})()
    assert await verdict(keywords, PLAIN + b"a needle")
    assert await verdict(keywords, PLAIN + b"hay") is None


def test_each_combining_mark_counts_in_a_run():
    """Whatever version of Unicode Python has."""
    for character in map(chr, range(sys.maxunicode + 1)):
        first = unicodedata.normalize("NFKD", character)[0]
        if unicodedata.combining(first):
            cut = _few_marks("a" + character * 200)
            assert len(unicodedata.normalize("NFKD", cut)) <= 1 + 2 * 30, hex(ord(character))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{} viagra", True),
        ("viagra {}", True),
        ("viagra{}", True),
        ("a{} viagra b{}", True),
        ("— 🙂{} viagra", True),
        ("wire {} transfer", False),
        ("wire\u3099 {} viagra", True),
        ("vi{}agra", False),
    ],
)
@pytest.mark.parametrize("marks", ["\u0327" * 40, "\u0327\u0328" * 5000, "\u05b0" * 70_000])
async def test_a_word_beside_a_run_of_combining_marks_is_found(text, found, marks):
    keywords = Keywords(words=["viagra", "wire transfer"])
    assert bool(await verdict(keywords, PLAIN + text.replace("{}", marks).encode())) == found


@pytest.mark.parametrize("text", ["—" * 100, "═" * 5000, "🙂" * 90, "\u0e48" * 30, "e\u0301" * 90, "・" * 99])
def test_signs_and_few_marks_stay_as_they_are(text):
    assert _few_marks(text) == text


HOSTILE_PATTERNS = [r"(a+)+$", r"(x+x+)+y", r"(.*)(.*)(.*)(.*)[^a]b{1,100}c", r"(a|aa|b.{0,50})+z"]
HOSTILE_HTML = [
    "<a", '<a "', "<a b=\"' ", "<!--", "<style>", "<script </script", " href=\"'", "<a href=", "&#",
    "<!--[if ", "<!--[if]>", "<![endif]-->", "<title>", "<title></titl", "<![CDATA[", "<svg>", " =",
    "content:'", "\u0301\u0327", "\u0301", "\uff9e", "\u0345\u0301", "\u0301\u034f", "\u0f73", "&#00",
    "a" + "\u0301" * 31, "&amp", "<", "</", "<p = ", "<!", "<!-", "&", "\u200b", "\ufdfa", "viagra ", "a",
]  # fmt: skip


@pytest.mark.parametrize("octets", [b"a" * MIB + b"!", b"xb" * (MIB // 2), b"x" * MIB], ids=["a", "xb", "x"])
async def test_hostile_patterns_stay_quick_on_a_large_message(octets, within_yardsticks):
    """RELIABILITY 90. With much room: a backtracking matcher would not end."""
    keywords = Keywords(patterns=HOSTILE_PATTERNS)
    with within_yardsticks(500):
        await verdict(keywords, PLAIN + octets)


@pytest.mark.parametrize("piece", HOSTILE_HTML)
@pytest.mark.long
async def test_the_time_stays_linear_on_hostile_html(piece, within_yardsticks):
    keywords = Keywords(words=["a", "aa", "a a", "viagra"], patterns=["never"])
    octets = piece.encode() * (MIB // len(piece.encode()))
    with within_yardsticks(1000):
        await verdict(keywords, HTML + octets)
        await verdict(keywords, HTML + b"<a " + octets + b"9" * 100_000)


async def test_a_large_message_does_not_hold_the_event_loop():
    keywords = Keywords(words=["needle"])
    searching = asyncio.create_task(verdict(keywords, PLAIN + b"hay " * (8 * MIB) + b"needle"))
    turns = 0
    while not searching.done():
        await asyncio.sleep(0)
        turns += 1
    assert await searching
    assert turns > 10


async def test_a_phrase_across_the_chunks_of_a_large_text_is_found():
    keywords = Keywords(words=["wire transfer"])
    for length in range((64 << 10) - 14, (64 << 10) + 2):
        assert await verdict(keywords, PLAIN + b"x" * (length - 1) + b" wire transfer " + b"x" * MIB)


async def test_no_piece_of_large_html_begins_within_a_tag():
    html = b"<b title='" + b"<script>" * (MIB // 8 + 10) + b"'>viagra"
    assert await verdict(Keywords(words=["viagra"]), HTML + html)


async def test_large_html_is_read_as_small_is():
    html = b"<p title=x>some <b>te</b>xt &amp; <!-- more -->" * (3 * MIB // 48) + b"via<i></i>gra"
    assert await verdict(Keywords(words=["viagra"]), HTML + html)
    assert await verdict(Keywords(words=["more", "title", "b"]), HTML + html) is None


async def test_thousands_of_words_are_searched_at_once():
    keywords = Keywords(words=[f"word{number}" for number in range(20_000)])
    hit = await verdict(keywords, PLAIN + b"some word19999 here")
    assert hit
    assert hit.reason == '"word19999" in text/plain'


@given(st.binary(max_size=200) | st.text("<>&#!-/=\"' abx;0\u200b").map(str.encode))
@settings(max_examples=300)
def test_no_message_raises(body):
    keywords = Keywords(words=["a", "b x"], patterns=["x|a"], places=["subject", "headers", "body", "html"])
    for top in (HTML, PLAIN, TOP, b""):
        asyncio.run(verdict(keywords, top + body))


CORPUS = sorted(Path(os.environ["GATEPOST_CORPUS"]).rglob("*.*")) if "GATEPOST_CORPUS" in os.environ else []


@pytest.mark.skipif(not CORPUS, reason="GATEPOST_CORPUS is not set")
async def test_every_message_of_the_corpus_is_searched():
    places = ["subject", "headers", "body", "html", "attachment-names"]
    keywords = Keywords(words=["the"], patterns=["(?i)the"], places=places)
    hits = [path for path in CORPUS if await verdict(keywords, path.read_bytes())]
    assert len(hits) > len(CORPUS) / 3


@given(st.text(alphabet=st.characters(max_codepoint=0x7F)))
def test_ascii_is_folded_as_any_other_text(text):
    """A letter beyond ASCII takes the way of all others; it is a word of its own."""
    assert _folded(f"{text} \u00e9") == (_folded(text) + " \u00e9".encode()).lstrip()
    assert _folded(f"{text} e") == (_folded(text) + b" e").lstrip()
