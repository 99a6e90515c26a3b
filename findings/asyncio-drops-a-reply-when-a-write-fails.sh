#!/bin/sh
# CPython 3.11.2 asyncio, uvloop 0.23.0 (PyPI); Linux.
# A server refuses a message while it is still being sent: it writes its reply, and closes without reading the rest,
# so that the client's next write fails. The reply has arrived and can be read from the socket, but neither event
# loop reads it any more: `connection_lost` is called without `data_received` before it. A client that wants to tell
# a refusal from a lost connection has to read the socket itself.
# Output: asyncio: b'' then lost, in the socket b'552 too big\r\n' / uvloop: the same
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check uvloop==0.23.0 2>/dev/null
cat >"$here/send.py" <<'PY'
import asyncio
import os
import socket
import sys
import time
import uvloop

class Client(asyncio.Protocol):
    def __init__(self):
        self.received = b""
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.received += data

    def connection_lost(self, error):
        self.lost.set_result(error)

async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    transport, client = await asyncio.get_running_loop().create_connection(Client, *listener.getsockname())
    peer, _ = listener.accept()
    kept = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    kept.setblocking(False)
    transport.write(b"x" * 100)
    peer.sendall(b"552 too big\r\n")
    peer.close()  # with the 100 bytes unread
    time.sleep(0.2)  # the event loop is busy, and then:
    transport.write(b"x" * 100)
    await asyncio.wait_for(client.lost, 5)
    try:
        left = kept.recv(100)
    except OSError as error:
        left = type(error).__name__
    print(f"{sys.argv[1]}: {client.received!r} then lost, in the socket {left!r}")
    kept.close(), listener.close()

(asyncio.run if sys.argv[1] == "asyncio" else uvloop.run)(main())
PY
seen=$("$here/venv/bin/python" "$here/send.py" asyncio; "$here/venv/bin/python" "$here/send.py" uvloop)
printf '%s\n' "$seen"
[ "$seen" = "asyncio: b'' then lost, in the socket b'552 too big\r\n'
uvloop: b'' then lost, in the socket b'552 too big\r\n'" ]
