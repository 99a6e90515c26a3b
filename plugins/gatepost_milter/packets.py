"""Packets of the milter protocol, version 6: as bytes and as values; nothing here is read or written.

Numbers and letters are those of Sendmail's ``mfdef.h`` and ``mfapi.h``. A packet is its length in four bytes,
a letter, and data.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from gatepost import Reply

__all__ = [
    "ACTIONS",
    "CHUNK_OCTETS",
    "STEPS",
    "Actions",
    "Modification",
    "Negotiated",
    "ProtocolError",
    "Steps",
    "connect",
    "header",
    "macros",
    "negotiate",
    "packet",
    "read_modification",
    "read_negotiated",
    "read_reply",
    "words",
]

VERSION: Final = 6
CHUNK_OCTETS: Final = 65_535
"""Of the body in one packet."""
_VALUE_OCTETS: Final = 60_000
"""Of a header field's value: libmilter closes the connection at a packet that is longer than a chunk."""


class ProtocolError(ConnectionError):
    """A milter sent what does not belong there."""


class Steps(IntFlag):
    """What a milter does not want to be told, or does not answer."""

    NO_CONNECT = 0x1
    NO_HELO = 0x2
    NO_MAIL = 0x4
    NO_RCPT = 0x8
    NO_BODY = 0x10
    NO_HEADERS = 0x20
    NO_EOH = 0x40
    NR_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400
    """It may answer that it needs no more of the body."""
    NR_CONNECT = 0x1000
    NR_HELO = 0x2000
    NR_MAIL = 0x4000
    NR_RCPT = 0x8000
    NR_DATA = 0x10000
    NR_UNKNOWN = 0x20000
    NR_EOH = 0x40000
    NR_BODY = 0x80000
    LEADING_SPACE = 0x100000
    """Values of fields have the blank after the colon, in both directions."""


class Actions(IntFlag):
    """What a milter may ask for."""

    ADD_HEADERS = 0x1
    CHANGE_BODY = 0x2
    ADD_RECIPIENTS = 0x4
    DELETE_RECIPIENTS = 0x8
    CHANGE_HEADERS = 0x10
    QUARANTINE = 0x20
    CHANGE_SENDER = 0x40
    ADD_RECIPIENTS_WITH_PARAMETERS = 0x80
    SET_MACROS = 0x100


ACTIONS: Final = Actions(0x1FF)
STEPS: Final = Steps(0x1FF7FF)
"""All that are offered: without those about refused recipients, which a filter does not see."""

_PLACES: Final = {0: b"C", 1: b"H", 2: b"M", 3: b"R", 4: b"T", 5: b"E", 6: b"N"}
"""The commands before which macros are sent, by the numbers in a milter's list of macros."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What a milter has answered to the offer."""

    actions: Actions
    steps: Steps
    macros: Mapping[bytes, tuple[str, ...]]
    """The names of the macros that it wants before a command, if it has said so."""


@dataclass(frozen=True, slots=True)
class Modification:
    """One change that a milter asks for at the end of a message."""

    kind: bytes
    """The letter of its packet."""
    number: int = 0
    """Of a header field."""
    words: tuple[bytes, ...] = ()
    """The strings in it; of a body its bytes."""


def packet(letter: bytes, data: bytes = b"") -> bytes:
    """A packet as it is sent."""
    return struct.pack("!I", len(data) + 1) + letter + data


def words(*strings: bytes) -> bytes:
    """Strings, each with a NUL behind it; a NUL in one of them would begin another."""
    return b"".join([string.replace(b"\0", b"?") + b"\0" for string in strings])


def negotiate() -> bytes:
    """The offer with which a connection begins."""
    return packet(b"O", struct.pack("!III", VERSION, ACTIONS, STEPS))


def macros(command: bytes, values: Mapping[str, str]) -> bytes:
    """The macros for a command; nothing without any."""
    if not values:
        return b""
    strings = [part.encode() for pair in values.items() for part in pair]
    return packet(b"D", command + words(*strings))


def connect(name: str, address: str, port: int) -> bytes:
    """The client of the session."""
    family = b"6" if ":" in address else b"4"
    return packet(b"C", words(name.encode()) + family + struct.pack("!H", port) + words(address.encode()))


def header(name: bytes, value: bytes) -> bytes:
    """One field, its folds with LF alone; a value that is too long for a packet is cut, as Postfix does."""
    return packet(b"L", words(name, value.replace(b"\r\n", b"\n")[:_VALUE_OCTETS]))


def read_negotiated(data: bytes) -> Negotiated:
    """The answer to the offer; raises ProtocolError for one that cannot be fulfilled."""
    if len(data) < 12:
        raise ProtocolError(f"answered the offer with {len(data)} bytes, expected at least 12")
    version, actions, steps = struct.unpack("!III", data[:12])
    if not 2 <= version <= VERSION:
        raise ProtocolError(f"has version {version} of the protocol, expected 2 to {VERSION}")
    if actions & ~int(ACTIONS) or steps & ~int(STEPS):  # a flag has no other bits than those with a name
        raise ProtocolError(f"wants actions {actions:#x} and steps {steps:#x}, more than was offered")
    wanted: dict[bytes, tuple[str, ...]] = {}
    rest = data[12:]
    while rest:
        names, end, after = rest[4:].partition(b"\0")
        place = _PLACES.get(int.from_bytes(rest[:4]))
        if len(rest) < 5 or not end:
            raise ProtocolError("sent a list of macros without an end")
        if place:
            wanted[place] = tuple(re.split(r"[\s,]+", names.decode("ascii", "replace").strip()))
        rest = after
    return Negotiated(Actions(actions), Steps(steps), wanted)


def read_modification(letter: bytes, data: bytes) -> Modification | None:
    """A change of the message; None for another packet. Raises ProtocolError."""
    number = 0
    match letter:
        case b"b":
            return Modification(letter, words=(data,))
        case b"m" | b"i":
            if len(data) < 4:
                raise ProtocolError("sent a field without its number")
            number, data = int.from_bytes(data[:4]), data[4:]
            least, most = 2, 2
        case b"h":
            least, most = 2, 2
        case b"+" | b"-" | b"q":
            least, most = 1, 1
        case b"2" | b"e":
            least, most = 1, 2
        case _:
            return None
    strings = tuple(data.split(b"\0"))
    if strings[-1] or not least <= len(strings) - 1 <= most:
        raise ProtocolError(f"sent {letter!r} with {data[:100]!r}, expected {least} strings with a NUL each")
    return Modification(letter, number, strings[:-1])


_LINE: Final = re.compile(
    r"([45]\d\d)(?:([- ])(?:([45]\.\d{1,3}\.\d{1,3})(?: |$))?(.*))?", re.ASCII | re.DOTALL
)


def read_reply(data: bytes) -> Reply:
    """The reply that a milter wants its client to get; raises ProtocolError."""
    text = data.removesuffix(b"\0").decode("utf-8", "replace").replace("%%", "%")
    lines = [_LINE.fullmatch(line) for line in re.split(r"\r\n|\r|\n", text.removesuffix("\r\n"))]
    found = [line for line in lines if line]
    codes, enhanced = {line[1] for line in found}, {line[3] for line in found}
    if len(found) < len(lines) or len(codes) > 1 or any(one and one[0] not in text[0] for one in enhanced):
        raise ProtocolError(f"sent the reply {text[:200]!r}, expected one like 550 5.7.1 Not accepted here")
    same = enhanced.pop() if len(enhanced) == 1 else None
    shown = [line[4] or "" if same or not line[3] else f"{line[3]} {line[4]}" for line in found]
    return Reply(code=int(codes.pop()), enhanced=same, text="\n".join(shown))
