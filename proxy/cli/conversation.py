"""The raw SMTP conversation on a terminal."""

from collections.abc import Callable
from dataclasses import replace
from typing import TextIO

from rich.console import Console
from rich.text import Text

from proxy.events import Line, Watch

__all__ = ["Conversation"]

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue")
_ARROWS = {"C": "<", "D": "<", "S": ">", "*": "*"}
_STYLES = {"C": "bold", "D": "", "*": "dim"}
_WIDTH_LIMIT = 500
"""Characters of one line that are shown."""


class Conversation:
    """Prints what is said; each session has a colour of its own."""

    def __init__(self, output: TextIO, *, lines: int) -> None:
        self._console = Console(file=output, highlight=False, soft_wrap=True)
        self._lines_limit = lines
        self._open: dict[str, _Shown] = {}
        self._count = 0

    def follow(self, watch: Watch, stopped: Callable[[], bool]) -> None:
        """Print until it is stopped; for a thread of its own."""
        dropped = 0
        while True:
            last_round = stopped()
            for line in watch.take(0.2):
                self.show(line)
            if watch.dropped != dropped:
                missed = watch.dropped - dropped
                self._console.print(Text(f"({missed} lines not shown: the terminal is too slow)", "red"))
                dropped = watch.dropped
            if last_round:
                return

    def show(self, line: Line) -> None:
        """Print one line, or the lines of a piece of a message as far as the limit goes."""
        shown = self._open.get(line.session_id)
        if shown is None:
            shown = self._open[line.session_id] = _Shown(_COLOURS[self._count % len(_COLOURS)])
            self._count += 1
        if line.direction == "D":
            texts = shown.data(line.data, self._lines_limit)
        else:
            if left_out := shown.end_of_data():
                self._print(replace(line, direction="*"), shown, f"... {left_out} more lines", "dim")
            texts = _lines(line.data)
        for text in texts:
            self._print(line, shown, text, _STYLES.get(line.direction) or _reply_style(line, text))
        if line.direction == "*" and line.data.startswith(b"closed"):
            del self._open[line.session_id]

    def _print(self, line: Line, shown: "_Shown", text: str, style: str) -> None:
        clock = line.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
        self._console.print(
            Text.assemble(
                (f"{clock} ", "dim"),
                (f"{line.session_id[-5:]} ", shown.colour),
                (f"{_ARROWS[line.direction]} ", shown.colour),
                (text, style),
            )
        )


class _Shown:
    """How much of a session's present message has been shown."""

    def __init__(self, colour: str) -> None:
        self.colour = colour
        self._lines = 0
        self._left_out = 0

    def data(self, octets: bytes, limit: int) -> list[str]:
        """The lines to show of the next piece of a message."""
        lines = _lines(octets)
        room = max(0, limit - self._lines)
        self._lines += len(lines)
        self._left_out += max(0, len(lines) - room)
        return lines[:room]

    def end_of_data(self) -> int:
        """How many lines of the message were left out; the next message starts anew."""
        left_out, self._lines, self._left_out = self._left_out, 0, 0
        return left_out


def _lines(octets: bytes) -> list[str]:
    return [_visible(line) for line in octets.removesuffix(b"\r\n").split(b"\r\n")]


def _visible(line: bytes) -> str:
    """Text as it is, everything that a terminal would act upon as an escape."""
    text = line[: _WIDTH_LIMIT * 4].decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= _WIDTH_LIMIT else f"{text[:_WIDTH_LIMIT]}..."


def _reply_style(line: Line, text: str) -> str:
    if line.direction != "S":
        return ""
    return {"2": "green", "3": "green", "4": "yellow", "5": "red"}.get(text[:1], "")
