#!/bin/sh
# findhit-proxywrap 0.3.13 and @balena/proxy-protocol-parser 1.0.2 (npm), proxy-protocol 0.11.3 (PyPI), HAProxy 2.6.12
# (Debian).
# A load balancer may have no client's address to send, as HAProxy for a client on a Unix socket or for its own checks: then
# it sends "PROXY UNKNOWN" in version 1, which may have more words behind it, and LOCAL in version 2, which may have
# addresses. A receiver must ignore what follows, and take the addresses of the connection (sections 2.1 and 2.2 of the
# specification). findhit-proxywrap has no address at all then, undefined with the port NaN, or takes the words for one;
# Balena's parser returns a line end as the address and the client's own first word as another, or the addresses behind
# LOCAL. A list of allowed addresses does not know the balancer any more, and a log names a client who was never
# there. The Python library drops them.
# Output: HAProxy: b'PROXY UNKNOWN\r\n' and 20000000 / UNKNOWN: findhit undefined NaN, balena "\r\n" "EHLO", python none /
#  UNKNOWN with more: findhit 192.0.2.1 7, balena "192.0.2.1" "192.0.2.2", python none /
#  LOCAL: balena "192.0.2.1" "192.0.2.2", python none
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts findhit-proxywrap@0.3.13 \
  @balena/proxy-protocol-parser@1.0.2 >/dev/null
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check proxy-protocol==0.11.3 2>/dev/null
cat >"$here/check.py" <<'PY'
import pathlib
import socket
import subprocess
import sys
import time

config, way = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]).with_suffix(".sock")


def sent(options, client=False):
    """What HAProxy sends to the server: for itself, or for a client on a Unix socket, which has no IP address."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    config.write_text(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n"
        f"listen mail\n bind unix@{way}\n server one 127.0.0.1:{listener.getsockname()[1]} {options}\n"
    )
    haproxy = subprocess.Popen(["haproxy", "-db", "-q", "-f", config], stderr=subprocess.DEVNULL)
    try:
        if client:
            tries = 0
            caller = socket.socket(socket.AF_UNIX)
            while caller.connect_ex(str(way)) and tries < 100:
                tries += 1
                time.sleep(0.1)
        connection, _ = listener.accept()
        connection.settimeout(20)
        return connection.recv(100)
    finally:
        haproxy.kill()
        haproxy.wait()


print("HAProxy:", sent("send-proxy", client=True), "and", sent("check send-proxy-v2")[12:].hex())
PY
cat >"$here/read.py" <<'PY'
import asyncio
import sys

from proxyprotocol.detect import ProxyProtocolDetect
from proxyprotocol.reader import ProxyProtocolReader


async def read():
    stream = asyncio.StreamReader()
    stream.feed_data(bytes.fromhex(sys.argv[1]))
    stream.feed_eof()
    result = await ProxyProtocolReader(ProxyProtocolDetect()).read(stream)
    assert await stream.read() == b"EHLO x\r\n"
    print(getattr(result, "source", None) or "none", end="")


asyncio.run(read())
PY
cat >"$here/read.js" <<'JS'
const { execFileSync } = require("node:child_process");
const net = require("node:net");
const { decode } = require("@balena/proxy-protocol-parser");
const { proxy } = require("findhit-proxywrap");

const here = process.argv[2];
const mail = Buffer.from("EHLO x\r\n");
const addresses = Buffer.from([192, 0, 2, 1, 192, 0, 2, 2, 0, 7, 0, 25]);
const local = Buffer.concat([Buffer.from("0d0a0d0a000d0a515549540a2011000c", "hex"), addresses]);
local[12] = 0x20; // version 2, LOCAL
const balena = (header) => {
  const { remoteAddress, localAddress } = decode(Buffer.concat([header, mail]));
  return `balena ${JSON.stringify(remoteAddress)} ${JSON.stringify(localAddress)}`;
};
const python = (header) => {
  const bytes = Buffer.concat([header, mail]).toString("hex");
  return `python ${execFileSync(`${here}/venv/bin/python`, [`${here}/read.py`, bytes])}`;
};
const findhit = (header) =>
  new Promise((resolve) => {
    const server = proxy(net).createServer((socket) =>
      socket.on("data", () => {
        resolve(`findhit ${socket.remoteAddress} ${socket.remotePort}`);
        socket.destroy();
        server.close();
      }),
    );
    server.listen(0, "127.0.0.1", () => {
      net.connect(server.address().port, "127.0.0.1").write(Buffer.concat([header, mail]));
    });
  });
(async () => {
  const unknown = Buffer.from("PROXY UNKNOWN\r\n");
  const more = Buffer.from("PROXY UNKNOWN 192.0.2.1 192.0.2.2 7 25\r\n");
  console.log(`UNKNOWN: ${[await findhit(unknown), balena(unknown), python(unknown)].join(", ")}`);
  console.log(`UNKNOWN with more: ${[await findhit(more), balena(more), python(more)].join(", ")}`);
  console.log(`LOCAL: ${[balena(local), python(local)].join(", ")}`);
  process.exit();
})();
JS
seen=$(timeout 60 python3 "$here/check.py" "$here/haproxy.cfg" && timeout 60 node "$here/read.js" "$here")
printf '%s\n' "$seen"
[ "$seen" = 'HAProxy: b'"'PROXY UNKNOWN\r\n'"' and 20000000
UNKNOWN: findhit undefined NaN, balena "\r\n" "EHLO", python none
UNKNOWN with more: findhit 192.0.2.1 7, balena "192.0.2.1" "192.0.2.2", python none
LOCAL: balena "192.0.2.1" "192.0.2.2", python none' ]
