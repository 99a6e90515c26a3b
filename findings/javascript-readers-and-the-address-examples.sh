#!/bin/sh
# postal-mime 4.0.0 and mailparser 3.14.2 (npm), Python 3.11.2 email.
# RFC 5322 gives messages as examples: with comments in addresses (appendix A.5), with a source route (A.6.1) and with
# white space around a dot (A.6.1), all of which readers must accept. Python reads them all. postal-mime returns the comments
# and the route as part of the address; both JavaScript readers cut a domain at the white space, and return another domain.
# None of them reports anything.
# Output: python: pete@silly.test mary@example.net jdoe@test.example
#  mailparser: pete@silly.test mary@example.net jdoe@test
#  postal-mime: pete(his account)@silly.test(his host) @node.test:mary@example.net jdoe@test
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mailparser@3.14.2 postal-mime@4.0.0 >/dev/null
printf '%s\r\n' 'From: Pete(A nice \) chap) <pete(his account)@silly.test(his host)>' \
  'To: Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example' '' 'Hello' >"$here/mail.eml"
cat >"$here/read.mjs" <<'JS'
import { readFileSync } from "node:fs";
import { simpleParser } from "mailparser";
import PostalMime from "postal-mime";
const mail = readFileSync(process.argv[2]);
const one = await simpleParser(mail);
console.log("mailparser:", ...[...one.from.value, ...one.to.value].map((each) => each.address));
const two = await PostalMime.parse(mail);
console.log("postal-mime:", ...[two.from, ...two.to].map((each) => each.address));
JS
cat >"$here/read.py" <<'PY'
import email
import email.policy
import sys

mail = email.message_from_bytes(open(sys.argv[1], "rb").read(), policy=email.policy.default)
print("python:", *(each.addr_spec for each in (*mail["from"].addresses, *mail["to"].addresses)))
PY
seen=$(python3 "$here/read.py" "$here/mail.eml"; node "$here/read.mjs" "$here/mail.eml")
echo "$seen"
[ "$seen" = "python: pete@silly.test mary@example.net jdoe@test.example
mailparser: pete@silly.test mary@example.net jdoe@test
postal-mime: pete(his account)@silly.test(his host) @node.test:mary@example.net jdoe@test" ]
