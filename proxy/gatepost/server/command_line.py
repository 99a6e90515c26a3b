"""A line of the client as a command and its argument (RFC 5321 section 2.4)."""

import re
from typing import Final

from gatepost.model import replies
from gatepost.printable import text_of
from gatepost.server.replies import Refusal, SessionEnd
from gatepost.traffic.oddity import Oddity

__all__ = ["Oddities", "read_command", "read_odd_command"]

Oddities = tuple[Oddity, ...]

_VERBS: Final = frozenset(
    b"EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY EXPN HELP QUIT STARTTLS AUTH XCLIENT XFORWARD".split()
)
_TAKES_A_PATH: Final = frozenset((b"MAIL", b"RCPT"))
_ANOTHER_PROTOCOL: Final = frozenset((b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT"))
_BLANKS: Final = re.compile(rb"[ \t]+")


def read_command(line: bytes) -> tuple[bytes, str]:
    """The verb in upper case and the argument; raises `Refusal`, and SessionEnd for another protocol."""
    verb, _, rest = line.rstrip(b" \t").partition(b" ")
    if verb not in _VERBS:
        verb = _known(verb)
    try:
        argument = rest.decode()
    except UnicodeDecodeError:
        raise Refusal(replies.BAD_COMMAND_LINE) from None
    if rest and verb not in _TAKES_A_PATH and not argument.isprintable():
        raise Refusal(replies.BAD_COMMAND_LINE)
    return verb, argument


def read_odd_command(line: bytes, *, everything: bool) -> tuple[bytes, str, Oddities]:
    """As `read_command`, with any white space between words; with ``everything`` also with any bytes."""
    words = _BLANKS.split(line.strip(b" \t"), maxsplit=1)
    plain = b" ".join(words)
    oddities: Oddities = (Oddity.SPACES,) if plain != line.rstrip(b" \t") else ()
    if not everything:
        return *read_command(plain), oddities
    rest = words[1] if len(words) > 1 else b""
    argument = text_of(rest)
    if argument.encode() != rest:
        oddities += (Oddity.CHARACTERS,)
    return _known(words[0]), argument, oddities


def _known(verb: bytes) -> bytes:
    verb = verb.upper()
    if verb in _VERBS:
        return verb
    if verb in _ANOTHER_PROTOCOL:
        raise SessionEnd(replies.NOT_SMTP)
    raise Refusal(replies.UNKNOWN_COMMAND)
