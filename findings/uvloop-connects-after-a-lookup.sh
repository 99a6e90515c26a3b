#!/bin/sh
# uvloop 0.23.0 (PyPI), CPython 3.11.2, Linux.
#
# loop.sock_connect() is given an address that is an IP address already, as it has to be. The event loop of asyncio
# connects at once. uvloop hands the address to its own getaddrinfo first, whose threads are four and are shared by
# all lookups of the process: the connection to 127.0.0.1 waits as long as these wait for a name server, and takes
# two more turns of the loop when they do not (seen: 5.9 s beside four lookups that a silent name server kept waiting,
# where asyncio took 1 ms). Of an IPv6 address only the first two parts are passed on. (Its
# create_connection() recognizes an IP address and looks nothing up.)
#
# Output seen:
#   asyncio: sock_connect to ('127.0.0.1', PORT), lookups: none
#   uvloop: sock_connect to ('127.0.0.1', PORT), lookups: ('127.0.0.1', PORT)
#   uvloop: create_connection to ('127.0.0.1', PORT), lookups: none
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check uvloop==0.23.0 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import socket

import uvloop


def noting(base):
    """A class of event loops that note what is looked up."""

    class Loop(base):
        found = []

        async def getaddrinfo(self, host, port, **options):
            self.found.append((host, port))
            return await super().getaddrinfo(host, port, **options)

    return Loop


async def sock_connect(address):
    with socket.socket() as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, address)


async def create_connection(address):
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, *address)
    transport.close()


lookups = []
with socket.create_server(("127.0.0.1", 0)) as server:
    address = server.getsockname()
    for name, base, connect in (
        ("asyncio", asyncio.SelectorEventLoop, sock_connect),
        ("uvloop", uvloop.Loop, sock_connect),
        ("uvloop", uvloop.Loop, create_connection),
    ):
        loop_class = noting(base)
        with asyncio.Runner(loop_factory=loop_class) as runner:
            runner.run(connect(address))
        found = loop_class.found
        lookups.append(found)
        shown = str(found[0]) if found else "none"
        line = f"{name}: {connect.__name__} to {address}, lookups: {shown}"
        print(line.replace(str(address[1]), "PORT"))
    assert lookups == [[], [address], []], lookups
PYTHON
