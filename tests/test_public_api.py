"""What is promised to filter authors is documented, used by somebody, and enough for the shipped filters."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import gatepost
import gatepost.testing
import pytest
from gatepost import hookspecs

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "writing-filters.md").read_text(encoding="utf-8")
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
HOOKS = {
    name: function
    for name, function in inspect.getmembers(hookspecs, inspect.isfunction)
    if hasattr(function, "gatepost_spec")
}
PUBLIC = [(module, name) for module in (gatepost, gatepost.testing) for name in module.__all__]


def test_there_are_hooks_and_plugins_to_check() -> None:
    assert "filter_message" in HOOKS
    assert PLUGINS


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[f"{m.__name__}.{n}" for m, n in PUBLIC])
def test_every_public_name_has_a_docstring_and_is_on_the_page(module: ModuleType, name: str) -> None:
    docstring = getattr(module, name).__doc__ or ""
    assert docstring
    assert not docstring.startswith(f"{name}("), "only the signature that @dataclass makes"
    assert re.search(rf"\b{name}\b", PAGE), f"docs/writing-filters.md does not mention {name}"


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_a_docstring_and_is_on_the_page_with_its_arguments(name: str) -> None:
    assert HOOKS[name].__doc__
    signature = f"{name}({', '.join(inspect.signature(HOOKS[name]).parameters)})"
    assert f"`{signature}`" in PAGE


def test_every_hook_is_implemented_by_a_shipped_filter_or_a_test() -> None:
    implemented = {
        node.name
        for path in [*PLUGINS, *(ROOT / "tests").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert set(HOOKS) - implemented == set()


def imported_from_gatepost(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each import of gatepost; a whole module has the name ``*``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((one.name, "*") for one in node.names if one.name.partition(".")[0] == "gatepost")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "gatepost":
            yield from ((node.module or "", alias.name) for alias in node.names)


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_a_shipped_filter_has_no_privileges(path: Path) -> None:
    public = {("gatepost", name) for name in gatepost.__all__}
    assert set(imported_from_gatepost(path)) - public == set()


def test_every_public_name_is_imported_from_where_it_is() -> None:
    assert sorted(gatepost._HOMES) == sorted(gatepost.__all__)
    for name, module in gatepost._HOMES.items():
        assert getattr(gatepost, name) is getattr(import_module(module), name)
    assert {*gatepost.__all__} <= {*dir(gatepost)}
    with pytest.raises(AttributeError, match="module 'gatepost' has no attribute 'verdict_of'"):
        gatepost.verdict_of  # noqa: B018
