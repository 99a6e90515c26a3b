"""The worst of the words that docs/words.md advises against appear nowhere.

Checked are the pages, the docstrings and the comments of proxy/ and plugins/, and every string of them
with more than one word in it, since it may be a message.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        *(page for page in (ROOT / "docs").rglob("*.md") if page.name != "words.md"),
        ROOT / "README.md",
        ROOT / "SECURITY.md",
        ROOT / "rules.yaml",
        *filter(Path.is_file, (ROOT / "deploy").rglob("*")),
        *(ROOT / "proxy/gatepost/web/templates").rglob("*.html"),
    ]
)
MODULES = sorted([*(ROOT / "proxy").rglob("*.py"), *(ROOT / "plugins").glob("*.py")])

EVERYWHERE = {
    r"\b(bury|buries|buried|mourn(s|ed)?)\b": "reap, log",
    r"\b(hear|hears|heard)\b": "receive, read",
    r"\bthe family\b": "the processes",
    r"\bseats?\b": "slot",
    r"\b[Ww]ho(m|so|mso)?ever\b": "the client that, a caller that, anybody who",
    r"(?:^|[.;:,(] |\band |\bor )[Ww]ho (?!is\b|may\b|can\b|it is from\b)[a-z]+s\b(?! (?:and|or) whom)": (
        "a client that, a person who"
    ),
    r"\b(stands?|stood) (in|under|at|behind|after|before|between|on|there|alone)\b": "is, are, was",
    r"\bas it stands\b": "as it is",
    r"\bis none of\b": "is not",
    r"\bto whom(soever)?\b|\bwhom the gateway becomes\b": "the user, the client",
    r"\bfor good\b": "permanently, finally",
    r"\bfor ever\b": "without end, indefinitely",
    r"\bin vain\b": "without success",
    r"\bchanged (its|their) mind\b": "answered inconsistently",
    r"\bwhat never ends\b": "endless input",
    r"\bended the process that\b": "crashed",
    r"\b(DECIDE|ACT|KEEP|KEEP ALIVE|TELL|SEND|READ|RECEIVE|RUN|RUN MANY|BECOME|BIND|COUNT|SHOW|EXPLAIN|EDIT"
    r"|COMPLAIN|WRITE DOWN): ": "a sentence without a label",
    r"\bbusy-?body|\bpoor (soul|devil)\b": "no personification",
}
"""What to look for, and what to write instead."""

FIRST_LINES = {
    r"\b[Gg]ives\b": "returns, has",
}
"""In the first line of a docstring."""

PROSE = {r"\b[Oo]ctets?\b": "bytes"}
"""In pages; a line that quotes an RFC may say octet."""

QUOTES_AN_RFC = re.compile(r"RFC|octet-stream|`[^`]*octet[^`]*`|\| octets\b")

WAITING: tuple[str, ...] = ()
"""Folders and files that are not yet rewritten."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One phrase, its place and the better word."""

    path: Path
    line: int
    phrase: str
    better: str

    def __str__(self) -> str:
        """As an editor understands it."""
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.phrase!r}: write {self.better}"


def text_of(source: str) -> Iterator[tuple[int, str, bool]]:
    """Line, text, and whether it is a docstring: of docstrings, comments, and strings with a space."""
    tree = ast.parse(source)
    docstrings = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(body := getattr(node, "body", None), list)
        for statement in body
        if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, node.value, id(node) in docstrings
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# "), False


def found(path: Path, line: int, text: str, words: dict[str, str]) -> Iterator[Finding]:
    for pattern, better in words.items():
        for match in re.finditer(pattern, text):
            yield Finding(path, line + text.count("\n", 0, match.start()), match[0].strip(), better)


def in_module(path: Path) -> Iterator[Finding]:
    for line, text, is_docstring in text_of(path.read_text()):
        yield from found(path, line, text, EVERYWHERE)
        if is_docstring:
            yield from found(path, line, text.strip().partition("\n")[0], FIRST_LINES)


def in_page(path: Path) -> Iterator[Finding]:
    yield from found(path, 1, path.read_text(), EVERYWHERE)
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not QUOTES_AN_RFC.search(line):
            yield from found(path, number, line, PROSE)


def waits(path: Path) -> bool:
    return any(path.relative_to(ROOT).as_posix().startswith(waiting) for waiting in WAITING)


def test_pages_are_in_plain_words() -> None:
    assert [*map(str, (one for page in PAGES if not waits(page) for one in in_page(page)))] == []


def test_docstrings_comments_and_messages_are_in_plain_words() -> None:
    assert [*map(str, (one for path in MODULES if not waits(path) for one in in_module(path)))] == []


def test_nothing_waits_for_plain_words_that_has_them_already() -> None:
    findings = [*map(str, (one for page in PAGES for one in in_page(page)))]
    findings += [*map(str, (one for path in MODULES for one in in_module(path)))]
    done = [waiting for waiting in WAITING if not any(one.startswith(waiting) for one in findings)]
    assert done == [], "take these off WAITING"


@pytest.mark.parametrize(
    "source",
    [
        '"""DECIDE: the rules in file order."""',
        '"""Gives the first match."""',
        'class A:\n    size: int\n    """Whoever reads it."""',
        "pid = 0  # to be buried by init",
        'raise ValueError("the hash is none of argon2")',
        'raise ValueError(f"{1} stands in line {2}")',
    ],
)
def test_a_word_of_the_table_is_found(source: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert [*in_module(path)]
