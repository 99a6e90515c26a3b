#!/bin/sh
# mailparser 3.14.2 and postal-mime 4.0.0 (npm), Python 3.11.2 email.
# A part may have `filename=` for old readers beside `filename*=` (RFC 2231) for others. The two JavaScript
# readers return the extended one, Python's `get_filename` the plain one, under both of its policies: two programs
# show two names for one attachment, and a check of one of the two names sees half of them.
# Output: mailparser report.pdf / postal-mime report.pdf / python plain.txt plain.txt
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mailparser@3.14.2 postal-mime@4.0.0 >/dev/null
printf '%s\r\n' 'From: a@example.com' 'MIME-Version: 1.0' 'Content-Type: application/octet-stream' \
  "Content-Disposition: attachment; filename=plain.txt; filename*=utf-8''report.pdf" '' 'text' >"$here/mail.eml"
cat >"$here/read.mjs" <<'JS'
import { readFileSync } from "node:fs";
import { simpleParser } from "mailparser";
import PostalMime from "postal-mime";
const mail = readFileSync(process.argv[2]);
console.log("mailparser", (await simpleParser(mail)).attachments[0].filename);
console.log("postal-mime", (await PostalMime.parse(mail)).attachments[0].filename);
JS
cat >"$here/read.py" <<'PY'
import email, email.policy, sys
mail = open(sys.argv[1], "rb").read()
names = [email.message_from_bytes(mail, policy=p).get_filename() for p in (email.policy.compat32, email.policy.default)]
print("python", *names)
PY
seen=$(node "$here/read.mjs" "$here/mail.eml"; python3 "$here/read.py" "$here/mail.eml")
echo "$seen"
[ "$seen" = "mailparser report.pdf
postal-mime report.pdf
python plain.txt plain.txt" ]
