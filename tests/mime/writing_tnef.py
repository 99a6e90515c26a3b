"""Writes TNEF ([MS-OXTNEF]) and what is in it, for tests."""

import struct

SIGNATURE = 0x223E9F78
LONG_FILENAME, FILENAME, DISPLAY_NAME, MIME_TAG, DATA = 0x3707, 0x3704, 0x3001, 0x370E, 0x3701
SUBJECT, BODY, HTML, RTF, INTERNET_CODE_PAGE = 0x0037, 0x1000, 0x1013, 0x1009, 0x3FDE
MESSAGE_INTERFACE = bytes.fromhex("0703020000000000c000000000000046")
STORAGE_INTERFACE = bytes.fromhex("0b00000000000000c000000000000046")
DICTIONARY_SIZE = 207


def tnef(*attributes: bytes) -> bytes:
    return (
        struct.pack("<IH", SIGNATURE, 1)
        + attribute(0x9006, struct.pack("<I", 0x10000))
        + b"".join(attributes)
    )


def attribute(number: int, value: bytes, *, level: int = 1, kind: int = 6) -> bytes:
    return (
        struct.pack("<BHHI", level, number, kind, len(value)) + value + struct.pack("<H", sum(value) % 65536)
    )


def code_page(number: int) -> bytes:
    return attribute(0x9007, struct.pack("<II", number, 0))


def subject(text: bytes) -> bytes:
    return attribute(0x8004, text + b"\0", kind=1)


def body(text: bytes) -> bytes:
    return attribute(0x800C, text + b"\0", kind=2)


def message_properties(*values: bytes) -> bytes:
    return attribute(0x9003, properties(*values))


def attachment(*parts: bytes) -> bytes:
    """It begins with its rendering data."""
    return attribute(0x9002, bytes(14), level=2) + b"".join(parts)


def title(name: bytes) -> bytes:
    return attribute(0x8010, name + b"\0", level=2, kind=1)


def transport_name(name: bytes) -> bytes:
    return attribute(0x9001, name + b"\0", level=2, kind=1)


def data(content: bytes) -> bytes:
    return attribute(0x800F, content, level=2)


def attachment_properties(*values: bytes) -> bytes:
    return attribute(0x9005, properties(*values), level=2)


def properties(*values: bytes) -> bytes:
    return struct.pack("<I", len(values)) + b"".join(values)


def unicode(number: int, text: str) -> bytes:
    return variable(0x001F, number, text.encode("utf-16-le") + b"\0\0")


def string(number: int, text: bytes) -> bytes:
    return variable(0x001E, number, text + b"\0")


def binary(number: int, value: bytes) -> bytes:
    return variable(0x0102, number, value)


def instance(number: int, interface: bytes, value: bytes) -> bytes:
    return variable(0x000D, number, interface + value)


def integer(number: int, value: int) -> bytes:
    return struct.pack("<HHi", 0x0003, number, value)


def named(value: bytes, name: str) -> bytes:
    """A property with a name instead of a number; Outlook writes many of them."""
    encoded = name.encode("utf-16-le") + b"\0\0"
    kind, _ = struct.unpack_from("<HH", value)
    head = struct.pack("<HH", kind, 0x8001) + bytes(16) + struct.pack("<II", 1, len(encoded))
    return head + encoded + bytes(-len(encoded) % 4) + value[4:]


def variable(kind: int, number: int, value: bytes) -> bytes:
    return struct.pack("<HHII", kind, number, 1, len(value)) + value + bytes(-len(value) % 4)


def rtf_as_it_is(rtf: bytes) -> bytes:
    return struct.pack("<II4sI", len(rtf) + 12, len(rtf), b"MELA", 0) + rtf


def compressed_rtf(rtf: bytes, *, references: tuple[tuple[int, int], ...] = ()) -> bytes:
    """Literals, then references of (place in the window, length), then the end ([MS-OXRTFCP] 2.1.3)."""
    written = DICTIONARY_SIZE + len(rtf) + sum(length for _, length in references)
    tokens = [bytes((octet,)) for octet in rtf]
    tokens += [struct.pack(">H", place << 4 | length - 2) for place, length in references]
    tokens.append(struct.pack(">H", written % 4096 << 4))
    runs = []
    for at in range(0, len(tokens), 8):
        run = tokens[at : at + 8]
        runs.append(
            bytes((sum(1 << bit for bit, token in enumerate(run) if len(token) == 2),)) + b"".join(run)
        )
    packed = b"".join(runs)
    return struct.pack("<II4sI", len(packed) + 12, written - DICTIONARY_SIZE, b"LZFu", 0) + packed
