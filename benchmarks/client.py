"""Sessions that send one message after the other and note how long the replies take.

python client.py PORT SESSIONS MESSAGES OCTETS reused|new
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator

import uvloop
from messages import unique_messages

ENVELOPE = (b"MAIL FROM:<sender@example.org>\r\n", b"RCPT TO:<recipient@example.com>\r\n", b"DATA\r\n")
DOT = len(ENVELOPE)
"""The step that sends a message."""


class Session(asyncio.Protocol):
    """One after the other, without pipelining."""

    def __init__(self, messages: Iterator[bytes], count: int, begin: float | None) -> None:
        self.messages, self.left, self.begin = messages, count, begin
        self.done = asyncio.get_running_loop().create_future()
        self.step = -2
        self.whole: list[float] = []
        """From MAIL, or from the beginning where that is given, to the reply to the dot."""
        self.dots: list[float] = []
        self.buffer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the connection ended: {error or 'closed'}"))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        last = self.buffer[:-2].rpartition(b"\n")[2]
        if not self.buffer.endswith(b"\r\n") or last[3:4] == b"-":
            return
        if not last.startswith((b"2", b"3")):
            self.done.set_exception(RuntimeError(last.decode()))
            self.transport.close()
            return
        self.buffer = b""
        now = time.perf_counter()
        self.step += 1
        if self.step == -1:
            self.transport.write(b"EHLO client.example\r\n")
            return
        if self.step > DOT:
            self.whole.append(now - self.begin)
            self.dots.append(now - self.sent)
            self.left -= 1
            self.step = 0
            if not self.left:
                self.transport.write(b"QUIT\r\n")
                self.done.set_result(None)
                self.transport.close()
                return
        if self.step == 0 and (self.whole or self.begin is None):
            self.begin = now
        self.sent = now
        self.transport.write(ENVELOPE[self.step] if self.step < DOT else next(self.messages) + b".\r\n")


async def sender(port: int, messages: Iterator[bytes], count: int, *, reuse: bool) -> list[Session]:
    """One client, with one connection or with one for each message."""
    sessions = []
    for part in [count] if reuse else [1] * count:
        session = Session(messages, part, None if reuse else time.perf_counter())
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda session=session: session, "127.0.0.1", port)
        await session.done
        sessions.append(session)
    return sessions


def result(seconds: float, times: dict[str, list[float]]) -> str:
    """As JSON: how many a second, and the milliseconds that half of them and 99 % of them took at most."""
    found = {"rate": len(next(iter(times.values()))) / seconds}
    for name, each in times.items():
        each.sort()
        found |= {f"{name} p{part}": each[len(each) * part // 100] * 1000 for part in (50, 99)}
    return json.dumps(found)


async def main(port: int, clients: int, count: int, octets: int, *, reuse: bool) -> None:
    messages = unique_messages(octets)
    next(messages)  # makes the text
    begin = time.perf_counter()
    senders = [sender(port, messages, count // clients, reuse=reuse) for _ in range(clients)]
    sessions = [session for sent in await asyncio.gather(*senders) for session in sent]
    took = time.perf_counter() - begin
    names = ("whole", "dots")
    times = {name: [one for session in sessions for one in getattr(session, name)] for name in names}
    print(result(took, times))


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:5]), reuse=sys.argv[5] == "reused"))
