#!/bin/sh
# postal-mime 4.0.0 and mailparser 3.14.2 (npm).
# The line end before a boundary belongs to the boundary, not to the part (RFC 2046 section 5.1.1), and a part that is sent
# as it is, 7bit or 8bit, consists of exactly the bytes before it. postal-mime makes a line feed of each CRLF and adds one at
# the end: an attached file of four bytes has five, its hash is not that of the file which was sent, and the DKIM
# signature of an attached message fails. Files in base64 are right, so a test with those shows nothing. mailparser
# returns the bytes.
# Output: postal-mime: "a\nb\n" / mailparser: "a\r\nb" / base64: postal-mime "a\r\nb", mailparser "a\r\nb"
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts postal-mime@4.0.0 mailparser@3.14.2 >/dev/null
printf '%s\r\n' 'From: ann@example.org' 'MIME-Version: 1.0' 'Content-Type: multipart/mixed; boundary=b' '' \
  --b '' Hello --b 'Content-Type: application/octet-stream' 'Content-Disposition: attachment; filename=a' '' a b \
  --b 'Content-Type: application/octet-stream' 'Content-Disposition: attachment; filename=b' \
  'Content-Transfer-Encoding: base64' '' YQ0KYg== --b-- >"$here/mail.eml"
cat >"$here/read.mjs" <<'JS'
import { readFileSync } from "node:fs";
import { simpleParser } from "mailparser";
import PostalMime from "postal-mime";

const mail = readFileSync(process.argv[2]);
const text = (file) => JSON.stringify(Buffer.from(file.content).toString());
const [first, second] = [(await PostalMime.parse(mail)).attachments, (await simpleParser(mail)).attachments];
console.log(`postal-mime: ${text(first[0])}`);
console.log(`mailparser: ${text(second[0])}`);
console.log(`base64: postal-mime ${text(first[1])}, mailparser ${text(second[1])}`);
JS
seen=$(node "$here/read.mjs" "$here/mail.eml" | paste -sd/ | sed 's,/, / ,g')
printf '%s\n' "$seen"
[ "$seen" = 'postal-mime: "a\nb\n" / mailparser: "a\r\nb" / base64: postal-mime "a\r\nb", mailparser "a\r\nb"' ]
