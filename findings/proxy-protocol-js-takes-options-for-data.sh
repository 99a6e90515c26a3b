#!/bin/sh
# proxy-protocol-js 4.0.6 (npm), HAProxy 2.6.12 (Debian).
# The header of PROXY version 2 says how long it is; behind the addresses it may have further fields (TLVs), which a
# receiver that does not know them skips (section 2.2 of the specification). proxy-protocol-js ends the header where the
# addresses end: what it returns as `data`, the client's first bytes, begins with those fields. With HAProxy's
# `proxy-v2-options crc32c`, or behind a balancer that adds its own, an SMTP server so reads seven bytes of rubbish
# before EHLO.
# Output (type and length of the field in hexadecimal, then the count of the bytes behind it, and what they end with):
#  send-proxy-v2: EHLO / with crc32c: 030004 10 EHLO
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts proxy-protocol-js@4.0.6 >/dev/null
cat >"$here/try.js" <<'JS'
const { spawn } = require("node:child_process");
const { writeFileSync } = require("node:fs");
const net = require("node:net");
const { V2ProxyProtocol } = require("proxy-protocol-js");

const listening = (server) => new Promise((done) => server.listen(0, "127.0.0.1", () => done(server.address().port)));

async function through(options) {
  const server = net.createServer();
  const behind = new Promise((done) =>
    server.once("connection", (socket) => {
      let got = Buffer.alloc(0);
      socket.on("error", () => {});
      socket.on("data", (bytes) => {
        got = Buffer.concat([got, bytes]);
        if (got.includes("EHLO\r\n")) done(got);
      });
    }),
  );
  const port = await listening(server);
  const free = net.createServer();
  const front = await listening(free);
  await new Promise((done) => free.close(done));
  const config = `${process.argv[2]}/haproxy.cfg`;
  writeFileSync(
    config,
    `defaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n` +
      `listen mail\n bind 127.0.0.1:${front}\n server one 127.0.0.1:${port} send-proxy-v2 ${options}\n`,
  );
  const haproxy = spawn("haproxy", ["-q", "-f", config], { stdio: "ignore" });
  const dial = () => {
    const client = net.connect(front, "127.0.0.1", () => client.write("EHLO\r\n"));
    client.on("error", () => setTimeout(dial, 100));
  };
  dial();
  const got = await behind;
  haproxy.kill("SIGKILL");
  server.close();
  return Buffer.from(V2ProxyProtocol.parse(got).data);
}

(async () => {
  console.log("send-proxy-v2:", (await through("")).toString().trim());
  const data = await through("proxy-v2-options crc32c");
  console.log("with crc32c:", data.subarray(0, 3).toString("hex"), data.length - 3, data.subarray(7).toString().trim());
  process.exit();
})();
JS
seen=$(PATH="$PATH:/usr/sbin" node "$here/try.js" "$here" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "send-proxy-v2: EHLO / with crc32c: 030004 10 EHLO" ]
