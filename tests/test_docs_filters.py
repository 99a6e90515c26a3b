"""What docs/writing-filters.md shows is run as it stands there."""

import asyncio
import inspect
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from gatepost.config import load
from gatepost.pipeline.loader import load_rules

PAGE = Path(__file__).parent.parent / "docs" / "writing-filters.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# (\S+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    text: str
    line: int
    """Of its first line of text, counted from 1."""

    @property
    def file_name(self) -> str | None:
        """What its first line names, as in ``# my_filter.py``."""
        found = _FILE_NAME.match(self.text)
        return found[1] if found else None


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(language=found[1], text=found[2], line=text.count("\n", 0, found.start(2)) + 1)
        for found in _BLOCK.finditer(text)
    ]


BLOCKS = blocks_of(PAGE)


def of_language(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the page's files in it."""
    for block in BLOCKS:
        if block.file_name:
            (tmp_path / block.file_name).write_text(block.text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_is_of_a_language_that_is_tested() -> None:
    assert {block.language for block in BLOCKS} == {"python", "yaml", "toml"}


def test_the_python_blocks_run_in_their_order_and_their_tests_pass(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ModuleType("writing_filters")
    monkeypatch.setitem(sys.modules, page.__name__, page)
    for block in of_language("python"):
        # Empty lines before it, so that a traceback shows the page's line.
        exec(compile("\n" * (block.line - 1) + block.text, PAGE, "exec"), page.__dict__)
    tests = [value for name, value in vars(page).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        if inspect.iscoroutinefunction(test):
            asyncio.run(test())
        else:
            test()


@pytest.mark.parametrize("block", of_language("yaml"), ids=lambda block: f"line {block.line}")
def test_the_rules_load(folder: Path, block: Block) -> None:
    rules = folder / "rules.yaml"
    rules.write_text(block.text)
    loaded = load_rules(load(rules))
    assert loaded
    assert all(rule.hooks for rule in loaded)


def test_the_packaging_names_an_entry_point_of_the_group() -> None:
    [block] = of_language("toml")
    assert tomllib.loads(block.text)["project"]["entry-points"]["gatepost.filters"]
