"""The filter clamav, against a real clamd and against one that plays every fault (RELIABILITY 89)."""

import asyncio
import io
import logging
import random
import re
import socket
import sys
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from gatepost import Place, UnreachableError, Verdict
from gatepost.model.verdict import Action
from gatepost.pipeline import Pipeline, Threads
from gatepost.pipeline.decide import decide
from gatepost.pipeline.hooks import hooks_of
from gatepost.pipeline.rule import Rule
from gatepost.testing import ask_filter, make_message, make_transaction, run_filter
from gatepost_clamav import ClamAV, _takes

sys.path.insert(0, str(Path(__file__).parent))
from scanner_servers import CLAMD_BYTES, EICAR, Daemon, Script, scripted

CLAMD = pytest.mark.real("clamd")
PLACE = Place(rule="virus", folder=Path())


# --- a real clamd


@CLAMD
@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize(
    ("message", "found"),
    [
        pytest.param({"content": EICAR}, True, id="no message around it"),
        pytest.param({"text": f"Look:\n{EICAR.decode()}"}, True, id="a plain part"),
        pytest.param({"attachments": {"a.com": EICAR}}, True, id="a base64 part"),
        pytest.param({"attachments": {"a.pdf": b"%PDF-1.4"}, "text": "Hello"}, False, id="clean"),
        pytest.param({"content": b""}, False, id="an empty message"),
    ],
)
def test_clamd_sees_the_whole_message(
    clamd: Daemon,
    kind: str,
    message: dict[str, Any],
    found: bool,  # noqa: FBT001
) -> None:
    """RELIABILITY 89: EICAR."""
    verdict = run_filter(ClamAV, make_transaction(**message), address=clamd.addresses[kind])
    if not found:
        assert verdict is None
        return
    assert verdict is not None
    assert verdict.reason == "ClamAV found Eicar-Test.UNOFFICIAL"
    assert [(m.where, m.text) for m in verdict.matches] == [("message", "Eicar-Test.UNOFFICIAL")]


@CLAMD
@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("octets", [CLAMD_BYTES + 1, 8 * CLAMD_BYTES])
def test_what_clamd_refuses_to_look_at_is_not_clean(clamd: Daemon, kind: str, octets: int) -> None:
    """RELIABILITY 89: oversize."""
    with pytest.raises(ConnectionError, match="size limit exceeded"):
        run_filter(ClamAV, make_transaction(bytes(octets)), address=clamd.addresses[kind])


# --- a scripted one


async def read_instream(reader: asyncio.StreamReader) -> bytes:
    """The content that one INSTREAM command brings."""
    assert await reader.readuntil(b"\0") == b"zINSTREAM\0"
    content = b""
    while length := int.from_bytes(await reader.readexactly(4)):
        content += await reader.readexactly(length)
    return content


def answering(reply: bytes) -> Script:
    """Reads everything, answers, closes."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_instream(reader)
        writer.write(reply)
        writer.close()

    return script


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("octets", [0, 1, 1 << 20, (1 << 20) + 1])
async def test_every_octet_is_sent_as_received(tmp_path: Path, kind: str, octets: int) -> None:
    received = asyncio.Queue[bytes]()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.put_nowait(await read_instream(reader))
        writer.write(b"stream: OK\0")
        writer.close()

    content = (b"\0\r\n.\r\n\xff" * (octets // 6 + 1))[:octets]
    async with scripted(script, tmp_path if kind == "unix" else None) as server:
        assert (
            await ask_filter(ClamAV, make_transaction(content), address=server.address, watch=False) is None
        )
    assert received.get_nowait() == content


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="closing"),
        pytest.param(b"stream: OK", id="closing before the NUL"),
        pytest.param(b"\0", id="empty"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n\0", id="garbage"),
        pytest.param(b"\xff\xfe\0", id="binary"),
        pytest.param(b"INSTREAM size limit exceeded. ERROR\0", id="oversize"),
        pytest.param(b"stream: Can't allocate memory ERROR\0", id="clamd's own error"),
        pytest.param(b"stream: OK\0stream: X FOUND\0", id="two replies"),
        pytest.param(b"stream: OK \0", id="nearly OK"),
        pytest.param(b"stream:  FOUND\0", id="no signature's name"),
        pytest.param(b"stream: \x1b[2J FOUND\0", id="control characters"),
        pytest.param(b"x" * 100_000, id="endless"),
    ],
)
async def test_only_a_reply_that_says_clean_is_clean(tmp_path: Path, reply: bytes) -> None:
    """RELIABILITY 89: closing, garbage, oversize."""
    async with scripted(answering(reply)) as server:
        with pytest.raises(ConnectionError):
            await ask_filter(ClamAV, make_transaction(), address=server.address, watch=False)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"INSTREAM size limit exceeded. ERROR\0", "size limit exceeded"),
        (b"stream: OK\0", "before it had the whole message"),
    ],
)
async def test_a_reply_before_the_end_of_the_message_is_read_but_never_clean(
    tmp_path: Path, kind: str, reply: bytes, said: str
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(reply)
        writer.close()

    async with scripted(script, tmp_path if kind == "unix" else None) as server:
        with pytest.raises(ConnectionError, match=said):
            await ask_filter(ClamAV, make_transaction(bytes(8 << 20)), address=server.address, watch=False)


async def test_nor_is_it_where_the_rest_is_read_after_it(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readuntil(b"\0") == b"zINSTREAM\0"
        writer.write(b"stream: OK\0")
        await writer.drain()
        while length := int.from_bytes(await reader.readexactly(4)):
            await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with scripted(script) as server:
        with pytest.raises(ConnectionError, match="before it had the whole message"):
            await ask_filter(ClamAV, make_transaction(bytes(8 << 20)), address=server.address, watch=False)
        async with asyncio.timeout(30):
            await closed.wait()


async def test_giving_up_on_a_slow_clamd_closes_the_connection() -> None:
    """RELIABILITY 89: slow."""
    begun, closed = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_instream(reader)
        begun.set()
        assert await reader.read() == b""
        closed.set()

    async with scripted(script) as server:
        transaction = make_transaction()
        asking = asyncio.ensure_future(ask_filter(ClamAV, transaction, address=server.address, watch=False))
        async with asyncio.timeout(30):
            await begun.wait()
            asking.cancel()
            await closed.wait()
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize("address", ["unix:/nonexistent/clamd.ctl", "127.0.0.1:1", "[::1]:1"])
def test_a_clamd_that_is_down_is_a_failure(address: str) -> None:
    """RELIABILITY 89: down."""
    with pytest.raises(UnreachableError, match=re.escape(f"clamd at {address}: ")):
        run_filter(ClamAV, make_transaction(), address=address, watch=False)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("is_down", [True, False], ids=["down", "silent"])
async def test_a_dead_clamd_is_one_line_of_the_log_with_its_address(
    kind: str,
    is_down: bool,  # noqa: FBT001
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    threads = Threads()
    async with scripted(script, tmp_path if kind == "unix" else None) as silent:
        down = "unix:/nonexistent/clamd.ctl" if kind == "unix" else "127.0.0.1:1"
        address = down if is_down else silent.address
        hooks = hooks_of(ClamAV(place=PLACE, address=address, watch=False)).stages
        rule = Rule(name="virus", hooks=hooks, timeout_seconds=10 if is_down else 0.5)
        pipeline = Pipeline([rule], filter_seconds=60, threads=threads)
        for _ in range(3):
            decision = await decide(pipeline, make_transaction())
            assert decision.outcomes[0].action is Action.DEFER
    threads.close()
    (record,) = caplog.records
    assert f"clamd at {address}: " in str(record.msg)
    assert record.exc_info is None


async def test_a_clamd_that_is_started_again_is_one_more_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_instream(reader)
        writer.write(b"stream: OK\0")
        writer.close()

    threads = Threads()
    hooks = hooks_of(ClamAV(place=PLACE, address=f"unix:{tmp_path}/scripted.sock")).stages
    pipeline = Pipeline([Rule(name="virus", hooks=hooks)], filter_seconds=60, threads=threads)
    await decide(pipeline, make_transaction())
    async with scripted(script, tmp_path):
        for _ in range(2):
            assert (await decide(pipeline, make_transaction())).outcomes[0].action is Action.ACCEPT
    threads.close()
    assert [str(record.msg).split(" in ")[0] for record in caplog.records][1:] == [
        "rule virus answers again after 1 failure"
    ]


@pytest.mark.parametrize("address", ["", "clamd", "unix:clamd.ctl", "::1:3310", "host:0", "host:65536"])
def test_an_address_that_cannot_be_one_is_refused_when_the_rules_are_loaded(address: str) -> None:
    with pytest.raises(ValueError, match="expected unix:/path or host:port"):
        run_filter(ClamAV, make_transaction(), address=address, watch=False)


# --- what clamd could not look at


def encrypted_zip() -> bytes:
    """A zip whose member claims to be encrypted."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("letter.txt", b"x" * 100)
    content = bytearray(written.getvalue())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    return bytes(content)


UNSEEN = {
    "encrypted": ({"a.zip": encrypted_zip()}, "ClamAV could not look into it: Heuristics.Encrypted.Zip"),
    "limits": (
        {"a.bin": random.Random(1).randbytes(600_000)},
        "ClamAV could not scan all of it: Heuristics.Limits.Exceeded.MaxFileSize",
    ),
}


@CLAMD
@pytest.mark.parametrize("setting", UNSEEN)
def test_what_clamd_could_not_look_at_has_a_verdict_of_its_own(clamd: Daemon, setting: str) -> None:
    attachments, reason = UNSEEN[setting]
    transaction = make_transaction(attachments=attachments)

    def asked(**settings: str) -> Verdict | None:
        return run_filter(ClamAV, transaction, address=clamd.addresses["tcp"], **settings)

    usual = asked()
    assert usual is not None
    assert (usual.reason, usual.action) == (reason, None)
    for then in ("tag", "quarantine", "discard", "defer", "reject"):
        verdict = asked(**{setting: then})
        assert verdict is not None
        assert (verdict.reason, verdict.action) == (reason, Action(then))
    assert asked(**{setting: "nothing"}) is None
    other = asked(**{next(one for one in UNSEEN if one != setting): "nothing"})
    assert other is not None


@CLAMD
def test_a_virus_in_a_nested_message_is_found(clamd: Daemon) -> None:
    inner = make_message(attachments={"a.com": EICAR})
    outer = make_message(attachments={"letter.eml": inner})
    nested = b"Content-Type: message/rfc822\r\n\r\n" + outer
    for content in (outer, nested):
        verdict = run_filter(ClamAV, make_transaction(content), address=clamd.addresses["unix"])
        assert verdict is not None
        assert verdict.reason == "ClamAV found Eicar-Test.UNOFFICIAL"


async def test_a_message_that_is_too_large_is_not_sent() -> None:
    async with scripted(answering(b"stream: OK\0")) as server:
        with pytest.raises(ConnectionError, match="1,025 bytes, max_size of this rule is 1,024"):
            await ask_filter(
                ClamAV, make_transaction(bytes(1025)), address=server.address, watch=False, max_size="1KiB"
            )
        assert server.connections == 0


async def test_the_next_server_is_asked_where_the_first_fails_and_not_where_the_message_does() -> None:
    async with scripted(answering(b"")) as first, scripted(answering(b"stream: X FOUND\0")) as second:
        servers = ["127.0.0.1:1", first.address, second.address]
        verdict = await ask_filter(ClamAV, make_transaction(), address=servers, watch=False)
        assert verdict is not None
        assert verdict.reason == "ClamAV found X"
    async with (
        scripted(answering(b"INSTREAM size limit exceeded. ERROR\0")) as first,
        scripted(answering(b"stream: OK\0")) as second,
    ):
        with pytest.raises(ConnectionError, match="larger than its StreamMaxLength"):
            await ask_filter(ClamAV, make_transaction(), address=[first.address, second.address], watch=False)
        assert second.connections == 0


# --- watching


async def watched(
    place: Place, caplog: pytest.LogCaptureFixture, lines: int, address: str | list[str]
) -> list[str]:
    """The first lines of the log of a filter that watches its servers."""
    caplog.set_level(logging.INFO)
    clamav = ClamAV(place=place, address=address)
    await clamav.open()
    try:
        async with asyncio.timeout(30):
            while len(caplog.records) < lines:
                await asyncio.sleep(0.01)
    finally:
        await clamav.close()
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


@CLAMD
async def test_at_the_start_a_clamd_that_takes_less_than_the_gateway_is_reported(
    clamd: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(rule="virus", folder=Path(), message_size=CLAMD_BYTES + 1)
    address = clamd.addresses["unix"]
    version, limit = await watched(place, caplog, 2, address)
    assert re.fullmatch(rf"INFO clamd at {address} is ClamAV 1\.\S+", version)
    assert limit == (
        f"WARNING clamd at {address} refuses a message of 1,048,577 bytes, which limits.message_size allows: "
        "raise its StreamMaxLength"
    )


@CLAMD
async def test_one_that_takes_as_much_is_not(clamd: Daemon) -> None:
    with socket.create_connection(clamd.addresses["tcp"].split(":")) as connection:
        connection.settimeout(0)
        assert await _takes(connection, CLAMD_BYTES)
    with socket.create_connection(clamd.addresses["tcp"].split(":")) as connection:
        connection.settimeout(0)
        assert not await _takes(connection, CLAMD_BYTES + 1)


async def test_old_signatures_are_counted_and_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    counted: list[str] = []
    stated: list[tuple[str, str, float]] = []
    made = datetime.now().replace(microsecond=0) - timedelta(days=5)  # noqa: DTZ005 - clamd shows local time

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = await reader.readuntil(b"\0")
        if command == b"zVERSION\0":
            writer.write(f"ClamAV 1.4.6/27800/{made:%a %b %d %H:%M:%S %Y}\0".encode())
            await writer.drain()

    place = Place(
        rule="virus",
        folder=Path(),
        counter=lambda _rule, what: counted.append(what),
        data_made=lambda *what: stated.append(what),
    )
    async with scripted(script) as server:
        lines = await watched(place, caplog, 2, server.address)
        clamav = ClamAV(place=place, address=server.address)
        for _ in range(3):
            await clamav._check_versions()
    assert [line.partition(" is ")[0].partition(" of ")[0] for line in lines] == [
        f"INFO clamd at {server.address}",
        f"WARNING clamd at {server.address} has signatures",
    ]
    assert lines[1].endswith(", 5 days old")
    assert set(counted) == {"signatures_old"}
    assert set(stated) == {("virus", server.address, made.timestamp())}
    assert len(caplog.records) == 4  # two lines of each of the two filters


@pytest.mark.parametrize(
    "reply", [b"", b"ClamAV", b"ClamAV 1/2/3\0", b"x" * 5000, b"\xff\0", b"ClamAV 1.4.6"]
)
async def test_a_version_that_is_none_is_a_failure_of_the_server(
    reply: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\0")
        writer.write(reply)
        await writer.drain()

    async with scripted(script) as server, scripted(script) as other:
        clamav = ClamAV(place=PLACE, address=[server.address, other.address])
        await clamav._check_versions()
        await clamav._check_versions()
    assert [record.getMessage().partition(" fails: ")[0] for record in caplog.records] == (
        [] if reply == b"ClamAV 1.4.6" else [f"clamd at {server.address}", f"clamd at {other.address}"]
    )
