"""Sessions that send one message after the other and note how long the replies take.

python client.py PORT SESSIONS MESSAGES OCTETS reused|new
"""

import asyncio
import json
import sys
import time

import uvloop

LINE = b"x" * 70 + b"\r\n"
HEADER = b"From: <sender@example.org>\r\nSubject: timed\r\n\r\n"
ENVELOPE = (b"MAIL FROM:<sender@example.org>\r\n", b"RCPT TO:<recipient@example.com>\r\n", b"DATA\r\n")


class Session(asyncio.Protocol):
    """One after the other, without pipelining."""

    def __init__(self, steps: tuple[bytes, ...], messages: int, begin: float | None) -> None:
        self.steps, self.left, self.begin = steps, messages, begin
        self.done = asyncio.get_running_loop().create_future()
        self.step = -2
        self.whole: list[float] = []
        """From MAIL, or from the beginning where that is given, to the reply to the dot."""
        self.dots: list[float] = []
        self.buffer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

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
        if self.step == len(self.steps):
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
        self.transport.write(self.steps[self.step])


async def sender(port: int, steps: tuple[bytes, ...], messages: int, *, reuse: bool) -> list[Session]:
    """One client, with one connection or with one for each message."""
    sessions = []
    for count in [messages] if reuse else [1] * messages:
        session = Session(steps, count, None if reuse else time.perf_counter())
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda session=session: session, "127.0.0.1", port)
        await session.done
        sessions.append(session)
    return sessions


async def main(port: int, clients: int, messages: int, octets: int, *, reuse: bool) -> None:
    steps = (*ENVELOPE, HEADER + LINE * max((octets - len(HEADER)) // len(LINE), 1) + b".\r\n")
    senders = [sender(port, steps, messages // clients, reuse=reuse) for _ in range(clients)]
    sessions = [session for sent in await asyncio.gather(*senders) for session in sent]
    result = {}
    for name in ("whole", "dots"):
        times = sorted(seconds for session in sessions for seconds in getattr(session, name))
        for part in (50, 99):
            result[f"{name} p{part}"] = times[len(times) * part // 100] * 1000
    print(json.dumps(result))


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:5]), reuse=sys.argv[5] == "reused"))
