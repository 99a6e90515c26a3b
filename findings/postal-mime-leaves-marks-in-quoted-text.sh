#!/bin/sh
# postal-mime 4.0.0 and mailparser 3.14.2 (npm).
# In text of format=flowed a line that ends with a blank goes on in the next, and in quoted text each line has its own
# ">", which a reader removes before it joins them (RFC 3676 sections 4.1 and 4.5). postal-mime joins them as they are:
# a quoted paragraph of several lines, as every answer from such a program has, becomes one line with the marks in the
# middle of it. mailparser removes them. A search for words that were side by side does not find them.
# Output: postal-mime: "> the minutes of > Monday\n" / mailparser: "> the minutes of Monday"
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mailparser@3.14.2 postal-mime@4.0.0 >/dev/null
cat >"$here/read.mjs" <<'JS'
import { simpleParser } from "mailparser";
import PostalMime from "postal-mime";
const mail = [
  "From: ann@example.org", "MIME-Version: 1.0", "Content-Type: text/plain; charset=us-ascii; format=flowed", "",
  "> the minutes of ", "> Monday", "",
].join("\r\n");
console.log("postal-mime:", JSON.stringify((await PostalMime.parse(mail)).text));
console.log("mailparser:", JSON.stringify((await simpleParser(mail)).text.trimEnd()));
JS
seen=$(node "$here/read.mjs" | paste -sd/ | sed 's,/, / ,g')
printf '%s\n' "$seen"
[ "$seen" = 'postal-mime: "> the minutes of > Monday\n" / mailparser: "> the minutes of Monday"' ]
