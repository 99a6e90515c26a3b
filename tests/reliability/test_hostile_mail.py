"""Mail made to be misread or to take for ever: it is looked at all the same, within its time and memory."""

import base64
import io
import os
import re
import struct
import sys
import zipfile
from pathlib import Path

import pytest
from gatepost.testing import make_transaction, running_gateway

TOP = b"From: <eve@example.org>\r\nSubject: look\r\nMIME-Version: 1.0\r\n"
MULTIPART = TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
RULES = {
    "limits": {"header_size": "1MiB"},
    "rules": [
        {"name": "slow", "filter": "keywords", "with": {"patterns": [r"(z+)+q", r"(z|z)*y$"]}},
        {"name": "words", "filter": "keywords", "with": {"words": ["viagra"]}},
        {"name": "files", "filter": "attachments", "with": {"extensions": ["exe"], "inside_archives": True}},
    ],
}


MEMORY = 40 << 20
"""What looking at any of these messages may take; the largest have 1.4 MB, or pretend to have much more."""


def memory(name):
    """Of this process, in octets."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)[1])


@pytest.fixture(scope="module")
def send(upstream):
    """The reply to that message, and how the rules found it."""
    with running_gateway(RULES, upstream=upstream) as gateway:

        def sent(content, results=frozenset({"hit", "pass"})):
            Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held now: proc(5)
            before = memory("VmRSS")
            reply = gateway.send(make_transaction(content=content))
            assert memory("VmHWM") - before < MEMORY
            evaluations = gateway.journal()[0].evaluations
            assert {str(e.result) for e in evaluations} <= results, "none failed, none took too long"
            return reply.code, evaluations[-1].rule if evaluations else "", evaluations[-1].reason

        yield sent


def nested(levels):
    opening = b"".join(
        b"Content-Type: multipart/mixed; boundary=x%d\r\n\r\n--x%d\r\n" % (n, n) for n in range(levels)
    )
    return TOP + opening + b"Content-Type: text/plain\r\n\r\nviagra\r\n--x%d--\r\n" % (levels - 1)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(content, id=name, marks=pytest.mark.case(int(name[:2])))
        for name, content in {
            "91 nesting of 300": nested(300),
            "91 nesting of 1,000": nested(1000),
            "91 1,000 times forwarded": (TOP + b"Content-Type: message/rfc822\r\n\r\n") * 1000
            + b"\r\nviagra",
            "92 9,000 parts": MULTIPART + b"--b\r\n\r\nx\r\n" * 9_000 + b"--b\r\n\r\nviagra\r\n--b--\r\n",
            "92 40,000 fields": TOP + b"".join(b"X-%d: y\r\n" % n for n in range(40_000)) + b"\r\nviagra\r\n",
            "93 parameters": TOP + b"Content-Type: text/plain" + b"; a*0*=x" * 4_000 + b"\r\n\r\nviagra\r\n",
            "94 Message-ID": b"Message-ID: " + b"<" * 1000 + b"\r\nSubject: viagra\r\n\r\nx\r\n",
            "94 From": b'From: "\r\nSubject: viagra\r\n\r\nx\r\n',
            "94 To": b"To: " + b"(" * 1000 + b"\r\nSubject: viagra\r\n\r\nx\r\n",
            "94 no field": b" \r\nSubject viagra\r\n: x\r\n\r\nviagra\r\n",
            **{
                f"95 {charset}": TOP
                + b"Content-Type: text/plain; charset=%b\r\n\r\nviagra\r\n" % charset.encode()
                for charset in ("undefined", "idna", "zlib", "unicode_escape", "a" * 10_000)
            },
        }.items()
    ],
)
def test_the_word_is_found_however_the_message_is_made(send, content):
    assert send(content)[:2] == (550, "words")


@pytest.mark.case(92)
def test_a_message_of_40_000_parts_is_not_all_read_so_that_the_first_rule_defers_it(send):
    content = MULTIPART + b"--b\r\n\r\nx\r\n" * 40_000 + b"--b\r\n\r\nviagra\r\n--b--\r\n"
    assert send(content, {"error"})[:2] == (451, "slow")


@pytest.mark.case(90)
def test_a_regular_expression_takes_linear_time(send):
    """A backtracking engine would not come back from either of the two in this life."""
    assert send(TOP + b"\r\n" + (b"z" * 72 + b"!\r\n") * (1 << 14))[0] == 250
    assert send(TOP + b"\r\n" + (b"z" * (1 << 19) + b"!\r\n") * 2)[0] == 250
    assert send(TOP + b"\r\n" + b"z" * (1 << 19) + b"q\r\n")[:2] == (550, "slow"), "it does look"


def zipped(name, octets):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            zipfile.ZipInfo(name), octets, zipfile.ZIP_DEFLATED
        )  # dated 1980, the same bytes always
    return file.getvalue()


def overlapping(members=20_000):
    """Each entry of the directory is the same member of 1 MB."""
    member = zipped("a", bytes(1 << 20))
    begin = member.index(b"PK\1\2")
    end = member.index(b"PK\5\6")
    directory = member[begin:end] * members
    return (
        member[:begin]
        + directory
        + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, members, members, len(directory), begin, 0)
    )


def nested_archives(levels=6):
    octets = zipped("a.txt", bytes(1 << 24))
    for _ in range(levels):
        octets = zipped("a.zip", octets)
    return octets


@pytest.mark.case(96)
@pytest.mark.parametrize(
    "bomb",
    [lambda: zipped("a.txt", bytes(1 << 30)), overlapping, nested_archives],
    ids=["1 GB", "overlapping", "nested"],
)
@pytest.mark.long
def test_a_zip_bomb_is_refused_as_such(send, bomb):
    octets = base64.encodebytes(bomb()).replace(b"\n", b"\r\n")
    content = MULTIPART + b'--b\r\nContent-Disposition: attachment; filename="a.zip"\r\n'
    content += b"Content-Transfer-Encoding: base64\r\n\r\n" + octets + b"--b--\r\n"
    code, rule, reason = send(content)
    assert (code, rule) == (550, "files")
    assert "archive exceeds bounds" in reason


@pytest.fixture(scope="module")
def opened_files():
    """Python opens no file to write without being heard; a hook cannot be taken away again."""
    opened, listening = [], True

    def heard(event, arguments):
        if listening and event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            opened.append(arguments[0])

    sys.addaudithook(heard)
    yield opened
    listening = False


@pytest.mark.case(97)
@pytest.mark.parametrize(
    "parameter",
    [
        'filename="../../etc/cron.d/x.exe"',
        r'filename="C:\\..\\x.exe"',
        "filename*=utf-8''a%00.exe",
        "filename*=utf-8''%E2%80%AEgpj.exe",
        f'filename="{"a" * 10_000}.exe"',
        'filename="=?utf-8?q?a=2Eexe?="',
        'filename="a.exe. "',
    ],
)
def test_a_file_is_known_by_its_true_extension(send, opened_files, parameter):
    content = (
        MULTIPART
        + b"--b\r\nContent-Disposition: attachment; "
        + parameter.encode()
        + b"\r\n\r\nx\r\n--b--\r\n"
    )
    opened_files.clear()
    assert send(content)[:2] == (550, "files")
    assert [*map(str, opened_files)] == ["/proc/self/clear_refs"], "by this test"
