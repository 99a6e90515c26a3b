#!/bin/sh
# node-ical 0.26.1 (npm).
# A parameter may have several quoted values with commas between them, as DELEGATED-TO of an invitation's answer has in
# the example of RFC 5545 section 3.2.5. node-ical drops a line that has them, without a word: the attendee is not
# there. With one delegate he is. A comma within a text of a list is written "\," (section 3.3.11): in CATEGORIES
# node-ical takes it for the end of one category, and leaves the backslash.
# Output: one delegate: mailto:ann@example.org / two: undefined / categories: Minutes\ | agenda | Board
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts node-ical@0.26.1 >/dev/null
cat >"$here/read.js" <<'JS'
const ical = require("node-ical");

function event(...lines) {
  const text = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//x//EN", "METHOD:REPLY", "BEGIN:VEVENT", "UID:1",
    "DTSTAMP:20260101T000000Z", "DTSTART:20260101T090000Z", ...lines, "END:VEVENT", "END:VCALENDAR", ""];
  return ical.sync.parseICS(text.join("\r\n"))["1"];
}
const one = event('ATTENDEE;DELEGATED-TO="mailto:bob@example.org":mailto:ann@example.org');
const two = event('ATTENDEE;DELEGATED-TO="mailto:bob@example.org","mailto:cid@example.org":mailto:ann@example.org');
console.log("one delegate:", one.attendee?.val);
console.log("two:", two.attendee?.val);
console.log("categories:", event("CATEGORIES:Minutes\\, agenda,Board").categories.join(" | "));
JS
seen=$(node "$here/read.js" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = 'one delegate: mailto:ann@example.org / two: undefined / categories: Minutes\ | agenda | Board' ]
