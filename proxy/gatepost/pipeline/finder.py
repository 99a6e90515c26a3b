"""Find a filter's class: by the name of an entry point, or in the operator's own file."""

import functools
import importlib.metadata
import inspect
import os
import re
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from gatepost.config.problems import did_you_mean, shown
from gatepost.pipeline.faults import FOREIGN_FAULT, FilterError, described

__all__ = ["Finder", "installed_class", "installed_filters"]

_GROUP = "gatepost.filters"
_LOCAL_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<name>\w+))?")


def installed_filters() -> dict[str, list[importlib.metadata.EntryPoint]]:
    """The entry points of filters by name; a name has several only if they differ.

    Imports none of them. Takes milliseconds: it reads a file of every installed package.
    """
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for entry_point in importlib.metadata.entry_points(group=_GROUP):
        same = found.setdefault(entry_point.name, [])
        if entry_point.value not in (other.value for other in same):
            same.append(entry_point)
    return found


class Finder:
    """Finds the classes of one settings file's filters; each file and entry point is looked up once."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._modules: dict[Path, ModuleType] = {}
        self._classes: dict[str, type[Any]] = {}

    @functools.cached_property
    def _installed(self) -> dict[str, list[importlib.metadata.EntryPoint]]:
        return installed_filters()

    def filter_class(self, name: str) -> type[Any]:
        """The class that a rule's ``filter`` names; raises FilterError."""
        if name not in self._classes:
            self._classes[name] = self._found(name)
        return self._classes[name]

    def _found(self, name: str) -> type[Any]:
        if local := _LOCAL_FILE.fullmatch(name):
            return _local_class(local["path"], local["name"], self._base, self._modules)
        if name not in self._installed:
            choice = f"one of: {', '.join([*sorted(self._installed), './file.py:Class'])}"
            raise FilterError(
                f"unknown filter {shown(name)}{did_you_mean(name, list(self._installed))}", choice
            )
        return installed_class(name, self._installed[name])


def installed_class(name: str, found: list[importlib.metadata.EntryPoint]) -> type[Any]:
    """Import the class of an installed filter; raises FilterError."""
    if len(found) > 1:
        places = " and ".join(entry_point.value for entry_point in found)
        raise FilterError(f"more than one filter is called {shown(name)}: {places}")
    try:
        filter_class = found[0].load()
    except FOREIGN_FAULT as error:
        raise FilterError(f"filter {shown(name)} cannot be imported: {described(error)}") from error
    return _checked_class(filter_class, name)


def _local_class(file: str, class_name: str | None, base: Path, modules: dict[Path, ModuleType]) -> type[Any]:
    path = Path(os.path.normpath(base.absolute() / file))
    if path not in modules:
        modules[path] = _local_module(file, path, base)
    members = vars(modules[path])
    if class_name is None or class_name not in members:
        classes = [key for key, value in members.items() if _is_made_in(value, modules[path])]
        what = f"no class {shown(class_name)} in {file}" if class_name else f"no class named after {file}"
        hint = did_you_mean(class_name or "", classes)
        raise FilterError(what + hint, " or ".join(f"{file}:{name}" for name in classes) or f"{file}:Class")
    return _checked_class(members[class_name], f"{file}:{class_name}")


def _local_module(file: str, path: Path, base: Path) -> ModuleType:
    """A module of its own for one file.

    It is compiled from its source each time, so that a reload uses the edited file and no bytecode file is
    written beside it.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise FilterError(f"{file} cannot be loaded: {error.strerror or described(error)}") from error
    except ValueError as error:  # a NUL in the path
        raise FilterError(f"{file} cannot be loaded: {error}") from error
    name = f"gatepost_local_{path.stem}_{sha256(str(path).encode()).hexdigest()[:12]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    module.__package__ = ""  # of none: a relative import fails at once
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(compile(source, str(path), "exec"), vars(module))  # noqa: S102 (the operator's own file)
    except FOREIGN_FAULT as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise FilterError(f"{file} cannot be loaded: {described(error, base)}") from error
    return module


def _is_made_in(value: object, module: ModuleType) -> bool:
    return inspect.isclass(value) and value.__module__ == module.__name__


def _checked_class(found: Any, name: str) -> type[Any]:
    if not inspect.isclass(found):
        kind = "a function" if inspect.isroutine(found) else f"an instance of {type(found).__name__}"
        raise FilterError(f"filter {shown(name)} is {kind}", "a class")
    return found
