"""Changes to the files of ``lists`` by commands and the web desk: the list for an entry, and its line."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal

from gatepost.config.document import Document, read_text
from gatepost.config.includes import Includes
from gatepost.config.list_entries import ListEntry, covered_by, expected_by, same_entry
from gatepost.config.lists import entries_of, uses_of_list
from gatepost.config.rules_file import LoadedConfig
from gatepost.config.sources import folder_of, read_settings
from gatepost.file_changes import append_line, only_one, replace_text
from gatepost.printable import printable
from gatepost.values import value

__all__ = [
    "DEFAULT_LISTS",
    "ListChange",
    "ListError",
    "Verb",
    "add_entry",
    "list_for",
    "remove_entry",
    "used",
]

Verb = Literal["block", "allow"]
DEFAULT_LISTS = ("allowed-senders", "allowed-clients", "blocked-senders", "blocked-clients")
"""The lists that are changed unless another one is named."""
_LARGEST = 16 << 20
_AUTHOR_LIMIT = 100
_NOTE_LIMIT = 200
_EXAMPLE = """\
lists:
  {name}: {name}.txt
rules:
  - name: {name}
    filter: match
    when: {{{key}: ${name}}}
    action: {action}
"""


class ListError(Exception):
    """An entry has no list that could hold it; the text is for operators."""


@value
class ListChange:
    """What was done to a list file for one entry."""

    list_name: str
    path: Path
    entry: str
    done: Literal["added", "there", "removed", "missing"]
    """``there``: a line matches all of the entry already. ``missing``: no line is this entry."""
    line: int = 0
    """The line, from 1, that matches the entry without this change; 0: none."""
    text: str = ""
    """The entry in that line."""

    @property
    def succeeded(self) -> bool:
        """False if there was nothing to remove."""
        return self.done != "missing"

    def __str__(self) -> str:
        """One line for operators."""
        entry, other = printable(self.entry), f"{self.path}:{self.line}: {printable(self.text)}"
        match self.done:
            case "added":
                return f"{self.path}: added {entry}"
            case "there":
                return f"{other} is there already: {entry}"
            case "removed":
                return f"{self.path}: removed {entry}" + (f"; {other} still matches" if self.line else "")
            case "missing":
                why = f"; {other} matches it, remove that instead" if self.line else ""
                return f"{self.path}: no line is {entry}{why}"


def list_for(loaded: LoadedConfig, entry: ListEntry, verb: Verb, wanted: str | None = None) -> str:
    """The name of the list for an entry: the one that is wanted, else the default one.

    Raises ListError if there is no such list, if no rule or route uses it, or if it holds other entries.
    """
    name = wanted or f"{verb}ed-{entry.kind}"
    document = _written(loaded)
    there, uses = name in loaded.config.lists, [*uses_of_list(document.data, name)]
    if not there or not uses:
        what = f"no rule or route with ${name}" if there else f"no list {name!r}"
        key = "client" if entry.kind == "clients" else "sender"
        example = _EXAMPLE.format(name=name, key=key, action="reject" if verb == "block" else "accept")
        file = "" if there else f"\nand a file {name}.txt beside it, which may be empty"
        where = printable(str(document.path))
        raise ListError(f"{where} has {what}, expected for example\n{example}{file}".rstrip())
    if expected := expected_by([key for _, key in uses], entry):
        place, _ = uses[0]
        raise ListError(str(document.problem(place, f"{entry.text!r} is no entry for ${name}", expected)))
    return name


def used(loaded: LoadedConfig) -> frozenset[str]:
    """Those of `DEFAULT_LISTS` that a rule or a route uses."""
    data = _written(loaded).data
    return frozenset(
        name for name in DEFAULT_LISTS if name in loaded.config.lists and any(uses_of_list(data, name))
    )


def _written(loaded: LoadedConfig) -> Document:
    """The settings as they are written, without the entries of lists."""
    path = loaded.document.path
    return Includes(read_settings(path).document, folder_of(path)).document


def add_entry(
    loaded: LoadedConfig, name: str, entry: ListEntry, *, verb: Verb, author: str, note: str = ""
) -> ListChange:
    """Add a line to a list's file, unless a line matches all of the entry; raises OSError, ConfigError.

    The line has a comment with the day, the author and the note.
    """
    path = loaded.config.lists[name]
    with only_one(path) as real:
        if found := covered_by(entry, read_text(real, largest=_LARGEST).splitlines()):
            number, text = found
            return ListChange(
                list_name=name, path=path, entry=entry.text, done="there", line=number, text=text
            )
        remark = _one_line(note, _NOTE_LIMIT)
        day = f"{datetime.now().astimezone():%Y-%m-%d}"
        comment = f"# {day} {verb}ed by {_one_line(author, _AUTHOR_LIMIT)}{remark and f': {remark}'}"
        _of_list(path, lambda: append_line(real, f"{entry.text}  {comment}"))
    return ListChange(list_name=name, path=path, entry=entry.text, done="added")


def remove_entry(loaded: LoadedConfig, name: str, entry: ListEntry) -> ListChange:
    """Delete the lines of an entry from a list's file; raises OSError, ConfigError.

    Only lines that are this entry, in any spelling: one that matches more stays.
    """
    path = loaded.config.lists[name]
    with only_one(path) as real:
        lines = read_text(real, largest=_LARGEST).splitlines(keepends=True)
        gone = {number for number, text in entries_of(lines) if same_entry(entry, text)}
        left = [line for number, line in enumerate(lines, 1) if number not in gone]
        number, text = covered_by(entry, left) or (0, "")
        if gone:
            _of_list(path, lambda: replace_text(real, "".join(left)))
    return ListChange(
        list_name=name,
        path=path,
        entry=entry.text,
        done="removed" if gone else "missing",
        line=number,
        text=text,
    )


def _of_list(path: Path, write: Callable[[], None]) -> None:
    """Write; an OSError has the path of the list, not that of a temporary file."""
    try:
        write()
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error


def _one_line(text: str, limit: int) -> str:
    return printable(" ".join(text.split()))[:limit]
