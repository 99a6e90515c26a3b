"""The raw SMTP conversation on a terminal."""

from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.text import Text

from gatepost.traffic.events import Closed, Direction, Event, Odd, moment
from gatepost.traffic.transcript import Transcript, reply_class
from gatepost.traffic.watching import Watch

__all__ = ["Conversation"]

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue")
_ARROWS = {"C": "<", "D": "<", "S": ">", "*": "*"}
_STYLES = {"C": "bold", "D": "", "*": "dim"}
_REPLY_STYLES = {"2": "green", "3": "green", "4": "yellow", "5": "red"}


class Conversation:
    """Prints conversations, each session in its own colour."""

    def __init__(self, output: TextIO, *, lines: int) -> None:
        self._console = Console(file=output, highlight=False, soft_wrap=True)
        self._lines_limit = lines
        self._open: dict[str, tuple[Transcript, str]] = {}
        self._count = 0

    def follow(self, watch: Watch, stopped: Callable[[], bool]) -> None:
        """Print until it is stopped; runs in its own thread."""
        dropped = 0
        while True:
            last_round = stopped()
            for event in watch.take(0.2):
                self.show(event)
            if watch.dropped != dropped:
                missed = watch.dropped - dropped
                self._console.print(Text(f"({missed} lines not shown: the terminal is too slow)", "red"))
                dropped = watch.dropped
            if last_round:
                return

    def show(self, event: Event) -> None:
        """Print one event; of message data the lines as far as the limit goes."""
        if event.session_id not in self._open:
            colour = _COLOURS[self._count % len(_COLOURS)]
            self._open[event.session_id] = Transcript(data_lines=self._lines_limit), colour
            self._count += 1
        transcript, colour = self._open[event.session_id]
        meaning = f": the command {event.oddity.finding}" if isinstance(event, Odd) else ""
        for direction, text in transcript.texts(event):
            self._print(event, direction, text + meaning, colour)
        if isinstance(event, Closed):
            del self._open[event.session_id]

    def _print(self, event: Event, direction: Direction, text: str, colour: str) -> None:
        clock = moment(event.at).astimezone().strftime("%H:%M:%S.%f")[:-3]
        self._console.print(
            Text.assemble(
                (f"{clock} ", "dim"),
                (f"{event.session_id[-5:]} ", colour),
                (f"{_ARROWS[direction]} ", colour),
                (text, _style(direction, text)),
            )
        )


def _style(direction: Direction, text: str) -> str:
    if direction == "S":
        return _REPLY_STYLES.get(reply_class(text), "")
    return _STYLES[direction]
