#!/bin/sh
# nodemailer 10.6.1 (npm), Python 3.11.2 (smtplib) for comparison.
# An address beyond ASCII may only be sent to a server that announces SMTPUTF8, and with that word behind MAIL (RFC 6531
# section 3.1); what has 8 bits, only to one that announces 8BITMIME (RFC 6152 section 3). To a server that announces
# neither nodemailer sends both, as they are and without a word of it: the address in UTF-8, and an attached message of
# type message/rfc822 with its 8 bits, marked "8bit". To one that announces 8BITMIME it does not say BODY=8BITMIME
# either, so that the next server takes the message for one of 7 bits. smtplib raises UnicodeEncodeError instead of
# sending the address.
# Output: plain: MAIL FROM:<ann@example.org>, RCPT TO:<jörg@example.net>, 8bit with 8 bits /
#  8BITMIME: MAIL FROM:<ann@example.org>, RCPT TO:<bob@example.net>, 8bit with 8 bits / smtplib: UnicodeEncodeError
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts nodemailer@10.6.1 >/dev/null
cat >"$here/send.js" <<'JS'
const { execFile } = require("node:child_process");
const net = require("node:net");
const nodemailer = require("nodemailer");

/** A server that announces these words and accepts all. Its port, and what it read. */
async function serve(words) {
  const lines = [];
  const server = net.createServer((socket) => {
    let [rest, within] = ["", false];
    socket.on("error", () => {});
    socket.write("220 mx.example.net\r\n");
    socket.on("data", (bytes) => {
      const read = (rest + bytes.toString("latin1")).split("\r\n");
      rest = read.pop();
      for (const line of read) {
        lines.push(Buffer.from(line, "latin1").toString("utf8"));
        if (within) {
          if (line !== ".") continue;
          within = false;
          socket.write("250 taken\r\n");
        } else if (/^DATA/i.test(line)) {
          within = true;
          socket.write("354 go on\r\n");
        } else if (/^EHLO/i.test(line)) {
          const said = ["mx.example.net", ...words];
          socket.write(said.map((word, at) => `250${at === words.length ? " " : "-"}${word}\r\n`).join(""));
        } else socket.write("250 fine\r\n");
      }
    });
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { port: server.address().port, lines };
}

async function send(name, words, to) {
  const { port, lines } = await serve(words);
  const transport = nodemailer.createTransport({ host: "127.0.0.1", port, ignoreTLS: true });
  const attached = { filename: "a.eml", contentType: "message/rfc822", content: "From: ann@example.org\r\n\r\nGrüße\r\n" };
  await transport.sendMail({ from: "ann@example.org", to, subject: "Minutes", text: "Hello", attachments: [attached] });
  transport.close();
  const encoding = lines.findLast((line) => line.startsWith("Content-Transfer-Encoding:")).split(" ")[1];
  const envelope = lines.filter((line) => /^(MAIL|RCPT) /.test(line));
  console.log(`${name}: ${envelope.join(", ")}, ${encoding} with ${lines.includes("Grüße") ? 8 : 7} bits`);
}

(async () => {
  await send("plain", [], "jörg@example.net");
  await send("8BITMIME", ["8BITMIME"], "bob@example.net");
  const { port } = await serve([]);
  const program =
    "import smtplib, sys\nto = ['j\\u00f6rg@example.net']\n" +
    "try: smtplib.SMTP('127.0.0.1', int(sys.argv[1])).sendmail('a@example.org', to, 'x')\n" +
    "except Exception as error: print('smtplib:', type(error).__name__)";
  execFile("python3", ["-c", program, String(port)], (_error, output) => {
    console.log(output.trim());
    process.exit();
  });
})();
JS
seen=$(node "$here/send.js" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "plain: MAIL FROM:<ann@example.org>, RCPT TO:<jörg@example.net>, 8bit with 8 bits / \
8BITMIME: MAIL FROM:<ann@example.org>, RCPT TO:<bob@example.net>, 8bit with 8 bits / smtplib: UnicodeEncodeError" ]
