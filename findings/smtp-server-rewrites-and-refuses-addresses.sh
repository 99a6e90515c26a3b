#!/bin/sh
# smtp-server 3.21.6 (npm), with Node 20.20.2.
# The domain of an address in A-labels, "xn--bcher-kva.example", is what a client sends to a server without SMTPUTF8. The
# address that onMailFrom and onRcptTo get has it in Unicode, whatever the client said: not what was sent, and not what
# may be sent on without SMTPUTF8; a look-up of the address as it is written elsewhere finds nothing. A local part
# in quotes with a blank or an "@" in it (RFC 5321 section 4.1.2) is refused with 501 before the handlers are asked. A
# parameter that the server does not know and has not announced, where section 4.1.1.11 asks for 555, is accepted.
# Output: <ann@xn--bcher-kva.example>: 250 ann@bücher.example / <"ann lee"@example.org>: 501 /
#  <"ann@home"@example.org>: 501 / <"annlee"@example.org>: 250 "annlee"@example.org /
#  <ann@example.org> NEW=1: 250 ann@example.org
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts smtp-server@3.21.6 >/dev/null
cat >"$here/try.js" <<'JS'
const net = require("node:net");
const { SMTPServer } = require("smtp-server");

const PATHS = [
  "<ann@xn--bcher-kva.example>",
  '<"ann lee"@example.org>',
  '<"ann@home"@example.org>',
  '<"annlee"@example.org>',
  "<ann@example.org> NEW=1",
];
let asked;
const server = new SMTPServer({
  authOptional: true,
  disabledCommands: ["STARTTLS"],
  onMailFrom: ({ address }, _session, done) => {
    asked = address;
    done();
  },
});
server.on("error", () => {});
server.listen(0, "127.0.0.1", () => {
  const wire = net.connect(server.server.address().port, "127.0.0.1");
  const commands = ["EHLO client.example", ...PATHS.flatMap((path) => [`MAIL FROM:${path}`, "RSET"])];
  let [text, last] = ["", ""];
  wire.on("data", (bytes) => {
    text += bytes;
    if (!/^\d{3} .*\r\n$/m.test(text)) return;
    if (last.startsWith("MAIL")) console.log(`${last.slice(10)}: ${text.slice(0, 3)}${asked ? ` ${asked}` : ""}`);
    [text, asked, last] = ["", undefined, commands.shift()];
    if (!last) process.exit();
    wire.write(`${last}\r\n`);
  });
});
JS
seen=$(node "$here/try.js")
echo "$seen"
[ "$seen" = '<ann@xn--bcher-kva.example>: 250 ann@bücher.example
<"ann lee"@example.org>: 501
<"ann@home"@example.org>: 501
<"annlee"@example.org>: 250 "annlee"@example.org
<ann@example.org> NEW=1: 250 ann@example.org' ]
