"""The raw SMTP conversation on a terminal."""

from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.text import Text

from gatepost.events import Direction, Line, Watch
from gatepost.transcript import Transcript, reply_class

__all__ = ["Conversation"]

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue")
_ARROWS = {"C": "<", "D": "<", "S": ">", "*": "*"}
_STYLES = {"C": "bold", "D": "", "*": "dim"}
_REPLY_STYLES = {"2": "green", "3": "green", "4": "yellow", "5": "red"}


class Conversation:
    """Prints what is said; each session has a colour of its own."""

    def __init__(self, output: TextIO, *, lines: int) -> None:
        self._console = Console(file=output, highlight=False, soft_wrap=True)
        self._lines_limit = lines
        self._open: dict[str, tuple[Transcript, str]] = {}
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
        if line.session_id not in self._open:
            colour = _COLOURS[self._count % len(_COLOURS)]
            self._open[line.session_id] = Transcript(data_lines=self._lines_limit), colour
            self._count += 1
        transcript, colour = self._open[line.session_id]
        for direction, text in transcript.texts(line):
            self._print(line, direction, text, colour)
        if line.direction == "*" and line.data.startswith(b"closed"):
            del self._open[line.session_id]

    def _print(self, line: Line, direction: Direction, text: str, colour: str) -> None:
        clock = line.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
        self._console.print(
            Text.assemble(
                (f"{clock} ", "dim"),
                (f"{line.session_id[-5:]} ", colour),
                (f"{_ARROWS[direction]} ", colour),
                (text, _style(direction, text)),
            )
        )


def _style(direction: Direction, text: str) -> str:
    if direction == "S":
        return _REPLY_STYLES.get(reply_class(text), "")
    return _STYLES[direction]
