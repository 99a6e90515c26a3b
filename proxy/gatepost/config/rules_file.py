"""rules.yaml -> `Config`, with the line and column of every setting for those who find more wrong with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from gatepost.config.document import Document, Location, read_document
from gatepost.config.lists import Lists
from gatepost.config.problems import ConfigError, Problem, in_order, shown
from gatepost.config.settings import Config
from gatepost.config.unmatchable import unmatchable
from gatepost.config.validation import problems_of

__all__ = ["LoadedConfig", "load"]


_NO_FILE = Document(path=Path("(settings)"), root=yaml.MappingNode("", []), data={})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """Settings, and where they came from."""

    config: Config
    base: Path = Path()
    """The folder of rules.yaml: relative paths in it start there."""
    document: Document = _NO_FILE
    """The data as written, lists put in, with the place of every value."""
    warnings: tuple[Problem, ...] = ()
    """What may be used and is most likely not meant, in the file's order."""

    def problem(self, location: Location, what: str, expected: str = "") -> Problem:
        """A problem at the line and column of a setting."""
        return self.document.problem(location, what, expected)


def load(path: Path) -> LoadedConfig:
    """Read and check a settings file; raises ConfigError with all that is wrong with it."""
    base = path.absolute().parent
    written = read_document(path)
    if not isinstance(written.data, dict):
        raise ConfigError([written.problem((), shown(written.data), "a mapping of settings")])
    lists = Lists(written, base)
    document = written.expanded(lists.expand)
    problems = [*lists.problems, *_repeated(document)]
    data = {"store": {}, **document.data}
    try:
        config = Config.model_validate(data, context={"base": base})
    except ValidationError as error:
        raise ConfigError([*problems, *problems_of(error, document, Config)]) from error
    problems += _contradictions(config, document)
    if problems:
        raise ConfigError(problems)
    return LoadedConfig(config=config, base=base, document=document, warnings=in_order(unmatchable(document)))


def _repeated(document: Document) -> Iterator[Problem]:
    """Names of rules that another rule has too."""
    rules = document.at(("rules",))
    lines: dict[str, int] = {}
    for number, rule in enumerate(rules if isinstance(rules, list) else ()):
        name = rule.get("name") if isinstance(rule, dict) else None
        if not isinstance(name, str):
            continue
        location = ("rules", number, "name")
        line = lines.setdefault(name, document.mark(location).line)
        if line != document.mark(location).line:
            yield document.problem(location, f"the name {shown(name)} is taken by the rule in line {line}")


def _contradictions(config: Config, document: Document) -> Iterator[Problem]:
    """Settings that are right each, but not together."""
    relays = any(not isinstance(route.to, str) for route in config.relay)
    taken: set[str] = set()
    places: list[tuple[Location, str]] = [
        (("listen", number, "address"), one.address) for number, one in enumerate(config.listen)
    ]
    if config.web:
        places.append((("web", "address"), config.web.address))
    for place, address in places:
        if address in taken and not address.endswith(":0"):
            yield document.problem(place, f"the address {shown(address)} is listened on already")
        taken.add(address)
    for number, listener in enumerate(config.listen):
        place = ("listen", number, "auth")
        if listener.auth is None:
            continue
        if listener.auth.users == "any" and relays:
            what = "users: any lets everybody relay"
            yield document.problem((*place, "users"), what, "a file of users, or no route to a server")
        if listener.tls is None and not listener.auth.without_tls:
            what = "AUTH is offered over TLS only, and this listener has none"
            yield document.problem(place, what, "a section tls, or without_tls: true")
