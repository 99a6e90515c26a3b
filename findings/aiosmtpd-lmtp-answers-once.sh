#!/bin/sh
# aiosmtpd 1.4.6 (PyPI), nodemailer 10.6.1 (npm), Python 3.11.2.
# aiosmtpd.lmtp.LMTP answers once after the message, with what handle_DATA returns, although LMTP asks for an answer for each
# recipient that was accepted (RFC 2033 section 4.2). A client that waits for them all, as Nodemailer does with lmtp: true,
# hears no more: the message was taken, its time runs out, and it sends it again to everybody. Python's smtplib.LMTP
# reads one answer, so a test of one against the other passes.
# Output: one recipient: sent / two recipients: ETIMEDOUT, messages taken: 2 / smtplib, two recipients: {}
set -eu
here=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q aiosmtpd==1.4.6 2>/dev/null
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts nodemailer@10.6.1 >/dev/null
cat >"$here/serve.py" <<'PY'
import asyncio
import sys

from aiosmtpd.lmtp import LMTP


class Taken:
    async def handle_DATA(self, server, session, envelope):
        with open(sys.argv[2], "a") as taken:
            print(*envelope.rcpt_tos, file=taken)
        return "250 2.0.0 taken"


async def main():
    server = await asyncio.get_running_loop().create_server(lambda: LMTP(Taken(), hostname="mx"), "127.0.0.1", 0)
    with open(sys.argv[1], "w") as port:
        print(server.sockets[0].getsockname()[1], file=port)
    await server.serve_forever()


asyncio.run(main())
PY
cat >"$here/send.mjs" <<'JS'
import { readFileSync } from "node:fs";
import nodemailer from "nodemailer";
const [port, taken] = process.argv.slice(2);
const send = async (to) => {
  const way = nodemailer.createTransport({ host: "127.0.0.1", port, lmtp: true, ignoreTLS: true, socketTimeout: 3000 });
  try {
    await way.sendMail({ from: "a@example.net", to, text: "Hello" });
    return "sent";
  } catch (error) {
    return error.code;
  }
};
console.log("one recipient:", await send(["ann@example.org"]));
const said = await send(["ann@example.org", "bob@example.org"]);
console.log(`two recipients: ${said}, messages taken:`, readFileSync(taken, "utf8").trim().split("\n").length);
JS
"$here/venv/bin/python" "$here/serve.py" "$here/port" "$here/taken" 2>/dev/null &
server=$!
while [ ! -s "$here/port" ]; do sleep 0.2; done
port=$(cat "$here/port")
seen=$({ node "$here/send.mjs" "$port" "$here/taken"
python3 -c 'import smtplib, sys
client = smtplib.LMTP("127.0.0.1", int(sys.argv[1]), timeout=5)
to = ["ann@example.org", "bob@example.org"]
print("smtplib, two recipients:", client.sendmail("a@example.net", to, b"Subject: x\r\n\r\nHello\r\n"))
client.close()' "$port"; } | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "one recipient: sent / two recipients: ETIMEDOUT, messages taken: 2 / smtplib, two recipients: {}" ]
