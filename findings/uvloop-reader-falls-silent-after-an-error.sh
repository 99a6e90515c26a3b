#!/bin/sh
# uvloop 0.23.0 (PyPI), CPython 3.11.2, Linux.
# A peer answers, and closes without having read all that was sent to it. The function that add_reader was given is then
# called once, for the answer; the end of the connection is still to be read, but is never reported. A program
# that waits for it waits for ever. The event loop of asyncio calls the function again. (loop.sock_recv reads before it waits, and
# has the end at once under both.)
# Output: uvloop: answer; asyncio: answer, ConnectionResetError
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check uvloop==0.23.0 2>/dev/null
cat >"$here/read.py" <<'PY'
import asyncio
import socket
import threading

import uvloop


def answer(there):
    there.recv(100)
    there.sendall(b"answer")
    there.close()


async def ask():
    here, there = socket.socketpair()
    here.setblocking(False)
    server = threading.Thread(target=answer, args=(there,))
    server.start()
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(here, bytes(8 << 20))
    except BrokenPipeError:
        pass
    server.join()
    seen = []

    def read():
        try:
            seen.append(here.recv(100).decode())
        except OSError as error:
            seen.append(type(error).__name__)
            loop.remove_reader(here)

    loop.add_reader(here, read)
    await asyncio.sleep(1)
    loop.remove_reader(here)
    here.close()
    return ", ".join(seen)


print(f"uvloop: {uvloop.run(ask())}; asyncio: {asyncio.run(ask())}")
PY
seen=$("$here/venv/bin/python" "$here/read.py")
echo "$seen"
[ "$seen" = "uvloop: answer; asyncio: answer, ConnectionResetError" ]
