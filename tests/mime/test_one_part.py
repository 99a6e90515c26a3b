"""A message of one part is read without a tree: it must be what the reader of trees makes of it."""

import os
import sys
from pathlib import Path

import pytest
from gatepost.mime import structure
from gatepost.mime.structure import read_structure

sys.path.insert(0, str(Path(__file__).parent))

from generating import generated

PARTS = 5
BEGINNINGS = [
    b"",
    b" ",
    b"\t",
    b"\n",
    b"\r\n",
    b" \r\n",
    b"From me\n",
    b"From: ",
    b">From me\r\n",
    b">From ",
    b"From \r\n\r\n",
    b">",
    b"no field\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Type: text/html\r\nContent-Type: text/plain\r\n",
    b"Content-Type : text/plain\r\n",
    b"Content-Type: (text/plain\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Subject: x\r\n\r\n",
    b"Subject: x\n\n",
    b"Subject: x\r\n \r\n",
    b"--b\r\n",
    b"\xef\xbb\xbfSubject: x\r\n",
    b"\0",
]


def shown(entity):
    """All of an entity that can be compared; of a field its kind and the parameters that are asked for."""
    declared = entity.declared
    return (
        (entity.source, entity.start, entity.end, entity.fault, declared.pairs, declared.content_types),
        (declared.transfer_encodings, declared.fallback_types, declared.boundaries, declared.charsets),
        (declared.filenames, declared.is_attachment, [one.kind for one in declared.types]),
        [shown(child) for child in entity.children],
    )


def check(content):
    """The two must agree; True if the message is read without a tree."""
    quick = structure._one_part(content)
    shared = structure._Shared()
    root = structure._Reader(content, shared).run()
    read = read_structure(content)
    assert shown(read.root) == shown(root)
    assert read.doubts == tuple(shared.doubts)
    return quick is not None


@pytest.mark.parametrize("rest", [b"", b"\r\n", b"Subject: y\r\n\r\ntext\r\n--b\r\n\r\ntext\r\n--b--\r\n"])
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_both_agree_about_any_beginning(beginning, rest):
    for length in range(len(beginning) + 1):
        check(beginning[:length] + rest)


@pytest.mark.parametrize("part", range(PARTS))
def test_both_agree_about_generated_messages(part):
    quick = [check(generated(number).content) for number in range(part, 200, PARTS)]
    assert True in quick
    assert False in quick


def test_both_agree_about_real_messages(corpus_files):
    assert sum(check(path.read_bytes()) for path in corpus_files) > len(corpus_files) / 10


@pytest.fixture
def corpus_files():
    folder = os.environ.get("GATEPOST_CORPUS")
    if not folder:
        pytest.skip("GATEPOST_CORPUS is not set")
    return [path for path in sorted(Path(folder).rglob("*")) if path.suffix in {".eml", ".msg", ".txt"}]
