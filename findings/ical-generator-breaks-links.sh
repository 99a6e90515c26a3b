#!/bin/sh
# ical-generator 10.2.0 (npm), read by ical.js 2.2.1 (npm) and icalendar 7.3.2 (PyPI).
# In RFC 5545 texts have "\," and "\;" (section 3.3.11), but a URI has none (section 3.3.13). ical-generator writes both
# alike: a link to a meeting with a comma or a semicolon in it gets backslashes in URL and ATTACH, and is another link for
# ical.js (icalendar removes them). A '"' in the name of an organizer is written '\"' within quotes, where no '"' may be
# (section 3.1; RFC 6868 has "^'"): for ical.js the name ends there, for icalendar there is no organizer. DELEGATED-TO has
# the bare address, where section 3.2.5 asks for a URI: nobody with that URI is found. The name of the calendar, a text, is
# not escaped at all.
# Output: url: ical.js https://x.test/a\,b\;c, icalendar https://x.test/a,b;c / attachment: https://x.test/a\,b\;c /
#  organizer: ical.js Ann \, icalendar none / delegated to: bob@example.net / NAME:Board, minutes; 2026
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check icalendar==7.3.2 2>/dev/null
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts ical-generator@10.2.0 ical.js@2.2.1 >/dev/null
cat >"$here/read.py" <<'PY'
import sys

import icalendar

(event,) = icalendar.Calendar.from_ical(sys.stdin.buffer.read()).walk("VEVENT")
print(event["URL"], event.get("ORGANIZER", "none"), sep="\n", end="")
PY
cat >"$here/write.mjs" <<'JS'
import { execFileSync } from "node:child_process";
import ICAL from "ical.js";
import ical from "ical-generator";

const here = process.argv[2];
const link = "https://x.test/a,b;c";
const calendar = ical({ name: "Board, minutes; 2026" });
calendar.createEvent({
  start: new Date("2026-11-30T10:00:00Z"),
  summary: "Minutes",
  url: link,
  attachments: [link],
  organizer: { name: 'Ann "A" Lee', email: "ann@example.org" },
  attendees: [{ name: "Cid", email: "cid@example.net", delegatedTo: { email: "bob@example.net" } }],
});
const text = calendar.toString();
const event = new ICAL.Component(ICAL.parse(text)).getFirstSubcomponent("vevent");
const property = (name) => event.getFirstProperty(name);
const python = execFileSync(`${here}/venv/bin/python`, [`${here}/read.py`], { input: text });
const [url, organizer] = python.toString().split("\n");
console.log(`url: ical.js ${property("url").getFirstValue()}, icalendar ${url}`);
console.log(`attachment: ${property("attach").getFirstValue()}`);
console.log(`organizer: ical.js ${property("organizer").getParameter("cn")}, icalendar ${organizer}`);
console.log(`delegated to: ${[property("attendee").getParameter("delegated-to")].flat().join()}`);
console.log(/^NAME:.*$/m.exec(text)[0].trim());
JS
seen=$(node "$here/write.mjs" "$here" | paste -sd'|' | sed 's,|, / ,g')
printf '%s\n' "$seen"
[ "$seen" = 'url: ical.js https://x.test/a\,b\;c, icalendar https://x.test/a,b;c / attachment: https://x.test/a\,b\;c / '\
'organizer: ical.js Ann \, icalendar none / delegated to: bob@example.net / NAME:Board, minutes; 2026' ]
