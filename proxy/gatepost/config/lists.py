"""``lists``: text files of entries, and what ``$name`` stands for."""

import re
from pathlib import Path

from gatepost.config.document import Document, Location, read_text
from gatepost.config.problems import ConfigError, Mark, Problem, did_you_mean, shown

__all__ = ["LIST_NAME", "Lists"]

LIST_NAME = r"[A-Za-z][A-Za-z0-9_-]{0,63}"
_REFERENCE = re.compile(rf"\$({LIST_NAME})", re.ASCII)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_LARGEST = 16 << 20

Entry = tuple[str, Mark]


class Lists:
    """The lists of a settings file, read; `problems` says what is wrong with them and with references."""

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
        """What a text at a location stands for: a list's entries where ``$name`` may stand, else the text."""
        if not _takes_lists(location):
            return text
        if text.startswith("$$"):
            return text[1:]
        found = _REFERENCE.fullmatch(text)
        if not found:
            return text
        if found[1] not in self._read:
            known = ", ".join(f"${name}" for name in self._read) or "a section lists: that names it"
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
            if problem.line:  # the file is there, but no text
                self.problems.append(problem)
            else:
                what = f"list {shown(name)}: {self._paths[name]} {problem.what}"
                self.problems.append(self._document.problem(("lists", name), what, "a text file of entries"))
            return []
        entries = ((_COMMENT.sub("", line).strip(), number) for number, line in enumerate(lines, 1))
        return [(entry, Mark(path, number, 1)) for entry, number in entries if entry]


def _takes_lists(location: Location) -> bool:
    match location:
        case ("rules", int(), "when" | "with", *_):
            return True
        case ("relay", int(), "recipients" | "clients", *_):
            return True
        case _:
            return False
