"""Where settings come from: one YAML file, or those of a folder, and variables of the environment.

    GATEPOST_SET_STORE__URL=postgresql://gatepost@10.0.0.7/mail

A variable that begins with ``GATEPOST_SET_`` is a setting: behind that come the keys that lead to it, in
capitals, with two underscores between them. Its value is YAML, as behind the key in a file, and replaces what
the files have there.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from gatepost.config.document import Document, as_document, node_mark, read_root, root_of
from gatepost.config.problems import PREFIX, ConfigError, Problem, shown

__all__ = ["Sources", "folder_of", "read_settings"]

_BETWEEN: Final = "__"
_ENDS: Final = ".yaml"
_TEXT: Final = "tag:yaml.org,2002:str"
_MAPPING: Final = "tag:yaml.org,2002:map"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The settings of all places together."""

    document: Document
    problems: tuple[Problem, ...]
    """What is wrong with one of the places; the document does not have it."""


def folder_of(path: Path) -> Path:
    """The folder to which paths in the settings are relative."""
    return path if path.is_dir() else path.parent


def read_settings(path: Path, environ: Mapping[str, str] = os.environ) -> Sources:
    """Read a settings file, or all files ``*.yaml`` of a folder, and then the variables.

    Raises ConfigError if a file cannot be read or is not YAML, or if there are too many values.
    """
    problems: list[Problem] = []
    root = _folder(path, environ, problems) if path.is_dir() else read_root(path, "settings")
    for name in sorted(environ, key=lambda name: (name.count(_BETWEEN), name)):  # a section before its keys
        if name.startswith(PREFIX) and isinstance(root, yaml.MappingNode):
            root = _with_variable(root, name, environ[name], problems)
    return Sources(document=as_document(path, root), problems=tuple(problems))


def _folder(path: Path, environ: Mapping[str, str], problems: list[Problem]) -> yaml.Node:
    """The sections of all files, each of which one file has."""
    try:
        names = sorted(one.name for one in path.iterdir() if not one.name.startswith("."))
    except OSError as error:
        raise ConfigError([Problem(path=path, what=f"cannot be read: {error.strerror}")]) from error
    files = [path / name for name in names if name.endswith(_ENDS)]
    if not files and not any(name.startswith(PREFIX) for name in environ):
        raise ConfigError(
            [Problem(path=path, what="a folder without settings", expected="files *.yaml in it")]
        )
    problems += [
        Problem(path=path / name, what="is not read", expected="a name that ends with .yaml")
        for name in names
        if name.endswith(".yml")
    ]
    sections: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for file in files:
        if file.is_fifo():  # it might never end
            problems.append(Problem(path=file, what="is a pipe", expected="a file"))
            continue
        root = read_root(file, "settings")
        if not isinstance(root, yaml.MappingNode):
            what = "a list" if isinstance(root, yaml.SequenceNode) else shown(root.value)
            problems.append(Problem.at(node_mark(root), what, "a mapping of settings"))
            continue
        for key, value in root.value:
            first, _ = sections.setdefault(str(key.value), (key, value))
            if first is not key:
                there = node_mark(first)
                what = f"{shown(key.value)} is in {there.path}:{there.line} already"
                problems.append(Problem.at(node_mark(key), what, "each section in one file"))
    mark = yaml.Mark(str(path), 0, 0, 0, None, 0)
    return yaml.MappingNode(_MAPPING, [*sections.values()], mark, mark)


def _with_variable(root: yaml.MappingNode, name: str, text: str, problems: list[Problem]) -> yaml.MappingNode:
    keys = name.removeprefix(PREFIX).lower().split(_BETWEEN)
    if _SURROGATE.search(name + text):  # what Python makes of bytes that are no UTF-8
        problems.append(Problem(path=Path(name), what="not UTF-8 text", expected="UTF-8"))
        return root
    if not all(keys):
        what = "not the name of a setting"
        problems.append(Problem(path=Path(name), what=what, expected=f"one like {PREFIX}STORE__URL"))
        return root
    if name != name.upper():  # else two variables might be one setting
        problems.append(Problem(path=Path(name), what="small letters", expected=name.upper()))
        return root
    if number := next((key for key in keys if key.isdecimal()), None):
        whole = name.partition(f"{_BETWEEN}{number}")[0]
        what = f"the number {number} among the keys"
        expected = f"{whole} as a whole: a variable does not reach into a list"
        problems.append(Problem(path=Path(name), what=what, expected=expected))
        return root
    if not text.strip():
        problems.append(Problem(path=Path(name), what="is empty", expected="a value, or no such variable"))
        return root
    try:
        value = root_of(text, Path(name), "a value")
        return _with_value(root, keys, value, name)
    except ConfigError as error:
        problems += error.problems
        return root


def _with_value(node: yaml.MappingNode, keys: list[str], value: yaml.Node, name: str) -> yaml.MappingNode:
    """The mapping with the value at these keys; the others keep their marks."""
    key, *rest = keys
    before = next((entry for entry in node.value if entry[0].value == key), None)
    if rest:
        section = before[1] if before else yaml.MappingNode(_MAPPING, [], value.start_mark, value.end_mark)
        if not isinstance(section, yaml.MappingNode):
            there = node_mark(section)
            kind = "a list" if isinstance(section, yaml.SequenceNode) else "no section"
            whole = name.removesuffix(_BETWEEN.join(["", *rest]).upper())
            raise ConfigError(
                [
                    Problem(
                        path=Path(name),
                        what=f"{key} in {there.path}:{there.line} is {kind}",
                        expected=f"{key} as a section with keys there, or {whole} as a whole",
                    )
                ]
            )
        value = _with_value(section, rest, value, name)
    at = before[0] if before else yaml.ScalarNode(_TEXT, key, value.start_mark, value.end_mark)
    entries = [(at, value) if entry is before else entry for entry in node.value]  # a duplicate is reported
    entries += [] if before else [(at, value)]
    return yaml.MappingNode(node.tag, entries, node.start_mark, node.end_mark)
