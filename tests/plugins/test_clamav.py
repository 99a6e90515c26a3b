"""The filter clamav, against a real clamd and against one that plays every fault (RELIABILITY 89)."""

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from gatepost.testing import ask_filter, make_transaction, run_filter
from gatepost_clamav import ClamAV, ClamdError

CLAMD = Path("/usr/sbin/clamd")
# in two halves, so that no scanner takes this file for the virus that it is not
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
STREAM_MAX_OCTETS = 1 << 20

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


# --- a real clamd


@pytest.fixture(scope="session")
def clamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A clamd that knows EICAR alone; its addresses by kind."""
    if not CLAMD.exists():
        pytest.skip(f"{CLAMD} is missing (Debian: clamav-daemon)")
    home = tmp_path_factory.mktemp("clamd")
    database = home / "database"
    database.mkdir()
    (database / "test.ndb").write_text(f"Eicar-Test:0:*:{EICAR.hex()}\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (home / "clamd.conf").write_text(
        f"DatabaseDirectory {database}\nForeground yes\nLocalSocket {home}/clamd.ctl\n"
        f"TCPSocket {port}\nTCPAddr 127.0.0.1\nStreamMaxLength {STREAM_MAX_OCTETS}\nMaxThreads 2\n"
    )
    with (
        (home / "output").open("wb") as output,
        subprocess.Popen([CLAMD, "-c", home / "clamd.conf"], stdout=output, stderr=output) as process,
    ):
        try:
            _wait_until_it_answers(process, port, home / "output")
            yield {"unix": f"unix:{home}/clamd.ctl", "tcp": f"127.0.0.1:{port}"}
        finally:
            process.terminate()


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail(f"clamd ended: {output.read_text()}")
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
        ):
            connection.sendall(b"zPING\0")
            if connection.recv(16) == b"PONG\0":
                return
        time.sleep(0.2)
    pytest.fail(f"clamd did not answer: {output.read_text()}")


@pytest.mark.real
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
    clamd: dict[str, str],
    kind: str,
    message: dict[str, Any],
    found: bool,  # noqa: FBT001
) -> None:
    """RELIABILITY 89: EICAR."""
    verdict = run_filter(ClamAV, make_transaction(**message), address=clamd[kind])
    if not found:
        assert verdict is None
        return
    assert verdict is not None
    assert verdict.reason == "ClamAV found Eicar-Test.UNOFFICIAL"
    assert [(m.where, m.text) for m in verdict.matches] == [("message", "Eicar-Test.UNOFFICIAL")]


@pytest.mark.real
@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("octets", [STREAM_MAX_OCTETS + 1, 8 * STREAM_MAX_OCTETS])
def test_what_clamd_refuses_to_look_at_is_not_clean(clamd: dict[str, str], kind: str, octets: int) -> None:
    """RELIABILITY 89: oversize."""
    with pytest.raises(ClamdError, match="size limit exceeded"):
        run_filter(ClamAV, make_transaction(bytes(octets)), address=clamd[kind])


# --- a scripted one


@contextlib.asynccontextmanager
async def scripted(kind: str, folder: Path, script: Script) -> AsyncIterator[str]:
    """The address of a clamd that does what the script says on each connection."""
    if kind == "unix":
        address = f"unix:{folder}/clamd.ctl"
        server = await asyncio.start_unix_server(script, path=folder / "clamd.ctl")
    else:
        server = await asyncio.start_server(script, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield address


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
    async with scripted(kind, tmp_path, script) as address:
        assert await ask_filter(ClamAV, make_transaction(content), address=address) is None
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
    async with scripted("tcp", tmp_path, answering(reply)) as address:
        with pytest.raises((ClamdError, ConnectionError)):
            await ask_filter(ClamAV, make_transaction(), address=address)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"INSTREAM size limit exceeded. ERROR\0", "size limit exceeded"),
        (b"stream: OK\0", "before it had all of it"),
    ],
)
async def test_a_reply_before_the_end_of_the_message_is_read_but_never_clean(
    tmp_path: Path, kind: str, reply: bytes, said: str
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(reply)
        writer.close()

    async with scripted(kind, tmp_path, script) as address:
        with pytest.raises(ClamdError, match=said):
            await ask_filter(ClamAV, make_transaction(bytes(8 << 20)), address=address)


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

    async with scripted("tcp", tmp_path, script) as address:
        with pytest.raises(ClamdError, match="before it had all of it"):
            await ask_filter(ClamAV, make_transaction(bytes(8 << 20)), address=address)
        async with asyncio.timeout(5):
            await closed.wait()


async def test_giving_up_on_a_slow_clamd_closes_the_connection(tmp_path: Path) -> None:
    """RELIABILITY 89: slow."""
    closed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_instream(reader)
        assert await reader.read() == b""
        closed.set()
        writer.close()

    async with scripted("tcp", tmp_path, script) as address:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ask_filter(ClamAV, make_transaction(), address=address)
        async with asyncio.timeout(5):
            await closed.wait()


@pytest.mark.parametrize("address", ["unix:/nonexistent/clamd.ctl", "127.0.0.1:1", "[::1]:1"])
def test_a_clamd_that_is_down_is_a_failure(address: str) -> None:
    """RELIABILITY 89: down."""
    with pytest.raises(OSError):
        run_filter(ClamAV, make_transaction(), address=address)


@pytest.mark.parametrize("address", ["", "clamd", "unix:clamd.ctl", "::1:3310", "host:0", "host:65536"])
def test_an_address_that_cannot_be_one_is_refused_when_the_rules_are_loaded(address: str) -> None:
    with pytest.raises(ValueError, match="expected unix:/path or host:port"):
        run_filter(ClamAV, make_transaction(), address=address)
