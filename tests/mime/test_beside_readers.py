"""No name, word or octet that two other mail readers show is missing from what Gatepost's reader shows.

The messages are GATEPOST_CORPUS and generated ones. What is missing all the same stands in EXPLAINED with its
reason. A report names the message: `python tests/mime/judging.py --generated NUMBER` shows all readers.
"""

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from generating import generated  # it is where it was put just now
from judging import READERS, Bench, Missing, missing, ours

NO_CORPUS = "GATEPOST_CORPUS is not set"
GENERATED, GENERATED_LONG = 500, 2000
"""So many messages; at full length."""
PARTS = 4
"""Tests that judge the generated messages, each a part of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Something that readers show and ours does not, for a reason."""

    reason: str
    kind: str
    message: str = ""
    """An expression found in the message's name or its features; empty for any."""
    value: str = ""
    """An expression that the whole value matches; empty for any."""
    readers: str
    """All that show it are among these."""

    def covers(self, name: str, one: Missing) -> bool:
        return (
            one.kind == self.kind
            and re.search(self.message, name) is not None
            and (not self.value or re.fullmatch(self.value, one.value, re.DOTALL) is not None)
            and set(self.readers.split()).issuperset(one.readers)
        )


EXPLAINED = (
    Explained(
        reason="they join text and HTML parts with <br/>",
        kind="word",
        value="br",
        readers="mailparser postal-mime",
    ),
    Explained(
        reason="they show the date of a message in the message in UTC",
        kind="word",
        message="^(ak-0696|frag|mp-msg-rfc822|rfc__002)",
        value=r"\d\d",
        readers="mailparser postal-mime",
    ),
    Explained(
        reason="the collection's copies have U+FFFD in UTF-8 within encoded-words of ISO 8859-1",
        kind="word",
        message="^legacy__",
        value="1|2sche|frï",
        readers="mailparser postal-mime",
    ),
    Explained(
        reason="the octet 8A is none of ISO-2022-JP; ours reads it as Shift_JIS with the next one",
        kind="name",
        message="^(attachment_emails__attachment_with_encoded_name|plain_emails__raw_email8)",
        readers="postal-mime python ruby",
    ),
    Explained(
        reason="a delimiter of a multipart in which they find no part",
        kind="word",
        message="^malformed__007",
        value="ab",
        readers="gmime ruby",
    ),
    Explained(
        reason="UTF-7 in an encoded-word is left encoded",
        kind="word",
        message="utf-7|another charset",
        value="apwa3w|gr|e",
        readers="mailparser postal-mime ruby",
    ),
    Explained(
        reason="the octets of UTF-8 in a text declared as UTF-7 are shown as ISO 8859-1",
        kind="word",
        message="escapes in lower case",
        value="lã",
        readers="postal-mime perl",
    ),
    Explained(
        reason="escapes of ISO-2022-JP in a text of no or another charset are shown",
        kind="word",
        value="8l|a5a|bf?|k|q",
        readers="mailparser python gmime ruby perl",
    ),
    Explained(
        reason="a message in a digest is taken for a text: the source of its parts is shown",
        kind="word",
        message="multipart/digest",
        readers="mailparser ruby",
    ),
    Explained(
        reason="a = at the end of the body is kept",
        kind="octets",
        message="= at the end",
        readers="ruby perl",
    ),
    Explained(
        reason="an = that begins no escape is dropped, octets of ISO 8859-1 are shown as UTF-8",
        kind="word",
        message="bad escapes",
        value="gr",
        readers="ruby perl",
    ),
)


def corpus() -> list[Path]:
    folder = os.environ.get("GATEPOST_CORPUS")
    files = sorted(Path(folder).rglob("*.*")) if folder else []
    return [path for path in files if path.suffix in {".eml", ".msg", ".txt"}]


@pytest.fixture(scope="module")
def bench():
    opened = Bench()
    yield opened
    opened.close()


@pytest.mark.parametrize("reader", [judge.name for judge in READERS])
@pytest.mark.long
def test_a_reader_is_installed(bench, reader):
    for judge in bench.absent:
        if judge.name == reader:
            pytest.skip(f"not installed: {judge.package}")


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.long
def test_nothing_that_two_readers_show_of_a_generated_message_is_missing(bench, part, pytestconfig):
    if len(bench.names) < 2:
        pytest.skip(f"not installed: {', '.join(judge.package for judge in bench.absent)}")
    count = GENERATED_LONG if pytestconfig.getoption("--long") else GENERATED
    messages = [generated(number) for number in range(part, count, PARTS)]
    judged = [*zip(messages, bench.ask(message.content for message in messages), strict=True)]
    for reader in bench.names:
        assert sum(reader in opinions for _, opinions in judged) > len(judged) * 0.9, f"{reader} fails often"
    found = [
        (
            f"generated {message.number} ({', '.join(message.features)})",
            missing(ours(message.content), opinions),
        )
        for message, opinions in judged
    ]
    if text := report(found):
        pytest.fail(text, pytrace=False)


@pytest.mark.skipif(not corpus(), reason=NO_CORPUS)
@pytest.mark.long
def test_nothing_that_two_readers_show_of_real_mail_is_missing(bench):
    if len(bench.names) < 2:
        pytest.skip(f"not installed: {', '.join(judge.package for judge in bench.absent)}")
    messages = [path.read_bytes() for path in corpus()]
    found = [
        (path.name, missing(ours(message), opinions))
        for path, message, opinions in zip(corpus(), messages, bench.ask(messages), strict=True)
    ]
    if text := report(found):
        pytest.fail(text, pytrace=False)


def report(found: Iterable[tuple[str, list[Missing]]]) -> str:
    """The messages with the fewest differences first, a few of each."""
    open_ones = [
        (name, [one for one in ones if not any(known.covers(name, one) for known in EXPLAINED)])
        for name, ones in found
    ]
    lines = [
        f"{name}\n"
        + "\n".join(f"    {one}" for one in ones[:3])
        + (f"\n    and {len(ones) - 3} more" if len(ones) > 3 else "")
        for name, ones in sorted(open_ones, key=lambda entry: len(entry[1]))
        if ones
    ]
    return f"{len(lines)} messages\n" + "\n".join(lines[:20]) if lines else ""
