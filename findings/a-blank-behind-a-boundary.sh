#!/bin/sh
# emailjs-mime-parser 2.0.7, postal-mime 4.0.0 and mailparser 3.14.2 (npm), mail 2.7.1 (Debian's ruby-mail).
# Behind a boundary there may be blanks, which a transport has added and a reader must accept (RFC 2046 section 5.1.1,
# "transport-padding"). emailjs does not find the part behind such a line, and none if all lines have them. mail puts the
# blanks in front of the text of a part without fields, which begins with two empty lines in any case. Neither reports
# anything. postal-mime and mailparser read both parts.
# Output: emailjs: "two" / mailparser: "one\ntwo" / postal-mime: "one\n\ntwo\n" / ruby: "  \n\none", "\n\ntwo"
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts emailjs-mime-parser@2.0.7 mailparser@3.14.2 \
  postal-mime@4.0.0 >/dev/null
printf '%s\r\n' 'From: ann@example.org' 'MIME-Version: 1.0' 'Content-Type: multipart/mixed; boundary=b' '' \
  '--b  ' '' one --b '' two --b-- >"$here/mail.eml"
cat >"$here/read.mjs" <<'JS'
import { readFileSync } from "node:fs";
import emailjs from "emailjs-mime-parser";
import { simpleParser } from "mailparser";
import PostalMime from "postal-mime";

const mail = readFileSync(process.argv[2]);
const parts = (emailjs.default ?? emailjs)(mail.toString("latin1")).childNodes;
console.log("emailjs:", parts.map((part) => JSON.stringify(Buffer.from(part.content).toString())).join(", "));
console.log("mailparser:", JSON.stringify((await simpleParser(mail)).text));
console.log("postal-mime:", JSON.stringify((await PostalMime.parse(mail)).text));
JS
seen=$( (
  node "$here/read.mjs" "$here/mail.eml"
  ruby -W0 -rmail -e 'puts "ruby: " + Mail.read(ARGV[0]).parts.map { |part| part.decoded.inspect }.join(", ")' \
    "$here/mail.eml"
) | LC_ALL=C sort | paste -sd/ | sed 's,/, / ,g')
printf '%s\n' "$seen"
[ "$seen" = 'emailjs: "two" / mailparser: "one\ntwo" / postal-mime: "one\n\ntwo\n" / ruby: "  \n\none", "\n\ntwo"' ]
