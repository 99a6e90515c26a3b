"""Uuencoded files are found and decoded as mail programs do."""

import base64
import binascii
import time

import pytest
from gatepost.mime.uuencode import BLOCKS_LIMIT, decode_uuencoded, find_blocks

CONTENT = bytes(range(256))


def without_blocks(text, blocks):
    """What is left of a text without its blocks: these begin and end where they say."""
    starts = [0, *(block.end for block in blocks)]
    ends = [*(block.start for block in blocks), len(text)]
    return b"".join(text[start:end] for start, end in zip(starts, ends, strict=True))


def lines(content: bytes = CONTENT) -> list[bytes]:
    return [binascii.b2a_uu(content[at : at + 45]).rstrip(b"\n") for at in range(0, len(content), 45)]


def block(
    *,
    begin: bytes = b"begin 644 evil.exe",
    body: list[bytes] | None = None,
    end: tuple[bytes, ...] = (b"`", b"end"),
) -> list[bytes]:
    return [begin, *(lines() if body is None else body), *end]


SPELLINGS = {
    "plain": block(),
    "zero as a blank": block(end=(b" ", b"end")),
    "zero as an empty line": block(end=(b"", b"end")),
    "no zero line": block(end=(b"end",)),
    "no end": block(end=(b"`",)),
    "cut after the data": block(end=()),
    "blanks behind end": block(end=(b"`", b"end  ")),
    "backquotes for blanks": block(body=[line.replace(b" ", b"`") for line in lines()]),
    "trailing blanks lost": block(body=[line.rstrip(b" ") for line in lines()]),
    "a check character behind each line": block(body=[line + b"x" for line in lines()]),
    "blanks behind each line": block(body=[line + b"  " for line in lines()]),
    "text between the lines": block(body=[lines()[0], b"this is no line of it", *lines()[1:]]),
    "four digits of mode": block(begin=b"begin 0644 evil.exe"),
    "mode of nothing": block(begin=b"begin 0 evil.exe"),
    "tabs": block(begin=b"begin\t755\tevil.exe"),
    "several blanks": block(begin=b"begin  644  evil.exe "),
    "quotes": block(begin=b'begin 644 "evil.exe"'),
    "base64": [b"begin-base64 644 evil.exe", *base64.encodebytes(CONTENT).splitlines(), b"===="],
    "base64 without an end": [b"begin-base64 644 evil.exe", *base64.encodebytes(CONTENT).splitlines()],
    "base64 in uneven lines": [
        b"begin-base64 644 evil.exe",
        *base64.b64encode(CONTENT).replace(b"/", b"/\n").split(b"\n"),
        b"====",
    ],
}


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_file_in_a_text_is_found_with_its_name_and_content(spelling, line_end):
    text = line_end.join([b"Hello,", *SPELLINGS[spelling], b"goodbye to all"]) + line_end

    (found,) = find_blocks(text)

    assert (found.name, found.content) == (b"evil.exe", CONTENT)
    assert text[found.start :].startswith(b"begin")
    rest = without_blocks(text, (found,))
    assert rest.startswith(b"Hello," + line_end)
    assert rest.endswith(b"goodbye to all" + line_end)
    assert lines()[0] not in rest


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_part_that_is_declared_so_is_decoded(spelling):
    assert decode_uuencoded(b"\r\n".join([*SPELLINGS[spelling], b""])) == CONTENT


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n".join(lines()),
        b"\r\n".join(block(begin=b"begin evil.exe")),
        b"preamble\n" + b"\n".join(block()),
    ],
)
def test_a_declared_part_needs_no_begin(body):
    assert decode_uuencoded(body) == CONTENT


def test_blocks_are_found_in_order_one_right_after_the_other():
    text = b"\n".join(
        [*block(begin=b"begin 644 a.txt", end=()), *block(begin=b"begin 600 b.txt"), b"", *block()]
    )

    found = find_blocks(text)

    assert [(one.name, one.content) for one in found] == [
        (b"a.txt", CONTENT), (b"b.txt", CONTENT), (b"evil.exe", CONTENT)
    ]  # fmt: skip
    assert without_blocks(text, found).strip() == b""


def test_a_file_without_a_name_or_lines_is_found_too():
    assert [(one.name, one.content) for one in find_blocks(b"begin 644\nend\nbegin 644 x\n")] == [
        (b"", b""), (b"x", b"")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"begin",
        b"begin 644x",
        b"We begin 644 x\n",
        b"begin the day\n",
        b"beginning 644 x",
        b"begin 648 x\n",
        b"end\n",
    ],
)
def test_a_text_without_a_file_has_none(text):
    assert find_blocks(text) == ()
    assert without_blocks(text, ()) == text


HOSTILE = {
    "begin on each line": b"begin 644 x\n" * 20_000,
    "begin without a line": b"begin" * 50_000,
    "one digit a line": b"begin 644 x\n" + b"M\n" * 100_000,
    "zero on each line": b"begin 644 x\n" + b"`\n" * 100_000,
    "blanks for a mode": b"begin " + b" " * 250_000,
    "blanks for a name": b"begin 644 " + b" " * 250_000 + b"\x00",
    "a mode without a name": b"\nbegin 7" * 30_000,
    "base64 without an end": b"begin-base64 644 x\n" + b"AAAA\n" * 50_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_any_text_is_read_in_linear_time(text):
    def seconds(octets: bytes) -> float:
        started = time.process_time()
        find_blocks(octets)
        decode_uuencoded(octets)
        return time.process_time() - started

    assert len(find_blocks(text)) <= BLOCKS_LIMIT
    tenth = max(min(seconds(text[: len(text) // 10]) for _ in range(3)), 0.005)
    assert seconds(text) < 40 * tenth
