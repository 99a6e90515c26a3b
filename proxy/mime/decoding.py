"""Transfer encodings (RFC 2045 section 6) and charsets, read as mail programs read them: forgivingly."""

import binascii
from encodings.aliases import aliases

__all__ = [
    "decode_base64",
    "decode_charset",
    "decode_quoted_printable",
    "decode_text",
    "decode_transfer",
    "transfer_encoding",
]

_NOT_BASE64 = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
)

_NO_CHARSETS = {
    "base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec",  # no text
    "mbcs",  # only on Windows
    "utf_7",  # hides words from whoever does not decode it; not allowed in mail by any current program
}  # fmt: skip

_CHARSETS = {alias: codec for alias, codec in aliases.items() if codec not in _NO_CHARSETS}
_CHARSETS |= {codec: codec for codec in _CHARSETS.values()}
_CHARSETS |= {
    "gb2312": "gb18030",  # mail labelled so often holds characters of its supersets
    "gbk": "gb18030",
    "x_gbk": "gb18030",
    "x_sjis": "cp932",
    "shift_jis": "cp932",
    "ks_c_5601_1987": "cp949",
    "iso_8859_8_i": "iso8859_8",
    "windows_874": "cp874",
    "unicode_1_1_utf_8": "utf_8",
    "utf8mb4": "utf_8",
    "koi8_r": "koi8_r",
    "koi8_u": "koi8_u",
}
"""The charsets that are decoded. A fixed table: Python's own look-up imports modules by the name
that a sender gives it, keeps each name for ever, and knows codecs that are no charsets."""


def decode_base64(octets: bytes) -> bytes:
    """What a base64 body holds; octets outside of its alphabet are left out (RFC 2045 section 6.8)."""
    digits = octets.translate(None, _NOT_BASE64)
    remainder = len(digits) % 4
    if remainder == 1:
        digits = digits[:-1]
    elif remainder:
        digits += b"=" * (4 - remainder)
    return binascii.a2b_base64(digits)


def decode_quoted_printable(octets: bytes) -> bytes:
    """What a quoted-printable body holds; sequences that are none stay as they stand."""
    return binascii.a2b_qp(octets)


def transfer_encoding(value: str) -> str:
    """The mechanism that a Content-Transfer-Encoding field names, without what trails it."""
    words = value.replace(";", " ").replace("(", " ").split(maxsplit=1)
    return words[0].lower() if words else ""


def decode_transfer(octets: bytes, encoding: str) -> bytes:
    """The octets without their transfer encoding (lower case); unchanged where that is unknown."""
    match encoding:
        case "base64":
            return decode_base64(octets)
        case "quoted-printable":
            return decode_quoted_printable(octets)
        case _:
            return octets


def decode_charset(octets: bytes, charset: str) -> str | None:
    """The characters; None where the charset is none that we decode."""
    codec = _CHARSETS.get(charset.strip().lower().replace("-", "_").replace(".", "_").replace(":", "_"))
    return None if codec is None else octets.decode(codec, "replace")


def decode_text(octets: bytes, charset: str) -> tuple[str, str]:
    """The characters of a text part, and a warning: empty where the charset was known and fitted.

    Where it is missing, unknown or does not fit, the octets are read as UTF-8, else as ISO 8859-1.
    """
    warning = ""
    if charset and charset.lower() not in ("us-ascii", "ascii", "utf-8"):
        text = decode_charset(octets, charset)
        if text is not None:
            damaged = "\ufffd" in text
            return text, f"octets that are no {charset[:40]!r} were replaced" if damaged else ""
        warning = f"unknown charset {charset[:40]!r}"
    try:
        return octets.decode(), warning
    except UnicodeDecodeError:
        return octets.decode("latin-1"), warning or f"octets that are no {charset[:40] or 'us-ascii'!r}"
