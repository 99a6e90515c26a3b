#!/bin/sh
# Python 3.11.2 (standard library, module email), mailparser 3.14.2 and postal-mime 4.0.0 (npm).
# A comment may follow a parameter of Content-Type; "charset=us-ascii (Plain text)" is an example of RFC 2045 section
# 5.1, and means us-ascii. With compat32, the policy that message_from_bytes has unless it is told another, Python takes
# the comment for part of the value: no codec has such a name, and a multipart whose boundary has a comment behind it
# has no parts. Python's newer policy and both JavaScript readers drop the comment.
# Output: compat32: 'us-ascii (plain text)', 'b (as usual)', 0 parts / default: 'us-ascii', 'b', 2 parts /
#  mailparser: 1 text, 1 attachment / postal-mime: 1 text, 1 attachment
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mailparser@3.14.2 postal-mime@4.0.0 >/dev/null
printf '%s\r\n' 'From: ann@example.org' 'MIME-Version: 1.0' 'Content-Type: multipart/mixed; boundary=b (as usual)' '' \
  --b 'Content-Type: text/plain' '' Hello --b 'Content-Type: text/plain' \
  'Content-Disposition: attachment; filename=list.txt' '' list --b-- >"$here/mail.eml"
cat >"$here/read.py" <<'PY'
import email
import email.policy
import sys

for name in ("compat32", "default"):
    policy = getattr(email.policy, name)
    field = "Content-Type: text/plain; charset=us-ascii (Plain text)"
    text = email.message_from_string(f"{field}\r\n\r\nHello\r\n", policy=policy)
    with open(sys.argv[1], "rb") as file:
        parts = email.message_from_binary_file(file, policy=policy)
    count = len(parts.get_payload()) if parts.is_multipart() else 0
    print(f"{name}: {text.get_content_charset()!r}, {parts.get_boundary()!r}, {count} parts")
PY
cat >"$here/read.mjs" <<'JS'
import { readFileSync } from "node:fs";
import { simpleParser } from "mailparser";
import PostalMime from "postal-mime";
const mail = readFileSync(process.argv[2]);
for (const [name, read] of [["mailparser", await simpleParser(mail)], ["postal-mime", await PostalMime.parse(mail)]])
  console.log(`${name}: ${read.text.trim() === "Hello" ? 1 : 0} text, ${read.attachments.length} attachment`);
JS
seen=$( (python3 "$here/read.py" "$here/mail.eml"; node "$here/read.mjs" "$here/mail.eml") | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "compat32: 'us-ascii (plain text)', 'b (as usual)', 0 parts / default: 'us-ascii', 'b', 2 parts / \
mailparser: 1 text, 1 attachment / postal-mime: 1 text, 1 attachment" ]
