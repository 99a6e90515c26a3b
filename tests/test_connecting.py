"""A server is connected by its name or address, without the event loop's own lookups."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import gatepost.connecting
import pytest
import uvloop
from gatepost import connect

NO_FAMILY = 12
"""DECnet, which Linux does not have any more."""


class WithoutLookups(uvloop.Loop):
    """Whose threads for lookups are all waiting for name servers, so to speak."""

    async def getaddrinfo(self, *_args: object, **_named: object) -> NoReturn:
        raise AssertionError("the loop looked an address up")


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=WithoutLookups) as runner:
        runner.run(coroutine)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_server_is_connected(host: str) -> None:
    async def go(address: tuple[str, int]) -> None:
        with await connect(host, address[1]) as connection:
            assert connection.getpeername() == address
            assert connection.gettimeout() == 0

    with socket.create_server(("127.0.0.1", 0)) as listening:
        run(go(listening.getsockname()))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_server_that_is_not_there_refuses(host: str) -> None:
    async def go(port: int) -> None:
        with pytest.raises(OSError, match=r"\[Errno 111\] Connection refused"):
            await connect(host, port)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    run(go(port))


@pytest.mark.parametrize("is_there", [True, False])
def test_a_connection_is_waited_for(*, is_there: bool) -> None:
    async def go() -> None:
        with (
            socket.create_server(("127.0.0.1", 0), backlog=0) as listening,
            socket.create_connection(listening.getsockname()),  # its queue is full now
        ):
            connecting = asyncio.ensure_future(connect(*listening.getsockname()))
            await asyncio.sleep(0)
            assert not connecting.done()
            if is_there:
                listening.accept()[0].close()
                with await connecting as connection, listening.accept()[0] as accepted:
                    assert accepted.getpeername() == connection.getsockname()
            else:
                listening.close()
                with pytest.raises(ConnectionRefusedError):
                    await connecting

    run(go())


def test_an_address_on_this_machine_is_connected_without_a_wait() -> None:
    async def go(address: tuple[str, int]) -> None:
        connecting = connect(*address)
        with pytest.raises(StopIteration) as ended:
            connecting.send(None)
        ended.value.value.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        run(go(listening.getsockname()))


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A resolver that does not answer until this is called; then each name is one of this machine."""
    answers = threading.Event()
    look_up = gatepost.connecting._found

    def found(host: str, port: int, flags: int = 0) -> Any:
        if flags or host == "localhost":
            return look_up(host, port, flags)
        asked.append(host)
        answers.wait(60)
        return look_up("127.0.0.1", port)

    asked = found.asked = []  # type: ignore[attr-defined]
    monkeypatch.setattr(gatepost.connecting, "_found", found)
    return answers.set


def test_names_without_an_answer_hold_no_other_name_up_and_each_is_asked_for_once(
    dead: Callable[[], None],
) -> None:
    async def go(port: int) -> None:
        stuck = [asyncio.ensure_future(connect(f"dead{number % 10}.example", port)) for number in range(40)]
        begin = time.monotonic()
        (await connect("localhost", port)).close()
        assert time.monotonic() - begin < 30
        given_up = stuck.pop()
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert sorted(gatepost.connecting._found.asked) == [f"dead{number}.example" for number in range(10)]
        dead()
        for one in stuck:
            (await one).close()
        assert not gatepost.connecting._lookups

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        run(go(listening.getsockname()[1]))


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Where names lead to, for each lookup."""
    places: list[tuple[str, int]] = []
    look_up = gatepost.connecting._found

    def found(host: str, port: int, flags: int = 0) -> Any:
        return look_up(host, port, flags) if flags else look_up(*places.pop(0))

    monkeypatch.setattr(gatepost.connecting, "_found", found)
    monkeypatch.setattr(gatepost.connecting, "_known", {})
    return places


def test_a_name_is_looked_up_once_in_some_seconds(moving: list[tuple[str, int]]) -> None:
    async def go() -> None:
        for _ in range(5):
            (await connect("moving.example", 25)).close()
        assert len(moving) == 1
        [(name, (until, addresses))] = gatepost.connecting._known.items()
        assert time.monotonic() < until <= time.monotonic() + 5
        gatepost.connecting._known[name] = (time.monotonic(), addresses)
        (await connect("moving.example", 25)).close()
        assert not moving

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        moving += [listening.getsockname()] * 2
        run(go())


def test_a_server_that_has_moved_is_found_at_once(moving: list[tuple[str, int]]) -> None:
    async def go(here: tuple[str, int]) -> None:
        with await connect("moving.example", 25) as connection:
            assert connection.getpeername() == here

    with socket.create_server(("127.0.0.1", 0)) as first:
        moving.append(first.getsockname())
        run(go(first.getsockname()))
        run(go(first.getsockname()))
    with socket.create_server(("127.0.0.2", 0)) as second:
        moving.append(second.getsockname())
        run(go(second.getsockname()))
    moving.append(first_of_nothing := ("127.0.0.1", 1))
    with pytest.raises(ConnectionRefusedError):
        run(go(first_of_nothing))


def test_a_server_that_does_not_answer_is_looked_up_again(moving: list[tuple[str, int]]) -> None:
    async def go(here: tuple[str, int]) -> None:
        moving.append(here)
        (await connect("moving.example", 25)).close()  # with this one its queue is full
        given_up = asyncio.ensure_future(connect("moving.example", 25))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert not gatepost.connecting._known

    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        run(go(listening.getsockname()))


def test_not_too_many_names_are_remembered(
    moving: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatepost.connecting, "_REMEMBERED", 3)

    async def go() -> None:
        for number in range(10):
            (await connect(f"{number}.example", 25)).close()
            assert len(gatepost.connecting._known) <= 3

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        moving += [listening.getsockname()] * 10
        run(go())


def test_the_end_of_the_loop_does_not_wait_for_a_name(dead: Callable[[], None]) -> None:
    async def go() -> None:
        connecting = asyncio.ensure_future(connect("dead.example", 1))
        await asyncio.sleep(0)
        connecting.cancel()

    run(go())
    assert len(gatepost.connecting._lookups) == 1
    dead()
    until = time.monotonic() + 30
    while gatepost.connecting._lookups:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_next_address_is_tried_on_a_machine_without_the_first_ones_family(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def go(here: tuple[str, int]) -> None:
        addresses = [(NO_FAMILY, ("::1", 25, 0, 0)), (socket.AF_INET, here)]
        monkeypatch.setattr(gatepost.connecting, "_found", lambda *_: addresses)
        with await connect("both.example", 25) as connection:
            assert connection.getpeername() == here
        del addresses[1]
        with pytest.raises(OSError, match=r"^\[Errno 97\] Address family not supported by protocol$"):
            await connect("both.example", 25)
        addresses += [(socket.AF_INET, ("127.0.0.1", 1))] * 2
        with pytest.raises(OSError, match=r"^\[Errno 97\] [^;]+; \[Errno 111\] Connection refused$"):
            await connect("both.example", 25)
        del addresses[0]
        with pytest.raises(ConnectionRefusedError):
            await connect("both.example", 25)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        run(go(listening.getsockname()))


async def test_what_cannot_be_a_name_is_an_error() -> None:
    with pytest.raises(UnicodeError):
        await connect("a" * 64 + ".example", 25)
