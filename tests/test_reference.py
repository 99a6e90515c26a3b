"""docs/reference.md names every public noun and field with its type, default and meaning, as in the code."""

import ast
import dataclasses
import enum
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gatepost
import gatepost.testing
import pytest
from gatepost import hookspecs

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"
GENERATED = "## Hooks\n"
"""From this title on, the page is written by this test."""

SECTIONS = {
    "What a client sends": ["Transaction", "Session", "Envelope", "Recipient", "Message", "Stage"],
    "What a message says": ["MimeView", "Header", "Address", "Text", "Attachment"],
    "What a filter answers": [
        "Verdict",
        "PerRecipient",
        "Passed",
        "Match",
        "Action",
        "Reply",
        "ReplyTiming",
        "UnreachableError",
    ],
    "Edits": [
        "Edit",
        "AddHeader",
        "ChangeHeader",
        "RemoveHeader",
        "PrefixSubject",
        "ReplaceBody",
        "EnvelopeEdit",
        "AddRecipient",
        "RemoveRecipient",
        "ChangeSender",
    ],
    "Questions to DNS": ["Resolver", "Answer", "DnsStatus"],
    "What a filter remembers, and where it is": ["State", "Amount", "Counted", "Place"],
    "What became of it": [
        "Record",
        "SessionRecord",
        "RecipientRecord",
        "EarlyEnd",
        "Disposition",
        "Evaluation",
        "Result",
    ],
    "Functions and types of settings": [
        "hookimpl",
        "connect",
        "mailbox_key",
        "total_score",
        "visible_text",
        "Seconds",
        "Bytes",
    ],
}
KIT = {"Test kit": sorted(gatepost.testing.__all__)}


@pytest.mark.parametrize(("module", "sections"), [(gatepost, SECTIONS), (gatepost.testing, KIT)])
def test_every_public_name_has_its_place(module: ModuleType, sections: dict[str, list[str]]) -> None:
    assert sorted(name for names in sections.values() for name in names) == sorted(module.__all__)


def test_the_page_is_what_the_code_says(request: pytest.FixtureRequest) -> None:
    before, title, generated = PAGE.read_text(encoding="utf-8").partition(GENERATED)
    expected = "\n".join(page()) + "\n"
    if request.config.getoption("--update-reference"):
        PAGE.write_text(before + expected, encoding="utf-8")
    else:
        assert title + generated == expected, f"to mend this: pytest {__file__} --update-reference"


def test_every_noun_that_a_public_one_leads_to_is_public() -> None:
    nouns = {name: getattr(gatepost, name) for name in gatepost.__all__}
    public = {noun for noun in nouns.values() if inspect.isclass(noun)}
    for name, noun in nouns.items():
        for led_to in _classes(noun) if dataclasses.is_dataclass(noun) else ():
            assert led_to in public, f"{name} leads to {led_to}"


def _classes(noun: Any) -> Iterator[type]:
    """Gatepost's own classes in the types of the fields and the properties."""
    hints = typing.get_type_hints(noun)
    todo = [hints[field.name] for field in dataclasses.fields(noun) if not field.name.startswith("_")]
    for _, member in inspect.getmembers(noun, lambda member: isinstance(member, property)):
        todo.append(typing.get_type_hints(member.fget)["return"])
    while todo:
        one = todo.pop()
        todo += typing.get_args(one)
        if inspect.isclass(one) and one.__module__.startswith("gatepost"):
            yield one


def page() -> Iterator[str]:
    """The generated part of the page, as lines of Markdown."""
    yield from (GENERATED.rstrip(), "", "| hook | called |", "|---|---|")
    for name, hook in vars(hookspecs).items():
        if hasattr(hook, "gatepost_spec"):
            parameters = ", ".join(inspect.signature(hook).parameters)
            yield f"| `{name}({parameters})` | {meaning(hook.__doc__, name)} |"
    for module, sections in ((gatepost, SECTIONS), (gatepost.testing, KIT)):
        for title, names in sections.items():
            yield from ("", f"## {title}")
            for name in names:
                yield from ("", f"### {name}", "", *described(name, getattr(module, name), module))


def described(name: str, value: Any, module: ModuleType) -> Iterator[str]:
    """The lines about one public name."""
    if inspect.isclass(value):
        yield from (meaning(value.__doc__, name), "")
        yield from table(members(value))
    elif inspect.isfunction(value):
        yield from (f"`{signature(value)}`", "", meaning(value.__doc__, name))
    else:
        yield alias(name, module)


def members(cls: type) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and meaning of each field, property and method, inherited ones first."""
    for base in cls.__bases__:
        if base.__module__.startswith("gatepost"):
            yield from members(base)
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    defaults = dict(_defaults(cls))
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)) if not name.startswith("_"):
                text = meaning(docstring_in(after), f"{cls.__name__}.{name}")
                yield f"`{name}`", code(ast.unparse(node.annotation)), defaults.get(name, ""), text
            case ast.Assign(targets=[ast.Name(id=name)]) if issubclass(cls, enum.Enum):
                text = meaning(docstring_in(after), f"{cls.__name__}.{name}")
                yield f"`{name}`", code(ast.unparse(node.value)), "", text
            case ast.FunctionDef(name="__init__", body=body):
                yield from attributes(body, cls)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if not name.startswith("_"):
                method = inspect.getattr_static(cls, name)
                text = meaning(ast.get_docstring(node), f"{cls.__name__}.{name}")
                if isinstance(method, property):
                    yield f"`{name}`", code(ast.unparse(node.returns) if node.returns else ""), "", text
                else:
                    waits = "await " * isinstance(node, ast.AsyncFunctionDef)
                    yield code(f"{waits}{name}({arguments(node)})"), code(returned(node)), "", text


def attributes(body: list[ast.stmt], cls: type) -> Iterator[tuple[str, str, str, str]]:
    """What a constructor sets and documents."""
    for node, after in zip(body, [*body[1:], None], strict=True):
        match node:
            case ast.Assign(targets=[ast.Attribute(attr=name)]) if not name.startswith("_"):
                yield f"`{name}`", "", "", meaning(docstring_in(after), f"{cls.__name__}.{name}")
            case ast.AnnAssign(target=ast.Attribute(attr=name)) if not name.startswith("_"):
                annotation = code(ast.unparse(node.annotation))
                yield f"`{name}`", annotation, "", meaning(docstring_in(after), f"{cls.__name__}.{name}")


def _defaults(cls: type) -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        if field.default is not dataclasses.MISSING:
            yield field.name, code(repr(field.default))
        elif field.default_factory is not dataclasses.MISSING:
            yield field.name, code(repr(field.default_factory()))


def arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return ast.unparse(node.args).removeprefix("self").removeprefix("cls").removeprefix(", ")


def returned(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return ast.unparse(node.returns).strip("'") if node.returns else ""


def signature(function: Any) -> str:
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[-1]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for default in [*node.args.defaults, *node.args.kw_defaults]:
        if isinstance(default, ast.Name):  # a constant of the module: its value says more than its name
            default.id = repr(inspect.unwrap(function).__globals__[default.id])
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    result = ast.unparse(node.returns) if node.returns else "None"
    return f"{prefix}{node.name}({ast.unparse(node.args)}) -> {result}"


def alias(name: str, module: ModuleType) -> str:
    """The docstring below an assignment in the module that makes the name."""
    for one in list(sys.modules.values()):
        made_in = getattr(one, "__file__", None) or ""
        if not one.__name__.startswith("gatepost.") or getattr(one, name, None) is not getattr(module, name):
            continue
        body = ast.parse(Path(made_in).read_text(encoding="utf-8")).body
        for node, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                return meaning(docstring_in(after), name)
    raise AssertionError(f"{name} is assigned nowhere")


def docstring_in(node: ast.AST | None) -> str | None:
    if (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ):
        return inspect.cleandoc(node.value.value)
    return None


def meaning(docstring: str | None, name: str) -> str:
    """The first paragraph, on one line."""
    assert docstring, f"{name} has no docstring"
    paragraph = inspect.cleandoc(docstring).partition("\n\n")[0]
    text = re.sub(r"``(.+?)``", r"`\1`", " ".join(paragraph.split()))
    return text.replace("|", "\\|")


def code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


def table(rows: Iterator[tuple[str, str, str, str]]) -> Iterator[str]:
    found = list(rows)
    if found:
        yield from ("| name | type | default | meaning |", "|---|---|---|---|")
        yield from (f"| {' | '.join(row)} |".replace("|  |", "| |") for row in found)
