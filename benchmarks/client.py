"""Sessions that send one message after the other and note how long the replies take.

python client.py PORT SESSIONS MESSAGES
"""

import asyncio
import json
import sys
import time

import uvloop

MESSAGE = b"From: <sender@example.org>\r\nSubject: timed\r\n\r\n" + (b"x" * 70 + b"\r\n") * 13 + b".\r\n"
STEPS = (
    b"MAIL FROM:<sender@example.org>\r\n",
    b"RCPT TO:<recipient@example.com>\r\n",
    b"DATA\r\n",
    MESSAGE,
)


class Session(asyncio.Protocol):
    """One after the other, without pipelining."""

    def __init__(self, messages: int, done: asyncio.Future) -> None:
        self.left, self.done = messages, done
        self.step = -2
        self.whole, self.dots = [], []
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
        if self.step == len(STEPS):
            self.whole.append(now - self.begin)
            self.dots.append(now - self.sent)
            self.left -= 1
            self.step = 0
            if not self.left:
                self.transport.write(b"QUIT\r\n")
                self.done.set_result(None)
                self.transport.close()
                return
        if self.step == 0:
            self.begin = now
        self.sent = now
        self.transport.write(STEPS[self.step])


async def main(port: int, sessions: int, messages: int) -> None:
    loop = asyncio.get_running_loop()
    running = [Session(messages // sessions, loop.create_future()) for _ in range(sessions)]
    for session in running:
        await loop.create_connection(lambda session=session: session, "127.0.0.1", port)
    await asyncio.gather(*(session.done for session in running))
    result = {}
    for name in ("whole", "dots"):
        times = sorted(seconds for session in running for seconds in getattr(session, name))
        for part in (50, 99):
            result[f"{name} p{part}"] = times[len(times) * part // 100] * 1000
    print(json.dumps(result))


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:4])))
