"""Several servers of one service: which is asked, what is logged, and when none is."""

import asyncio
import contextlib
import socket
import struct
import sys
import time
from pathlib import Path

import pytest
from gatepost import Place, UnreachableError
from gatepost_servers import FinalError, Servers, exchange

sys.path.insert(0, str(Path(__file__).parent))
from scanner_servers import Script, scripted

NOBODY = "127.0.0.1:1"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(rule="r", folder=tmp_path)


def answering(reply: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(4) == b"ask\n"
        writer.write(reply)
        await writer.drain()

    return script


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()
    await asyncio.Event().wait()


async def question(connection: socket.socket) -> bytes:
    answer, complete = await exchange(connection, [b"as", b"k\n"], limit_bytes=100)
    if not complete or not answer:
        raise ConnectionError("no answer")
    if answer == b"final":
        raise FinalError("the message is at fault")
    return answer


async def test_the_first_that_answers_is_asked_and_a_dead_one_only_once_in_a_while(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    async with scripted(answering(b"")) as first, scripted(answering(b"yes")) as second:
        servers = Servers("service", [NOBODY, first.address, second.address], place, lambda: now[0])
        for _ in range(5):
            assert await servers.ask(question) == b"yes"
        assert (first.connections, second.connections) == (1, 5)
        assert [record.getMessage() for record in caplog.records] == [
            f"service at {NOBODY} fails: [Errno 111] Connection refused",
            f"service at {first.address} fails: no answer",
        ]
        now[0] += 11
        assert await servers.ask(question) == b"yes"
        assert (first.connections, second.connections) == (2, 6)
    assert len(caplog.records) == 2  # one line per outage


async def test_one_that_comes_back_is_the_first_again_and_the_log_has_one_more_line(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    replies = [b"", b"first", b"first"]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(replies.pop(0))(reader, writer)

    async with scripted(script) as first, scripted(answering(b"second")) as second:
        servers = Servers("service", [first.address, second.address], place, lambda: now[0])
        assert await servers.ask(question) == b"second"
        now[0] += 11
        assert await servers.ask(question) == b"first"
        assert await servers.ask(question) == b"first"
    assert [record.getMessage() for record in caplog.records] == [
        f"service at {first.address} fails: no answer",
        f"service at {first.address} answers again",
    ]


@pytest.mark.parametrize("seconds", [0.5, 5.0])
async def test_one_that_does_not_answer_for_long_is_asked_last_by_the_next_message(
    place: Place, caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    """A question is also cancelled if an earlier rule decides, which says nothing about the server."""
    now = [1000.0]
    async with scripted(silent) as first, scripted(answering(b"yes")) as second:
        servers = Servers("service", [first.address, second.address], place, lambda: now[0])
        asking = asyncio.ensure_future(servers.ask(question))
        async with asyncio.timeout(30):
            while not first.connections:
                await asyncio.sleep(0.01)
        now[0] += seconds
        asking.cancel()
        with pytest.raises(TimeoutError, match=f"^service at {first.address}: connected, no answer$"):
            await asking
        assert servers._in_order()[0].address == (first if seconds < 1 else second).address
    fails = f"service at {first.address} fails: connected, no answer"
    assert [record.getMessage() for record in caplog.records] == [fails] * (seconds > 1)


async def test_while_one_message_waits_for_a_server_that_failed_the_others_do_not(place: Place) -> None:
    now = [1000.0]
    async with scripted(silent) as first, scripted(answering(b"yes")) as second:
        servers = Servers("service", [first.address, second.address], place, lambda: now[0])
        for times in (1, 2):
            waiting = asyncio.ensure_future(servers.ask(question))
            async with asyncio.timeout(30):
                while first.connections < times:
                    await asyncio.sleep(0.01)
                if times == 2:
                    assert [await servers.ask(question) for _ in range(3)] == [b"yes"] * 3
            now[0] += 11
            waiting.cancel()
            with pytest.raises(TimeoutError):
                await waiting
            now[0] += 11
    assert (first.connections, second.connections) == (2, 3)


async def test_a_message_that_makes_servers_fail_reaches_two_of_them(place: Place) -> None:
    async with contextlib.AsyncExitStack() as stack:
        found = [await stack.enter_async_context(scripted(answering(b""))) for _ in range(4)]
        servers = Servers("service", [server.address for server in found], place)
        with pytest.raises(ConnectionError) as raised:
            await servers.ask(question)
        assert type(raised.value) is ConnectionError  # not what keeps the rule from being asked
        assert [server.connections for server in found] == [1, 1, 0, 0]


async def test_where_the_message_is_at_fault_no_other_server_is_asked(place: Place) -> None:
    async with scripted(answering(b"final")) as first, scripted(answering(b"yes")) as second:
        servers = Servers("service", [first.address, second.address], place)
        for _ in range(2):
            with pytest.raises(FinalError, match=f"^service at {first.address}: the message is at fault$"):
                await servers.ask(question)
        assert (first.connections, second.connections) == (2, 0)


async def test_without_any_connection_all_addresses_are_named(place: Place) -> None:
    servers = Servers("service", [NOBODY, "unix:/nonexistent/x", "[::1]:1"], place)
    with pytest.raises(UnreachableError) as raised:
        await servers.ask(question)
    assert [f"service at {address}: " in str(raised.value) for address in servers.addresses] == [True] * 3


async def test_a_server_that_answers_at_once_and_too_much_is_not_read_to_the_end(place: Place) -> None:
    async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with scripted(endless) as server:
        with pytest.raises(FinalError, match="more than 100 bytes"):
            await Servers("service", server.address, place).ask(question)


async def test_a_unix_socket_whose_queue_is_full_is_waited_for(tmp_path: Path, place: Place) -> None:
    path = tmp_path / "full.sock"
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as stack:
        listening.bind(str(path))
        listening.listen(0)
        listening.settimeout(30)
        while True:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.settimeout(0)
            try:
                waiting.connect(str(path))
            except BlockingIOError:
                break
        asking = asyncio.ensure_future(Servers("service", f"unix:{path}", place).ask(question))
        await asyncio.sleep(0)
        assert not asking.done()

        def serve() -> None:
            until = time.monotonic() + 30
            while time.monotonic() < until:
                connection, _ = listening.accept()
                with connection:
                    if connection.recv(4, socket.MSG_WAITALL):
                        connection.sendall(b"yes")
                        return

        stack.close()
        await asyncio.to_thread(serve)
        assert await asking == b"yes"


async def test_an_answer_after_the_last_byte_is_no_early_one_although_an_empty_piece_follows(
    place: Place,
) -> None:
    async def ask_with_nothing_more(connection: socket.socket) -> bytes:
        answer, complete = await exchange(connection, [b"ask\n", b"", b""], limit_bytes=100)
        assert complete
        return answer

    async with scripted(answering(b"yes")) as server:
        servers = Servers("service", server.address, place)
        for _ in range(20):
            assert await servers.ask(ask_with_nothing_more) == b"yes"


async def test_all_can_be_asked_at_the_same_time(place: Place) -> None:
    async with scripted(answering(b"yes")) as first, scripted(answering(b"")) as second:
        servers = Servers("service", [first.address, NOBODY, second.address], place)
        found = await servers.ask_each(question)
    assert list(found) == [first.address, NOBODY, second.address]
    assert found[first.address] == b"yes"
    assert isinstance(found[NOBODY], OSError)
    assert str(found[second.address]) == "no answer"


@pytest.mark.parametrize(
    ("pieces", "sent"),
    [
        ([10, 4, 1000, 4], [1018]),
        ([10, 4, 20_000, 4], [14, 20_000, 4]),
        ([10, 9_000, 9_000, 1], [9_010, 9_001]),
        ([0, 5], [5]),
        ([16 << 10, 1], [16 << 10, 1]),
    ],
)
async def test_small_pieces_are_sent_together(pieces: list[int], sent: list[int]) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # shows what is sent at once
    with here, there:
        here.settimeout(0)
        content = [bytes([number]) * length for number, length in enumerate(pieces)]
        asking = asyncio.ensure_future(exchange(here, content, limit_bytes=100))
        there.settimeout(60)
        packets = [await asyncio.to_thread(there.recv, 1 << 16) for _ in sent]
        there.sendall(b"yes")
        there.shutdown(socket.SHUT_WR)
        assert await asking == (b"yes", True)
    assert [len(packet) for packet in packets] == sent
    assert b"".join(packets) == b"".join(content)


async def test_a_question_that_is_given_up_no_longer_watches_its_socket() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(0)
        asking = asyncio.ensure_future(exchange(here, [b"ask\n"], limit_bytes=100))
        assert await asyncio.to_thread(there.recv, 100) == b"ask\n"
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not asyncio.get_running_loop().remove_reader(here)
        there.sendall(b"late")
        await asyncio.sleep(0)
        assert here.recv(100) == b"late"


@pytest.mark.parametrize("sent", [b"", b"yes"])
async def test_an_answer_that_ends_with_a_reset_is_not_complete(sent: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as here:
        here.connect(listening.getsockname())
        here.settimeout(0)
        there, _ = await asyncio.to_thread(listening.accept)
        asking = asyncio.ensure_future(exchange(here, [b"ask\n"], limit_bytes=100))
        with there:
            assert await asyncio.to_thread(there.recv, 100) == b"ask\n"
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            there.sendall(sent)
        if sent:
            assert await asking == (sent, False)
        else:
            with pytest.raises(ConnectionResetError):
                await asking
