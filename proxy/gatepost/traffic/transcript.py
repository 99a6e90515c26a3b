"""The events of a session as lines of text that are safe to show; of message data only the beginning."""

from collections.abc import Iterator

from gatepost.printable import printable
from gatepost.traffic.events import Direction, Event

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

    def texts(self, event: Event) -> Iterator[tuple[Direction, str]]:
        """What to show of an event: texts of one line, each with its direction."""
        texts = visible(event.data)
        if event.direction == "D":
            room = max(0, self._limit - self._lines)
            self._lines += len(texts)
            self._left_out += max(0, len(texts) - room)
            texts = texts[:room]
        else:
            if self._left_out:
                yield "*", f"... {self._left_out} more lines{self._at_least}"
            self._lines = self._left_out = 0
        for text in texts:
            yield event.direction, text


def visible(octets: bytes) -> list[str]:
    """The lines of some bytes; printable text as it is, everything else as an escape."""
    return [_visible(line) for line in octets.removesuffix(b"\r\n").split(b"\r\n")]


def _visible(line: bytes) -> str:
    text = line[: _WIDTH_LIMIT * 4].decode("utf-8", "backslashreplace")
    text = printable(text, keep="\t")
    return text if len(text) <= _WIDTH_LIMIT else f"{text[:_WIDTH_LIMIT]}..."


def reply_class(text: str) -> str:
    """``2`` to ``5`` for a line of a reply (RFC 5321 section 4.2.1), else nothing."""
    return text[0] if text[:1] in ("2", "3", "4", "5") else ""
