#!/bin/sh
# messy 7.0.0 (npm), Python 3.11.2 email as the reader.
# A message that is read and written again should be the same. messy decodes a part when its body is asked for, and writes
# that: the field still says "base64" or "quoted-printable" (RFC 2045 section 6), and what follows is not. Readers decode it
# once more: a file is another, and so is text with a "=" in it. To look at the parts is enough; without that they are
# kept. Fields of one name are written side by side: of the trace, whose order says where the message was (RFC 5321
# section 4.4), a Received field is taken away from what stood above it.
# Output: not looked at: b'Hello Ann.', b'code=41' / looked at: b'\x1d\xe9e\xa0\t\xe7', b'codeA' /
#  fields: Received, Received, DKIM-Signature, From (read: Received, DKIM-Signature, Received, From)
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts messy@7.0.0 >/dev/null
cat >"$here/write.js" <<'JS'
const { Mail } = require("messy");

const text =
  "Received: one\r\nDKIM-Signature: two\r\nReceived: three\r\nFrom: ann@example.org\r\nMIME-Version: 1.0\r\n" +
  'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' +
  "--b\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ncode=3D41\r\n" +
  "--b\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nSGVsbG8gQW5uLg==\r\n--b--\r\n";
const mail = new Mail(text);
if (process.argv[2] === "look") mail.parts.forEach((part) => part.body);
process.stdout.write(mail.toString());
JS
cat >"$here/read.py" <<'PY'
import email
import subprocess
import sys


def written(*argument):
    command = ["node", f"{sys.argv[1]}/write.js", *argument]
    return email.message_from_bytes(subprocess.run(command, capture_output=True, check=True).stdout)


for name, mail in (("not looked at", written()), ("looked at", written("look"))):
    text, file = mail.get_payload()
    print(f"{name}: {file.get_payload(decode=True)}, {text.get_payload(decode=True)}")
print("fields:", ", ".join(mail.keys()[:4]))
PY
seen=$(python3 "$here/read.py" "$here" | paste -sd/ | sed 's,/, / ,g')
printf '%s\n' "$seen"
[ "$seen" = "not looked at: b'Hello Ann.', b'code=41' / looked at: b'\\x1d\\xe9e\\xa0\\t\\xe7', b'codeA' / \
fields: Received, Received, DKIM-Signature, From" ]
