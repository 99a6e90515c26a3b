"""An mbox is taken apart where its writer put it together, and each message has its own bytes again."""

import mailbox
from mmap import ACCESS_READ, mmap

import pytest
from gatepost.mime.mbox import separator, split_mbox

FROM = b"From bob@example.com Mon Jan  1 12:00:00 2024\n"
ONE = b"Subject: one\n\nFirst\n"
TWO = b"Subject: two\n\nSecond\n"


def contents(data):
    return [entry.content(data) for entry in split_mbox(data)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (FROM + ONE + b"\n" + FROM + TWO + b"\n", [ONE, TWO]),
        (FROM + ONE + b"\n" + FROM + TWO, [ONE, TWO]),
        (FROM + ONE + FROM + TWO, [ONE, TWO]),  # qmail's mbox(5): a separator needs no empty line before it
        (FROM + ONE + b"\n\n\n" + FROM + TWO, [ONE + b"\n\n", TWO]),
        ((FROM + ONE + b"\n" + FROM + TWO).replace(b"\n", b"\r\n"), [ONE.replace(b"\n", b"\r\n")]),
        (FROM + b"Subject: x\n\n" + FROM + TWO, [b"Subject: x\n", TWO]),
        (FROM + b"Subject: x\n\nFrom the desk of Bob\n", [b"Subject: x\n\nFrom the desk of Bob\n"]),
        (FROM + b"Subject: x\n\nFrom Monday at 12:00 on\n", [b"Subject: x\n\nFrom Monday at 12:00 on\n"]),
        (FROM + b"Subject: x\n\nno line end", [b"Subject: x\n\nno line end"]),
        (FROM, [b""]),
        (b"", []),
        (ONE, []),
        (b"From bob\n" + ONE, []),
        (b"From \r\n" + ONE + b"\nFrom \r\n" + TWO, [ONE, TWO]),  # Thunderbird from 2024 on
        (FROM + ONE + b"\nFrom \nhere on\n", [ONE + b"\nFrom \nhere on\n"]),
        (
            FROM + b"Subject: x\n\n" + b"y" * 9_000_000 + b"\n\n" + FROM + TWO,
            [b"Subject: x\n\n" + b"y" * 9_000_000 + b"\n", TWO],
        ),
        (b"\n" + FROM + ONE, []),
    ],
)
def test_messages_are_between_separators(data, expected):
    found = contents(data)
    assert found[: len(expected)] == expected
    assert bool(found) == bool(expected)


@pytest.mark.parametrize(
    ("line", "sender"),
    [
        (b"From bob@example.com Mon Jan  1 12:00:00 2024\n", b"bob@example.com"),
        (b"From bob@example.com Mon Jan 1 12:00 2024\r\n", b"bob@example.com"),
        (b"From - Mon Jan 01 12:00:00 2024\n", b"-"),  # Thunderbird
        (b"From 1786@xxx Mon Jan 01 12:00:00 +0000 2024\n", b"1786@xxx"),  # Google Takeout
        (b"From MAILER-DAEMON Fri Jul  8 12:08:34 2011\n", b"MAILER-DAEMON"),
        (b"From bob@example.com  Mon, 01 Jan 2024 12:00:00 GMT\n", b"bob@example.com"),
        (b'From "a b"@example.com Mon Jan  1 12:00:00 UTC 2024\n', b'"a b"@example.com'),
        (b"From Mon Jan  1 12:00:00 2024\n", b""),
        (b"From \nSubject: x\n", b""),
        (b"From \r\nSubject: x\r\n", b""),
        (b"From bob@example.com\r\nReturn-Path: <bob@example.com>\r\n", b"bob@example.com"),
        (b"From bob@example.com it came\nSubject: x\n", None),
        (b"From bob\nTo: ann\n", None),
        (b"From : bob@example.com\nTo: ann\n", None),
        (b"From \n\n", None),
        (b"From \nhere on\n", None),
        (b"From bob@example.com\n", None),
        (b"From: bob@example.com Mon Jan  1 12:00:00 2024\n", None),
        (b">From bob@example.com Mon Jan  1 12:00:00 2024\n", None),
        (b"From bob Mon Jan  1 12:00:00 2024", None),
        (b"From " + b"x" * 600 + b" Mon Jan  1 12:00:00 2024\n", None),
    ],
)
def test_a_separator_has_a_date(line, sender):
    found = separator(line)
    assert (found and found[0]) == sender
    if found:
        assert line[: found[1]] == line.splitlines(keepends=True)[0]


QUOTED = b">From a\n>>From b\n>>>From c\n> From d\n>Fromage\nx >From e\n"


def test_quoted_lines_are_as_they_were():
    plain = b"From a\n>From b\n>>From c\n> From d\n>Fromage\nx >From e\n"
    assert contents(FROM + b"a: b\n\n" + QUOTED) == [b"a: b\n\n" + plain]


BODY = b"one\n\n" + FROM + b"two\n>From three\n"


def with_length(length, body=BODY):
    return b"Subject: x\nContent-Length: %d\n\n%b" % (length, body)


@pytest.mark.parametrize("after", [b"", b"\n", b"\n" + FROM + TWO, FROM + TWO])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_length_that_leads_to_the_end_of_a_message_counts_and_nothing_in_it_was_quoted(after, line_end):
    body = BODY.replace(b"\n", line_end)
    first = with_length(len(body), b"").replace(b"\n", line_end) + body
    found = contents(FROM + first + after.replace(b"\n", line_end))
    assert found == [first, *([TWO.replace(b"\n", line_end)] if TWO in after else [])]


@pytest.mark.parametrize("length", [0, 3, len(BODY) - 1, len(BODY) + 9, 10**17])
def test_a_length_that_leads_elsewhere_does_not(length):
    found = contents(FROM + with_length(length) + b"\n" + FROM + TWO)
    assert found == [with_length(length, b"one\n"), b"two\nFrom three\n", TWO]


def test_each_message_knows_its_line():
    data = FROM + ONE + b"\n" + FROM + with_length(len(BODY)) + b"\n" + FROM + ONE
    assert [entry.line for entry in split_mbox(data)] == [1, 6, 16]


def test_a_file_need_not_be_in_memory(tmp_path):
    (tmp_path / "box").write_bytes(FROM + ONE + b"\n" + FROM + with_length(len(BODY)))
    with (tmp_path / "box").open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        assert contents(data) == [ONE, with_length(len(BODY))]


def test_what_another_program_writes_is_read_back(tmp_path):
    messages = [ONE, b"Subject: x\n\nFrom here on\n\nFrom there\n", b"Subject: empty\n\n", TWO]
    written = mailbox.mbox(tmp_path / "box", create=True)
    for message in messages:
        written.add(message)
    written.close()
    assert contents((tmp_path / "box").read_bytes()) == messages


def test_a_large_file_takes_linear_time(within_yardsticks):
    lines = b"From Mon Mon Mon Mon 1:1 Mon " + b"Mon " * 100 + b"\n"
    with within_yardsticks(500):
        contents(FROM + ONE + lines * 2_000)
        contents((FROM + ONE) * 20_000)
        contents((FROM + with_length(10**6, b"x\n")) * 20_000)
        contents(FROM + b"From " * 1_000_000)
