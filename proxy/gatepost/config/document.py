"""A YAML file -> plain data, and the line and column of every value in it.

Gatepost reads a subset of YAML's 1.2 core schema: only the plain scalars ``true``, ``false``, ``null`` and
decimal numbers are not text. So ``no``, ``on``, ``12:30``, ``0o17``, ``0x1F`` and dates are text as written.
"""

import io
import re
from collections.abc import Callable, Collection
from dataclasses import field
from pathlib import Path
from typing import Any

import yaml

from gatepost.config.problems import ConfigError, Mark, Problem, shown
from gatepost.values import value

__all__ = ["Document", "Expand", "Location", "as_document", "node_mark", "read_root", "read_text", "root_of"]

Location = tuple[str | int, ...]
"""Keys and list positions from the top of the document to a value."""

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LARGEST = 1 << 20
_DEEPEST = 32
_MOST_VALUES = 200_000
"""Values after aliases are followed, so that aliases of aliases cannot fill the memory."""

_PRUNED_DEPTH = 2
"""Lists below this depth are pruned as a whole: a list's name in them may stand for many entries."""

_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"null|Null|NULL|~|")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})?\.[0-9]{1,17}", re.ASCII)
_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


class _CoreLoader(_Loader):  # type: ignore[misc]  # the C loader has no types
    """Loads every plain scalar as text; `_scalar` decides what it is."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML reads this class attribute)


@value
class Document:
    """The content of a settings file, and of the files that it includes."""

    path: Path
    root: yaml.Node
    data: Any
    """Made of dict, list, str, int, float, bool and None; the keys of a dict are text."""
    values: dict[Location, Mark] = field(default_factory=dict)
    """Where each value begins."""
    keys: dict[Location, Mark] = field(default_factory=dict)
    """Where each key of a mapping begins."""
    problems: tuple[Problem, ...] = ()
    """What is YAML and still wrong, such as a duplicate key; `data` does not have it."""

    def expanded(self, expand: "Expand", without: Collection[Location] = ()) -> "Document":
        """The document with each text replaced by its expansion, and without some of its keys and entries."""
        root = _pruned(self.root, (), frozenset(without)) if without else self.root
        return _Construction(self.path, expand).document(root)

    def with_root(self, root: yaml.Node) -> "Document":
        """The document with another content, for example with that of included files."""
        return _Construction(self.path, None).document(root)

    def mark(self, location: Location, *, key: bool = False) -> Mark:
        """Where a value (or its key) begins; if the file does not have it, the nearest value around it.

        Parts of the location that the file does not have are skipped.
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
        """The value at the location; None if the file has none."""
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
"""Returns the expansion of a text at a location: the entries of a list, or a text."""


def read_text(path: Path, *, largest: int = _LARGEST) -> str:
    """Read a UTF-8 file of at most ``largest`` bytes; raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError([Problem(path=path, what=f"cannot be read: {reason}")]) from error
    except ValueError as error:  # a NUL in the path
        raise ConfigError([Problem(path=path, what=f"cannot be read: {error}")]) from error
    if len(content) > largest:
        raise ConfigError([Problem(path=path, what=f"is larger than {largest >> 20} MiB")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        problem = Problem(path=path, line=line, column=column, what="not UTF-8 text", expected="UTF-8")
        raise ConfigError([problem]) from error


def as_document(path: Path, root: yaml.Node) -> Document:
    """What is read from a file or a folder; raises ConfigError if it exceeds the bounds.

    Other problems are in `Document.problems`.
    """
    return _Construction(path, None).document(root)


def read_root(path: Path, expected: str) -> yaml.Node:
    """Read a YAML file as a tree of nodes; raises ConfigError if it cannot be read or is not YAML.

    Args:
        path: the file; the marks of its nodes have it too.
        expected: what an empty file should have.
    """
    return root_of(read_text(path), path, expected)


def root_of(text: str, path: Path, expected: str) -> yaml.Node:
    """A text in YAML as `read_root` reads it from a file; ``path`` is where it comes from."""
    stream = io.StringIO(text)
    stream.name = path  # PyYAML takes it for the marks
    try:
        _check_depth(path, text)
        root = yaml.compose(stream, Loader=_CoreLoader)
    except yaml.YAMLError as error:
        raise ConfigError([_yaml_problem(path, text, error)]) from error
    if root is None or (isinstance(root, yaml.ScalarNode) and root.value == ""):
        raise ConfigError([Problem(path=path, line=1, column=1, what="the file is empty", expected=expected)])
    return root


def node_mark(node: yaml.Node) -> Mark:
    """Where a node of `read_root` begins."""
    return _mark(Path(node.start_mark.name), node)


def _check_depth(path: Path, text: str) -> None:
    """Check the nesting depth first: composing is recursive in C and would crash; the events are not."""
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


def _is_name(key: yaml.Node) -> bool:
    """False for a list or a mapping as a key, at which no setting is."""
    return isinstance(key, yaml.ScalarNode)


def _pruned(node: yaml.Node, location: Location, without: frozenset[Location]) -> yaml.Node:
    """The node without what is at these locations; the rest keeps its marks."""
    if isinstance(node, yaml.MappingNode):
        entries = [
            (key, _pruned(value, (*location, key.value), without) if _is_name(key) else value)
            for key, value in node.value
            if not _is_name(key) or (*location, key.value) not in without
        ]
        return yaml.MappingNode(node.tag, entries, node.start_mark, node.end_mark)
    if isinstance(node, yaml.SequenceNode) and len(location) < _PRUNED_DEPTH:
        items = [
            _pruned(item, (*location, number), without)
            for number, item in enumerate(node.value)
            if (*location, number) not in without
        ]
        return yaml.SequenceNode(node.tag, items, node.start_mark, node.end_mark)
    return node


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
        return Document(
            path=self._path,
            root=root,
            data=data,
            values=self._values,
            keys=self._keys,
            problems=tuple(self._problems),
        )

    def _value(self, node: yaml.Node, location: Location) -> Any:
        self._values[location] = mark = node_mark(node)
        self._left -= 1
        if self._left < 0 or len(location) > _DEEPEST:
            raise ConfigError(
                [*self._problems, Problem.at(mark, f"more than {_MOST_VALUES:,} values, counting aliases")]
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
            mark = node_mark(key_node)
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                what = f"the key {shown(key_node.value)}" if key is not None else "a key that is not text"
                self._problems.append(Problem.at(mark, what, "text (write it in quotes)"))
                continue
            if key in data:
                first = self._keys[*location, key].line
                self._problems.append(
                    Problem.at(mark, f"duplicate key {shown(key)}", f"each key once (first in line {first})")
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
