"""Charsets: octets as characters, by the label that the sender gives them.

The labels are those of the WHATWG Encoding Standard, of Python, and what mail programs send besides. As
for browsers and mail programs, a label means the superset that is in use under it: ISO 8859-1 is
windows-1252, GB 2312 is GB 18030, Shift_JIS is windows-31j.
"""

import codecs
import re
from collections.abc import Callable
from encodings.aliases import aliases
from functools import lru_cache

__all__ = [
    "EBCDIC",
    "charset_name",
    "decode_as",
    "decode_charset",
    "decode_octets",
    "decode_word",
    "has_escapes",
    "is_utf_8",
    "mostly_utf_8",
]

_NO_CHARSETS = {
    "base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec",  # no text
    "mbcs",  # only on Windows
}  # fmt: skip

_LABELS = {
    "windows-1252": """
        646 8859 ansi ansi_x3.4-1968 ascii cp819 cp20127 cp28591 ibm819 iso-8859 iso-8859-1 iso_8859-1:1987
        iso-ir-6 iso-ir-100 iso646-us isolatin1 iso-latin-1 l1 latin latin1 us us-ascii
    """,
    "utf_8": """
        utf utf8 utf8n utf8mb3 utf8mb4 unicode11utf8 unicode-1-1-utf-8 unicode20utf8 iso-10646-utf-8 cp65001
    """,
    "utf-7": "utf-7 unicode-1-1-utf-7 unicode-2-0-utf-7 cp65000",
    "utf-16": "utf-16 ucs-2 unicode iso-10646-ucs-2",
    "utf-16-le": "utf-16le ucs-2le unicodefeff cp1200",
    "utf-16-be": "utf-16be ucs-2be unicodefffe cp1201",
    "utf-32": "utf-32 ucs-4 iso-10646-ucs-4",
    "utf-32-le": "utf-32le ucs-4le cp12000",
    "utf-32-be": "utf-32be ucs-4be cp12001",
    "gb18030": """
        gb gb2312 gb_2312-80 gbk gb18030 gb18030-2000 gb18030-2005 gb18030-2022 chinese cn-gb cn-gb-12 euc-cn
        iso-ir-58 iso58gb231280 ms936 cp936 cp20936 cp51936 cp54936
    """,
    "hz": "hz hz-gb hz-gb-2312 cp52936",
    "big5": "big5 big5-eten big5-hkscs big5-hkscs:1999 big5-tw cn-big5 hkscs ms950 cp950",
    "cp932": "shift_jis sjis ms_kanji ms932 mscp932 mswin31j windows-31j cp932 cp943 cp943c",
    "euc-jp": "euc-jp eucjp-ms eucjp-win eucpkdfmtjapanese ujis cp20932 cp51932",
    "iso-2022": """
        iso-2022 iso-2022-jp iso-2022-jp-1 iso-2022-jp-2 iso-2022-jp-3 iso-2022-jp-2004 iso-2022-jp-ext
        iso-2022-kr iso-2022-cn iso-2022-cn-ext cp50225 cp50227
    """,
    "cp50222": "iso-2022-jp-ms jis jis7 windows-iso2022jp cp50220 cp50221 cp50222",
    "cp949": """
        euc-kr ks ks_c_5601 ks_c_5601-1987 ks_c_5601-1989 ksc_5601 ksc ks_x_1001 korean iso-ir-149 wansung uhc
        ms949 cp949 cp51949
    """,
    "johab": "johab cp1361 ks_c_5601-1992",
    "iso8859_2": "iso-8859-2 iso-latin-2 cp28592",
    "iso8859_3": "iso-8859-3 iso-latin-3 cp28593",
    "iso8859_4": "iso-8859-4 iso-latin-4 cp28594",
    "iso8859_5": "iso-8859-5 isolatincyrillic cyrillic cp28595",
    "iso8859_6": "iso-8859-6 iso-8859-6-e iso-8859-6-i isolatinarabic arabic asmo-708 ecma-114 cp28596",
    "iso8859_7": "iso-8859-7 isolatingreek greek greek8 elot_928 ecma-118 sun_eu_greek cp28597",
    "iso8859_8": """
        iso-8859-8 iso-8859-8-e iso-8859-8-i isolatinhebrew hebrew visual logical cp28598 cp38598
    """,
    "windows-1254": "iso-8859-9 iso_8859-9:1989 iso-ir-148 isolatin5 iso-latin-5 l5 latin5 cp28599",
    "iso8859_10": "iso-8859-10 isolatin6",
    "windows-874": "iso-8859-11 iso-8859-11:2001 tis-620 tis620.2529-1 thai dos-874",
    "iso8859_13": "iso-8859-13 latin7 cp28603",
    "iso8859_15": "iso-8859-15 isolatin9 iso-latin-9 latin9 l9 cp28605",
    "koi8_r": "koi koi8 koi8-r cp20866",
    "koi8_u": "koi8-u koi8-ru cp21866",
    "koi8_t": "koi8-t",
    "mac_roman": "mac macintosh mac-roman cp10000",
    "mac_cyrillic": "mac-cyrillic mac-ukrainian cp10007 cp10017",
    "mac_greek": "mac-greek cp10006",
    "mac_turkish": "mac-turkish cp10081",
    "mac_latin2": "mac-latin2 mac-ce mac-centraleurope mac-centraleurroman cp10029",
    "mac_iceland": "mac-iceland mac-icelandic cp10079",
    "mac_arabic": "mac-arabic cp10004",
    "mac_croatian": "mac-croatian cp10082",
    "mac_romanian": "mac-romania mac-romanian cp10010",
    "mac_farsi": "mac-farsi",
    "x-user-defined": "user-defined",
}
"""What decodes them, and labels beside those of Python's own table of aliases."""

EBCDIC = ("cp037", "cp273", "cp424", "cp500", "cp875", "cp1026", "cp1140")
"""Beginnings of the names of its charsets."""
_WIDE = ("utf-16", "utf-32")
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_WINDOWS_PAGES = ("874", "1250", "1251", "1252", "1253", "1254", "1255", "1256", "1257", "1258")
_WORD = re.compile(r"[\w.:+-]+", re.ASCII)
_LABEL_LIMIT = 80
"""Characters; no label is longer."""
_PREFIX = re.compile(r"(?:x|cs)+(?=.)")
_PAGE = re.compile(r"(?:windows|win|microsoft|ibm|dos|oem|ccsid|codepage|cp|ms)+([0-9]+)")
_NO_PUNCTUATION = dict.fromkeys(map(ord, "-_.:+ "))


def _squeezed(label: str) -> str:
    return label.lower().translate(_NO_PUNCTUATION)


def _names() -> dict[str, str]:
    names = {_squeezed(alias): codec for alias, codec in aliases.items() if codec not in _NO_CHARSETS}
    names |= {_squeezed(codec): codec for codec in names.values()}
    names |= {f"cp{page}": f"cp{page}" for page in ("720", "737", "856", "875", "1006")}
    names |= {_squeezed(label): name for name, labels in _LABELS.items() for label in labels.split()}
    for page in _WINDOWS_PAGES:
        names |= dict.fromkeys((f"cp{page}", f"windows{page}"), f"windows-{page}")
    return names


_NAMES = _names()
"""The charsets that are decoded, by their labels without punctuation. A fixed table: Python's own look-up
imports modules by the name that a sender gives it, and knows codecs that are no charsets."""


@lru_cache(maxsize=256)
def charset_name(label: str) -> str | None:
    """The name, for `decode_as`, of the charset with this label; None where none has.

    Case and punctuation do not count; nor do quotes, a language (RFC 2231 section 5) and words around it.
    """
    label = label[:_LABEL_LIMIT]
    if name := _name(label):
        return name
    return next((name for word in _WORD.findall(label)[:4] if (name := _name(word))), None)


def _name(label: str) -> str | None:
    squeezed = _squeezed(label)
    if squeezed in _NAMES:
        return _NAMES[squeezed]
    squeezed = _PREFIX.sub("", squeezed, count=1) if _PREFIX.match(squeezed) else squeezed
    if page := _PAGE.fullmatch(squeezed):
        squeezed = f"cp{page[1]}"
    return _NAMES.get(squeezed)


def decode_charset(octets: bytes, label: str) -> str | None:
    """The characters of a short text (`decode_word`); None where the label is unknown."""
    name = charset_name(label)
    return None if name is None else decode_word(octets, name)


def decode_word(octets: bytes, name: str) -> str:
    """As `decode_as`, but what is ASCII all the same under a charset that ASCII is not a part of is ASCII.

    Many mail programs do not know such a charset, or do not take its label for a header field. Letters in
    EBCDIC are octets above 0x7f, and UTF-16 has octets that are not printable, but for some Chinese.
    """
    if name.startswith(EBCDIC):
        letters = len(octets) - len(octets.translate(None, _LETTERS))
        high = len(octets) - len(octets.decode("ascii", "ignore"))
        return decode_octets(octets) if letters > high else decode_as(octets, name)
    if name.startswith(_WIDE) and octets.isascii() and octets.decode("ascii").isprintable():
        return octets.decode("ascii")
    return decode_as(octets, name)


def decode_as(octets: bytes, name: str) -> str:
    """The characters in the charset of that name (`charset_name`); U+FFFD for what does not fit."""
    decode = _DECODERS.get(name)
    return decode(octets) if decode else octets.decode(name, "replace")


# Without a label -----------------------------------------------------------------------------------------

_ESCAPE = re.compile(rb"\x1b(?:\$[@AB]|\$\([@BCD]|\([IJ]|\$\)[ACG])")


def decode_octets(octets: bytes) -> str:
    """The likeliest characters: ISO 2022 where its escapes are, UTF-8 but for single octets, windows-1252."""
    if b"\x1b" in octets and has_escapes(octets):
        return decode_as(octets, "iso-2022")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return decode_as(octets, "utf_8" if mostly_utf_8(octets) else "windows-1252")


def has_escapes(octets: bytes) -> bool:
    """True for 7-bit octets with the escapes of ISO-2022-JP (RFC 1468) and those like it."""
    return octets.isascii() and bool(_ESCAPE.search(octets))


def is_utf_8(octets: bytes) -> bool:
    """True if the octets are UTF-8, which ASCII is too."""
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def mostly_utf_8(octets: bytes) -> bool:
    """True where UTF-8 has at least as many characters of several octets as there are octets in the way."""
    kept = octets.decode("utf-8", "ignore")
    several = len(kept) - len(kept.encode("ascii", "ignore"))
    damaged = octets.decode("utf-8", "replace").count("\ufffd") - kept.count("\ufffd")
    return several >= damaged


# Charsets for which Python's codecs do not do -------------------------------------------------------------


def _single(table: str) -> Callable[[bytes], str]:
    return lambda octets: codecs.charmap_decode(octets, "replace", table)[0]


def _windows(page: str) -> str:
    """The 256 characters of a code page; the controls stand where it has none, as WHATWG's tables say."""
    known = [bytes([octet]).decode(f"cp{page}", "ignore") for octet in range(256)]
    return "".join(
        character or (chr(octet) if octet < 0xA0 else "\ufffe") for octet, character in enumerate(known)
    )


def _first_that_fits(octets: bytes, *names: str) -> str | None:
    for name in names:
        try:
            return octets.decode(name)
        except UnicodeDecodeError:
            continue
    return None


def _big5(octets: bytes) -> str:
    text = _first_that_fits(octets, "cp950", "big5hkscs")
    return octets.decode("cp950", "replace") if text is None else text


def _utf_7(octets: bytes) -> str:
    """Python's codec lets single surrogates through."""
    return octets.decode("utf-7", "replace").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _wide(width: str, order: str = "") -> Callable[[bytes], str]:
    """UTF-16 or UTF-32: a byte order mark goes before the label, and without either it is a guess."""
    little, big = (f"utf-{width}-{end}" for end in ("le", "be"))
    marks = {"\ufeff".encode(name): name for name in (little, big)}

    def decode(octets: bytes) -> str:
        for mark, name in marks.items():
            if octets.startswith(mark):
                return octets[len(mark) :].decode(name, "replace")
        name = order and f"utf-{width}-{order}"
        return octets.decode(name or (big if _is_big_endian(octets) else little), "replace")

    return decode


def _is_big_endian(octets: bytes) -> bool:
    """True where more of the higher octets of Latin letters stand first."""
    return octets[0:4096:2].count(0) > octets[1:4096:2].count(0)


def _vendor_table() -> dict[bytes, str]:
    """The rows of NEC and IBM that Python's EUC-JP lacks, by way of windows-31j, which has them."""
    table = {}
    for row in (13, *range(89, 93)):
        for cell in range(1, 95):
            lead = (row - 1) // 2 + (0x81 if row < 63 else 0xC1)
            trail = cell + (0x9E if row % 2 == 0 else 0x3F if cell < 64 else 0x40)
            table[bytes((row + 0xA0, cell + 0xA0))] = bytes((lead, trail)).decode("cp932", "ignore")
    return {pair: character for pair, character in table.items() if character}


_VENDORS = _vendor_table()


def _vendor_character(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    start = error.start
    if character := _VENDORS.get(error.object[start : start + 2]):
        return character, start + 2
    return "\ufffd", start + 1


codecs.register_error("gatepost-euc-jp", _vendor_character)


def _euc_jp(octets: bytes) -> str:
    return octets.decode("euc_jp", "gatepost-euc-jp")


_DESIGNATION = re.compile(rb"(\x1b(?:\$[@AB]|[$][()][@A-DG]|\([BHIJ]|\$\*H|N|O)|[\x0e\x0f])")
_HIGH = bytes(octet + 0x80 if 0x20 < octet < 0x7F else octet for octet in range(256))
_PAIR = re.compile(rb"([\xa1-\xfe]{2})")


def _iso_2022(octets: bytes) -> str:
    """ISO-2022-JP with its extensions (RFC 1468, RFC 1554), -KR (RFC 1557) and -CN (RFC 1922)."""
    text = None if b"\x0e" in octets else _first_that_fits(octets, "iso2022_jp_2", "iso2022_jp_ext")
    return _by_segments(octets) if text is None else text


def _cp50222(octets: bytes) -> str:
    """ISO-2022-JP of Microsoft: behind SO are kana, also without an escape."""
    return _by_segments(octets, "kana") if b"\x0e" in octets else _iso_2022(octets)


def _by_segments(octets: bytes, second: str = "") -> str:
    """Each run between two escapes with its high bits set, as the 8-bit form of its charset.

    This adds to Python's codecs the vendors' rows, kana behind SO, and Chinese. ``second`` is the charset
    behind SO until an escape names one.
    """
    pieces = _DESIGNATION.split(octets)
    characters = [_segment(pieces[0], "")]
    first, shifted = "", False
    for number in range(1, len(pieces), 2):
        escape = pieces[number]
        if escape in (b"\x0e", b"\x0f"):
            shifted = escape == b"\x0e"
        elif escape[1:3] in (b"$)", b"$*"):
            second = _SETS.get(escape[-1:], "")
        elif escape[1:2] in b"$(":
            first = _SETS.get(escape[-1:], "") if escape[1:2] == b"$" else _ONE_OCTET.get(escape[-1:], "")
        if pieces[number + 1]:
            characters.append(_segment(pieces[number + 1], second if shifted else first))
    return "".join(characters)


_SETS = {
    b"@": "euc_jp",
    b"A": "gb18030",
    b"B": "euc_jp",
    b"C": "cp949",
    b"D": "jis_x_0212",
    b"G": "unknown",
    b"H": "unknown",
}
_ONE_OCTET = {b"I": "kana"}


def _segment(octets: bytes, charset: str) -> str:
    match charset:
        case "":
            return octets.decode("cp932", "replace")
        case "kana":
            return octets.translate(_HIGH).decode("cp932", "replace")
        case "euc_jp":
            return _euc_jp(octets.translate(_HIGH))
        case "jis_x_0212":
            return _euc_jp(_PAIR.sub(b"\x8f\\1", octets.translate(_HIGH)))
        case "unknown":
            return _PAIR.sub(b"?", octets.translate(_HIGH)).decode("ascii", "replace").replace("?", "\ufffd")
        case _:
            return octets.translate(_HIGH).decode(charset, "replace")


_DECODERS: dict[str, Callable[[bytes], str]] = {
    **{f"windows-{page}": _single(_windows(page)) for page in _WINDOWS_PAGES},
    "x-user-defined": _single("".join(chr(n if n < 0x80 else 0xF700 + n) for n in range(256))),
    "utf-7": _utf_7,
    "utf-16": _wide("16"),
    "utf-16-le": _wide("16", "le"),
    "utf-16-be": _wide("16", "be"),
    "utf-32": _wide("32"),
    "utf-32-le": _wide("32", "le"),
    "utf-32-be": _wide("32", "be"),
    "big5": _big5,
    "euc-jp": _euc_jp,
    "iso-2022": _iso_2022,
    "cp50222": _cp50222,
}
