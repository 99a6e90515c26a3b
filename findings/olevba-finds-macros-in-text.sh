#!/bin/sh
# oletools 0.60.2 (PyPI).
# VBA_Parser(data=...).detect_vba_macros() is True for any bytes that are no office file: plain text, HTML, nothing.
# What is asked is only known after a look at the parser's `type`, which is Text for these.
# Output: text: True, HTML: True, nothing: True
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check oletools==0.60.2 2>/dev/null
cat >"$here/detect.py" <<'PY'
from oletools.olevba import TYPE_TEXT, VBA_Parser

def detected(content):
    parser = VBA_Parser("file", data=content)
    assert parser.type == TYPE_TEXT
    return parser.detect_vba_macros()

print(f"text: {detected(b'Dear Ann')}, HTML: {detected(b'<p>Dear Ann</p>')}, nothing: {detected(b'')}")
PY
seen=$("$here/venv/bin/python" -W ignore "$here/detect.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "text: True, HTML: True, nothing: True" ]
