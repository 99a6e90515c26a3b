"""The filter spamassassin, against Debian's spamd and against one that plays every fault."""

import asyncio
import base64
import contextlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from gatepost import Action, AddHeader, Place, RemoveHeader, UnreachableError, Verdict
from gatepost.model.edits import apply
from gatepost.testing import ask_all, ask_filter, make_message, make_transaction, run_all, run_filter
from gatepost_spamassassin import SpamAssassin

sys.path.insert(0, str(Path(__file__).parent))
from scanner_servers import GTUBE, Daemon, Script, scripted

SPAMD = pytest.mark.real("spamd")
LONG = b"Subject: a\r\n\r\n" + b"a line of words\r\n" * 20_000
PILLS = {"text": "Buy cheap pills now"}


# --- the real one


@SPAMD
@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"text": f"Look:\n{GTUBE}"}, id="plain"),
        pytest.param({"html": f"<p>Look: {GTUBE}</p>"}, id="html"),
        pytest.param(
            {
                "content": b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
                + base64.encodebytes(GTUBE.encode()).replace(b"\n", b"\r\n")
            },
            id="base64",
        ),
        pytest.param(
            {
                "content": b"Content-Type: message/rfc822\r\n\r\n"
                b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n"
                + GTUBE.encode()
                + b"\r\n--b--\r\n"
            },
            id="nested",
        ),
    ],
)
def test_the_public_test_string_is_spam_in_every_form(
    spamd: Daemon, kind: str, message: dict[str, Any]
) -> None:
    verdict = run_filter(SpamAssassin, make_transaction(**message), address=spamd.addresses[kind])
    assert verdict is not None
    assert (verdict.action, verdict.score) == (Action.TAG, 1000.0)
    assert verdict.reason == "SpamAssassin: score 1000 of 5: GTUBE"
    assert [(one.where, one.text) for one in verdict.matches] == [("symbol", "GTUBE")]


@SPAMD
@pytest.mark.parametrize("content", [b"", b"\r\n", b"Subject: a\n\nbare line ends\n", LONG])
def test_other_mail_is_no_hit_and_an_empty_message_does_not_hang(spamd: Daemon, content: bytes) -> None:
    assert run_filter(SpamAssassin, make_transaction(content), address=spamd.addresses["tcp"]) is None


@SPAMD
def test_with_all_each_message_counts_its_score_also_one_that_speaks_for_it(spamd: Daemon) -> None:
    def score(**message: Any) -> float:
        (hit,) = run_all(
            SpamAssassin, make_transaction(**message), address=spamd.addresses["tcp"], hits="all"
        )
        assert hit.verdict.action is Action.TAG
        return hit.verdict.score

    assert score(**PILLS) == 3.5
    assert score(headers={"From": "friend@example.org"}) == -2.0
    assert score(text="Minutes") == 0.0


@SPAMD
@pytest.mark.parametrize(
    ("settings", "users"),
    [
        ({"user": "{recipient}"}, {"ann@example.com", "bob@example.com", "(unknown)"}),
        ({"user": "{local_part}"}, {"ann", "bob", "(unknown)"}),
        ({"user": "bob"}, {"bob"}),
        ({}, {"(unknown)"}),
        ({"user": "{recipient}", "users_limit": 2}, {"(unknown)"}),
    ],
)
def test_spamd_is_asked_for_each_user(spamd: Daemon, settings: dict[str, Any], users: set[str]) -> None:
    recipients = ["Ann@example.com", "bob@example.com", '"a/../b"@example.com']
    transaction = make_transaction(**PILLS, recipients=recipients)
    before = len(spamd.log)
    run_all(SpamAssassin, transaction, address=spamd.addresses["tcp"], **settings)
    assert set(re.findall(r"checking message \S+ for (\S+):\d+\n", spamd.log[before:])) == users


@SPAMD
def test_a_scan_that_was_cut_off_is_a_failure(spamd: Daemon) -> None:
    message = make_transaction(headers={"X-Sleep": "1"}, text=GTUBE)
    with pytest.raises(ConnectionError, match="cut the scan off at its time limit"):
        run_filter(SpamAssassin, message, address=spamd.addresses["tcp"])


# --- what a hit does to the message


def answer(body: bytes = b"A,B", *, spam: str = "True ; 7.5 / 5.0", length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return f"SPAMD/1.1 0 EX_OK\r\nContent-length: {length}\r\nSpam: {spam}\r\n\r\n".encode() + body


def answering(reply: bytes) -> Script:
    """Reads the whole request, answers, closes."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(reply)
        await writer.drain()

    return script


async def read_request(reader: asyncio.StreamReader) -> tuple[list[str], bytes]:
    """The lines of the header and the message."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    (length,) = [int(line.partition(":")[2]) for line in head if line.startswith("Content-length:")]
    return head, await reader.readexactly(length)


async def asked(reply: bytes, content: bytes | None = None, **settings: Any) -> Verdict | None:
    async with scripted(answering(reply)) as server:
        transaction = make_transaction() if content is None else make_transaction(content)
        return await ask_filter(SpamAssassin, transaction, address=server.address, **settings)


async def test_the_senders_own_fields_are_replaced() -> None:
    forged = make_message(headers={"x-spam-FLAG": "NO", "X-Spam-Status": "No, score=-99", "X-Other": "kept"})
    verdict = await asked(answer(), forged)
    assert verdict is not None
    head = b"".join(apply(forged, verdict.edits)).partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head[:4] == [
        "X-Spam-Flag: YES",
        "X-Spam-Level: *******",
        "X-Spam-Score: 7.5",
        "X-Spam-Status: Yes, score=7.5 required=5.0 tests=A, B",
    ]
    assert [line for line in head[4:] if line.lower().startswith("x-spam")] == []
    assert "X-Other: kept" in head


async def test_ham_that_counts_is_not_flagged_and_fields_can_be_left_alone() -> None:
    ham = await asked(answer(b"", spam="False ; -0.5 / 5.0"), hits="all")
    assert ham is not None
    assert [edit for edit in ham.edits if isinstance(edit, AddHeader)] == [
        AddHeader("X-Spam-Status", "No, score=-0.5 required=5.0 tests=none"),
        AddHeader("X-Spam-Score", "-0.5"),
    ]
    assert RemoveHeader("X-Spam-Flag") in ham.edits
    plain = await asked(answer(), fields=False)
    assert plain is not None
    assert (plain.edits, plain.action) == ((), Action.TAG)


async def test_hundreds_of_symbols_fit_into_one_field() -> None:
    verdict = await asked(answer(",".join(f"SYMBOL_{number}" for number in range(2000)).encode()))
    assert verdict is not None
    assert verdict.reason.endswith("and 1960 more")
    content = b"".join(apply(make_message(), verdict.edits))
    assert max(map(len, content.split(b"\r\n"))) < 998


async def test_each_user_is_asked_about_once_and_each_recipient_has_its_users_verdict() -> None:
    users: list[str] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        user = "".join(line.partition(": ")[2] for line in head if line.startswith("User: "))
        users.append(user)
        writer.write(answer(spam="True ; 7.5 / 5.0" if user == "ann@example.com" else "False ; 1.0 / 5.0"))
        await writer.drain()

    recipients = ["Ann@example.com", "bob@example.com", "ann@EXAMPLE.com", "../x@example.com", "postmaster"]
    async with scripted(script) as server:
        transaction = make_transaction(recipients=recipients)
        hits = await ask_all(SpamAssassin, transaction, address=server.address, user="{recipient}")
    assert sorted(users) == ["", "ann@example.com", "bob@example.com", "postmaster"]
    assert {hit.recipient for hit in hits} == {"Ann@example.com", "ann@EXAMPLE.com"}


# --- bad answers


@pytest.mark.parametrize("size", [0, 1, 2, 65536, 1 << 20])
async def test_the_whole_message_is_sent_with_its_length(size: int) -> None:
    received = asyncio.Queue[tuple[list[str], bytes]]()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.put_nowait(await read_request(reader))
        writer.write(answer(spam="False ; 1.0 / 5.0"))
        await writer.drain()

    content = (b"\0\r\n.\r\n\xff" * (size // 6 + 1))[:size]
    async with scripted(script) as server:
        assert await ask_filter(SpamAssassin, make_transaction(content), address=server.address) is None
    head, message = received.get_nowait()
    assert head == ["SYMBOLS SPAMC/1.5", f"Content-length: {len(message)}"]
    assert message == (content or b"\r\n"), "for no content spamd would wait"


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="closing"),
        pytest.param(answer()[:-1], id="closing early"),
        pytest.param(answer()[:20], id="closing in the header"),
        pytest.param(answer() + b"x", id="too long"),
        pytest.param(answer() + answer(), id="twice"),
        pytest.param(answer(length=2), id="length too small"),
        pytest.param(answer().replace(b"Content-length", b"Length"), id="no length"),
        pytest.param(answer(length=3).replace(b"Spam:", b"Content-length: 3\r\nSpam:"), id="two lengths"),
        pytest.param(answer().replace(b"Spam:", b"Ham:"), id="no result"),
        pytest.param(answer(spam="Maybe ; 1.0 / 5.0"), id="no such result"),
        pytest.param(answer(spam="False ; nan / 5.0"), id="not a number"),
        pytest.param(answer(spam="False ; 1e400 / 5.0"), id="infinite"),
        pytest.param(answer(b"A B"), id="not a symbol"),
        pytest.param(answer("Ä".encode()), id="not ASCII"),
        pytest.param(answer().replace(b" 0 EX_OK", b" 1 EX_OK"), id="other status"),
        pytest.param(answer().replace(b" 0 EX_OK", b""), id="no status"),
        pytest.param(answer().replace(b"\r\n", b"\n"), id="line ends"),
        pytest.param(b"SPAMD/1.0 76 Bad header line: x\r\n", id="its own error"),
        pytest.param(b"SPAMD/1.1 79 EX_TIMEOUT\r\n\r\n", id="its own time-out"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", id="another protocol"),
        pytest.param(b"\xff\0" * 50, id="binary"),
        pytest.param(b"x" * 1_000_000, id="endless"),
        pytest.param(b"SPAMD/1.1 0 EX_OK\r\n" + b"A: :::::::::::::::::\r\n" * 5000, id="endless header"),
    ],
)
async def test_only_a_whole_answer_is_an_answer(reply: bytes) -> None:
    with pytest.raises(ConnectionError, match="spamd at 127"):
        await asked(reply)


@pytest.mark.parametrize("is_unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("reads_on", [False, True])
async def test_an_answer_before_the_end_of_the_message_is_no_answer(
    tmp_path: Path,
    is_unix: bool,  # noqa: FBT001
    reads_on: bool,  # noqa: FBT001
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(answer(spam="False ; 0.0 / 5.0"))
        await writer.drain()
        if reads_on:
            with contextlib.suppress(asyncio.LimitOverrunError):
                await reader.readexactly(8 << 20)

    async with scripted(script, tmp_path if is_unix else None) as server:
        with pytest.raises(ConnectionError, match="before it had the whole message"):
            await ask_filter(SpamAssassin, make_transaction(bytes(8 << 20)), address=server.address)


async def test_a_slow_answer_is_waited_for_byte_by_byte() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in answer():
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with scripted(script) as server:
        verdict = await ask_filter(SpamAssassin, make_transaction(), address=server.address)
    assert verdict is not None
    assert verdict.score == 7.5


@pytest.mark.parametrize("user", ["", "{recipient}"])
async def test_the_end_of_the_rules_time_says_who_was_waited_for(user: str, tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted(script) as server:
        transaction = make_transaction(recipients=["a@example.com", "b@example.com"])
        place = Place(rule="spam", folder=tmp_path)
        spamassassin = SpamAssassin(place=place, address=server.address, user=user)
        asking = asyncio.ensure_future(spamassassin.filter_message(transaction))
        async with asyncio.timeout(30):
            while server.connections < (2 if user else 1):
                await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(TimeoutError, match="spamd"):
            await asking


async def test_a_large_message_is_not_sent() -> None:
    async with scripted(answering(answer())) as server:
        with pytest.raises(ConnectionError, match="1,025 bytes, max_size of this rule is 1,024"):
            await ask_filter(
                SpamAssassin, make_transaction(bytes(1025)), address=server.address, max_size="1KiB"
            )
        assert server.connections == 0


def test_a_dead_spamd_is_unreachable() -> None:
    with pytest.raises(UnreachableError, match=r"spamd at 127\.0\.0\.1:1: "):
        run_filter(SpamAssassin, make_transaction(), address="127.0.0.1:1")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"address": []}, "expected at least one"),
        ({"address": ["127.0.0.1:783", "127.0.0.1:783"]}, "the same server twice"),
        ({"address": "spamd"}, "expected unix:/path or host:port"),
        ({"user": "a b"}, "expected a name"),
        ({"user": "{sender}"}, "expected a name"),
        ({"users_limit": 0}, "expected at least 1"),
        ({"hits": "ham"}, "hits"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_the_rules_are_loaded(
    settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        run_filter(SpamAssassin, make_transaction(), **settings)
