#!/bin/sh
# CPython 3.11.2 asyncio, uvloop 0.23.0 (PyPI); Linux.
# connect() to a Unix socket whose queue is full fails with EAGAIN at once (unix(7)): nothing goes on in the background,
# other than with EINPROGRESS of TCP. `loop.sock_connect` waits until the socket is writable, which it is, finds no
# error and returns as if it were connected; the first use says ENOTCONN. A busy server so looks like one that breaks
# connections. The caller has to call connect() itself, and again while it is EAGAIN.
# Output: asyncio: connected, but [Errno 107] Transport endpoint is not connected / uvloop: the same
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check uvloop==0.23.0 2>/dev/null
cat >"$here/connect.py" <<'PY'
import asyncio
import socket
import sys
import uvloop

async def main(name, path):
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for client in clients:
            client.setblocking(False)
            await asyncio.wait_for(loop.sock_connect(client, path), 5)
        try:
            clients[1].getpeername()
        except OSError as error:
            print(f"{name}: connected, but {error}")
        for client in clients:
            client.close()

for name, run in (("asyncio", asyncio.run), ("uvloop", uvloop.run)):
    run(main(name, f"{sys.argv[1]}/{name}.sock"))
PY
"$here/venv/bin/python" "$here/connect.py" "$here" | tee "$here/output"
[ "$(grep -c "connected, but \[Errno 107\] Transport endpoint is not connected" "$here/output")" = 2 ]
