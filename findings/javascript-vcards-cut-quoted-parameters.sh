#!/bin/sh
# vcf 2.1.2 and vcard-parser 1.0.0 (npm).
# Cards of RFC 6350 that two readers take for others, without an error. A parameter in quotes may have ";" and ":" in it
# (section 3.3), as LABEL of an address has: both cut it there, and behind ":" they take the rest of it for the property's
# value. vcf leaves the backslashes of "\," and "\n" in texts (section 3.4), and writes what it cut off a label as its TYPE.
# vcard-parser removes all blanks where a line was folded, not one (section 3.2): two words become one wherever the writer
# folded before a blank, which depends on how long the line was. It also cuts a URI at its ";".
# Output: vcf: label "Main St. 1 / url //a:b":http://x.example/ / note a\, b / folded the minutes / tel tel:+1;ext=5 /
#  written LABEL="Main St. 1;TYPE= town" / vcard-parser: label "Main St. 1 / url //a:b":http://x.example/ / note a, b /
#  folded theminutes / tel tel:+1
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts vcf@2.1.2 vcard-parser@1.0.0 >/dev/null
cat >"$here/read.js" <<'JS'
const vcf = require("vcf");
const other = require("vcard-parser");

const card = ["BEGIN:VCARD", "VERSION:4.0", "FN:Bob", 'ADR;LABEL="Main St. 1; Town":;;Main St. 1;Town;;1234;DE',
  'URL;X-FROM="http://a:b":http://x.example/', "NOTE:a\\, b", "TITLE:the", "  minutes", "TEL;VALUE=uri:tel:+1;ext=5",
  "END:VCARD", ""].join("\r\n");
const [first] = vcf.parse(card);
const value = (name) => first.get(name).valueOf();
console.log("vcf: label", first.get("adr").label);
console.log("url", value("url"));
console.log("note", value("note"));
console.log("folded", value("title"));
console.log("tel", value("tel"));
console.log("written", /LABEL=[^:]*/.exec(first.toString("4.0"))[0]);
const second = other.parse(card);
console.log("vcard-parser: label", second.adr[0].meta.label[0]);
console.log("url", second.url[0].value);
console.log("note", second.note[0].value);
console.log("folded", second.title[0].value);
console.log("tel", [second.tel[0].value].flat()[0]);
JS
seen=$(node "$here/read.js" | paste -sd'|' | sed 's,|, / ,g')
printf '%s\n' "$seen"
[ "$seen" = 'vcf: label "Main St. 1 / url //a:b":http://x.example/ / note a\, b / folded the minutes / tel tel:+1;ext=5 / '\
'written LABEL="Main St. 1;TYPE= town" / vcard-parser: label "Main St. 1 / url //a:b":http://x.example/ / note a, b / '\
'folded theminutes / tel tel:+1' ]
