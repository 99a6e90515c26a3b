#!/bin/sh
# envelope 2.5.0 (PyPI), Python 3.11.2 email as the reader.
# A name with a comma, as "Lee, Ann" of an address book, needs quotes in a field (RFC 5322 section 3.2.4). envelope reads it,
# and writes it without: the message has two authors, of which one is no address, and three recipients instead of two. Servers
# count them, and DMARC wants a single author. A message of others with such a name as an encoded word in From,
# as most mail programs write it, has no author for envelope: load() logs a warning, and from_() returns nothing.
# Output: From: Lee, Ann <ann@example.org> / To: Bob <bob@example.net>,Lee, Cid <cid@example.net> /
#  read: 'Lee, Ann <ann@example.org>' and '' / without a comma: Ann Lee <ann@example.org>
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check envelope==2.5.0 2>/dev/null
cat >"$here/write.py" <<'PY'
import logging
from email import message_from_bytes

from envelope import Envelope

logging.disable()
mail = (
    Envelope()
    .message("Hello")
    .subject("Minutes")
    .from_('"Lee, Ann" <ann@example.org>')
    .to('Bob <bob@example.net>, "Lee, Cid" <cid@example.net>')
)
written = message_from_bytes(bytes(mail))
for name in ("From", "To"):
    print(f"{name}: {written[name]}")


def author(name):
    return str(Envelope.load(f"From: {name} <ann@example.org>\r\nSubject: Minutes\r\n\r\nHello\r\n".encode()).from_())


print(f"read: {author(chr(34) + 'Lee, Ann' + chr(34))!r} and {author('=?utf-8?q?Lee=2C_Ann?=')!r}")
print("without a comma:", author("Ann Lee"))
PY
seen=$("$here/venv/bin/python" "$here/write.py" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "From: Lee, Ann <ann@example.org> / To: Bob <bob@example.net>,Lee, Cid <cid@example.net> / \
read: 'Lee, Ann <ann@example.org>' and '' / without a comma: Ann Lee <ann@example.org>" ]
