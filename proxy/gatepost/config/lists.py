"""``lists``: text files of entries, and the expansion of ``$name``."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gatepost.config.document import Document, Location, read_text
from gatepost.config.problems import ConfigError, Mark, Problem, did_you_mean, shown

__all__ = ["LIST_NAME", "ListedText", "Lists", "entries_of", "uses_of_list"]

LIST_NAME = r"[A-Za-z][A-Za-z0-9_-]{0,63}"
_REFERENCE = re.compile(rf"\$({LIST_NAME})", re.ASCII)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_LARGEST = 16 << 20

Entry = tuple[str, Mark]


class ListedText(str):
    """An entry of a list, as text that knows its list: a hit says where its entry is."""

    __slots__ = ("list_name",)
    list_name: str

    @classmethod
    def of(cls, text: str, list_name: str) -> "ListedText":
        """The entry of that list."""
        made = cls(text)
        made.list_name = list_name
        return made


class Lists:
    """The lists of a settings file; `problems` has the errors in them and in references to them."""

    def __init__(self, document: Document, base: Path) -> None:
        self._document = document
        self._base = base
        named = document.at(("lists",))
        self._paths: dict[str, str] = {
            name: path
            for name, path in (named.items() if isinstance(named, dict) else ())
            if isinstance(path, str) and re.fullmatch(LIST_NAME, name, re.ASCII)
        }
        self._read: dict[str, list[Entry]] = {}
        self.problems: list[Problem] = []
        for name in self._paths:
            self._read[name] = self._entries(name)

    def expand(self, location: Location, text: str) -> list[Entry] | str:
        """The entries for ``$name`` if the location allows a list, else the text itself."""
        if not _takes_lists(location):
            return text
        if text.startswith("$$"):
            return text[1:]
        found = _REFERENCE.fullmatch(text)
        if not found:
            return text
        if found[1] not in self._read:
            known = ", ".join(f"${name}" for name in self._read) or "a name from the section lists"
            hint = did_you_mean(found[1], list(self._read))
            self.problems.append(self._document.problem(location, f"unknown list {shown(text)}{hint}", known))
            return []
        return self._read[found[1]]

    def _entries(self, name: str) -> list[Entry]:
        path = self._base / self._paths[name]
        try:
            lines = read_text(path, largest=_LARGEST).splitlines()
        except ConfigError as error:
            (problem,) = error.problems
            if problem.line:  # the file is there, but it is not text
                self.problems.append(problem)
            else:
                what = f"list {shown(name)}: {self._paths[name]} {problem.what}"
                self.problems.append(self._document.problem(("lists", name), what, "a text file of entries"))
            return []
        return [(ListedText.of(entry, name), Mark(path, number, 1)) for number, entry in entries_of(lines)]


def entries_of(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The entries in the lines of a list file, with the number of each line, without comments."""
    for number, line in enumerate(lines, 1):
        if entry := _COMMENT.sub("", line).strip():
            yield number, entry


def uses_of_list(data: Any, name: str) -> Iterator[tuple[Location, str]]:
    """Where ``$name`` is in the data of a settings file, and the key of the condition or setting there."""

    def inside(value: Any, place: Location, key: str) -> Iterator[tuple[Location, str]]:
        if isinstance(value, dict):
            for inner, one in value.items():
                yield from inside(one, (*place, inner), inner)
        elif isinstance(value, list):
            for number, one in enumerate(value):
                yield from inside(one, (*place, number), key)
        elif value == f"${name}" and _takes_lists(place):
            yield place, key

    return inside(data, (), "")


def _takes_lists(location: Location) -> bool:
    match location:
        case ("rules", int(), "when" | "with", *_):
            return True
        case ("relay", int(), "recipients" | "clients", *_):
            return True
        case _:
            return False
