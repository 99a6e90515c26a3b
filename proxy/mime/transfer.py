"""Transfer encodings (RFC 2045 section 6), undone as mail programs undo them: forgivingly."""

import binascii

__all__ = ["decode_base64", "decode_quoted_printable", "decode_transfer", "transfer_encoding"]

_NOT_BASE64 = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
)


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
