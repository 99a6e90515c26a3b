#!/bin/sh
# ical.js 2.2.1 and node-ical 0.26.1 (npm), python-dateutil 2.9.0.post0 (PyPI) for comparison.
# Rules of RFC 5545 that two readers of invitations take for others, without an error. "The twentieth Monday of the year" and
# "Monday of week 20", examples of section 3.8.5.3: ical.js repeats the event every Monday. "Monthly" from the 31st:
# months without that day have none (section 3.3.10: invalid dates are ignored); node-ical goes to the 28th of February,
# and stays on the 28th from then on. "Yearly" from the 29th of February: ical.js goes to the 1st of March,
# node-ical to the 28th, where the RFC has every fourth year. dateutil, which Python's libraries use, does as the RFC says.
# Output: the lines at the end, with the first dates of each rule.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q python-dateutil==2.9.0.post0 2>/dev/null
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts ical.js@2.2.1 node-ical@0.26.1 >/dev/null
cat >"$here/rules" <<'TXT'
19970519 FREQ=YEARLY;BYDAY=20MO;COUNT=3
19970512 FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO;COUNT=3
19970131 FREQ=MONTHLY;COUNT=4
20240229 FREQ=YEARLY;COUNT=3
TXT
cat >"$here/read.py" <<'PY'
import sys
from datetime import datetime

from dateutil.rrule import rrulestr

for number, line in enumerate(sys.stdin):
    day, rule = line.split()
    days = rrulestr(rule, dtstart=datetime.strptime(day, "%Y%m%d"))
    print(number, "dateutil:", *(f"{each:%Y%m%d}" for each in days))
PY
cat >"$here/read.mjs" <<'JS'
import { readFileSync } from "node:fs";
import ICAL from "ical.js";
import ical from "node-ical";

readFileSync(0, "utf8").trim().split("\n").forEach((line, number) => {
  const [day, rule] = line.split(" ");
  const calendar = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:x", "BEGIN:VEVENT", "UID:1", "DTSTAMP:19970101T000000Z",
    `DTSTART:${day}T090000Z`, `RRULE:${rule}`, "END:VEVENT", "END:VCALENDAR", ""].join("\r\n");
  const dates = new ICAL.Event(new ICAL.Component(ICAL.parse(calendar)).getFirstSubcomponent("vevent")).iterator();
  const days = [];
  for (let date = dates.next(); date; date = dates.next()) days.push(date.toICALString().slice(0, 8));
  console.log(number, "ical.js:", ...days);
  const events = ical.expandRecurringEvent(ical.sync.parseICS(calendar)["1"],
    { from: new Date("1997-01-01"), to: new Date("2040-01-01") });
  console.log(number, "node-ical:", ...events.map((each) => each.start.toISOString().slice(0, 10).replaceAll("-", "")));
});
JS
export TZ=UTC
seen=$( ("$here/venv/bin/python" "$here/read.py" <"$here/rules"; node "$here/read.mjs" <"$here/rules") | LC_ALL=C sort)
echo "$seen"
[ "$seen" = "0 dateutil: 19970519 19980518 19990517
0 ical.js: 19970519 19970526 19970602
0 node-ical: 19970519 19980518 19990517
1 dateutil: 19970512 19980511 19990517
1 ical.js: 19970519 19970526 19970602
1 node-ical: 19970512 19980511 19990517
2 dateutil: 19970131 19970331 19970531 19970731
2 ical.js: 19970131 19970331 19970531 19970731
2 node-ical: 19970131 19970228 19970328 19970428
3 dateutil: 20240229 20280229 20320229
3 ical.js: 20240229 20250301 20260301
3 node-ical: 20240229 20250228 20260228" ]
