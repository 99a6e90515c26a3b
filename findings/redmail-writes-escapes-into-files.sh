#!/bin/sh
# redmail 0.6.0 (PyPI), Python 3.11.2 (the standard library's email).
# The content of a file to attach may be given as text, as the manual shows for a file.html. redmail hands it on as text, and
# the email package encodes it as "raw-unicode-escape", whatever the encoding of the sender is set to: "ä" is a byte of
# Latin-1, and what is not in Latin-1, like "€" or all of Cyrillic, becomes "\u20ac", six characters of ASCII. A price list
# in CSV or a page in HTML reaches its reader so. The part is application/octet-stream without a charset, so that nothing
# can repair it. The text of the message itself is right, and so is a table of pandas, except in a .txt.
# Output: a.csv: b'Preis \\u20ac 5' / b.csv: b'Gr\xfc\xdfe' / text: 'Preis € 5'
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check redmail==0.6.0 2>/dev/null
cat >"$here/write.py" <<'PY'
from email import message_from_bytes
from email.policy import default

from redmail import EmailSender

mail = EmailSender(host="127.0.0.1", port=1).get_message(
    subject="Prices",
    sender="ann@example.org",
    receivers=["bob@example.net"],
    text="Preis € 5",
    attachments={"a.csv": "Preis € 5", "b.csv": "Grüße"},
)
mail = message_from_bytes(mail.as_bytes(), policy=default)
for part in mail.iter_attachments():
    print(f"{part.get_filename()}: {part.get_content()!r}")
print(f"text: {mail.get_body().get_content().strip()!r}")
PY
seen=$("$here/venv/bin/python" "$here/write.py" | paste -sd/ | sed 's,/, / ,g')
printf '%s\n' "$seen"
[ "$seen" = "a.csv: b'Preis \\\\u20ac 5' / b.csv: b'Gr\\xfc\\xdfe' / text: 'Preis € 5'" ]
