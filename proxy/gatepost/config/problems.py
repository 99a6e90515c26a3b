"""Errors in a settings file: the place, what was found and what was expected."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from gatepost.printable import printable
from gatepost.values import value

__all__ = ["PREFIX", "ConfigError", "Mark", "Problem", "did_you_mean", "in_order", "shown"]

PREFIX: Final = "GATEPOST_SET_"
"""Begins the name of a variable that is a setting; no command has the name ``set``."""

_MOST_SHOWN = 50
"""Problems shown in one error; more are usually one mistake many times."""


class Mark(NamedTuple):
    """A place in a file; lines and columns count from 1, line 0 is the file as a whole."""

    path: Path
    line: int = 0
    column: int = 0

    @property
    def variable(self) -> str:
        """The name of the variable of the environment, if it is no file; else empty."""
        return str(self.path) if str(self.path).startswith(PREFIX) else ""


@value
class Problem:
    """One mistake in the settings."""

    path: Path
    line: int = 0
    """From 1; 0: the file as a whole."""
    column: int = 0
    """From 1."""
    what: str
    """What was found."""
    expected: str = ""
    """What was expected there; empty if ``what`` is enough."""

    @classmethod
    def at(cls, mark: Mark, what: str, expected: str = "") -> "Problem":
        """A problem at a mark."""
        return cls(path=mark.path, line=mark.line, column=mark.column, what=what, expected=expected)

    def __str__(self) -> str:
        """One line: ``rules.yaml:12:5: unknown key 'filtr', expected ...``."""
        place = f"{self.path}:{self.line}:{self.column}" if self.line else f"{self.path}"
        expected = f", expected {self.expected}" if self.expected else ""
        line = " ".join(f"{place}: {self.what}{expected}".split())
        return printable(line, mark="?")


class ConfigError(Exception):
    """The settings cannot be used; `problems` has all errors in them, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = in_order(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        """One line for each problem."""
        return "\n".join(map(str, self.problems))


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort by file and line and remove duplicates; a long list is cut and its rest counted."""
    found = sorted(set(problems), key=lambda p: (str(p.path), p.line, p.column, p.what))
    if len(found) <= _MOST_SHOWN:
        return tuple(found)
    rest = Problem(path=found[-1].path, what=f"{len(found) - _MOST_SHOWN} more problems")
    return (*found[:_MOST_SHOWN], rest)


def shown(value: Any) -> str:
    """A short description of a value from the file: ``'abc'``, ``a list``, ``nothing``."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str() | Path():
            text = str(value)
            return repr(text if len(text) <= 60 else text[:57] + "...")
        case int() | float():
            return str(value)
        case dict():
            return "a mapping" if value else "an empty mapping"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case _:
            return repr(str(value)[:60])


def did_you_mean(found: str, known: Sequence[str]) -> str:
    """Return `` (did you mean 'filter'?)`` if a known name is similar, else an empty text."""
    close = difflib.get_close_matches(found[:100], known, n=1, cutoff=0.7)
    return f" (did you mean {close[0]!r}?)" if close else ""
