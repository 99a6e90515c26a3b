#!/bin/sh
# ts-ics 2.4.6 (npm).
# A time without "Z" and without TZID is a local one, wherever the reader is (RFC 5545 section 3.3.5, form 1: lunch at noon).
# ts-ics reads it as UTC, and writes it with "Z": at each place the event is at another hour. Of properties that may come
# more than once, ATTACH and COMMENT (sections 3.8.1.1 and 3.8.1.4), the last is kept, and of RDATE none: files and days are
# gone when a calendar is written again. A name in quotes is cut at its ";" (section 3.1), and written so that the quote has
# no end, which the next reader cannot read. The names of properties may be in small letters (section 2): "summary" is not
# seen. All of it without an error.
# Output: noon: 2026-01-01T12:00:00.000Z, written 20260101T120000Z / kept of two: https://x.test/b, two / RDATE written: no /
#  name: "Lee, Bob, written CN="Lee, Bob;PARTSTAT=ACCEPTED / summary: undefined
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts ts-ics@2.4.6 >/dev/null
cat >"$here/read.js" <<'JS'
const { convertIcsCalendar, generateIcsCalendar } = require("ts-ics");

const text = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//x//EN", "METHOD:REQUEST", "BEGIN:VEVENT", "UID:1",
  "DTSTAMP:20260101T000000Z", "DTSTART:20260101T120000", "RDATE:20260105T120000", "summary:Lunch",
  "ATTACH:https://x.test/a", "ATTACH:https://x.test/b", "COMMENT:one", "COMMENT:two",
  'ATTENDEE;CN="Lee, Bob; Dr.";PARTSTAT=ACCEPTED:mailto:bob@example.net', "END:VEVENT", "END:VCALENDAR", ""].join("\r\n");
const calendar = convertIcsCalendar(undefined, text);
const written = generateIcsCalendar(calendar).replace(/\r?\n[ \t]/g, "");
const [event] = calendar.events;
console.log(`noon: ${event.start.date.toISOString()}, written ${/DTSTART.*:(\w+)/.exec(written)[1]}`);
console.log(`kept of two: ${event.attach}, ${event.comment}`);
console.log("RDATE written:", written.includes("RDATE") ? "yes" : "no");
console.log(`name: ${event.attendees[0].name}, written ${/CN=[^:]*/.exec(written)[0]}`);
console.log("summary:", event.summary);
JS
seen=$(TZ=America/New_York node "$here/read.js" | paste -sd'|' | sed 's,|, / ,g')
printf '%s\n' "$seen"
[ "$seen" = 'noon: 2026-01-01T12:00:00.000Z, written 20260101T120000Z / kept of two: https://x.test/b, two / '\
'RDATE written: no / name: "Lee, Bob, written CN="Lee, Bob;PARTSTAT=ACCEPTED / summary: undefined' ]
