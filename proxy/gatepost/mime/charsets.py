"""Bytes of a charset as characters."""

import codecs
import re
from collections.abc import Callable
from functools import cache, partial

from gatepost.mime.charset_labels import WINDOWS_PAGES, charset_name

__all__ = [
    "EBCDIC",
    "decode_as",
    "decode_charset",
    "decode_octets",
    "decode_word",
    "has_escapes",
    "is_utf_8",
    "mostly_utf_8",
]

EBCDIC = ("cp037", "cp273", "cp424", "cp500", "cp875", "cp1026", "cp1140")
"""Beginnings of the names of its charsets."""
_WIDE = ("utf-16", "utf-32")
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def decode_charset(octets: bytes, label: str) -> str | None:
    """The characters of a short text (`decode_word`); None where the label is unknown."""
    name = charset_name(label)
    return None if name is None else decode_word(octets, name)


def decode_word(octets: bytes, name: str) -> str:
    """As `decode_as`, but what is ASCII all the same under a charset that ASCII is not a part of is ASCII.

    Many mail programs do not know such a charset, or do not take its label for a header field. Letters in
    EBCDIC are bytes above 0x7f, and UTF-16 has bytes that are not printable, but for some Chinese.
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
    """The likeliest characters: ISO 2022 where its escapes are, UTF-8 but for single bytes, windows-1252."""
    if 0x1B in octets and has_escapes(octets):
        return decode_as(octets, "iso-2022")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return decode_as(octets, "utf_8" if mostly_utf_8(octets) else "windows-1252")


def has_escapes(octets: bytes) -> bool:
    """True for 7-bit bytes with the escapes of ISO-2022-JP (RFC 1468) and those like it."""
    return octets.isascii() and bool(_ESCAPE.search(octets))


def is_utf_8(octets: bytes) -> bool:
    """True if the bytes are UTF-8, which ASCII is too."""
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def mostly_utf_8(octets: bytes) -> bool:
    """True where UTF-8 has at least as many characters of several bytes as there are bytes in the way."""
    kept = octets.decode("utf-8", "ignore")
    several = len(kept) - len(kept.encode("ascii", "ignore"))
    damaged = octets.decode("utf-8", "replace").count("\ufffd") - kept.count("\ufffd")
    return several >= damaged


# Charsets for which Python's codecs do not do -------------------------------------------------------------


# Their tables are made when they are first used, since few processes read such mail.


def _windows(page: str, octets: bytes) -> str:
    return codecs.charmap_decode(octets, "replace", _windows_table(page))[0]


@cache
def _windows_table(page: str) -> str:
    """The 256 characters of a code page; with controls where it has none, as WHATWG's tables say."""
    known = [bytes([octet]).decode(f"cp{page}", "ignore") for octet in range(256)]
    return "".join(
        character or (chr(octet) if octet < 0xA0 else "\ufffe") for octet, character in enumerate(known)
    )


_USER_DEFINED = "".join(chr(octet if octet < 0x80 else 0xF700 + octet) for octet in range(256))


def _user_defined(octets: bytes) -> str:
    return codecs.charmap_decode(octets, "replace", _USER_DEFINED)[0]


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
    """True where more of the higher bytes of Latin letters come first."""
    return octets[0:4096:2].count(0) > octets[1:4096:2].count(0)


@cache
def _vendor_table() -> dict[bytes, str]:
    """The rows of NEC and IBM that Python's EUC-JP lacks, by way of windows-31j, which has them."""
    table = {}
    for row in (13, *range(89, 93)):
        for cell in range(1, 95):
            lead = (row - 1) // 2 + (0x81 if row < 63 else 0xC1)
            trail = cell + (0x9E if row % 2 == 0 else 0x3F if cell < 64 else 0x40)
            table[bytes((row + 0xA0, cell + 0xA0))] = bytes((lead, trail)).decode("cp932", "ignore")
    return {pair: character for pair, character in table.items() if character}


def _vendor_character(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    start = error.start
    if character := _vendor_table().get(error.object[start : start + 2]):
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
    **{f"windows-{page}": partial(_windows, page) for page in WINDOWS_PAGES},
    "x-user-defined": _user_defined,
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
