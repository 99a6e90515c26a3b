#!/bin/sh
# mimetext 3.0.28 (npm); read by mailparser 3.14.2 (npm) and Python 3.11.2 email. It has no SMTP of its own: its result goes
# to services that take a whole message.
# The content of a file in base64 is written as it was given, on one line as long as the file, where RFC 2045 section 6.8
# allows 76 characters and SMTP 998 (RFC 5322 section 2.1.1): servers refuse such a message, or break the line, and its DKIM
# signature is wrong. Text beyond ASCII is marked "7bit" with its 8 bits. The name of a file is written as it is, beyond
# ASCII and with its '"' (RFC 2045 section 5.1, RFC 2231): readers have "Plan" of 'Plan "B".pdf'. A subject is one encoded
# word of any length, of which RFC 2047 section 2 allows 75 characters. Lines end as the system's do, here with LF alone.
# Output: longest line 4000 / encoded word of 180 / text 7bit b'Gr\xc3\xbc\xc3\x9fe' / name Plan, mailparser Plan  / CR: no
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mimetext@3.0.28 mailparser@3.14.2 >/dev/null
cat >"$here/write.mjs" <<'JS'
import { writeFileSync } from "node:fs";
import { simpleParser } from "mailparser";
import { createMimeMessage } from "mimetext";

const message = createMimeMessage();
message.setSender({ name: "Ann", addr: "ann@example.org" });
message.setRecipient("bob@example.net");
message.setSubject("Minutes of the board ".repeat(6).trim());
message.addMessage({ contentType: "text/plain", data: "Grüße" });
const data = Buffer.alloc(3000).toString("base64");
message.addAttachment({ filename: 'Plan "B".pdf', contentType: "application/pdf", data });
writeFileSync(process.argv[2], message.asRaw());
const { attachments } = await simpleParser(message.asRaw());
console.log(attachments[0].filename);
JS
cat >"$here/read.py" <<'PY'
import email
import re
import sys
from email.policy import default

with open(sys.argv[1], "rb") as file:
    raw = file.read()
mail = email.message_from_bytes(raw, policy=default)
text, attachment = mail.iter_parts()
assert len(attachment.get_payload(decode=True)) == 3000
print("longest line", max(map(len, raw.split(b"\n"))))
print("encoded word of", len(re.search(rb"Subject: (=\?\S+)", raw)[1]))
print("text", text["Content-Transfer-Encoding"], text.get_payload(decode=True).strip())
print(f"name {attachment.get_filename()}, mailparser {sys.argv[2]}")
print("CR:", "yes" if b"\r" in raw else "no")
PY
name=$(node "$here/write.mjs" "$here/mail.eml"; echo x)
seen=$(python3 "$here/read.py" "$here/mail.eml" "${name%?x}" | paste -sd/ | sed 's,/, / ,g')
printf '%s\n' "$seen"
[ "$seen" = "longest line 4000 / encoded word of 180 / text 7bit b'Gr\\xc3\\xbc\\xc3\\x9fe' / \
name Plan, mailparser Plan  / CR: no" ]
