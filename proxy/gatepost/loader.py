"""An entry of ``rules`` -> filter class -> instance -> `Rule` (the only user of pluggy's PluginManager).

pluggy checks that a filter's hooks are hooks and ask for arguments that exist. It calls none of them:
it would not await, and could not say which rule a verdict came from.
"""

import dataclasses
import functools
import importlib.metadata
import inspect
import keyword
import os
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import pluggy
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from gatepost import hookspecs
from gatepost.config import ConfigError, LoadedConfig, Problem
from gatepost.config.problems import did_you_mean, shown
from gatepost.config.settings import RuleSettings
from gatepost.config.validation import problems_of
from gatepost.mail import Stage
from gatepost.rule import Hook, Rule

__all__ = [
    "FilterDescription",
    "FilterSetting",
    "describe_filters",
    "hooks_of",
    "known_filters",
    "load_rules",
    "make_filter",
]

_GROUP = "gatepost.filters"
_STAGES: Mapping[str, Stage] = MappingProxyType(
    {
        "filter_connect": Stage.CONNECT,
        "filter_helo": Stage.HELO,
        "filter_mail": Stage.MAIL,
        "filter_rcpt": Stage.RCPT,
        "filter_message": Stage.MESSAGE,
    }
)
_REPORT = "report_transaction"
_HOOKS = (*_STAGES, _REPORT)
_LOCAL_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<name>\w+))?")
_FOREIGN_FAULT = (Exception, SystemExit)
"""What code of others may raise while it is imported or constructed."""


class _FilterError(ValueError):
    """The filter cannot be used: what is wrong with it, and what was expected."""

    def __init__(self, what: str, expected: str = "") -> None:
        super().__init__(f"{what}; expected {expected}" if expected else what)
        self.what = what
        self.expected = expected


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSetting:
    """One key that a filter takes under ``with``."""

    name: str
    type: str
    """As in the filter's code, for example ``list[str]``."""
    required: bool
    default: Any = None
    """None where it is required."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterDescription:
    """An installed filter."""

    name: str
    where: str
    """``module:Class``."""
    distribution: str
    """The installed package and its version; empty where unknown."""
    summary: str = ""
    """The first line of the class's docstring."""
    settings: tuple[FilterSetting, ...] = ()
    problem: str = ""
    """Why it cannot be used; empty where it can."""


def load_rules(loaded: LoadedConfig) -> tuple[Rule, ...]:
    """Make the rules in their order; raises ConfigError with the problems of all of them."""
    finder = _Finder(loaded.base)
    rules: list[Rule] = []
    problems: list[Problem] = []
    for number, settings in enumerate(loaded.config.rules):
        try:
            rules.append(_rule(loaded, number, settings, finder))
        except _FilterError as error:
            problems.append(loaded.problem(("rules", number, "filter"), error.what, error.expected))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return tuple(rules)


def known_filters() -> dict[str, str]:
    """The installed filters' names, and where each stands as ``module:Class``; none is imported."""
    return {name: found[0].value for name, found in sorted(_entry_points().items())}


def describe_filters() -> tuple[FilterDescription, ...]:
    """All installed filters, imported; one that cannot be is there with its problem."""
    return tuple(_describe(name, found) for name, found in sorted(_entry_points().items()))


def _rule(loaded: LoadedConfig, number: int, settings: RuleSettings, finder: "_Finder") -> Rule:
    filter_class = finder.filter_class(settings.filter)
    instance = _instance(loaded, number, settings, filter_class)
    hooks = _hooks(instance, settings.filter)
    close = getattr(instance, "close", None)
    if inspect.iscoroutinefunction(close):
        raise _FilterError(f"close of filter {shown(settings.filter)} is async", "a plain def")
    return Rule(
        name=settings.name,
        hooks={stage: hooks[name] for name, stage in _STAGES.items() if name in hooks},
        report=hooks.get(_REPORT),
        when=settings.when,
        action=settings.action,
        reply=settings.reply,
        edits=settings.tag.edits if settings.tag else (),
        observe=settings.mode == "observe",
        on_error=settings.on_error,
        timeout_seconds=settings.timeout,
        close=close if callable(close) else None,
    )


# Where a filter is found


def _entry_points() -> dict[str, list[importlib.metadata.EntryPoint]]:
    """By name; more than one only where they differ."""
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for entry_point in importlib.metadata.entry_points(group=_GROUP):
        same = found.setdefault(entry_point.name, [])
        if entry_point.value not in (other.value for other in same):
            same.append(entry_point)
    return found


class _Finder:
    """Finds the classes of one settings file's filters: each, and what is installed, is looked for once."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._modules: dict[Path, ModuleType] = {}
        self._classes: dict[str, type[Any]] = {}

    @functools.cached_property
    def _installed(self) -> dict[str, list[importlib.metadata.EntryPoint]]:
        return _entry_points()  # milliseconds: it reads a file of every installed package

    def filter_class(self, name: str) -> type[Any]:
        """What a rule's ``filter`` names; raises _FilterError."""
        if name not in self._classes:
            self._classes[name] = self._found(name)
        return self._classes[name]

    def _found(self, name: str) -> type[Any]:
        if local := _LOCAL_FILE.fullmatch(name):
            return _local_class(local["path"], local["name"], self._base, self._modules)
        if name not in self._installed:
            choice = f"one of: {', '.join([*sorted(self._installed), './file.py:Class'])}"
            raise _FilterError(
                f"unknown filter {shown(name)}{did_you_mean(name, list(self._installed))}", choice
            )
        return _installed_class(name, self._installed[name])


def _installed_class(name: str, found: list[importlib.metadata.EntryPoint]) -> type[Any]:
    if len(found) > 1:
        places = " and ".join(entry_point.value for entry_point in found)
        raise _FilterError(f"more than one filter is called {shown(name)}: {places}")
    try:
        filter_class = found[0].load()
    except _FOREIGN_FAULT as error:
        raise _FilterError(f"filter {shown(name)} cannot be imported: {_words(error)}") from error
    return _checked_class(filter_class, name)


def _local_class(file: str, class_name: str | None, base: Path, modules: dict[Path, ModuleType]) -> type[Any]:
    path = Path(os.path.normpath(base.absolute() / file))
    if path not in modules:
        modules[path] = _local_module(file, path)
    members = vars(modules[path])
    if class_name is None or class_name not in members:
        classes = [key for key, value in members.items() if _is_made_in(value, modules[path])]
        what = f"no class {shown(class_name)} in {file}" if class_name else f"no class named after {file}"
        hint = did_you_mean(class_name or "", classes)
        raise _FilterError(what + hint, " or ".join(f"{file}:{name}" for name in classes) or f"{file}:Class")
    return _checked_class(members[class_name], f"{file}:{class_name}")


def _local_module(file: str, path: Path) -> ModuleType:
    """A module of its own for one file.

    It is compiled from its source each time, so that a reload sees what was edited, and nothing is
    written beside it.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise _FilterError(f"{file} cannot be loaded: {error.strerror or _words(error)}") from error
    except ValueError as error:  # a NUL in the path
        raise _FilterError(f"{file} cannot be loaded: {error}") from error
    name = f"gatepost_local_{path.stem}_{sha256(str(path).encode()).hexdigest()[:12]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(compile(source, str(path), "exec"), vars(module))  # noqa: S102 (the operator's own file)
    except _FOREIGN_FAULT as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise _FilterError(f"{file} cannot be loaded: {_words(error)}") from error
    return module


def _is_made_in(value: object, module: ModuleType) -> bool:
    return inspect.isclass(value) and value.__module__ == module.__name__


def _checked_class(found: Any, name: str) -> type[Any]:
    if not inspect.isclass(found):
        kind = "a function" if inspect.isroutine(found) else f"an instance of {type(found).__name__}"
        raise _FilterError(f"filter {shown(name)} is {kind}", "a class")
    return found


def _words(error: BaseException) -> str:
    """An exception's class and text, for the operator."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    return f"{type(error).__name__}: {_text(error)}"


def _text(error: BaseException) -> str:
    """What an exception says; its own ``__str__`` may fail."""
    try:
        return str(error)
    except _FOREIGN_FAULT:
        return "(its text cannot be shown)"


# What a filter takes under ``with``


def _parameters(filter_class: type[Any]) -> Iterator[tuple[str, inspect.Parameter, Any]]:
    """The key, the parameter and its annotation, for each setting of a filter."""
    hints = typing.get_type_hints(filter_class.__init__, include_extras=True)
    for parameter in inspect.signature(filter_class).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = hints.get(parameter.name, parameter.annotation)
        if isinstance(annotation, dataclasses.InitVar):
            annotation = annotation.type
        if annotation is inspect.Parameter.empty or isinstance(annotation, str):
            annotation = Any
        yield _key(parameter.name, annotation), parameter, annotation


def _key(parameter: str, annotation: Any) -> str:
    """The key of a parameter: its alias in the annotation, or its name, ``in`` for ``in_``."""
    for metadata in getattr(annotation, "__metadata__", ()):
        if isinstance(metadata, FieldInfo) and metadata.alias:
            return metadata.alias
    bare = parameter.removesuffix("_")
    return bare if keyword.iskeyword(bare) else parameter


@functools.lru_cache(maxsize=100)  # a thousand rules may ask few filters
def _settings_model(filter_class: type[Any]) -> tuple[type[BaseModel], dict[str, str]]:
    """A model of a constructor's parameters, and the parameter's name for each of its fields.

    Strict, over JSON: no text for a number, no number for text, but a list for a tuple or a set,
    text for a path or an enumeration's value.
    """
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    for number, (key, parameter, annotation) in enumerate(_parameters(filter_class)):
        field = f"setting_{number}"  # a parameter's own name may be one that pydantic needs
        names[field] = parameter.name
        required = parameter.default is inspect.Parameter.empty
        fields[field] = (annotation, Field(alias=key) if required else Field(default=None, alias=key))
    config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
    return create_model(filter_class.__name__, __config__=config, **fields), names


def make_filter(filter_class: type[Any], settings: Mapping[str, Any], name: str = "") -> object:
    """An instance of a filter with these settings, by their keys under ``with``.

    ``name`` is what a message calls it; without, the name of its class.

    Raises pydantic's ValidationError, a ValueError, for wrong settings, and what the constructor raises.
    """
    try:
        model, names = _settings_model(filter_class)  # type: ignore[arg-type]  # a class is hashable
    except (TypeError, ValueError, NameError, AttributeError, PydanticUserError) as error:
        what = f"the constructor of {shown(name or filter_class.__name__)}: {_words(error)}"
        raise _FilterError(what) from error
    given = model.model_validate_json(to_json(settings))
    made: object = filter_class(**{names[field]: getattr(given, field) for field in given.model_fields_set})
    return made


def _instance(loaded: LoadedConfig, number: int, settings: RuleSettings, filter_class: type[Any]) -> object:
    place = ("rules", number, "with")
    try:
        return make_filter(filter_class, settings.with_, settings.filter)
    except _FilterError:
        raise
    except ValidationError as error:
        model, _ = _settings_model(filter_class)  # type: ignore[arg-type]  # likewise
        raise ConfigError(problems_of(error, loaded.document, model, place)) from error
    except (ValueError, re.error) as error:
        raise ConfigError(
            [loaded.problem(place, f"filter {shown(settings.filter)}: {_text(error)}")]
        ) from error
    except _FOREIGN_FAULT as error:
        what = f"filter {shown(settings.filter)} could not be made: {_words(error)}"
        raise ConfigError([loaded.problem(place, what)]) from error


# What a filter implements


def hooks_of(instance: object) -> Mapping[Stage, Hook]:
    """The ``filter_*`` hooks that a filter implements; raises ValueError for what is none."""
    hooks = _hooks(instance, type(instance).__name__)
    return {stage: hooks[name] for name, stage in _STAGES.items() if name in hooks}


def _hooks(instance: object, name: str) -> dict[str, Hook]:
    manager = pluggy.PluginManager("gatepost")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(instance, name)
    except pluggy.PluginValidationError as error:
        raise _FilterError(f"filter {shown(name)}: {_text(error)}") from error
    except _FOREIGN_FAULT as error:
        raise _FilterError(f"filter {shown(name)} cannot be registered: {_words(error)}") from error
    hooks: dict[str, Hook] = {}
    for caller in manager.get_hookcallers(instance) or ():
        implementations = caller.get_hookimpls()
        if not caller.has_spec():
            if not all(implementation.optionalhook for implementation in implementations):
                hint = did_you_mean(caller.name, _HOOKS)
                what = f"filter {shown(name)} has an unknown hook {shown(caller.name)}{hint}"
                raise _FilterError(what, f"one of: {', '.join(_HOOKS)}")
            continue
        if len(implementations) > 1:
            raise _FilterError(f"filter {shown(name)} implements {caller.name} twice")
        hooks[caller.name] = _hook(implementations[0], f"{caller.name} of filter {shown(name)}")
    unmarked = [
        hook
        for hook in _HOOKS
        if hook not in hooks
        and callable(getattr(type(instance), hook, None))
        and getattr(instance, hook) is not None
    ]
    if unmarked:
        raise _FilterError(f"{unmarked[0]} of filter {shown(name)} is not marked", "@hookimpl before it")
    if not hooks:
        raise _FilterError(f"filter {shown(name)} has no hook", f"@hookimpl on one of: {', '.join(_HOOKS)}")
    return hooks


def _hook(implementation: pluggy.HookImpl, name: str) -> Hook:
    function: Callable[..., Any] = implementation.function
    if implementation.wrapper or implementation.hookwrapper:
        raise _FilterError(f"{name} is a wrapper", "a hook that returns a Verdict or None")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _FilterError(f"{name} yields", "a hook that returns a Verdict or None")
    return Hook(
        function=function,
        arguments=tuple(implementation.argnames),
        is_async=inspect.iscoroutinefunction(function),
    )


# What ``gatepost plugin list`` shows


def _describe(name: str, found: list[importlib.metadata.EntryPoint]) -> FilterDescription:
    distribution = found[0].dist
    described = FilterDescription(
        name=name,
        where=found[0].value,
        distribution=f"{distribution.name} {distribution.version}" if distribution else "",
    )
    try:
        filter_class = _installed_class(name, found)
        return dataclasses.replace(
            described,
            summary=(inspect.getdoc(filter_class) or "").partition("\n")[0],
            settings=tuple(_setting(filter_class, *of) for of in _parameters(filter_class)),
        )
    except _FilterError as error:
        return dataclasses.replace(described, problem=error.what)
    except (TypeError, ValueError, NameError) as error:
        return dataclasses.replace(described, problem=f"its constructor: {_words(error)}")


def _setting(
    filter_class: type[Any], key: str, parameter: inspect.Parameter, annotation: Any
) -> FilterSetting:
    required = parameter.default is inspect.Parameter.empty
    default = None if required else parameter.default
    if dataclasses.is_dataclass(filter_class):
        for field in dataclasses.fields(filter_class):
            if field.name == parameter.name and field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
    bare = annotation.__origin__ if hasattr(annotation, "__metadata__") else annotation  # of Annotated
    type_name = inspect.formatannotation(bare).replace("typing.", "")
    return FilterSetting(name=key, type=type_name, required=required, default=default)
