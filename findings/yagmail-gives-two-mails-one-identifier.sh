#!/bin/sh
# yagmail 0.16.0 (PyPI).
# Each message must have a Message-ID of its own (RFC 5322 section 3.6.4). yagmail makes it of From, To and Subject, unless
# send() is given group_messages=False, which its manual does not name: the alarm of today has the identifier of
# yesterday's. Servers and programs that keep one of several copies, as after a delivery to a person and to a list, drop it,
# and an archive has one of both. With names, as its manual shows them, To has the names alone: "Lee, Bob" without an
# address, to which nobody can answer. An address beyond ASCII is written as an encoded word, where none may be (RFC 2047
# section 5). The plain text has "<br>" for each end of a line.
# Output: identifiers of two messages: the same / To of a name: Lee, Bob / To of jörg@example.net: =?utf-8?b?...?= /
#  plain text: Disk full<br>on mail1
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check yagmail==0.16.0 2>/dev/null
cat >"$here/write.py" <<'PY'
from email import message_from_string

import yagmail

client = yagmail.SMTP("ann@example.org", password="secret", host="127.0.0.1", port=1)


def written(to, text):
    _, mail = client.prepare_send(to=to, subject="Alarm", contents=[text])
    return message_from_string(mail)


monday, tuesday = (written("bob@example.net", text) for text in ("Disk full\non mail1", "All is well"))
same = monday["Message-ID"] == tuesday["Message-ID"]
print("identifiers of two messages:", "the same" if same else "different")
print("To of a name:", written({"bob@example.net": "Lee, Bob"}, "Hello")["To"])
beyond = written("jörg@example.net", "Hello")["To"]
print("To of jörg@example.net:", "=?utf-8?b?...?=" if beyond.startswith("=?utf-8?b?") and "@" not in beyond else beyond)
plain = next(part for part in monday.walk() if part.get_content_type() == "text/plain")
print("plain text:", plain.get_payload(decode=True).decode())
PY
seen=$("$here/venv/bin/python" "$here/write.py" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "identifiers of two messages: the same / To of a name: Lee, Bob / To of jörg@example.net: =?utf-8?b?...?= / \
plain text: Disk full<br>on mail1" ]
