"""Scans that are asked of a scanner alone, each on a connection of its own.

python scanner_client.py clamd|spamd|rspamd ADDRESS SESSIONS SCANS OCTETS

ADDRESS is a port of loopback or the path of a Unix socket.
"""

import asyncio
import sys
import time
from collections.abc import Iterator

import uvloop
from client import result
from messages import unique_messages

RSPAMD = (
    b"POST /checkv2 HTTP/1.1\r\nHost: rspamd\r\nConnection: close\r\nIP: 127.0.0.1\r\n"
    b"From: <sender@example.org>\r\nRcpt: <recipient@example.com>\r\nContent-Length: %d\r\n\r\n"
)
REQUESTS = {
    "clamd": (lambda message: b"zINSTREAM\0" + len(message).to_bytes(4) + message + bytes(4)),
    "spamd": (lambda message: b"SYMBOLS SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(message) + message),
    "rspamd": (lambda message: RSPAMD % len(message) + message),
}
ANSWERS = {"clamd": b"stream: OK\0", "spamd": b"SPAMD/1.1 0 EX_OK\r\n", "rspamd": b"HTTP/1.1 200 "}


class Scan(asyncio.Protocol):
    """One request, and the answer until the scanner closes."""

    def __init__(self, request: bytes) -> None:
        self.request, self.answer = request, b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.answer += data

    def connection_lost(self, error: Exception | None) -> None:
        self.done.set_result(self.answer)


async def session(kind: str, address: str, messages: Iterator[bytes], count: int) -> list[float]:
    """One scan after the other: how long each took."""
    loop, times = asyncio.get_running_loop(), []
    for _ in range(count):
        request = REQUESTS[kind](next(messages))
        begin = time.perf_counter()
        if address.startswith("/"):
            _, scan = await loop.create_unix_connection(lambda request=request: Scan(request), address)
        else:
            _, scan = await loop.create_connection(
                lambda request=request: Scan(request), "127.0.0.1", int(address)
            )
        answer = await scan.done
        times.append(time.perf_counter() - begin)
        if not answer.startswith(ANSWERS[kind]):
            raise RuntimeError(f"{kind} answers {answer[:100]!r}")
    return times


async def main(kind: str, address: str, sessions: int, count: int, octets: int) -> None:
    messages = unique_messages(octets)
    next(messages)  # makes the text
    begin = time.perf_counter()
    each = await asyncio.gather(
        *(session(kind, address, messages, count // sessions) for _ in range(sessions))
    )
    print(result(time.perf_counter() - begin, {"whole": [one for times in each for one in times]}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
