"""Octets are read in the charset that their sender means, by whatever label."""

import pytest
from gatepost.mime.charset_labels import charset_name
from gatepost.mime.charsets import decode_as, decode_charset, decode_octets
from webencodings import LABELS

UNREAD = {"replacement"}
"""Labels of the WHATWG for which browsers show nothing."""
OWN = {
    "x-user-defined": "x-user-defined",
    "iso-8859-8-i": "iso8859_8",
    "x-mac-cyrillic": "mac_cyrillic",
    "macintosh": "mac_roman",
    "gbk": "gb18030",
    "euc-jp": "euc_jp",
    "iso-2022-jp": "iso2022_jp",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "big5": "cp950",
    "windows-874": "cp874",
    "utf-16be": "utf_16_be",
    "utf-16le": "utf_16_le",
}


@pytest.mark.parametrize("label", sorted(LABELS))
def test_every_label_of_the_encoding_standard_is_known(label):
    assert (charset_name(label) is None) == (label in UNREAD)


@pytest.mark.parametrize("label", sorted(label for label, name in LABELS.items() if name != "replacement"))
def test_a_label_is_read_in_the_charset_that_the_standard_names(label):
    name = LABELS[label]
    if name == "x-user-defined":
        assert decode_charset(b"a\x80\xff", label) == "a\uf780\uf7ff"
        return
    codec = OWN.get(name, name)
    single = bytes(range(0x20, 0x7F)) + bytes(range(0xA0, 0x100))
    octets = {
        "gbk": "中文".encode("gbk"),
        "gb18030": "中文".encode("gb18030"),
        "big5": "中文".encode("big5"),
        "euc-jp": "日本".encode("euc_jp"),
        "iso-2022-jp": "日本".encode("iso2022_jp"),
        "shift_jis": "日本".encode("cp932"),
        "euc-kr": "한국".encode("cp949"),
        "utf-8": "aä€".encode(),
        "utf-16be": "aä€".encode("utf-16-be"),
        "utf-16le": "aä€".encode("utf-16-le"),
    }.get(name, single)
    assert decode_charset(octets, label) == octets.decode(codec, "replace")


ROWS = [
    ("windows-31j", "①㈱髙".encode("cp932"), "①㈱髙"),
    ("shift_jis", b"\x81\x60\x87\x40", "\uff5e①"),
    ("x-euc-jp", b"\xc6\xfc\xcb\xdc", "日本"),
    ("euc-jp", b"\xad\xa1\xad\xea", "①㈱"),  # NEC row 13
    ("euc-jp", b"\xfc\xe2\xa4\xa2", "髙あ"),  # NEC selected IBM extensions
    ("eucJP-ms", b"\xad\xa1", "①"),
    ("euc-jp", b"\x8e\xb1\x8f\xb0\xa1", "ｱ丂"),  # kana and JIS X 0212
    ("euc-jp", b"\xff\xad", "\ufffd\ufffd"),
    ("iso-2022-jp", b"\x1b$BF|K\\\x1b(Ba", "日本a"),
    ("iso-2022-jp", b"\x1b(I1\x1b(B", "ｱ"),
    ("iso-2022-jp-ms", b"\x1b$B-!-j\x1b(B a", "①㈱ a"),
    ("cp50220", b"\x1b$B-!", "①"),
    ("cp50221", b"\x1b$B|b\x1b(B", "髙"),
    ("cp50222", b"\x0e12\x0fab", "ｱｲab"),
    ("iso-2022-jp-2", b"\x1b$A0!\x1b$(C0!\x1b(B", "啊가"),
    ("iso-2022-jp", b"\x1b$(D0!\x1b$B-!\x1b(B", "丂①"),
    ("iso-2022-kr", b"\x1b$)C\x0e0!\x0fa", "가a"),
    ("iso-2022-cn", b"\x1b$)A\x0e0!\x0fa", "啊a"),
    ("iso-2022-cn", b"\x1b$)G\x0e!!\x0fa", "\ufffda"),  # CNS 11643 is in no codec
    ("iso-2022-kr", b"\x0eviagra\x0f", "viagra"),  # no escape
    ("iso-2022-cn", b"\x0eviagra", "viagra"),
    ("iso-2022-jp", b"\x0eviagra\x0f", "viagra"),
    ("jis", b"\x0e12\x0fab", "ｱｲab"),
    ("hz-gb-2312", b"~{0!~}a", "啊a"),
    ("gb2312", "中€㐀".encode("gb18030"), "中€㐀"),
    ("cn-gb", "中".encode("gbk"), "中"),
    ("cn-big5", "中".encode("big5"), "中"),
    ("big5", b"\xa3\xe1", "€"),
    ("big5-hkscs", "㗎嘅".encode("big5hkscs"), "㗎嘅"),
    ("ks_c_5601-1987", "갂".encode("cp949"), "갂"),
    ("x-windows-949", "갂".encode("cp949"), "갂"),
    ("ucs-2", "aж".encode("utf-16-le"), "aж"),
    ("iso-10646-ucs-2", "aж".encode("utf-16-be"), "aж"),
    ("utf-16", "aж".encode("utf-16"), "aж"),
    ("utf-16", b"\xfe\xff\0a", "a"),
    ("utf-16le", b"\xfe\xff\0a", "a"),  # a byte order mark goes before the label
    ("utf-16", b"a\0b", "a\ufffd"),
    ("utf-32", "aж".encode("utf-32"), "aж"),
    ("utf-32", "aж".encode("utf-32-be"), "aж"),
    ("iso-8859-8-e", b"\xf9", "ש"),
    ("iso-8859-8-i", b"\xf9", "ש"),
    ("x-mac-cyrillic", b"\x86", "Ж"),
    ("x-mac-ce", b"\x8e", "é"),
    ("win-1251", b"\xe6", "ж"),
    ("x-cp1251", b"\xe6", "ж"),
    ("cp1251", b"\xe6", "ж"),
    ("microsoft-cp1251", b"\xe6", "ж"),
    ("cp65001", b"\xd0\xb6", "ж"),
    ("utf-7", b"+BDY- a +2D3cSQ-", "ж a 👉"),
    ("unicode-1-1-utf-7", b"+BDY-", "ж"),
    ("x-unicode-2-0-utf-7", b"+BDY-", "ж"),
    ("utf-7", b"+2AA-", "\ufffd"),  # half a character
    ("utf8", b"\xc3\xa4\xff", "ä\ufffd"),
    ("latin1", b"\xe4\x80\x81", "ä€\x81"),
    ("iso-8859-9", b"\xfe\x80", "ş€"),
    ("windows-1257", b"\xe0\xa1", "ą\ufffd"),
    ("koi8-ru", b"\xd6", "ж"),
    ("ibm850", b"\x84", "ä"),
    ("cp037", b"viagra", "viagra"),
    ("cp273", b"VIAGRA \xe9", "VIAGRA é"),
    ("utf-16be", b"viagra", "viagra"),
    ("utf-16le", b"\x15\x09\x24\x09", "कत"),  # Hindi
    ("utf-32", b"viagra!!", "viagra!!"),
    ("cp037", b"\x81\x40", "a "),  # EBCDIC is what iconv and Outlook read
    ("johab", "가".encode("johab"), "가"),
    ("tis-620", b"\xa1", "ก"),
    *[
        (label, b"\xc3\xa4", "ä")
        for label in (
            '"utf-8"',
            "'utf-8'",
            " utf-8 ",
            "charset=utf-8",
            'charset="utf-8"',
            "utf-8*en",
            "UTF_8",
            "utf 8",
            "utf-8;",
            "utf-8; format=flowed",
            "utf-8 (text)",
            "utf-8, utf-8",
            '3D"utf-8"',
            "<utf-8>",
            "utf8mb4",
        )
    ],
]


@pytest.mark.parametrize(("label", "octets", "text"), ROWS)
def test_labels_that_mail_programs_send(label, octets, text):
    assert decode_charset(octets, label) == text


@pytest.mark.parametrize(
    "label",
    ["", "undefined", "idna", "punycode", "zlib", "rot13", "unicode_escape", "cs", "é", "a" * 10_000, "*"],
)  # fmt: skip
def test_what_is_no_charset_is_unknown(label):
    assert decode_charset(b"a", label) is None


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"a", "a"),
        ("aä".encode(), "aä"),
        (b"a\xe4", "aä"),
        (b"\x93a\x94", "“a”"),
        ("Grüße".encode() + b"\xff", "Grüße\ufffd"),
        ("Grüße".encode()[:-2], "Grü\ufffd"),
        ("日本".encode()[:-1], "日\ufffd"),
        (b"caf\xe9", "café"),
        (b"\x1b$BF|K\\\x1b(B a", "日本 a"),
        (b"\x1b[1m", "\x1b[1m"),
        (b"", ""),
    ],
)
def test_octets_without_a_label(octets, text):
    assert decode_octets(octets) == text


MIB = 1 << 20
HOSTILE = {
    "escapes": ("iso-2022", b"\x1b$B-!" * (MIB // 5)),
    "one escape": ("iso-2022", b"\x1b" * MIB),
    "shifts of kana": ("cp50222", b"\x0ea\x0f" * (MIB // 3)),
    "shifts": ("iso-2022", b"\x0ea\x0f" * (MIB // 3)),
    "vendors' characters": ("euc-jp", b"\xad\xa1" * (MIB // 2)),
    "no EUC": ("euc-jp", b"\xff" * MIB),
    "UTF-7": ("utf-7", b"+" * MIB),
    "UTF-7 and no UTF-7": ("utf-7", b"+\xff" * (MIB // 2)),
    "half characters": ("utf-7", b"+2AA" * (MIB // 4)),
    "UTF-8": ("utf_8", b"\xc3" * MIB),
    "Big5": ("big5", b"\xff" * MIB),
    "windows-1252": ("windows-1252", b"\xff" * MIB),
}


@pytest.mark.parametrize(("name", "octets"), HOSTILE.values(), ids=HOSTILE)
def test_the_time_stays_linear_on_hostile_octets(name, octets, within_yardsticks):
    with within_yardsticks(500):
        decode_as(octets, name)
        decode_octets(octets)
