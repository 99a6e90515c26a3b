#!/bin/sh
# sievelib 1.6.0 (PyPI).
# The manual lists Relational (RFC 5231) and Notifications (RFC 5435) among the extensions it supports, apart from those that
# it supports in part. To compare numbers, as :count does, a script must name "i;ascii-numeric" (RFC 5231 section 5,
# as its examples do), but the parser knows two other comparators and refuses it: the examples of section 7 fail,
# and "more than five recipients" cannot be written. What is left, a comparison of texts, has "10" before "9". Of RFC 5435
# the tests valid_notify_method and notify_method_capability (sections 5 and 6) are unknown. A program that lets people
# edit their scripts so refuses those which the server has accepted.
# Output: value of a date: True / priority below 3: False / more than five recipients: False / notify: True /
#  valid_notify_method: False
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check sievelib==1.6.0 2>/dev/null
cat >"$here/parse.py" <<'PY'
from sievelib.parser import Parser

RELATIONAL = 'require ["relational", "comparator-i;ascii-numeric", "date"];\n'
SCRIPTS = {
    "value of a date": RELATIONAL + 'if currentdate :value "ge" "date" "2026-11-30" { keep; }\n',
    "priority below 3": RELATIONAL
    + 'if header :value "lt" :comparator "i;ascii-numeric" "x-priority" "3" { keep; }\n',
    "more than five recipients": RELATIONAL
    + 'if address :count "gt" :comparator "i;ascii-numeric" "to" "5" { keep; }\n',
    "notify": 'require "enotify";\nnotify :importance "1" :message "Mail" "mailto:ann@example.org";\n',
    "valid_notify_method": 'require "enotify";\nif valid_notify_method "mailto:ann@example.org" { keep; }\n',
}
for name, script in SCRIPTS.items():
    print(f"{name}:", Parser().parse(script))
PY
seen=$("$here/venv/bin/python" "$here/parse.py" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "value of a date: True / priority below 3: False / more than five recipients: False / notify: True / \
valid_notify_method: False" ]
