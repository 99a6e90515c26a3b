#!/bin/sh
# mailparser 3.14.2 and postal-mime 4.0.0 (npm), Python 3.11.2 email.
# A date with a comment in its time (RFC 5322 appendix A.6.3) or with a zone of one letter (section 4.3) is old, and readers
# must accept it. mailparser cannot read it and returns the present moment as the message's date, without a word: an old
# message looks like a new one, with another date each time it is read. postal-mime returns the field's text; Python reads
# the letter, and returns no date for the comment.
# Output: comment: mailparser now, postal-mime text, python none / letter: mailparser now, postal-mime text, python 1997
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mailparser@3.14.2 postal-mime@4.0.0 >/dev/null
cat >"$here/read.mjs" <<'JS'
import { simpleParser } from "mailparser";
import PostalMime from "postal-mime";
const mail = process.argv[2];
const date = (await simpleParser(mail)).date;
const said = Math.abs(date - Date.now()) < 60000 ? "now" : String(date?.getFullYear());
const other = (await PostalMime.parse(mail)).date;
console.log(`mailparser ${said}, postal-mime ${mail.includes(`Date: ${other}\r`) ? "text" : other},`);
JS
cat >"$here/read.py" <<'PY'
import email
import email.policy
import sys

date = email.message_from_string(sys.argv[1], policy=email.policy.default)["date"].datetime
print("python", date.year if date else "none")
PY
read_both() {
  mail=$(printf 'From: a@example.com\r\nDate: %s\r\n\r\nHello\r\n' "$2")
  echo "$1:" $(node "$here/read.mjs" "$mail") $(python3 "$here/read.py" "$mail")
}
seen="$(read_both comment 'Fri, 21 Nov 1997 09(comment):   55  :  06 -0600') / \
$(read_both letter 'Fri, 21 Nov 1997 09:55:06 A')"
echo "$seen"
[ "$seen" = "comment: mailparser now, postal-mime text, python none / \
letter: mailparser now, postal-mime text, python 1997" ]
