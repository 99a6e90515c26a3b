"""Parameters of structured fields such as Content-Type (RFC 2045 section 5.1, RFC 2231)."""

import re
from urllib.parse import unquote_to_bytes

from proxy.mime.charsets import decode_charset
from proxy.mime.words import decode_octets, decode_words

__all__ = ["read_parameter"]

_PARAMETER = re.compile(
    r';\s*+([^\s=;*"]{1,80}+)(?:\*(\d{1,4}+))?(\*)?\s*+=\s*+(?:"((?:[^"\\]++|\\.)*)"?|([^;]*+))',
    re.DOTALL,
)
_QUOTED_PAIR = re.compile(r'\\(["\\])')  # before others, as in C:\name, the backslash itself is meant
_PARAMETERS_LIMIT = 1000


def read_parameter(value: str, name: str) -> str:
    """A parameter of a Content-Type or Content-Disposition field; empty where it is not there.

    Continued and percent-encoded ones (RFC 2231) are joined, encoded-words in them decoded.
    """
    if ";" not in value:
        return ""
    pieces: dict[int, str] = {}
    extended = ""
    for number, found in enumerate(_PARAMETER.finditer(value)):
        if number >= _PARAMETERS_LIMIT:
            break
        if found[1].lower() != name:
            continue
        text = _QUOTED_PAIR.sub(r"\1", found[4]) if found[4] is not None else found[5].strip()
        if found[3] and not found[2]:
            extended = extended or _percent_decoded(text)
        else:
            pieces.setdefault(int(found[2] or 0), _percent_decoded(text) if found[3] else text)
    joined = extended or "".join(pieces[number] for number in sorted(pieces))
    return decode_words(joined) if "=?" in joined else joined


def _percent_decoded(text: str) -> str:
    charset, quote, rest = text.partition("'")
    if quote:
        _, quote, rest = rest.partition("'")
    if not quote:
        charset, rest = "utf-8", text
    octets = unquote_to_bytes(rest)
    known = decode_charset(octets, charset)
    return decode_octets(octets) if known is None else known
