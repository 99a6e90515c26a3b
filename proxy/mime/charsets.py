"""Charsets: octets as characters, by the name that the sender gives to their charset."""

from encodings.aliases import aliases

__all__ = ["decode_charset"]

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


def decode_charset(octets: bytes, charset: str) -> str | None:
    """The characters; None where the charset is none that we decode."""
    codec = _CHARSETS.get(charset.strip().lower().replace("-", "_").replace(".", "_").replace(":", "_"))
    return None if codec is None else octets.decode(codec, "replace")
