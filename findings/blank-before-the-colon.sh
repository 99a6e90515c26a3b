#!/bin/sh
# Python 3.11.2 email; mailparser 3.14.2 (npm).
# RFC 5322 section 4.5.8 asks readers to accept white space between a field's name and its colon. Python's parser
# ends the header section at such a line: the field and all behind it become the body, so that a multipart is
# one text. mailparser takes the field.
# Output: mailparser multipart/mixed 1 / python text/plain Content-Type : multipart/mixed; boundary=b
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mailparser@3.14.2 >/dev/null
printf '%s\r\n' 'From: a@example.com' 'MIME-Version: 1.0' 'Content-Type : multipart/mixed; boundary=b' '' '--b' \
  'Content-Type: application/pdf; name=a.pdf' '' 'x' '--b--' >"$here/mail.eml"
cat >"$here/read.mjs" <<'JS'
import { readFileSync } from "node:fs";
import { simpleParser } from "mailparser";
const mail = await simpleParser(readFileSync(process.argv[2]));
console.log("mailparser", mail.headers.get("content-type").value, mail.attachments.length);
JS
cat >"$here/read.py" <<'PY'
import email, sys
mail = email.message_from_bytes(open(sys.argv[1], "rb").read())
print("python", mail.get_content_type(), mail.get_payload().splitlines()[0])
PY
seen=$(node "$here/read.mjs" "$here/mail.eml"; python3 "$here/read.py" "$here/mail.eml")
echo "$seen"
[ "$seen" = "mailparser multipart/mixed 1
python text/plain Content-Type : multipart/mixed; boundary=b" ]
