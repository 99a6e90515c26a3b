"""RTF as text."""

import sys
from pathlib import Path

import pytest
from gatepost.mime.rtf import decompress_rtf, rtf_text

sys.path.insert(0, str(Path(__file__).parent))
import writing_tnef as tnef

TEXTS = {
    rb"{\rtf1\ansi one {\b two} three}": "one two three",
    rb"{\rtf1 one\par two\line three\tab four}": "one\ntwo\nthree\tfour",
    rb"{\rtf1{\fonttbl{\f0 Arial;}}{\colortbl;\red0;}{\*\generator Word;}{\info{\title no}}shown}": "shown",
    rb"{\rtf1\ansicpg1252 Gr\'fc\'dfe}": "Grüße",
    rb"{\rtf1\ansicpg1251 \'f1\'f7\'b8\'f2}": "счёт",
    rb"{\rtf1{\fonttbl{\f0 A;}{\f1\fcharset204 B;}}\f0 \'e9 \f1 \'f1\'f7\'b8\'f2 \f0 \'e9}": "é счёт é",
    rb"{\rtf1{\fonttbl{\f0\fcharset128 A;}}\f0 \'93\'fa\'96{\b {}}\'7b}": "日" + "\ufffd" + "{",
    rb"{\rtf1{\fonttbl{\f0\fcharset128 A;}}\f0 \'93\'fa\'96\'7b}": "日本",
    rb"{\rtf1\uc1 \u1089?\u1095?\u1105?\u1090?}": "счёт",
    rb"{\rtf1\uc2 \u1089\'f1\'f1\u1095 xy z}": "сч z",
    rb"{\rtf1\uc0 \u1095\u-10179\u-8704 end}": "ч\U0001f600end",
    rb"{\rtf1 a\{b\}c\\d\~e}": "a{b}c\\d\u00a0e",
    rb"{\rtf1 a\bin3 }}}b}": "ab",
    rb"{\rtf1 evil" + b"\r\n" + rb"word}": "evilword",
    rb"no rtf at all": "no rtf at all",
    rb"{\rtf1 not closed": "not closed",
    rb"}}}{\rtf1 closed before": "closed before",
    rb"{\rtf1 last \\": "last \\",
}


@pytest.mark.parametrize("rtf", TEXTS, ids=lambda rtf: rtf.decode("latin-1"))
def test_the_text_of_a_document_is_what_a_reader_shows(rtf):
    assert rtf_text(rtf) == ("text/plain", TEXTS[rtf])


def test_html_in_rtf_is_html_again():
    rtf = (
        rb"{\rtf1\ansi\fromhtml1 {\*\htmltag64 <a href=\'22x\'22>}\htmlrtf {\htmlrtf0 link\htmlrtf }\htmlrtf0"
        rb"{\*\htmltag72 </a>}{\*\mhtmltag x}\htmlrtf\par not shown\htmlrtf0 }"
    )
    assert rtf_text(rtf) == ("text/html", '<a href="x">link</a>')


def test_compressed_rtf_refers_to_what_came_before():
    rtf = b"{\\rtf1 abc"
    assert decompress_rtf(tnef.compressed_rtf(rtf), 1000) == rtf
    again = tnef.compressed_rtf(rtf, references=((tnef.DICTIONARY_SIZE, 5), (tnef.DICTIONARY_SIZE + 14, 9)))
    assert decompress_rtf(again, 1000) == rtf + b"{\\rtf" + b"f" * 9
    assert decompress_rtf(tnef.compressed_rtf(b"", references=((0, 5),)), 1000) == b"{\\rtf"


def test_the_window_turns_around():
    rtf = bytes(range(256)) * 20
    place = (tnef.DICTIONARY_SIZE + len(rtf) - 4000) % 4096
    assert (
        decompress_rtf(tnef.compressed_rtf(rtf, references=((place, 10),)), 10_000) == rtf + rtf[-4000:][:10]
    )


@pytest.mark.parametrize(
    "octets", [b"", b"LZFu", bytes(16), tnef.compressed_rtf(b"abc")[:-2], bytes(8) + b"LZFu\0\0\0\0\xff"]
)
def test_what_is_damaged_raises_nothing(octets):
    assert decompress_rtf(octets, 1000) in {b"", b"abc"}


def test_no_more_is_decompressed_than_the_limit():
    assert len(decompress_rtf(tnef.compressed_rtf(b"ab", references=((207, 17),) * 1000), 100)) == 100
