#!/bin/sh
# ical.js 2.2.1 and node-ical 0.26.1 (npm), icalendar 7.3.2 with recurring-ical-events 3.8.2 (PyPI) for comparison.
# An event may have further dates, RDATE, with or without a rule (RFC 5545 section 3.8.5.2), and an update of one date may
# be for all that follow, RANGE=THISANDFUTURE (section 3.2.13). node-ical knows neither: the added dates do not exist,
# and of a meeting that was moved from Wednesday on, Wednesday's alone is. ical.js leaves out the first date,
# DTSTART, of an event that has RDATE and no rule, although it always is one (section 3.8.5.3), and fails in its own code
# at a date with an end of its own, RDATE;VALUE=PERIOD. What a program shows of an invitation is another set of days.
# Output: the lines at the end, with day/hour of each date.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q icalendar==7.3.2 recurring-ical-events==3.8.2 2>/dev/null
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts ical.js@2.2.1 node-ical@0.26.1 >/dev/null
write() { # name, lines
  name=$1
  shift
  printf '%s\r\n' BEGIN:VCALENDAR VERSION:2.0 PRODID:x BEGIN:VEVENT UID:1 DTSTAMP:20260101T000000Z DTSTART:20260330T090000Z \
    DTEND:20260330T100000Z "$@" END:VEVENT END:VCALENDAR >"$here/$name.ics"
}
write 1-added RDATE:20260402T090000Z
write 2-ended 'RDATE;VALUE=PERIOD:20260402T090000Z/PT3H'
write 3-moved 'RRULE:FREQ=DAILY;COUNT=4' END:VEVENT BEGIN:VEVENT UID:1 DTSTAMP:20260101T000000Z \
  'RECURRENCE-ID;RANGE=THISANDFUTURE:20260401T090000Z' DTSTART:20260401T110000Z DTEND:20260401T120000Z
cat >"$here/read.py" <<'PY'
import sys
from pathlib import Path

import icalendar
import recurring_ical_events

for path in sorted(Path(sys.argv[1]).glob("*.ics")):
    events = recurring_ical_events.of(icalendar.Calendar.from_ical(path.read_bytes())).between((2026,), (2027,))
    starts = [each["DTSTART"].dt for each in events]
    print(path.stem, "recurring-ical-events", *(f"{each.day}/{each.hour}" for each in starts))
PY
cat >"$here/read.mjs" <<'JS'
import { readFileSync, readdirSync } from "node:fs";
import ICAL from "ical.js";
import ical from "node-ical";

const folder = process.argv[2];
for (const file of readdirSync(folder).filter((each) => each.endsWith(".ics"))) {
  const text = readFileSync(`${folder}/${file}`, "utf8");
  const name = file.slice(0, -4);
  const events = ical.expandRecurringEvent(ical.sync.parseICS(text)["1"],
    { from: new Date("2026-01-01"), to: new Date("2027-01-01") });
  console.log(name, "node-ical", ...events.map((each) => `${each.start.getUTCDate()}/${each.start.getUTCHours()}`));
  try {
    const [first, ...exceptions] = new ICAL.Component(ICAL.parse(text)).getAllSubcomponents("vevent");
    const event = new ICAL.Event(first, { exceptions });
    const starts = [];
    const dates = event.iterator();
    for (let date = dates.next(); date; date = dates.next()) starts.push(event.getOccurrenceDetails(date).startDate);
    console.log(name, "ical.js", ...starts.map((each) => `${each.day}/${each.hour}`));
  } catch (error) {
    console.log(name, "ical.js", error.name);
  }
}
JS
seen=$( (TZ=UTC "$here/venv/bin/python" "$here/read.py" "$here"; TZ=UTC node "$here/read.mjs" "$here") | LC_ALL=C sort)
echo "$seen"
[ "$seen" = "1-added ical.js 2/9
1-added node-ical 30/9
1-added recurring-ical-events 30/9 2/9
2-ended ical.js TypeError
2-ended node-ical 30/9
2-ended recurring-ical-events 30/9 2/9
3-moved ical.js 30/9 31/9 1/11 2/11
3-moved node-ical 30/9 31/9 1/11 2/9
3-moved recurring-ical-events 30/9 31/9 1/11 2/11" ]
