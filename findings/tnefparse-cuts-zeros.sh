#!/bin/sh
# tnefparse 1.4.0 (PyPI).
# In TNEF (winmail.dat, [MS-OXTNEF]) a binary property has a length and no terminator. tnefparse cuts the zero
# bytes off the end of each: of a file that is sent as the property PR_ATTACH_DATA and ends with zeros, less comes out
# than was sent, without an error.
# Output: sent 8 bytes, read 5
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check tnefparse==1.4.0 2>/dev/null
cat >"$here/read.py" <<'PY'
import struct
from tnefparse import TNEF

def attribute(level, number, kind, value):
    return struct.pack("<BHHI", level, number, kind, len(value)) + value + struct.pack("<H", sum(value) % 65536)

content = b"hello\0\0\0"
mail = struct.pack("<IH", 0x223E9F78, 1)
mail += attribute(1, 0x9006, 8, struct.pack("<I", 0x10000))  # version
mail += attribute(1, 0x9007, 6, struct.pack("<II", 1252, 0))  # code page
mail += attribute(2, 0x9002, 6, struct.pack("<HIHHI", 1, 0, 0, 0, 0))  # an attachment begins
mail += attribute(2, 0x8010, 1, b"a.bin\0")  # its name
data = struct.pack("<IHHII", 1, 0x0102, 0x3701, 1, len(content)) + content  # one property: its content
mail += attribute(2, 0x9005, 6, data)
(part,) = TNEF(mail).attachments
print(f"sent {len(content)} bytes, read {len(part.data)}")
PY
seen=$("$here/venv/bin/python" "$here/read.py")
echo "$seen"
[ "$seen" = "sent 8 bytes, read 5" ]
