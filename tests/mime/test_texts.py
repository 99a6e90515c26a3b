"""A text is read as mail programs read it; where they differ, in each way."""

import pytest
from gatepost.mime import read_message
from gatepost.mime.text import read_text

RUSSIAN = "Привет, мир"
JAPANESE = "日本".encode("iso2022_jp")
HTTP_EQUIV = b'<html><meta http-equiv="Content-Type" content="text/html; charset=%b">'

ROWS = {
    "ASCII": (b"a", "", ["a"]),
    "ASCII, labelled": (b"a", "koi8-r", ["a"]),
    "UTF-8": ("ä".encode(), "utf-8", ["ä"]),
    "UTF-8 without a label": ("ä".encode(), "", ["ä"]),
    "UTF-8 in quotes": ("ä".encode(), '"utf-8"', ["ä"]),
    "UTF-8 but for an octet": ("Grüße a".encode() + b"\xff", "utf-8", ["Grüße a\ufffd", "GrÃ¼ÃŸe aÿ"]),
    "and without a label": ("Grüße a".encode() + b"\xff", "", ["Grüße a\ufffd", "GrÃ¼ÃŸe aÿ"]),
    "UTF-8, cut": (RUSSIAN.encode()[:-1], "utf-8", [RUSSIAN[:-1] + "\ufffd"]),
    "and cut without a label": (RUSSIAN.encode()[:-1], "", [RUSSIAN[:-1] + "\ufffd"]),
    "windows-1252 without a label": (b"caf\xe9 \x80", "", ["café €", "caf\ufffd \ufffd"]),
    "windows-1252 as UTF-8": (b"caf\xe9", "utf-8", ["café", "caf\ufffd"]),
    "windows-1252 as ASCII": (b"caf\xe9", "us-ascii", ["café", "caf\ufffd"]),
    "windows-1252 in a word": (b"\xffviagra", "", ["ÿviagra", "\ufffdviagra"]),
    "latin-1": (b"caf\xe9", "iso-8859-1", ["café"]),
    "KOI8-R": (RUSSIAN.encode("koi8-r"), "koi8-r", [RUSSIAN]),
    "UTF-8 as ASCII": ("ä".encode(), "us-ascii", ["ä", "Ã¤"]),
    "UTF-8 as latin-1": ("ä".encode(), "iso-8859-1", ["Ã¤", "ä"]),
    "UTF-8 as KOI8-R": ("жук".encode(), "koi8-r", ["п╤я┐п╨", "жук"]),
    "UTF-8 as Big5, which it does not fit": ("жук".encode(), "big5", ["жук"]),
    "UTF-8 of an unknown charset": ("ä".encode(), "undefined", ["ä"]),
    "8-bit of an unknown charset": (b"\xe4", "undefined", ["ä", "\ufffd"]),
    "escapes without a label": (JAPANESE, "", ["日本", JAPANESE.decode()]),
    "escapes as ASCII": (JAPANESE, "us-ascii", ["日本", JAPANESE.decode()]),
    "escapes as UTF-8": (JAPANESE, "utf-8", ["日本", JAPANESE.decode()]),
    "escapes as latin-1": (JAPANESE, "iso-8859-1", ["日本", JAPANESE.decode()]),
    "escapes of a terminal": (b"\x1b[1mviagra", "", ["\x1b[1mviagra"]),
    "ISO-2022-JP": (JAPANESE, "iso-2022-jp", ["日本"]),
    "byte order mark, UTF-8": (b"\xef\xbb\xbfa", "utf-8", ["a"]),
    "byte order mark and another label": (b"\xef\xbb\xbf\xc3\xa4", "iso-8859-1", ["ä", "ï»¿Ã¤"]),
    "byte order mark, UTF-16": ("жa".encode("utf-16"), "", ["жa"]),
    "UTF-16": ("a".encode("utf-16-le"), "utf-16le", ["a"]),
    "UTF-16 without a mark": ("жa".encode("utf-16-be"), "utf-16", ["жa", "㘄愀"]),
    "ASCII as UTF-16": (b"viagra", "utf-16", ["viagra"]),
    "ASCII as UTF-16LE": (b"viagra", "utf-16le", ["viagra", "楶条慲"]),
    "ASCII as EBCDIC": (b"viagra", "ibm037", ["viagra", "ÎÑ/ÅÊ/"]),
    "EBCDIC": ("viagra é".encode("cp037"), "ibm037", ["viagra é"]),
    "ISO-2022-KR without an escape": (b"\x0eviagra\x0f", "iso-2022-kr", ["viagra"]),
    "ISO-2022-JP without an escape": (b"\x0eviagra\x0f", "iso-2022-jp", ["viagra"]),
    "kana behind SO": (b"\x0e12\x0f", "cp50222", ["ｱｲ", "\x0e12\x0f"]),
    "UTF-7": (b"+BDY- a", "utf-7", ["ж a", "+BDY- a"]),
    "windows-1252 as UTF-7": (b"viagra \xe9", "utf-7", ["viagra \ufffd", "viagra é"]),
    "HZ": (b"~{0!~} a", "hz-gb-2312", ["啊 a", "~{0!~} a"]),
}  # fmt: skip


@pytest.mark.parametrize(("octets", "charset", "texts"), ROWS.values(), ids=ROWS)
def test_a_text_is_read_in_each_way_of_mail_programs(octets, charset, texts):
    readings = read_text(octets, charset, "text/plain")
    assert [reading.text for reading in readings][: len(texts)] == texts
    assert len(readings) <= 3


@pytest.mark.parametrize(
    "row",
    ["ASCII", "ASCII, labelled", "UTF-8", "UTF-8 without a label", "latin-1", "KOI8-R", "EBCDIC", "UTF-16"],
)  # fmt: skip
def test_what_fits_its_label_is_read_without_a_warning(row):
    octets, charset, texts = ROWS[row]
    first = read_text(octets, charset, "text/plain")[0]
    assert (first.text, first.note, first.warning) == (texts[0], "", "")


@pytest.mark.parametrize("row", ["ASCII", "ASCII, labelled", "UTF-8", "latin-1", "KOI8-R", "ISO-2022-JP"])
def test_nearly_every_text_has_one_reading(row):
    octets, charset, _ = ROWS[row]
    assert len(read_text(octets, charset, "text/html")) == 1


@pytest.mark.parametrize(
    ("octets", "charset", "note", "warning"),
    [
        (b"\xe4", "", "read as windows-1252", "octets that are no 'us-ascii'"),
        (b"\xe4", "utf-8", "read as windows-1252", "octets that are no 'utf-8'"),
        (b"\xff\xff", "big5", "", "octets that are no 'big5'"),
        (b"a", "undefined", "", "unknown charset 'undefined'"),
        (JAPANESE, "", "charset from ISO 2022 escapes", ""),
        (b"\xef\xbb\xbfa", "", "charset from the byte order mark", ""),
        (b"viagra", "utf-16", "read as UTF-8", "octets that are no 'utf-16'"),
    ],
)
def test_what_is_odd_is_said(octets, charset, note, warning):
    first, *others = read_text(octets, charset, "text/plain")
    assert (first.note, first.warning) == (note, warning)
    assert all(other.note and not other.warning for other in others if octets.isascii() is False)


@pytest.mark.parametrize(
    "head",
    [
        HTTP_EQUIV % b"koi8-r",
        b"<META CHARSET=KOI8-R>",
        b"<meta charset = 'koi8-r'>",
        b'<meta\r\ncharset="koi8-r" />',
        b'<?xml version="1.0" encoding="koi8-r"?>',
        b"<!-- %b -->" % (b"x" * 3000) + b"<meta charset=koi8-r>",
    ],
)
@pytest.mark.parametrize("charset", ["", "undefined", "utf-8", "us-ascii"])
def test_a_page_names_its_charset_itself(head, charset):
    octets = head + "вирус".encode("koi8-r")
    assert read_text(octets, charset, "text/html")[0].text.endswith("вирус")
    assert not any(reading.text.endswith("вирус") for reading in read_text(octets, charset, "text/plain"))


@pytest.mark.parametrize(
    ("octets", "charset", "texts"),
    [
        ("ж".encode("koi8-r"), "windows-1251", ["Ц"]),  # the label goes before the page
        ("ж".encode(), "", ["ж"]),  # and UTF-8 that is UTF-8 before both
        ("ж".encode(), "utf-8", ["ж"]),
    ],
)
def test_what_fits_goes_before_what_a_page_says(octets, charset, texts):
    head = HTTP_EQUIV % b"koi8-r"
    readings = read_text(head + octets, charset, "text/html")
    assert [reading.text.removeprefix(head.decode()) for reading in readings] == texts


def test_a_page_that_says_utf_16_is_read_as_utf_8():
    octets = HTTP_EQUIV % b"utf-16" + "ж".encode() + b"\xff"
    assert read_text(octets, "", "text/html")[0].text.endswith("ж\ufffd")


def test_one_bad_octet_hides_no_word_of_a_message():
    content = (
        b"Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe \xff \xd0\xb6\xd1\x83\xd0\xba"
    )
    assert "жук" in read_message(content).texts[0].text


MIB = 1 << 20


@pytest.mark.parametrize(
    "piece", [b"<meta ", b"<meta charset", b"\xff", b"\x1b", b"\x1b$B", b"+", b"\0", b"\xc3\xa4\xff"]
)
@pytest.mark.parametrize("charset", ["", "utf-8", "utf-7", "utf-16", "big5", "iso-2022-jp", "undefined"])
def test_the_time_stays_linear_on_hostile_texts(piece, charset, within_yardsticks):
    with within_yardsticks(500):
        read_text(piece * (MIB // len(piece)), charset, "text/html")
