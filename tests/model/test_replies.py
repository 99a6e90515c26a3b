"""The catalogue of replies is whole: no reply is written elsewhere, and each one in it is sent somewhere."""

import ast
from pathlib import Path

import gatepost
import pytest
from gatepost.model import replies
from gatepost.model.verdict import Reply

SOURCE = Path(gatepost.__file__).parent
CATALOGUE = SOURCE / "model" / "replies.py"
NAMES = [name for name, one in vars(replies).items() if isinstance(one, Reply)]


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse(path.read_text()) for path in SOURCE.rglob("*.py") if path != CATALOGUE}


def is_literal_reply(node):
    """``Reply(code=550, ...)`` or ``Reply.parse("550 ...")``; not those made of what another server said."""
    match node:
        case ast.Call(func=ast.Name("Reply"), keywords=keywords):
            return any(one.arg == "code" and isinstance(one.value, ast.Constant) for one in keywords)
        case ast.Call(func=ast.Attribute(ast.Name("Reply"), "parse"), args=[ast.Constant()]):
            return True
    return False


def test_there_is_no_other_place_where_a_reply_is_written(trees):
    places = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if is_literal_reply(node)
    ]
    assert places == []


@pytest.mark.parametrize("written", ['Reply(code=550, text="no")', 'Reply.parse("550 no")'])
def test_a_literal_reply_is_recognised(written):
    assert is_literal_reply(ast.parse(written, mode="eval").body)


def test_each_reply_is_used_somewhere(trees):
    used = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
    }
    assert set(NAMES) - used == set()


def test_no_two_are_the_same():
    texts = [str(getattr(replies, name)) for name in NAMES]
    assert len(texts) > 70
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", NAMES)
def test_each_has_an_enhanced_code_unless_it_asks_for_more(name):
    """RFC 2034 section 4: all replies but those to the greeting, EHLO and 3xx have one."""
    reply = getattr(replies, name)
    assert (reply.enhanced is None) == (reply.code // 100 == 3)
    assert reply.text.isascii()
