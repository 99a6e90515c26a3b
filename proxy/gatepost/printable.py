r"""Text from outside that is safe to show: in a log, on a terminal, in a reply, in the journal.

What a client or an upstream server sent may hold characters that a terminal obeys, that end a line of a log,
or that hide others. `printable` leaves none of them. `without_controls` is for text that programs go on
with: it takes only control characters and line ends out, and leaves for example no-break spaces.
"""

import re

__all__ = ["printable", "storable", "text_of", "without_controls"]

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str, *, keep: str = "", mark: str | None = None) -> str:
    r"""The text with an escape like ``\x1b`` for each character that is not printable.

    ``keep``: characters that stay as they are. ``mark``: replaces each of the others instead of an
    escape, for example ``?``.
    """
    if text.isprintable():
        return text
    return "".join(
        [c if c.isprintable() or c in keep else _escape(c) if mark is None else mark for c in text]
    )


def without_controls(text: str, *, mark: str | None = None) -> str:
    r"""The text with an escape for each control character but tab, each line end and each lone surrogate.

    ``mark`` as in `printable`.
    """
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda found: _escape(found[0]) if mark is None else mark, text)


def storable(text: str) -> str:
    """The text with U+FFFD for characters that no database accepts: NUL and lone surrogates."""
    return text if text.isascii() and "\x00" not in text else _UNSTORABLE.sub("\ufffd", text)


def text_of(octets: bytes) -> str:
    r"""UTF-8 as it is, with an escape like ``\xfc`` for every other byte and for control characters."""
    return without_controls(octets.decode("utf-8", "backslashreplace"))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
