"""The names of charsets, by the labels that senders write.

The labels are those of the WHATWG Encoding Standard, of Python, and what mail programs send besides. As
for browsers and mail programs, a label means the superset that is in use under it: ISO 8859-1 is
windows-1252, GB 2312 is GB 18030, Shift_JIS is windows-31j.
"""

import re
from encodings.aliases import aliases
from functools import lru_cache

__all__ = ["WINDOWS_PAGES", "charset_name"]

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

WINDOWS_PAGES = ("874", "1250", "1251", "1252", "1253", "1254", "1255", "1256", "1257", "1258")
"""Numbers of the code pages of Windows with one byte a character."""
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
    for page in WINDOWS_PAGES:
        names |= dict.fromkeys((f"cp{page}", f"windows{page}"), f"windows-{page}")
    return names


_NAMES = _names()
"""The charsets that are decoded, by their labels without punctuation. A fixed table: Python's own look-up
imports modules by the name that a sender writes, and knows codecs that are no charsets."""


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
