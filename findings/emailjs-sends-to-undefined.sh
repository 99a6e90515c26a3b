#!/bin/sh
# emailjs 5.0.3 (npm), Python 3.11.2 email as a reader.
# A field of recipients may have a group (RFC 5322 section 3.4). The client knows none: of "Board: ann@..., bob@...;" it
# makes one recipient, whose address is the word "undefined". RCPT is sent for that, Ann and Bob get nothing, and if the
# server accepts it, send() reports success. What is not ASCII is sent as "Content-Transfer-Encoding: 7bit" with its 8 bits
# (RFC 2045 section 6.2), and without BODY=8BITMIME to a server that announces it (RFC 6152). Each file's name, be it
# "a.txt", is an encoded word within quotes, where none may be (RFC 2047 section 5): a reader that keeps to that, and a
# filter that looks at how the name ends, see no ".txt".
# Output: mail FROM:<eve@example.org> / RCPT TO:<cid@example.net> / RCPT TO:<undefined> / sent: true /
#  Cc: =?UTF-8?Q?Board?= <undefined> / 7bit: b'Gr\xc3\xbc\xc3\x9fe' / filename="=?UTF-8?Q?a=2Etxt?="
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts emailjs@5.0.3 >/dev/null
cat >"$here/send.mjs" <<'JS'
import net from "node:net";
import { writeFileSync } from "node:fs";
import { Message, SMTPClient } from "emailjs";

const server = net.createServer((socket) => {
  let text = "";
  let mail = null;
  socket.write("220 mx.example.net\r\n");
  socket.on("data", (data) => {
    text += data.toString("latin1");
    for (let end = text.indexOf("\r\n"); end >= 0; end = text.indexOf("\r\n")) {
      const line = text.slice(0, end);
      text = text.slice(end + 2);
      if (mail !== null) {
        if (line !== ".") {
          mail += `${line}\r\n`;
          continue;
        }
        writeFileSync(process.argv[2], mail, "latin1");
        mail = null;
      }
      if (/^(MAIL|RCPT)/i.test(line)) console.log(line);
      if (/^EHLO/i.test(line)) socket.write("250-mx.example.net\r\n250 8BITMIME\r\n");
      else if (/^DATA/i.test(line)) {
        mail = "";
        socket.write("354 go\r\n");
      } else socket.write("250 2.0.0 OK\r\n");
    }
  });
});
server.listen(0, "127.0.0.1", () => {
  const client = new SMTPClient({ host: "127.0.0.1", port: server.address().port });
  const message = new Message({
    from: "eve@example.org",
    to: "cid@example.net",
    cc: "Board: ann@example.net, bob@example.net;",
    subject: "Minutes",
    text: "Grüße",
    attachment: [{ data: "agenda", name: "a.txt", type: "text/plain" }],
  });
  client.send(message, (error) => {
    console.log("sent:", error === null);
    process.exit();
  });
});
JS
cat >"$here/read.py" <<'PY'
import email
import re
import sys

with open(sys.argv[1], "rb") as file:
    mail = email.message_from_bytes(file.read())
text, attachment = mail.get_payload()
print("Cc:", mail["Cc"])
print(text["Content-Transfer-Encoding"] + ":", text.get_payload(decode=True).strip())
print(re.search("filename=.*", attachment["Content-Disposition"])[0])
PY
seen=$(timeout 60 node "$here/send.mjs" "$here/mail.eml" && python3 "$here/read.py" "$here/mail.eml")
printf '%s\n' "$seen"
[ "$seen" = 'mail FROM:<eve@example.org>
RCPT TO:<cid@example.net>
RCPT TO:<undefined>
sent: true
Cc: =?UTF-8?Q?Board?= <undefined>
7bit: b'"'Gr\\xc3\\xbc\\xc3\\x9fe'"'
filename="=?UTF-8?Q?a=2Etxt?="' ]
