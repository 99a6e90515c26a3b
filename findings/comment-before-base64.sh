#!/bin/sh
# mailparser 3.14.2 and postal-mime 4.0.0 (npm), Python 3.11.2 email.
# RFC 2045 section 5.1 allows comments in Content-Transfer-Encoding. After `(as usual) base64` the two JavaScript
# readers decode the body, Python's email returns the base64 as the content, under both of its policies.
# Output: mailparser hello / postal-mime hello / python aGVsbG8= aGVsbG8=
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mailparser@3.14.2 postal-mime@4.0.0 >/dev/null
printf '%s\r\n' 'From: a@example.com' 'MIME-Version: 1.0' 'Content-Type: application/octet-stream; name=a' \
  'Content-Disposition: attachment' 'Content-Transfer-Encoding: (as usual) base64' '' 'aGVsbG8=' >"$here/mail.eml"
cat >"$here/read.mjs" <<'JS'
import { readFileSync } from "node:fs";
import { simpleParser } from "mailparser";
import PostalMime from "postal-mime";
const mail = readFileSync(process.argv[2]);
console.log("mailparser", (await simpleParser(mail)).attachments[0].content.toString());
const [part] = (await PostalMime.parse(mail)).attachments;
console.log("postal-mime", new TextDecoder().decode(part.content));
JS
cat >"$here/read.py" <<'PY'
import email, email.policy, sys
mail = open(sys.argv[1], "rb").read()
policies = (email.policy.compat32, email.policy.default)
print("python", *(email.message_from_bytes(mail, policy=p).get_payload(decode=True).decode().strip() for p in policies))
PY
seen=$(node "$here/read.mjs" "$here/mail.eml"; python3 "$here/read.py" "$here/mail.eml")
echo "$seen"
[ "$seen" = "mailparser hello
postal-mime hello
python aGVsbG8= aGVsbG8=" ]
