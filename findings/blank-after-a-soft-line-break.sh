#!/bin/sh
# Python 3.11.2 email, postal-mime 4.0.0 and mailparser 3.14.2 (npm).
# A transport may add blanks to the end of a line, and a decoder of quoted-printable must delete them, also behind the "="
# of a soft line break (RFC 2045 section 6.7, rule 3 and "transport-padding" in its grammar). Python and postal-mime keep
# them and take the "=" for text: the two halves of a long line stay apart, and an address in it is cut. mailparser joins
# them.
# Output: python: https://example.org/lo= | ng / postal-mime: https://example.org/lo= | ng /
#  mailparser: https://example.org/long
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mailparser@3.14.2 postal-mime@4.0.0 >/dev/null
printf '%s\r\n' 'From: a@example.com' 'MIME-Version: 1.0' 'Content-Type: text/plain' \
  'Content-Transfer-Encoding: quoted-printable' '' 'https://example.org/lo= ' 'ng' >"$here/mail.eml"
cat >"$here/read.mjs" <<'JS'
import { readFileSync } from "node:fs";
import { simpleParser } from "mailparser";
import PostalMime from "postal-mime";
const mail = readFileSync(process.argv[2]);
const lines = (text) => text.trim().split(/ *\r?\n/).join(" | ");
console.log("postal-mime:", lines((await PostalMime.parse(mail)).text));
console.log("mailparser:", lines((await simpleParser(mail)).text));
JS
cat >"$here/read.py" <<'PY'
import email
import email.policy
import sys

mail = open(sys.argv[1], "rb").read()
old = email.message_from_bytes(mail).get_payload(decode=True).decode()
new = email.message_from_bytes(mail, policy=email.policy.default).get_content()
assert old.split() == new.split()
print("python:", " | ".join(new.split()))
PY
seen=$({ python3 "$here/read.py" "$here/mail.eml"; node "$here/read.mjs" "$here/mail.eml"; } |
  paste -sd/ | sed 's,/\([pm]\), / \1,g')
echo "$seen"
[ "$seen" = "python: https://example.org/lo= | ng / postal-mime: https://example.org/lo= | ng / \
mailparser: https://example.org/long" ]
