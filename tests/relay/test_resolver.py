"""The addresses of servers are connected without the event loop's own lookups."""

import asyncio
import socket
from typing import NoReturn

import pytest
import uvloop
from gatepost.relay.resolver import Resolver


class WithoutLookups(uvloop.Loop):
    """Whose threads for lookups are all waiting for name servers, so to speak."""

    async def getaddrinfo(self, *_args: object, **_named: object) -> NoReturn:
        raise AssertionError("an address was looked up")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_name_is_connected_while_the_loop_can_look_nothing_up(*, is_there: bool) -> None:
    async def connect(port: int) -> None:
        connection = await Resolver().connect("localhost", port)
        with connection:
            assert connection.getpeername()[1] == port

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        if not is_there:
            listening.close()
        with asyncio.Runner(loop_factory=WithoutLookups) as runner:
            if is_there:
                runner.run(connect(port))
            else:
                with pytest.raises(ConnectionRefusedError):
                    runner.run(connect(port))
