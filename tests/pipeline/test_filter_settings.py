"""A filter's settings are read as its annotations say, however deep, and a mistake is named at its place."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, NotRequired, Required, TypedDict

import pytest
from gatepost import Bytes, Seconds, hookimpl
from gatepost.config import ConfigError, load
from gatepost.pipeline.filter_settings import make_filter
from gatepost.pipeline.loader import load_rules
from pydantic import BaseModel, Field, FilePath

Place = NewType("Place", Path)


@dataclass(frozen=True)
class Server:
    host: str
    port: int = 25
    ca: Path = Path("ca.pem")
    in_: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.port == 13:
            raise ValueError("13 is no port")


@dataclass(frozen=True)
class Local:
    kind: Literal["local"]
    file: Path


@dataclass(frozen=True)
class Remote:
    kind: Literal["remote"]
    port: int


class Options(TypedDict, total=False):
    file: Path
    limit: int


class Login(TypedDict):
    key: NotRequired[Path]
    host: Required[str]
    wait: NotRequired[Seconds]


class Model(BaseModel):
    file: Path = Path("model")
    size: int = Field(3, gt=2)


class Open(BaseModel, extra="allow"):
    size: int = 3


@dataclass
class Node:
    name: str
    children: list["Node"] = field(default_factory=list)


@dataclass(kw_only=True)
class Everything:
    file: Path = Path("default.txt")
    files: list[Path] = field(default_factory=list)
    optional: Path | None = None
    place: Place | None = None
    there: FilePath | None = None
    by_name: dict[str, Path] = field(default_factory=dict)
    server: Server | None = None
    servers: list[Server] = field(default_factory=list)
    named: dict[str, Server] = field(default_factory=dict)
    either: Annotated[Local | Remote, Field(discriminator="kind")] | None = None
    options: Options | None = None
    login: Login | None = None
    model: Model | None = None
    open: Open | None = None
    node: Node | None = None
    copy: str = ""
    wait: timedelta = timedelta(seconds=1)
    pause: Seconds = 3.0
    at_most: Annotated[Seconds, Field(le=60)] = 3.0
    size: Bytes = 1
    sizes: list[Bytes] = field(default_factory=list)

    @hookimpl
    def filter_connect(self) -> None: ...


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The filter with these settings: the text after ``with: {`` begins at 4:10."""
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr("gatepost.pipeline.finder.Finder.filter_class", lambda self, name: Everything)
    (tmp_path / "there.txt").touch()

    def make(text):
        (tmp_path / "rules.yaml").write_text(f"rules:\n- name: a\n  filter: f\n  with: {{{text}}}\n")
        (rule,) = load_rules(load(tmp_path / "rules.yaml"))
        return next(iter(rule.hooks.values())).function.__self__

    return make


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("", "file", "{base}/default.txt"),
        ("file: a/b.txt", "file", "{base}/a/b.txt"),
        ("file: /etc/hosts", "file", "/etc/hosts"),
        ("files: [a, /b]", "files", ["{base}/a", "/b"]),
        ("optional: a", "optional", "{base}/a"),
        ("place: a", "place", "{base}/a"),
        ("there: there.txt", "there", "{base}/there.txt"),
        ("by_name: {x: y}", "by_name", {"x": "{base}/y"}),
        ("server: {host: a}", "server", Server("a", ca="{base}/ca.pem")),
        ("server: {host: a, ca: b, in: [c]}", "server", Server("a", ca="{base}/b", in_=("c",))),
        ("servers: [{host: a}]", "servers", [Server("a", ca="{base}/ca.pem")]),
        ("named: {host: {host: a}}", "named", {"host": Server("a", ca="{base}/ca.pem")}),
        ("either: {kind: local, file: a}", "either", Local("local", "{base}/a")),
        ("options: {file: a}", "options", {"file": "{base}/a"}),
        ("login: {host: a}", "login", {"host": "a"}),
        ("login: {host: a, key: b}", "login", {"key": "{base}/b", "host": "a"}),
        ("login: {host: a, wait: 2s}", "login", {"host": "a", "wait": 2.0}),
        ("model: {}", "model", Model.model_construct(file="{base}/model")),
        ("model: {file: a}", "model", Model.model_construct(file="{base}/a", size=3)),
        ("open: {colour: red}", "open", Open(size=3, colour="red")),
        ("node: {name: a, children: [{name: b}]}", "node", Node("a", [Node("b")])),
        ("copy: a name that pydantic needs", "copy", "a name that pydantic needs"),
        ("wait: 5s", "wait", timedelta(seconds=5)),
        ("wait: 1.5", "wait", timedelta(seconds=1.5)),
        ("pause: 5m", "pause", 300.0),
        ("pause: 250ms", "pause", 0.25),
        ("at_most: 60", "at_most", 60.0),
        ("size: 2MiB", "size", 2 << 20),
        ("sizes: [5, 2KB]", "sizes", [5, 2000]),
    ],
)
def test_a_setting_is_what_its_annotation_says(made, tmp_path, text, name, expected):
    found = getattr(made(text), name)
    assert repr(found) == repr(_at(tmp_path, expected))
    assert found == _at(tmp_path, expected)


def _at(base: Path, expected: Any) -> Any:
    """The expected value with real paths: a text that begins with ``{base}`` or ``/`` is one."""
    match expected:
        case str() if expected.startswith(("{base}", "/")):
            return Path(expected.replace("{base}", str(base)))
        case list():
            return [_at(base, one) for one in expected]
        case dict():
            return {key: _at(base, one) for key, one in expected.items()}
        case Server() | Local():
            return type(expected)(**{key: _at(base, one) for key, one in vars(expected).items()})
        case Model():
            return expected.model_copy(update={"file": _at(base, expected.file)})
    return expected


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("there: none.txt", ["17: 'none.txt': path does not point to a file"]),
        ("file: 5", ["16: 5, expected text (write it in quotes)"]),
        (
            "server: {hots: a}",
            [
                "18: the key 'host' is missing under server",
                "19: unknown key 'hots' (did you mean 'host'?), expected one of: host, port, ca, in",
            ],
        ),
        ("server: {host: a, port: '5'}", ["34: '5', expected a whole number"]),
        ("server: {host: a, port: 13}", ["18: 13 is no port"]),
        ("server: 5", ["18: 5, expected a mapping"]),
        (
            "servers: [{host: a}, {host: b, prot: 5}]",
            ["41: unknown key 'prot' (did you mean 'port'?), expected one of: host, port, ca, in"],
        ),
        (
            "named: {host: {host: a, prot: 5}}",
            ["34: unknown key 'prot' (did you mean 'port'?), expected one of: host, port, ca, in"],
        ),
        (
            "either: {kind: local, file: x, fiel: 5}",
            ["41: unknown key 'fiel' (did you mean 'file'?), expected one of: kind, file"],
        ),
        (
            "login: {hosts: x}",
            [
                "17: the key 'host' is missing under login",
                "18: unknown key 'hosts' (did you mean 'host'?), expected one of: key, host, wait",
            ],
        ),
        (
            "options: {fiel: x}",
            ["20: unknown key 'fiel' (did you mean 'file'?), expected one of: file, limit"],
        ),
        ("model: {fiel: x}", ["18: unknown key 'fiel' (did you mean 'file'?), expected one of: file, size"]),
        ("model: {size: 1}", ["24: 1, expected more than 2"]),
        (
            "node: {name: a, childen: []}",
            ["26: unknown key 'childen' (did you mean 'children'?), expected one of: name, children"],
        ),
        (
            "node: {name: a, children: [{name: b, x: 1}]}",
            ["47: unknown key 'x', expected no key of that name"],
        ),
        ("wait: soon", ["16: 'soon', expected a time like 10s, 5m or 250ms"]),
        ("wait: 1000000000d", ["16: '1000000000d', expected a time like 10s, 5m or 250ms"]),
        ("pause: 0s", ["17: '0s', expected a time like 10s, 5m or 250ms"]),
        ("at_most: 2m", ["19: '2m', expected at most 60"]),
        ("size: true", ["16: true, expected a size like 32MiB or 500KB"]),
        ("sizes: [1, -1]", ["21: -1, expected a size like 32MiB or 500KB"]),
    ],
)
def test_a_mistake_is_named_at_its_line_and_column(made, text, lines):
    with pytest.raises(ConfigError) as caught:
        made(text)
    assert [line.partition("rules.yaml:4:")[2] for line in str(caught.value).splitlines()] == lines


def test_without_a_file_of_settings_paths_stay_as_they_are():
    found = make_filter(Everything, {"optional": "a", "server": {"host": "a"}}, provided={})
    assert (found.file, found.optional, found.server.ca) == (Path("default.txt"), Path("a"), Path("ca.pem"))
