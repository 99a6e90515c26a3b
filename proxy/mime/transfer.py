"""Transfer encodings (RFC 2045 section 6), undone as mail programs undo them: forgivingly."""

import binascii
import re

__all__ = [
    "decode_base64",
    "decode_q",
    "decode_quoted_printable",
    "decode_transfer",
    "other_readings",
]

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
    """What a base64 body holds; octets outside of its alphabet are left out (RFC 2045 section 6.8).

    It ends at its padding. What comes after that is decoded too where it is base64 itself: lines of
    nothing but the alphabet, in whole groups of four, up to their own padding or the end of all.
    """
    padding = octets.find(b"=")
    if padding < 0:
        return _digits_decoded(octets.translate(None, _NOISE))
    decoded = _digits_decoded(octets[:padding].translate(None, _NOISE))
    rest = octets[padding:].lstrip(b"=" + _WHITE_SPACE)
    return decoded + b"".join(_further_chunks(rest)) if rest else decoded


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


def _other_quoted_printable(octets: bytes) -> tuple[bytes, ...]:
    if b"= " not in octets and b"=\t" not in octets:
        return ()
    kept = binascii.a2b_qp(_quoted(octets))
    return (kept,) if kept != decode_quoted_printable(octets) else ()


def decode_q(octets: bytes) -> bytes:
    """The octets of an encoded-word in Q (RFC 2047 section 4.2)."""
    return binascii.a2b_qp(_quoted(octets) if b"==" in octets else octets, header=True)


def _quoted(octets: bytes) -> bytes:
    """Of several equals signs only the last may begin a sequence."""
    return _EQUALS_SIGNS.sub(lambda signs: b"=3D" * len(signs[0]), octets)


# Any -----------------------------------------------------------------------------------------------------


def decode_transfer(octets: bytes, encoding: str) -> bytes:
    """The octets without their transfer encoding (lower case); unchanged where that is unknown."""
    match encoding:
        case "base64":
            return decode_base64(octets)
        case "quoted-printable":
            return decode_quoted_printable(octets)
        case _:
            return octets


def other_readings(octets: bytes, encoding: str) -> tuple[bytes, ...]:
    """What some mail programs decode in place of what `decode_transfer` returns: nothing of usual content.

    Of base64 some end at the first padding, some go on after it whatever comes there, some take ``-`` and
    ``_`` for digits (RFC 4648 section 5). Of quoted-printable some keep the blanks at the end of a line.
    """
    if encoding == "quoted-printable":
        return _other_quoted_printable(octets)
    if encoding != "base64":
        return ()
    padding = octets.find(b"=")
    goes_on = padding >= 0 and bool(octets[padding:].lstrip(b"=" + _WHITE_SPACE))
    is_url_safe = (b"-" in octets or b"_" in octets) and b"+" not in octets and b"/" not in octets
    if not (goes_on or is_url_safe):
        return ()
    readings: dict[bytes, None] = {}
    if goes_on:
        readings[_all_chunks(octets)] = None
        readings[decode_base64(octets[:padding])] = None
    if is_url_safe:
        readings[decode_base64(octets.translate(_URL_SAFE))] = None
    readings.pop(decode_base64(octets), None)
    return tuple(readings)
