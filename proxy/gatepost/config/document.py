"""A YAML file -> plain data, and the line and column of every value in it.

Gatepost reads YAML's 1.2 core schema, bounded: of plain scalars only ``true``, ``false``, ``null`` and
decimal numbers are anything else than text. So ``no``, ``on``, ``12:30``, ``0o17``, ``0x1F`` and dates
stay what was written.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gatepost.config.problems import ConfigError, Mark, Problem, shown

__all__ = ["Document", "Location", "read_document", "read_text"]

Location = tuple[str | int, ...]
"""Keys and list positions from the top of the document to a value."""

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LARGEST = 1 << 20
_DEEPEST = 32
_MOST_VALUES = 200_000
"""Values after aliases are followed, so that aliases of aliases cannot fill the memory."""

_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"null|Null|NULL|~|")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})?\.[0-9]{1,17}", re.ASCII)
_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


class _CoreLoader(_Loader):  # type: ignore[misc]  # the C loader has no types
    """Gives every plain scalar as text; `_scalar` decides what it is."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML reads this class attribute)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A settings file, read."""

    path: Path
    root: yaml.Node
    data: Any
    """Made of dict, list, str, int, float, bool and None; the keys of a dict are text."""
    values: dict[Location, Mark] = field(default_factory=dict)
    """Where each value begins."""
    keys: dict[Location, Mark] = field(default_factory=dict)
    """Where each key of a mapping stands."""

    def expanded(self, expand: "Expand") -> "Document":
        """The same with its texts replaced by what they stand for; raises ConfigError."""
        return _Construction(self.path, expand).document(self.root)

    def mark(self, location: Location, *, key: bool = False) -> Mark:
        """Where a value (or its key) stands, or the nearest value around it that the file has.

        Parts of the location that the file does not have are passed over.
        """
        known: Location = ()
        for part in location:
            if (*known, part) in self.values:
                known = (*known, part)
        marks = self.keys if key and known in self.keys else self.values
        return marks.get(known, Mark(self.path, 1, 1))

    def problem(self, location: Location, what: str, expected: str = "", *, key: bool = False) -> Problem:
        """A problem at the value's (or its key's) line and column."""
        return Problem.at(self.mark(location, key=key), what, expected)

    def at(self, location: Location) -> Any:
        """The value there; None where the file has none."""
        value = self.data
        for part in location:
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                return None
        return value


Expand = Callable[[Location, str], list[tuple[str, Mark]] | str]
"""What a text at a location stands for: entries of a list, or a text."""


def read_text(path: Path, *, largest: int = _LARGEST) -> str:
    """The text of a UTF-8 file of at most ``largest`` octets; raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError([Problem(path=path, what=f"cannot be read: {reason}")]) from error
    except ValueError as error:  # a NUL in the path
        raise ConfigError([Problem(path=path, what=f"cannot be read: {error}")]) from error
    if len(content) > largest:
        raise ConfigError([Problem(path=path, what=f"larger than {largest >> 20} MiB")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        problem = Problem(path=path, line=line, column=column, what="not UTF-8 text", expected="UTF-8")
        raise ConfigError([problem]) from error


def read_document(path: Path) -> Document:
    """Read a YAML file; raises ConfigError if it cannot be read, is no YAML or is beyond its bounds."""
    text = read_text(path)
    try:
        _check_depth(path, text)
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.YAMLError as error:
        raise ConfigError([_yaml_problem(path, text, error)]) from error
    if root is None or (isinstance(root, yaml.ScalarNode) and root.value == ""):
        raise ConfigError(
            [Problem(path=path, line=1, column=1, what="the file is empty", expected="settings")]
        )
    return _Construction(path, None).document(root)


def _check_depth(path: Path, text: str) -> None:
    """Composing is recursive in C and would end the process; the events are not."""
    depth = 0
    for event in yaml.parse(text, Loader=_CoreLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise ConfigError([Problem.at(_mark(path, event), f"nested more than {_DEEPEST} deep")])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _mark(path: Path, what: Any) -> Mark:
    return Mark(path, what.start_mark.line + 1, what.start_mark.column + 1)


def _yaml_problem(path: Path, text: str, error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        line, column = error.problem_mark.line, error.problem_mark.column
        lines = text.splitlines()
        if line < len(lines) and lines[line][column : column + 1] == "\t":
            what, expected = "a tab in the indentation", "spaces"
        else:
            context = f" {error.context}" if error.context else ""
            what, expected = f"not YAML: {error.problem}{context}", ""
        return Problem(path=path, line=line + 1, column=column + 1, what=what, expected=expected)
    position = getattr(error, "position", 0)
    before = text[:position]
    line, column = before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
    return Problem(path=path, line=line, column=column, what="not YAML: a control character", expected="text")


class _Construction:
    """Nodes -> data, with every problem collected."""

    def __init__(self, path: Path, expand: Expand | None) -> None:
        self._path = path
        self._expand = expand
        self._values: dict[Location, Mark] = {}
        self._keys: dict[Location, Mark] = {}
        self._problems: list[Problem] = []
        self._left = _MOST_VALUES

    def document(self, root: yaml.Node) -> Document:
        data = self._value(root, ())
        if self._problems:
            raise ConfigError(self._problems)
        return Document(path=self._path, root=root, data=data, values=self._values, keys=self._keys)

    def _mark(self, node: yaml.Node) -> Mark:
        return _mark(self._path, node)

    def _value(self, node: yaml.Node, location: Location) -> Any:
        self._values[location] = mark = self._mark(node)
        self._left -= 1
        if self._left < 0 or len(location) > _DEEPEST:
            raise ConfigError(
                [*self._problems, Problem.at(mark, f"more than {_MOST_VALUES:,} values, aliases followed")]
            )
        if node.tag not in _TAGS:
            self._problems.append(Problem.at(mark, f"the tag {shown(node.tag)}", "a value without a tag"))
            return None
        match node:
            case yaml.MappingNode():
                return self._mapping(node, location)
            case yaml.SequenceNode():
                return self._sequence(node, location)
            case yaml.ScalarNode():
                value = _scalar(node)
                return self._expanded(value, location) if isinstance(value, str) else value
            case _:
                raise TypeError(f"a YAML node of an unknown kind: {node!r}")

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = self._mark(key_node)
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                what = f"the key {shown(key_node.value)}" if key is not None else "a key that is no text"
                self._problems.append(Problem.at(mark, what, "text (write it in quotes)"))
                continue
            if key in data:
                first = self._keys[*location, key].line
                self._problems.append(
                    Problem.at(mark, f"duplicate key {shown(key)}", f"it once (see line {first})")
                )
                continue
            self._keys[*location, key] = mark
            data[key] = self._value(value_node, (*location, key))
        return data

    def _sequence(self, node: yaml.SequenceNode, location: Location) -> list[Any]:
        data: list[Any] = []
        for item in node.value:
            here = (*location, len(data))
            value = self._value(item, here)
            if isinstance(item, yaml.ScalarNode) and isinstance(value, list):  # a list's name: its entries
                for number in range(len(value)):
                    self._values[*location, len(data) + number] = self._values.pop((*here, number))
                data.extend(value)
            else:
                data.append(value)
        return data

    def _expanded(self, value: str, location: Location) -> str | list[str]:
        if any("\ud800" <= character <= "\udfff" for character in value):
            self._problems.append(Problem.at(self._values[location], "half a surrogate pair", "text"))
        if self._expand is None:
            return value
        meant = self._expand(location, value)
        if isinstance(meant, str):
            return meant
        for number, (_, mark) in enumerate(meant):
            self._values[*location, number] = mark
        return [entry for entry, _ in meant]


def _scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    text: str = node.value
    if node.style in ("'", '"', "|", ">"):
        return text
    if _BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if _NULL.fullmatch(text):
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
