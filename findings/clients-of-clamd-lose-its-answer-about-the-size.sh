#!/bin/sh
# clamd 1.0.2, pyClamd 0.4.0 and aioclamd 1.1.0 (PyPI), server clamd 1.4.6 (Debian's clamav-daemon); Linux.
# To a stream longer than StreamMaxLength clamd answers "INSTREAM size limit exceeded. ERROR" while the client is still
# sending, and closes. The clients stop at the write that fails, and do not read: the caller hears of a broken
# connection, as of a clamd that has died, and tries again what can never pass. The first two have an exception for just
# this answer, BufferTooLongError, which a long stream does not reach. The answer is there, for a client that reads it
# after the error.
# Output: clamd: lost / pyClamd: lost / aioclamd: lost / socket: INSTREAM size limit exceeded. ERROR
set -eu
here=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check clamd==1.0.2 pyClamd==0.4.0 aioclamd==1.1.0 2>/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$here/signatures"
echo "44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test" >"$here/signatures/test.hdb"
cat >"$here/clamd.conf" <<CONF
Foreground yes
DatabaseDirectory $here/signatures
TCPSocket $port
TCPAddr 127.0.0.1
StreamMaxLength 1M
CONF
chmod -R a+rX "$here"
PATH="$PATH:/usr/sbin" clamd -c "$here/clamd.conf" >/dev/null 2>&1 &
server=$!
cat >"$here/ask.py" <<'PY'
import asyncio
import contextlib
import io
import socket
import sys
import time

import aioclamd
import clamd
import pyclamd

where = ("127.0.0.1", int(sys.argv[1]))
LONG = bytes(20_000_000)


def answer_of(scan):
    try:
        return scan()
    except ConnectionError:
        return "lost"


def by_hand():
    """Send until it fails, then read."""
    with socket.create_connection(where, 60) as wire:
        with contextlib.suppress(ConnectionError):
            wire.sendall(b"zINSTREAM\0" + len(LONG).to_bytes(4, "big") + LONG)
        return wire.recv(100).rstrip(b"\0").decode()


for _ in range(300):
    try:
        clamd.ClamdNetworkSocket(*where, timeout=60).ping()
        break
    except clamd.ConnectionError:
        time.sleep(0.1)
ASKED = {
    "clamd": lambda: clamd.ClamdNetworkSocket(*where, timeout=60).instream(io.BytesIO(LONG)),
    "pyClamd": lambda: pyclamd.ClamdNetworkSocket(*where, timeout=60).scan_stream(LONG),
    "aioclamd": lambda: asyncio.run(aioclamd.ClamdAsyncClient(*where, timeout=60).instream(io.BytesIO(LONG))),
    "socket": by_hand,
}
for name, scan in ASKED.items():
    print(f"{name}: {answer_of(scan)}")
PY
seen=$("$here/venv/bin/python" "$here/ask.py" "$port" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "clamd: lost / pyClamd: lost / aioclamd: lost / socket: INSTREAM size limit exceeded. ERROR" ]
