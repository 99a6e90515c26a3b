#!/bin/sh
# vobject 0.9.9 (PyPI), ical.js 2.2.1 (npm).
# NICKNAME of a vCard 3.0 is a list with commas (RFC 2426 section 3.1.3). vobject returns its first entry, and writes
# that alone when it writes the card again: the others are lost without a word. Of CATEGORIES, the like list, it keeps
# all. ical.js keeps the nicknames, but in a card of 3.0 it does not read "\;", which its texts may have for ";"
# (section 4, ESCAPED-CHAR): the backslash is part of what it returns, and is written as two.
# Output: vobject: NICKNAME:Bob NOTE:now\; then CATEGORIES:a,b / ical.js: NICKNAME:Bob,Bobby NOTE:now\\; then CATEGORIES:a,b
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check vobject==0.9.9 2>/dev/null
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts ical.js@2.2.1 >/dev/null
printf '%s\r\n' BEGIN:VCARD VERSION:3.0 'FN:Robert Smith' 'N:Smith;Robert;;;' NICKNAME:Bob,Bobby 'NOTE:now\; then' \
  CATEGORIES:a,b END:VCARD >"$here/card.vcf"
cat >"$here/again.py" <<'PY'
import sys

import vobject

sys.stdout.write(vobject.readOne(open(sys.argv[1], newline="").read()).serialize())
PY
cat >"$here/again.mjs" <<'JS'
import { readFileSync } from "node:fs";
import ICAL from "ical.js";
console.log(new ICAL.Component(ICAL.parse(readFileSync(process.argv[2], "utf8"))).toString());
JS
lines() {
  tr -d '\r' >"$here/written"
  for name in NICKNAME NOTE CATEGORIES; do grep "^$name:" "$here/written"; done | paste -sd' '
}
seen="vobject: $("$here/venv/bin/python" "$here/again.py" "$here/card.vcf" | lines) / ical.js: $(
  node "$here/again.mjs" "$here/card.vcf" | lines)"
printf '%s\n' "$seen"
[ "$seen" = 'vobject: NICKNAME:Bob NOTE:now\; then CATEGORIES:a,b / '\
'ical.js: NICKNAME:Bob,Bobby NOTE:now\\; then CATEGORIES:a,b' ]
