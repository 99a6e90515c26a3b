#!/bin/sh
# ical.js 2.2.1, node-ical 0.26.1 (npm), icalendar 7.3.2, recurring-ical-events 3.8.2 (PyPI).
# In RFC 5545 (section 3.3.6) a duration of days is nominal and one of hours is exact: over the night in which the clocks
# go forward, P1D from noon ends at noon, and PT24H at one o'clock. None of the four knows the difference. ical.js and the
# Python libraries reckon by the clock on the wall, and end both at noon; node-ical takes a day for 24 hours, and ends
# both at one o'clock. A call of one hour (PT1H) that begins half an hour before the change ends for ical.js at the
# moment at which it begins.
# Output: the lines at the end, in UTC; 10:00 for P1D, 01:30 for PT1H and 11:00 for PT24H are right.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q icalendar==7.3.2 recurring-ical-events==3.8.2 2>/dev/null
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts ical.js@2.2.1 node-ical@0.26.1 >/dev/null
write() { # start, duration
  printf '%s\r\n' BEGIN:VCALENDAR VERSION:2.0 PRODID:x BEGIN:VTIMEZONE TZID:Europe/Berlin \
    BEGIN:STANDARD DTSTART:19961027T030000 TZOFFSETFROM:+0200 TZOFFSETTO:+0100 'RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10' \
    END:STANDARD BEGIN:DAYLIGHT DTSTART:19960331T020000 TZOFFSETFROM:+0100 TZOFFSETTO:+0200 \
    'RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3' END:DAYLIGHT END:VTIMEZONE \
    BEGIN:VEVENT UID:1 DTSTAMP:20260101T000000Z "DTSTART;TZID=Europe/Berlin:$1" "DURATION:$2" END:VEVENT END:VCALENDAR \
    >"$here/$2.ics"
}
write 20260328T120000 P1D
write 20260328T120000 PT24H
write 20260329T013000 PT1H
cat >"$here/read.py" <<'PY'
import sys
from datetime import UTC
from pathlib import Path

import icalendar
import recurring_ical_events

for path in sorted(Path(sys.argv[1]).glob("*.ics")):
    calendar = icalendar.Calendar.from_ical(path.read_bytes())
    (event,) = recurring_ical_events.of(calendar).between((2026,), (2027,))
    for name, end in (("icalendar", calendar.events[0].end), ("recurring-ical-events", event["DTEND"].dt)):
        print(path.stem, f"{name}: {end.astimezone(UTC):%H:%M}")
PY
cat >"$here/read.mjs" <<'JS'
import { readFileSync, readdirSync } from "node:fs";
import ICAL from "ical.js";
import ical from "node-ical";

const folder = process.argv[2];
for (const file of readdirSync(folder).filter((each) => each.endsWith(".ics"))) {
  const text = readFileSync(`${folder}/${file}`, "utf8");
  const event = new ICAL.Event(new ICAL.Component(ICAL.parse(text)).getFirstSubcomponent("vevent"));
  for (const [name, end] of [["ical.js", event.endDate.toJSDate()], ["node-ical", ical.sync.parseICS(text)["1"].end]])
    console.log(`${file.slice(0, -4)} ${name}: ${end.toISOString().slice(11, 16)}`);
}
JS
export TZ=UTC
seen=$( ("$here/venv/bin/python" "$here/read.py" "$here"; node "$here/read.mjs" "$here") | LC_ALL=C sort)
echo "$seen"
[ "$seen" = "P1D ical.js: 10:00
P1D icalendar: 10:00
P1D node-ical: 11:00
P1D recurring-ical-events: 10:00
PT1H ical.js: 00:30
PT1H icalendar: 01:30
PT1H node-ical: 01:30
PT1H recurring-ical-events: 01:30
PT24H ical.js: 10:00
PT24H icalendar: 10:00
PT24H node-ical: 11:00
PT24H recurring-ical-events: 10:00" ]
