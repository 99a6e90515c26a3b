#!/bin/sh
# icalendar 7.3.2 (PyPI).
# REQUEST-STATUS has parts with semicolons between them, RESOURCES is a list with commas (RFC 5545 sections 3.8.8.3 and
# 3.8.1.10). icalendar reads both as one text, and escapes the separators when it writes the calendar again: "2.0;Success"
# of an answer to an invitation becomes "2.0\;Success", where nothing separates the code from its text any more, and two
# resources become one with a comma in its name. CATEGORIES, the like list, and GEO, the like pair, are kept.
# Output: REQUEST-STATUS:2.0\;Success / RESOURCES:ROOM\,PROJECTOR / CATEGORIES:A,B / GEO:37.5;-122.0
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q icalendar==7.3.2 2>/dev/null
cat >"$here/again.py" <<'PY'
from icalendar import Calendar

LINES = ("REQUEST-STATUS:2.0;Success", "RESOURCES:ROOM,PROJECTOR", "CATEGORIES:A,B", "GEO:37.5;-122.0")
text = "\r\n".join(
    ("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//x//EN", "METHOD:REPLY", "BEGIN:VEVENT", "UID:1",
     "DTSTAMP:20260101T000000Z")
    + LINES + ("END:VEVENT", "END:VCALENDAR", "")
)
written = Calendar.from_ical(text).to_ical().decode().split("\r\n")
for line in LINES:
    name = line.split(":")[0]
    print(*(each for each in written if each.startswith(name + ":")))
PY
seen=$("$here/venv/bin/python" "$here/again.py" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = 'REQUEST-STATUS:2.0\;Success / RESOURCES:ROOM\,PROJECTOR / CATEGORIES:A,B / GEO:37.5;-122.0' ]
