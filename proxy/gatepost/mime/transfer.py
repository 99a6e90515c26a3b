"""Transfer encodings (RFC 2045 section 6), undone as mail programs undo them: forgivingly."""

import binascii
import re

__all__ = [
    "BASE64",
    "QUOTED_PRINTABLE",
    "decode_b",
    "decode_base64",
    "decode_q",
    "decode_quoted_printable",
    "decode_transfer",
    "other_readings",
]

BASE64 = frozenset({"base64", "x-base64"})
QUOTED_PRINTABLE = frozenset({"quoted-printable", "quoted_printable"})
"""Names under which mail programs decode them."""

# Base64 --------------------------------------------------------------------------------------------------

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOISE = bytes(set(range(256)) - set(_ALPHABET))
_NOISE_BUT_PADDING = bytes(set(_NOISE) - set(b"="))
_WHITE_SPACE = b" \t\r\n"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_CHUNK = re.compile(
    rb"([A-Za-z0-9+/]++(?:[ \t]*+\r?\n[ \t\r\n]*+[A-Za-z0-9+/]++)*+)[ \t\r\n]*+(?:(={1,2}+)[ \t\r\n]*+|\Z)"
)
"""Lines of nothing but the alphabet, and the padding after them or the end of all."""
_PADDING = re.compile(rb"=+")
_CHUNKS_LIMIT = 10_000


def decode_base64(octets: bytes) -> bytes:
    """What a base64 body holds; bytes outside of its alphabet are left out (RFC 2045 section 6.8).

    It ends at its padding. What comes after that is decoded too where it is base64 itself: lines of
    nothing but the alphabet, in whole groups of four, up to their own padding or the end of all.
    """
    padding = octets.find(b"=")
    if padding < 0:
        return _digits_decoded(octets.translate(None, _NOISE))
    decoded = _digits_decoded(octets[:padding].translate(None, _NOISE))
    rest = octets[padding:].lstrip(b"=" + _WHITE_SPACE)
    return decoded + b"".join(_further_chunks(rest)) if rest else decoded


def decode_b(octets: bytes) -> bytes:
    """The bytes of an encoded-word in B (RFC 2047 section 4.1), past equals signs that are no padding."""
    decoded = decode_base64(octets)
    if b"=" not in octets.rstrip(b"="):
        return decoded
    padded = _padded_chunks(octets)[0]
    return padded if len(padded) > len(decoded) else decoded


def _further_chunks(octets: bytes) -> list[bytes]:
    chunks: list[bytes] = []
    position = 0
    while len(chunks) < _CHUNKS_LIMIT and (found := _CHUNK.match(octets, position)):
        digits = found[1].translate(None, _WHITE_SPACE)
        if (len(digits) + len(found[2] or b"")) % 4:
            break
        chunks.append(_digits_decoded(digits))
        position = found.end()
    return chunks


def _all_chunks(octets: bytes) -> bytes:
    """As programs decode it that go on after the padding, whatever comes there."""
    digits = octets.translate(None, _NOISE_BUT_PADDING)
    chunks: list[bytes] = []
    start = 0
    for padding in _PADDING.finditer(digits):
        if len(chunks) == _CHUNKS_LIMIT:
            break
        chunks.append(_digits_decoded(digits[start : padding.start()]))
        start = padding.end()
    chunks.append(_digits_decoded(digits[start:].replace(b"=", b"")))
    return b"".join(chunks)


def _padded_chunks(octets: bytes) -> list[bytes]:
    """As programs decode it that pass over equals signs where no padding is due: one chunk or more."""
    digits = octets.translate(None, _NOISE_BUT_PADDING)
    chunks: list[bytes] = []
    chunk = bytearray()
    start = 0
    for padding in _PADDING.finditer(digits):
        chunk += digits[start : padding.start()]
        start = padding.end()
        if len(chunk) % 4 >= max(2, 4 - len(padding[0])):
            chunks.append(_digits_decoded(bytes(chunk)))
            chunk.clear()
            if len(chunks) == _CHUNKS_LIMIT:
                break
    chunks.append(_digits_decoded(bytes(chunk) + digits[start:].replace(b"=", b"")))
    return chunks


def _digits_decoded(digits: bytes) -> bytes:
    """Of nothing but the alphabet; a last group that lacks its padding counts, a single digit does not."""
    remainder = len(digits) % 4
    if remainder == 1:
        digits = digits[:-1]
    elif remainder:
        digits += b"=" * (4 - remainder)
    return binascii.a2b_base64(digits)


# Quoted-printable ----------------------------------------------------------------------------------------

_ODD_QP = (b" \n", b" \r\n", b"\t\n", b"\t\r\n", b"==")
_BLANKS_AT_LINE_END = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n)")
_BARE_SOFT_BREAK = re.compile(rb"=\r(?!\n)")
_SOFT_BLANKS = (b"= ", b"=\t")
_EQUALS_SIGNS = re.compile(rb"=+(?==)")


def decode_quoted_printable(octets: bytes) -> bytes:
    """What a quoted-printable body holds; sequences that are none stay as they are.

    Blanks at the end of a line are not part of it (RFC 2045 section 6.7 (3)), nor of a soft line break.
    """
    octets = octets.rstrip(b" \t")
    if any(odd in octets for odd in _ODD_QP) or octets.count(b"=\r") > octets.count(b"=\r\n"):
        octets = _BLANKS_AT_LINE_END.sub(b"", octets)
        octets = _BARE_SOFT_BREAK.sub(b"=\n", octets)  # binascii would leave out all up to the next LF
        octets = _quoted(octets)  # and of two it would leave out the second
    return binascii.a2b_qp(octets)


def decode_q(octets: bytes) -> bytes:
    """The bytes of an encoded-word in Q (RFC 2047 section 4.2)."""
    return binascii.a2b_qp(_quoted(octets) if b"==" in octets else octets, header=True)


def _quoted(octets: bytes) -> bytes:
    """Of several equals signs only the last may begin a sequence."""
    return _EQUALS_SIGNS.sub(lambda signs: b"=3D" * len(signs[0]), octets)


# Any -----------------------------------------------------------------------------------------------------


def decode_transfer(octets: bytes, encoding: str) -> bytes:
    """The bytes without their transfer encoding (lower case); unchanged where that is unknown."""
    if encoding in BASE64:
        return decode_base64(octets)
    if encoding in QUOTED_PRINTABLE:
        return decode_quoted_printable(octets)
    return octets


def other_readings(content: bytes, start: int, end: int, encoding: str) -> tuple[bytes, ...]:
    """What some mail programs decode in place of what `decode_transfer` returns: nothing of usual content.

    The body is ``content`` from ``start`` to ``end``. Of base64 some end at the first padding, some go on
    after it, whatever comes there; some pass over all equals signs, or those that complete no group of
    four; some take ``-`` and ``_`` for digits (RFC 4648 section 5). Of quoted-printable some keep the blanks
    at the end of a line.
    """
    if encoding in BASE64:
        padding = content.find(b"=", start, end)
        goes_on = padding >= 0 and bool(content[padding:end].lstrip(b"=" + _WHITE_SPACE))
        if goes_on or _is_url_safe(content, start, end):
            return _other_base64(content[start:end])
    elif encoding in QUOTED_PRINTABLE and any(content.find(odd, start, end) >= 0 for odd in _SOFT_BLANKS):
        octets = content[start:end]
        kept = binascii.a2b_qp(_quoted(octets))
        return (kept,) if kept != decode_quoted_printable(octets) else ()
    return ()


def _is_url_safe(content: bytes, start: int, end: int) -> bool:
    has_any = content.find(b"-", start, end) >= 0 or content.find(b"_", start, end) >= 0
    return has_any and content.find(b"+", start, end) < 0 and content.find(b"/", start, end) < 0


def _other_base64(octets: bytes) -> tuple[bytes, ...]:
    padding = octets.find(b"=")
    first = octets[: padding if padding >= 0 else len(octets)]
    readings = {_digits_decoded(first.translate(None, _NOISE)): None, _all_chunks(octets): None}
    padded = _padded_chunks(octets)
    readings |= {padded[0]: None, b"".join(padded): None}
    readings[_digits_decoded(octets.translate(None, _NOISE))] = None
    if _is_url_safe(octets, 0, len(octets)):
        readings[decode_base64(octets.translate(_URL_SAFE))] = None
    readings.pop(decode_base64(octets), None)
    return tuple(readings)
