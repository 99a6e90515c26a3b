"""docs/architecture.md has the layers of import-linter, every module, and no file that is not there."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PLUGINS = ROOT / "plugins"
SOURCE = ROOT / "proxy" / "gatepost"
TITLE = "## Every module\n"


def test_every_module_is_listed_with_the_first_line_of_its_docstring(request):
    before, title, listed = PAGE.read_text().partition(TITLE)
    expected = "\n" + "\n".join(sections())
    if request.config.getoption("--update-architecture"):
        PAGE.write_text(before + TITLE + expected)
    else:
        assert title + listed == TITLE + expected, f"to mend this: pytest {__file__} --update-architecture"


def test_every_module_says_in_one_line_what_it_is():
    lines = {path: summary(path) for path in SOURCE.rglob("*.py")}
    assert not [path for path, line in lines.items() if not re.fullmatch(r"[A-Z`].{10,118}\.", line)]


def test_the_rows_of_the_page_are_the_layers_of_import_linter_from_the_top_down():
    rows = re.findall(r"^\| (`.*?) \| ", PAGE.read_text().partition("\n## ")[0], re.MULTILINE)
    named = [{Path(name).stem for name in re.findall(r"`([^`]+)`", row) if ".." not in name} for row in rows]
    layers = [set(layer.split(" | ")) for layer in contract("gatepost")["layers"]]
    assert named == layers


def test_every_folder_of_several_modules_has_layers_of_its_own():
    with_modules = [path for path in SOURCE.iterdir() if (path / "__init__.py").is_file()]
    assert len(with_modules) > 10
    for folder in with_modules:
        assert contract(f"gatepost.{folder.name}")["exhaustive"]


def test_what_a_module_imports_of_another_is_what_that_one_exports():
    trees = {
        name_of(path): ast.parse(path.read_text()) for path in (*SOURCE.rglob("*.py"), *PLUGINS.rglob("*.py"))
    }
    exported = {name: names for name, tree in trees.items() if (names := exports(tree)) is not None}
    assert len(exported) > 400
    hidden = [
        f"{name} imports {one.name} of {node.module}"
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in exported
        for one in node.names
        if one.name not in exported[node.module] and f"{node.module}.{one.name}" not in trees
    ]
    assert not hidden


def name_of(path):
    """How it is imported."""
    place = path.relative_to(PLUGINS if path.is_relative_to(PLUGINS) else SOURCE.parent).with_suffix("")
    return ".".join(place.parts).removesuffix(".__init__")


def exports(tree):
    """Its ``__all__``; None without one."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and "__all__" in (getattr(one, "id", "") for one in node.targets):
            return ast.literal_eval(node.value)
    return None


@pytest.mark.parametrize("folder", ["proxy/gatepost", "plugins", "docs", "tests", "deploy", "benchmarks"])
def test_every_file_that_the_page_names_is_there(folder):
    named = re.findall(rf"`({folder}/[\w./-]+)`", PAGE.read_text().partition(TITLE)[0])
    assert not [name for name in named if not (ROOT / name).exists()]


def contract(container):
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [found] = [one for one in contracts if one.get("containers") == [container]]
    return found


def sections():
    """The list as lines of Markdown: the modules at the top, then one section for each folder."""
    folders = sorted(path for path in SOURCE.iterdir() if (path / "__init__.py").is_file())
    top = sorted(path for path in SOURCE.glob("*.py") if path.name != "__init__.py")
    yield from (entry(path, SOURCE) for path in top)
    for folder in folders:
        yield from ("", f"### `{folder.name}/`", "", summary(folder / "__init__.py"), "")
        modules = (path for path in sorted(folder.rglob("*.py")) if path.name != "__init__.py")
        yield from (entry(path, folder) for path in modules)
    yield from ("", "### `plugins/`", "", "The shipped filters, and modules that belong to one of them.", "")
    yield from (entry(path, PLUGINS) for path in sorted(PLUGINS.glob("*.py")))
    yield ""


def entry(path, folder):
    return f"- `{path.relative_to(folder)}`: {summary(path)}"


def summary(path):
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0].replace("``", "`")
