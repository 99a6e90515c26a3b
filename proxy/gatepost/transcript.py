"""What is said in a session as lines of text that are safe to show; of message data only the beginning."""

from collections.abc import Iterator

from gatepost.events import Direction, Line

__all__ = ["Transcript", "reply_class", "visible"]

_WIDTH_LIMIT = 500
"""Characters of one line that are shown."""


class Transcript:
    """Of one session: at most ``data_lines`` lines of each message are shown, the rest is counted.

    With ``cut`` pieces of messages have been cut already, and nobody knows how much the rest is.
    """

    def __init__(self, *, data_lines: int, cut: bool = False) -> None:
        self._limit = data_lines
        self._at_least = " or more" if cut else ""
        self._lines = 0
        self._left_out = 0

    def texts(self, line: Line) -> Iterator[tuple[Direction, str]]:
        """What to show for a line, or for a piece of a message: who said it and a text of one line."""
        texts = visible(line.data)
        if line.direction == "D":
            room = max(0, self._limit - self._lines)
            self._lines += len(texts)
            self._left_out += max(0, len(texts) - room)
            texts = texts[:room]
        else:
            if self._left_out:
                yield "*", f"... {self._left_out} more lines{self._at_least}"
            self._lines = self._left_out = 0
        for text in texts:
            yield line.direction, text


def visible(octets: bytes) -> list[str]:
    """The lines of the octets; printable text as it is, everything else as an escape."""
    return [_visible(line) for line in octets.removesuffix(b"\r\n").split(b"\r\n")]


def _visible(line: bytes) -> str:
    text = line[: _WIDTH_LIMIT * 4].decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(c if c.isprintable() or c == "\t" else _escape(c) for c in text)
    return text if len(text) <= _WIDTH_LIMIT else f"{text[:_WIDTH_LIMIT]}..."


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def reply_class(text: str) -> str:
    """``2`` to ``5`` for a line of a reply (RFC 5321 section 4.2.1), else nothing."""
    return text[0] if text[:1] in ("2", "3", "4", "5") else ""
