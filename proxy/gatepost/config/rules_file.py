"""Load rules.yaml: a `Config`, and the line and column of every setting for later checks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gatepost.config.document import Document, Expand, Location
from gatepost.config.includes import Includes
from gatepost.config.lists import Lists
from gatepost.config.problems import ConfigError, Mark, Problem, in_order, shown
from gatepost.config.settings import Config
from gatepost.config.sources import folder_of, read_settings
from gatepost.config.unmatchable import unmatchable
from gatepost.config.validation import problems_of
from gatepost.values import value

__all__ = ["Examined", "LoadedConfig", "examine", "load"]

_FILTER_KEYS = frozenset({"name", "filter", "with"})
"""The keys of a rule that its filter is made of."""
_ROUNDS = 4

_NO_FILE = Document(path=Path("(settings)"), root=yaml.MappingNode("", []), data={})


@value
class LoadedConfig:
    """Settings, and the file or folder that they come from."""

    config: Config
    base: Path = Path()
    """The folder of rules.yaml, or the folder of settings, to which paths in them are relative."""
    document: Document = _NO_FILE
    """The data as written, with included rules, lists expanded, and the place of every value."""
    warnings: tuple[Problem, ...] = ()
    """Valid settings that are probably mistakes, in the order of the file."""

    def problem(self, location: Location, what: str, expected: str = "") -> Problem:
        """A problem at the line and column of a setting."""
        return self.document.problem(location, what, expected)


@value
class Examined:
    """What is wrong with a settings file, and what of it can be used all the same."""

    problems: tuple[Problem, ...]
    """In no particular order; empty if all of it can be used."""
    usable: LoadedConfig | None
    """The settings without the sections and entries that have problems; None if nothing can be used."""


def load(path: Path) -> LoadedConfig:
    """Read and check a settings file, or a folder of them; raises ConfigError with all its errors."""
    examined = examine(path)
    if examined.problems or examined.usable is None:
        raise ConfigError(examined.problems)
    return examined.usable


def examine(path: Path) -> Examined:
    """Read and check a settings file, or a folder of them, and go on after each mistake."""
    base = folder_of(path.absolute())
    try:
        sources = read_settings(path)
        included = Includes(sources.document, folder_of(path))
    except ConfigError as error:
        return Examined(problems=error.problems, usable=None)
    written = included.document
    if not isinstance(written.data, dict):
        problem = written.problem((), shown(written.data), "a mapping of settings")
        return Examined(problems=(*sources.problems, *written.problems, problem), usable=None)
    lists = Lists(written, base)
    document = written.expanded(lists.expand)
    problems = [
        *sources.problems,
        *document.problems,
        *included.problems,
        *lists.problems,
        *_repeated(document),
    ]
    warnings = in_order([*included.warnings, *unmatchable(document)])
    try:
        config = _validated(document, base)
    except ValidationError as error:
        known = {(problem.path, problem.line, problem.column) for problem in document.problems}
        found = problems_of(error, document, Config)
        problems += [one for one in found if (one.path, one.line, one.column) not in known]
        rest = _rest(document, lists.expand, base, error)
        if rest is None:
            return Examined(problems=tuple(problems), usable=None)
        config, document = rest
    problems += _contradictions(config, document)
    usable = LoadedConfig(config=config, base=base, document=document, warnings=warnings)
    return Examined(problems=tuple(problems), usable=usable)


def _validated(document: Document, base: Path) -> Config:
    return Config.model_validate({"store": {}, **document.data}, context={"base": base})


def _rest(
    document: Document, expand: Expand, base: Path, error: ValidationError
) -> tuple[Config, Document] | None:
    """The settings without what the errors are about, so that the rest can be checked; None: no rest."""
    for _ in range(_ROUNDS):
        without = {place for one in error.errors() for place in _left_out(one["loc"], document.data)}
        document = document.expanded(expand, without)
        try:
            return _validated(document, base), document
        except ValidationError as next_error:  # for example a key that the one left out belongs to
            error = next_error
    return None


def _left_out(location: Location, data: dict[str, Any]) -> Iterator[Location]:
    """What to leave out for a mistake at a location, so that the rest can be checked.

    Of a rule it is one key, or all keys but those of its filter; else an entry of a list, or a section.
    """
    section, *inside = location or ("",)
    entries = data.get(str(section))
    if not isinstance(entries, list) or not inside or not isinstance(inside[0], int):
        yield (section,)
        return
    number, keys = inside[0], inside[1:]
    rule = entries[number]
    others = rule.keys() - _FILTER_KEYS if section == "rules" and isinstance(rule, dict) else set()
    if keys and keys[0] in others:
        yield (section, number, keys[0])
    elif others and not keys:
        yield from ((section, number, key) for key in others)
    else:
        yield (section, number)


def _repeated(document: Document) -> Iterator[Problem]:
    """Rules with the name of an earlier rule."""
    rules = document.at(("rules",))
    marks: dict[str, Mark] = {}
    for number, rule in enumerate(rules if isinstance(rules, list) else ()):
        name = rule.get("name") if isinstance(rule, dict) else None
        if not isinstance(name, str):
            continue
        location = ("rules", number, "name")
        mark = document.mark(location)
        first = marks.setdefault(name, mark)
        if first != mark:
            where = "" if first.path == mark.path else f" of {first.path}"
            yield Problem.at(mark, f"the name {shown(name)} is already used in line {first.line}{where}")


def _contradictions(config: Config, document: Document) -> Iterator[Problem]:
    """Settings that are valid alone, but not together."""
    relays = any(route.servers for route in config.relay)
    if config.group and not config.user:
        yield document.problem(("group",), f"the group {shown(config.group)} without a user", "user too")
    taken: set[str] = set()
    places: list[tuple[Location, str]] = [
        (("listen", number, "address"), one.address) for number, one in enumerate(config.listen)
    ]
    if config.web:
        places.append((("web", "address"), config.web.address))
    for place, address in places:
        if address in taken and not address.endswith(":0"):
            yield document.problem(place, f"the address {shown(address)} is used twice")
        taken.add(address)
    names: set[str] = set()
    for number, rule in enumerate(config.rules):
        for name in sorted(rule.when.rules - names if rule.when else ()):
            what = f"hit asks for the rule {shown(name)}, which does not come before this one"
            yield document.problem(("rules", number, "when"), what, "the name of an earlier rule")
        names.add(rule.name)
    for number, listener in enumerate(config.listen):
        place = ("listen", number, "auth")
        if listener.auth is None:
            continue
        if listener.auth.users == "any" and relays:
            what = "users: any would let everybody relay"
            yield document.problem((*place, "users"), what, "a file of users, or no route to a server")
        if listener.tls is None and not listener.auth.without_tls:
            what = "AUTH is only offered over TLS, and this listener has no tls"
            yield document.problem(place, what, "a section tls, or without_tls: true")
