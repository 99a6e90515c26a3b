# ruff: noqa: E501 - a message is compared as it is shown, on one line
import importlib.metadata
import json
import re
import sys
from pathlib import Path

import pytest
import typer
from gatepost import Action, AddHeader
from gatepost.cli import check, plugin
from gatepost.config import Config, ConfigError, LoadedConfig, load
from gatepost.model.mail import Stage
from gatepost.pipeline.catalogue import describe_filters
from gatepost.pipeline.finder import installed_filters
from gatepost.pipeline.loader import load_rules
from typer.testing import CliRunner

FILTERS = '''
"""Filters of a test."""
import dataclasses
import enum
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

from pydantic import BaseModel, Field

from gatepost import Transaction, Verdict, hookimpl


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Says yes to words.

    More about it.
    """

    words: tuple[str, ...]
    in_: frozenset[Literal["subject", "body"]] = frozenset({"subject"})
    limit: Annotated[int, Field(gt=0)] = 5
    ratio: float = 0.5
    deep: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    colour: "Colour | None" = None
    place: Optional[Path] = None
    whole: bool = False
    json: str = ""

    def __post_init__(self):
        for word in self.words:
            re.compile(word)
        if self.limit == 13:
            raise ValueError("13 is\\nno limit")
        if self.limit == 14:
            raise OSError(5, "no such luck")
        if self.limit == 15:
            raise SystemExit(1)

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | None:
        return None

    @hookimpl
    def filter_mail(self, envelope): ...

    @hookimpl
    def report_transaction(self, record): ...

    def close(self): ...


class Plain:
    def __init__(self, words: list[str], *, aliased: Annotated[str, Field(alias="in")] = "x", free=1, **rest: Any):
        self.words, self.aliased, self.free = words, aliased, free

    @hookimpl
    def filter_connect(self): ...


class Bare:
    @hookimpl
    def filter_rcpt(self, recipient): ...


class Model(BaseModel):
    size: int = Field(3, gt=2)

    @hookimpl
    def filter_helo(self, session): ...


class Checked:
    def __init__(self, size: int):
        Model(size=size)

    @hookimpl
    def filter_helo(self, session): ...


class Misnamed:
    @hookimpl
    def filter_mesage(self, transaction): ...


class WrongArgument:
    @hookimpl
    def filter_message(self, message): ...


class Mistyped:
    @hookimpl
    def filter_rcpt(self, session, recepient, known=True): ...


class Misspelt:
    @hookimpl
    def filter_rcpt(self, session, recepient=None): ...


class Keyword:
    @hookimpl
    def filter_rcpt(self, *, recepient): ...


class Anything:
    @hookimpl
    def filter_message(self, **arguments): ...


class Positions:
    @hookimpl
    def filter_message(self, transaction, /): ...


class OwnDefaults:
    @hookimpl
    def filter_rcpt(self, session, recipient=None, *, envelope, earlier=(), attempts=3): ...


class Unmarked:
    def filter_message(self, transaction): ...


class Nothing: ...


class Yields:
    @hookimpl
    def filter_message(self, transaction):
        yield


class Wrapper:
    @hookimpl(wrapper=True)
    def filter_message(self, transaction):
        return (yield)


class Twice(Bare):
    @hookimpl(specname="filter_rcpt")
    def other(self, recipient): ...


class Unknowable:
    def __init__(self, thing: "Nowhere"): ...


def function(): ...


instance = Bare()
'''


@pytest.fixture
def rules(tmp_path, monkeypatch):
    """Loads entries of ``rules`` beside the file of filters."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.py").write_text(FILTERS)

    def make(*entries):
        lines = [f"  - {{name: r{number}, {entry}}}\n" for number, entry in enumerate(entries)]
        Path("rules.yaml").write_text("rules:\n" + "".join(lines))
        return load_rules(load(Path("rules.yaml")))

    return make


@pytest.fixture
def problem(rules):
    """What is wrong with one entry, without the file's name; the entry's text begins at 2:16."""

    def make(entry):
        with pytest.raises(ConfigError) as caught:
            rules(entry)
        lines = str(caught.value).splitlines()
        assert all(line.startswith("rules.yaml:2:") for line in lines)
        return [line.removeprefix("rules.yaml:2:") for line in lines]

    return make


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes entry points, the names of which are found in an importable module."""

    def make(**values):
        monkeypatch.syspath_prepend(tmp_path)
        found = [
            importlib.metadata.EntryPoint(name=name, value=value, group="gatepost.filters")
            for name, several in values.items()
            for value in ([several] if isinstance(several, str) else several)
        ]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: found)

    return make


def test_an_entry_becomes_a_rule(rules):
    (rule,) = rules(
        "filter: './f.py:Words', with: {words: [a], in: [body], deep: {a: [1]}, colour: red, place: x, ratio: 1}, "
        "when: {sender: a@b.c}, action: tag, tag: {add: {X: y}}, mode: observe, on_error: skip, timeout: 5s"
    )
    assert (rule.name, rule.action, rule.edits, rule.observe) == (
        "r0",
        Action.TAG,
        (AddHeader("X", "y"),),
        True,
    )
    assert (rule.on_error, rule.timeout_seconds, rule.when.known_at) == ("skip", 5.0, Stage.MAIL)
    assert set(rule.hooks) == {Stage.MAIL, Stage.MESSAGE}
    message, mail = rule.hooks[Stage.MESSAGE], rule.hooks[Stage.MAIL]
    assert (message.arguments, message.is_async) == (("transaction",), True)
    assert (mail.arguments, mail.is_async, mail.function(None)) == (("envelope",), False, None)
    assert rule.report.arguments == ("record",)
    made = message.function.__self__
    assert (made.words, made.in_, made.limit, made.deep) == (("a",), frozenset({"body"}), 5, {"a": [1]})
    assert (made.place, made.colour.value, made.ratio) == (Path("x").absolute(), "red", 1.0)
    assert (rule.close.function, rule.close.is_async) == (made.close, False)


def test_a_hook_gets_each_argument_that_it_names_with_a_default_or_a_star_too(rules):
    (rule,) = rules("filter: ./f.py:OwnDefaults")
    assert rule.hooks[Stage.RCPT].arguments == ("session", "recipient", "envelope", "earlier")


def test_a_class_may_serve_several_rules_and_needs_no_dataclass(rules):
    first, second, bare, model = rules(
        "filter: ./f.py:Plain, with: {words: [a], in: z}",
        "filter: ./f.py:Plain, with: {words: [b], free: {any: thing}}",
        "filter: ./f.py:Bare",
        "filter: ./f.py:Model, with: {size: 4}",
    )
    one, two = (rule.hooks[Stage.CONNECT].function.__self__ for rule in (first, second))
    assert type(one) is type(two)
    assert (one.words, one.aliased, two.words, two.free) == (["a"], "z", ["b"], {"any": "thing"})
    assert (bare.close, bare.report, bare.when, bare.action) == (None, None, None, None)
    assert model.hooks[Stage.HELO].function.__self__.size == 4


@pytest.mark.parametrize(
    ("entry", "lines"),
    [
        ("filter: ./f.py:Words", ["5: the key 'words' is missing under with"]),
        ("filter: ./f.py:Words, with: {}", ["44: the key 'words' is missing under with"]),
        ("filter: ./f.py:Words, with: {words: a}", ["52: 'a', expected a list"]),
        ("filter: ./f.py:Words, with: {words: [a, 5]}", ["56: 5, expected text (write it in quotes)"]),
        ("filter: ./f.py:Words, with: {words: [], whole: yes}", ["63: 'yes', expected true or false"]),
        ("filter: ./f.py:Words, with: {words: [], limit: '5', ratio: a}", [
            "63: '5', expected a whole number", "75: 'a', expected a number",
        ]),
        ("filter: ./f.py:Words, with: {words: [], limit: 0}", ["63: 0, expected more than 0"]),
        ("filter: ./f.py:Words, with: {words: [], in: [subjct]}", [
            "61: 'subjct' (did you mean 'subject'?), expected 'subject' or 'body'"
        ]),
        ("filter: ./f.py:Words, with: {words: [], deep: {a: [b]}}", ["67: 'b', expected a whole number"]),
        ("filter: ./f.py:Words, with: {words: [], colour: blue}", ["64: 'blue', expected 'red'"]),
        ("filter: ./f.py:Words, with: {word: []}", [
            "44: the key 'words' is missing under with",
            "45: unknown key 'word' (did you mean 'words'?), expected one of: words, in, limit, ratio, deep, colour, place, whole, json",
        ]),
        ("filter: ./f.py:Words, with: {words: ['(']}", [
            f"44: filter './f.py:Words' could not be made: {re.error.__name__}: missing ), unterminated subpattern at position 0 (f.py:37)"
        ]),
        ("filter: ./f.py:Words, with: {words: [], limit: 13}", ["44: filter './f.py:Words': 13 is no limit"]),
        ("filter: ./f.py:Words, with: {words: [], limit: 14}", [
            "44: filter './f.py:Words' could not be made: OSError: [Errno 5] no such luck (f.py:41)"
        ]),
        ("filter: ./f.py:Words, with: {words: [], limit: 15}", [
            "44: filter './f.py:Words' could not be made: SystemExit: 1 (f.py:43)"
        ]),
        ("filter: ./f.py:Model, with: {size: 1}", ["51: 1, expected more than 2"]),
        ("filter: ./f.py:Checked, with: {size: 1}", ["53: 1, expected more than 2"]),
        ("filter: ./f.py:Misnamed", [
            "24: filter './f.py:Misnamed' has an unknown hook 'filter_mesage' (did you mean 'filter_message'?), expected one of: filter_connect, filter_helo, filter_mail, filter_rcpt, filter_message, finish_message, learn_message, report_transaction, report_session"
        ]),
        ("filter: ./f.py:Unmarked", ["24: filter_message of filter './f.py:Unmarked' is not marked, expected @hookimpl before it"]),
        ("filter: ./f.py:Nothing", [
            "24: filter './f.py:Nothing' has no hook, expected @hookimpl on one of: filter_connect, filter_helo, filter_mail, filter_rcpt, filter_message, finish_message, learn_message, report_transaction, report_session"
        ]),
        ("filter: ./f.py:WrongArgument", ["24: filter_message of filter './f.py:WrongArgument' has the argument 'message', expected none but: transaction, recipients, content, earlier"]),
        ("filter: ./f.py:Mistyped", ["24: filter_rcpt of filter './f.py:Mistyped' has the argument 'recepient' (did you mean 'recipient'?), expected none but: session, envelope, recipient, earlier"]),
        ("filter: ./f.py:Misspelt", ["24: filter_rcpt of filter './f.py:Misspelt' has the argument 'recepient' (did you mean 'recipient'?), expected none but: session, envelope, recipient, earlier"]),
        ("filter: ./f.py:Keyword", ["24: filter_rcpt of filter './f.py:Keyword' has the argument 'recepient' (did you mean 'recipient'?), expected none but: session, envelope, recipient, earlier"]),
        ("filter: ./f.py:Anything", ["24: filter_message of filter './f.py:Anything' has the argument '**arguments' without a name, expected the names of arguments: transaction, recipients, content, earlier"]),
        ("filter: ./f.py:Positions", ["24: filter_message of filter './f.py:Positions' has the argument 'transaction' without a name, expected the names of arguments: transaction, recipients, content, earlier"]),
        ("filter: ./f.py:Yields", ["24: filter_message of filter './f.py:Yields' yields, expected a hook that returns a Verdict or None"]),
        ("filter: ./f.py:Wrapper", ["24: filter_message of filter './f.py:Wrapper' is a wrapper, expected a hook that returns a Verdict or None"]),
        ("filter: ./f.py:Twice", ["24: filter './f.py:Twice' implements filter_rcpt twice"]),
        ("filter: ./f.py:Unknowable", ["24: the constructor of './f.py:Unknowable': NameError: name 'Nowhere' is not defined"]),
        ("filter: ./f.py:function", ["24: filter './f.py:function' is a function, expected a class"]),
        ("filter: ./f.py:instance", ["24: filter './f.py:instance' is an instance of Bare, expected a class"]),
        ('filter: "./\\0.py:A"', ["24: ./?.py cannot be loaded: embedded null byte"]),
        ("filter: ./none.py:A", ["24: ./none.py cannot be loaded: No such file or directory"]),
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be_used_is_named_with_its_place(problem, entry, lines):
    assert problem(entry) == lines


def test_a_class_that_is_not_there_is_named_with_those_that_are(problem):
    (wrong,), (none,) = problem("filter: ./f.py:Wordz"), problem("filter: ./f.py")
    assert wrong.startswith(
        "24: no class 'Wordz' in ./f.py (did you mean 'Words'?), expected ./f.py:Colour or ./f.py:Words"
    )
    assert none.startswith("24: no class named after ./f.py, expected ./f.py:Colour or ./f.py:Words")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "\nimport no_such_module",
            "ModuleNotFoundError: No module named 'no_such_module' (g.py:2): it is neither installed in",
        ),
        (
            "import sibling.inner",
            "No module named 'sibling' (g.py:1): sibling.py is beside it, but a filter in a file of its own cannot import the files beside it; write everything into one file, or install a package",
        ),
        (
            "import sibling_folder",
            "No module named 'sibling_folder' (g.py:1): sibling_folder is beside it, but",
        ),
        ("from . import sibling", "no known parent package (g.py:1): it is not part of a package, and"),
        ("from re import nix", "(g.py:1)"),
        ("import json\n\n\njson.loads('{')", "(g.py:4)"),
        ("a = (", "SyntaxError: '(' was never closed (g.py:1)"),
        ("raise SystemExit('bye')", "SystemExit: bye (g.py:1)"),
        ("\n\ndef half():\n    1 / 0\n\nhalf()", "ZeroDivisionError: division by zero (g.py:4)"),
        ("a = '\0'", "null bytes"),
    ],
)
def test_a_local_file_that_cannot_be_loaded_is_named_with_its_reason(problem, tmp_path, source, line):
    (tmp_path / "g.py").write_text(source)
    (tmp_path / "sibling.py").write_text("")
    (tmp_path / "sibling_folder").mkdir()
    before = set(sys.modules)
    (found,) = problem("filter: ./g.py:A")
    assert found.startswith("24: ./g.py cannot be loaded: ")
    assert line in found
    assert set(sys.modules) <= before


def test_an_error_in_what_a_filter_makes_is_shown_where_it_is(rules, tmp_path, monkeypatch):
    (tmp_path / "handlers_of_a_test.py").write_text("class H:\n    def __init__(self):\n        {}['x']\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as caught:
        rules("filter: aiosmtpd, with: {handler: 'handlers_of_a_test:H'}")
    assert str(caught.value).endswith("could not be made: KeyError: 'x' (handlers_of_a_test.py:3)")


def test_a_local_file_is_read_again_and_nothing_is_written_beside_it(rules, tmp_path):
    (before,) = rules("filter: ./f.py:Bare")
    (tmp_path / "f.py").write_text(FILTERS.replace("def filter_rcpt", "async def filter_rcpt"))
    (after,) = rules("filter: ./f.py:Bare")
    assert (before.hooks[Stage.RCPT].is_async, after.hooks[Stage.RCPT].is_async) == (False, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.py", "rules.yaml"]


def test_all_rules_are_looked_at_even_after_the_first_problem(rules):
    with pytest.raises(ConfigError) as caught:
        rules(
            "filter: ./f.py:Nothing",
            "filter: ./f.py:Bare",
            "filter: ./f.py:Words, with: {word: 1}",
            "filter: x",
        )
    assert [problem.line for problem in caught.value.problems] == [2, 4, 4, 5]


def test_installed_filters_are_found_by_name_and_only_those_used_are_imported(rules, installed, tmp_path):
    (tmp_path / "installed_filters_a.py").write_text(FILTERS)
    installed(
        words="installed_filters_a:Words", bad="no_such_module:A", same=["x:A", "x:A"], torn=["x:A", "y:B"]
    )
    assert [found.value for found in installed_filters()["words"]] == ["installed_filters_a:Words"]
    (rule,) = rules("filter: words, with: {words: []}")
    assert type(rule.hooks[Stage.MESSAGE].function.__self__).__module__ == "installed_filters_a"
    with pytest.raises(ConfigError) as caught:
        rules("filter: wordz", "filter: bad", "filter: torn", "filter: same")
    assert str(caught.value).splitlines() == [
        "rules.yaml:2:24: unknown filter 'wordz' (did you mean 'words'?), expected one of: bad, same, torn, words, ./file.py:Class",
        "rules.yaml:3:24: filter 'bad' cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
        "rules.yaml:4:24: more than one filter is called 'torn': x:A and y:B",
        "rules.yaml:5:24: filter 'same' cannot be imported: ModuleNotFoundError: No module named 'x'",
    ]  # fmt: skip


def test_settings_without_a_file_can_be_loaded_too(installed, tmp_path):
    (tmp_path / "installed_filters_b.py").write_text(FILTERS)
    installed(bare="installed_filters_b:Bare")
    config = Config.model_validate({"rules": [{"name": "a", "filter": "bare"}]})
    assert [rule.name for rule in load_rules(LoadedConfig(config=config))] == ["a"]
    config = Config.model_validate({"rules": [{"name": "a", "filter": "bear"}]})
    with pytest.raises(ConfigError, match="unknown filter 'bear'"):
        load_rules(LoadedConfig(config=config, base=tmp_path))


def test_installed_filters_are_described(installed, tmp_path):
    (tmp_path / "installed_filters_c.py").write_text(FILTERS)
    installed(words="installed_filters_c:Words", bad="no_such_module:A", odd="installed_filters_c:Unknowable")
    bad, odd, words = describe_filters()
    assert (
        bad.problem
        == "filter 'bad' cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"
    )
    assert odd.problem == "its constructor: NameError: name 'Nowhere' is not defined"
    assert (words.name, words.summary, words.problem) == ("words", "Says yes to words.", "")
    settings = {setting.name: (setting.required, setting.default) for setting in words.settings}
    assert settings["words"] == (True, None)
    assert [setting.type for setting in words.settings][1:3] == [
        "frozenset[Literal['subject', 'body']]",
        "int",
    ]
    assert (settings["in"], settings["deep"]) == ((False, frozenset({"subject"})), (False, {}))


@pytest.fixture
def run():
    app = typer.Typer()
    app.command("check")(check.check)
    app.add_typer(plugin.app, name="plugin")
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_check_says_fine_in_one_line_and_exits_0(rules, run):
    rules("filter: ./f.py:Bare")
    result = run("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (
        result.stdout
        == "rules.yaml: ok: 1 listener, 0 routes (every recipient is refused), 1 rule, 0 lists\n"
    )
    plain = json.loads(run("check", "--json").stdout)
    assert plain == {"ok": True, "problems": [], "warnings": [], "rules": ["r0"]}


@pytest.mark.parametrize("text", ["mixd: defer\n", "rules: [{name: a, filter: './f.py:Nope'}]\n", None])
def test_check_names_each_problem_on_stderr_and_exits_2(tmp_path, monkeypatch, run, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.py").write_text(FILTERS)
    if text:
        (tmp_path / "r.yaml").write_text(text)
    result = run("check", "-c", "r.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("r.yaml:1:" if text else "r.yaml: cannot be read")
    shown = run("check", "-c", "r.yaml", "--json")
    (problem,) = json.loads(shown.stdout)["problems"]
    assert (shown.exit_code, problem["path"], problem["line"]) == (2, "r.yaml", 1 if text else 0)


def test_plugin_list_shows_filters_with_their_settings(installed, tmp_path, run):
    (tmp_path / "installed_filters_d.py").write_text(FILTERS)
    installed(words="installed_filters_d:Words")
    result = run("plugin", "list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:3] == [
        "words  (installed_filters_d:Words)",
        "    Says yes to words.",
        "    words: tuple[str, ...] (required)",
    ]
    assert "    deep: dict[str, list[int]] = {}" in lines
    (plain,) = json.loads(run("plugin", "list", "--json").stdout)
    assert plain["settings"][0] == {
        "name": "words",
        "type": "tuple[str, ...]",
        "required": True,
        "default": None,
    }


def test_plugin_list_exits_1_where_a_filter_cannot_be_used(installed, run):
    installed(bad="no_such_module:A")
    result = run("plugin", "list")
    assert (result.exit_code, "cannot be loaded: filter 'bad' cannot be imported" in result.stdout) == (
        1,
        True,
    )


def test_a_close_may_be_async(tmp_path):
    (tmp_path / "f.py").write_text(
        "from gatepost import hookimpl\n\n\nclass F:\n    @hookimpl\n    def filter_connect(self): ...\n\n"
        "    async def close(self): ...\n"
    )
    (tmp_path / "rules.yaml").write_text("rules:\n  - name: a\n    filter: ./f.py:F\n")
    (rule,) = load_rules(load(tmp_path / "rules.yaml"))
    assert rule.close.is_async


def test_filters_that_were_made_are_closed_if_another_cannot_be_made(tmp_path):
    (tmp_path / "f.py").write_text(
        "from pathlib import Path\nfrom gatepost import hookimpl\n\n\n"
        "class F:\n    def __init__(self, mistaken: bool):\n        assert not mistaken\n\n"
        "    @hookimpl\n    def filter_connect(self): ...\n\n"
        f"    async def close(self):\n        Path({str(tmp_path)!r}, 'closed').touch()\n"
    )
    (tmp_path / "rules.yaml").write_text(
        "rules:\n  - {name: a, filter: ./f.py:F, with: {mistaken: false}}\n"
        "  - {name: b, filter: ./f.py:F, with: {mistaken: true}}\n"
    )
    with pytest.raises(ConfigError, match="AssertionError"):
        load_rules(load(tmp_path / "rules.yaml"))
    assert (tmp_path / "closed").exists()


def test_a_hook_that_is_none_is_one_that_the_instance_does_not_have(tmp_path):
    (tmp_path / "f.py").write_text(
        "from gatepost import hookimpl\n\n\nclass F:\n    def __init__(self, early: bool):\n"
        "        setattr(self, 'filter_message' if early else 'filter_connect', None)\n\n"
        "    @hookimpl\n    def filter_connect(self): ...\n\n    @hookimpl\n    def filter_message(self): ...\n"
    )
    (tmp_path / "rules.yaml").write_text(
        "rules:\n  - {name: a, filter: ./f.py:F, with: {early: true}}\n"
        "  - {name: b, filter: ./f.py:F, with: {early: false}}\n"
    )
    assert [list(rule.hooks) for rule in load_rules(load(tmp_path / "rules.yaml"))] == [
        [Stage.CONNECT],
        [Stage.MESSAGE],
    ]
