"""``include`` in ``rules``: the rules of other files, at the place of the include."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from gatepost.config.document import Document, node_mark, read_root
from gatepost.config.problems import ConfigError, Mark, Problem, shown

__all__ = ["Includes"]

_EXPECTED = "a file of rules, or files of one folder like domains/*.yaml"


class Includes:
    """A settings file, with the rules of the files that it includes."""

    def __init__(self, document: Document, folder: Path) -> None:
        """Read the files, whose names are relative to the folder.

        Raises ConfigError if there are too many values in all of them together.
        """
        self._folder = folder
        self._read: dict[Path, int] = {}
        """Files, and the line of the include that has read each."""
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        root = document.root
        if isinstance(root, yaml.MappingNode):
            entries = [
                (key, self._spliced(value) if _is(key, "rules") else value) for key, value in root.value
            ]
            if entries != root.value:
                root = yaml.MappingNode(root.tag, entries, root.start_mark, root.end_mark)
        self.document = document if root is document.root else document.with_root(root)
        """The settings with the included rules in the place of each include."""

    def _spliced(self, rules: yaml.Node) -> yaml.Node:
        if not isinstance(rules, yaml.SequenceNode) or not any(map(_include_key, rules.value)):
            return rules
        entries: list[yaml.Node] = []
        for entry in rules.value:
            key = _include_key(entry)
            entries += [entry] if key is None else self._included(entry, key)
        return yaml.SequenceNode(rules.tag, entries, rules.start_mark, rules.end_mark)

    def _included(self, entry: yaml.MappingNode, key: yaml.Node) -> list[yaml.Node]:
        """The rules of the files that one include names."""
        for other, _ in entry.value:
            if other is not key:
                what = f"the key {shown(other.value)} beside include"
                self.problems.append(Problem.at(node_mark(other), what, "include alone"))
                return []
        wanted = entry.value[0][1]
        mark = node_mark(wanted)
        if not isinstance(wanted, yaml.ScalarNode):
            self.problems.append(Problem.at(mark, "include: a list or a mapping", _EXPECTED))
            return []
        if not wanted.value or "\0" in wanted.value:
            self.problems.append(Problem.at(mark, f"include: {shown(wanted.value)}", _EXPECTED))
            return []
        return [rule for file in self._files(wanted.value, mark) for rule in self._rules_of(file, mark)]

    def _files(self, pattern: str, mark: Mark) -> list[Path]:
        """The files that match, by name; ``*`` never matches the dot of a hidden file."""
        wanted = self._folder / pattern
        if "*" in str(Path(pattern).parent):
            self.problems.append(
                Problem.at(mark, f"{shown(pattern)} has a * in the name of a folder", _EXPECTED)
            )
            return []
        if "*" not in wanted.name:
            return [wanted]
        matches = re.compile(".*".join(map(re.escape, wanted.name.split("*"))), re.DOTALL).fullmatch
        try:
            names = sorted(path.name for path in wanted.parent.iterdir())
        except OSError as error:
            what = f"include: the folder {shown(wanted.parent)} cannot be read: {error.strerror}"
            self.problems.append(Problem.at(mark, what, "a folder of files with rules"))
            return []
        names = [name for name in names if matches(name) and (wanted.name[0] == "." or name[0] != ".")]
        if not names:
            self.warnings.append(Problem.at(mark, f"include: no file matches {shown(pattern)}"))
        return [wanted.parent / name for name in names]

    def _rules_of(self, file: Path, mark: Mark) -> Iterator[yaml.Node]:
        if file in self._read:
            what = f"include: {shown(file)} is included in line {self._read[file]} already"
            self.problems.append(Problem.at(mark, what, "each file once"))
            return
        self._read[file] = mark.line
        try:
            root = read_root(file, "a list of rules")
        except ConfigError as error:
            self.problems += [
                one if one.line else Problem.at(mark, f"include: {shown(file)} {one.what}", _EXPECTED)
                for one in error.problems
            ]
            return
        if not isinstance(root, yaml.SequenceNode):
            what = "a mapping" if isinstance(root, yaml.MappingNode) else shown(root.value)
            expected = "a list of rules, each beginning with a dash"
            self.problems.append(Problem.at(node_mark(root), what, expected))
            return
        for rule in root.value:
            if (key := _include_key(rule)) is not None:
                what = "an include in an included file"
                self.problems.append(Problem.at(node_mark(key), what, "rules alone"))
            else:
                yield rule


def _is(node: yaml.Node, text: str) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == text


def _include_key(entry: yaml.Node) -> yaml.Node | None:
    if not isinstance(entry, yaml.MappingNode):
        return None
    return next((key for key, _ in entry.value if _is(key, "include")), None)
