#!/bin/sh
# imap-tools 1.16.0 (PyPI).
# A message may have several texts: a mailing list adds its footer as a part of its own, and a message may be attached to
# another. The line end before a boundary belongs to the boundary (RFC 2046 section 5.1.1), so the first text need not end
# with one. MailMessage.text and .html join all texts with nothing in between: the last word of the letter and the first one
# of the footer are one word, two HTML documents are one. The text of an attached message, which somebody else wrote, is part
# of it, too, without a mark, and its files are among the attachments of the outer message, beside the attached
# message itself, which has them a second time. A search, an answer or a rule takes the words of one person for another's.
# Output: letter and footer: 'Regards, AnnTo leave the list, write to us.' /
#  letter and attached message: 'See below.I resign.', files: message/rfc822 with it, application/pdf alone
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check imap-tools==1.16.0 2>/dev/null
cat >"$here/read.py" <<'PY'
from imap_tools import MailMessage


def mixed(boundary, *parts):
    lines = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts)
    return f"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary={boundary}\r\n\r\n{lines}--{boundary}--\r\n"


def text(words):
    return f"Content-Type: text/plain; charset=us-ascii\r\n\r\n{words}"


PDF = "Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjc="
HEAD = "From: ann@example.org\r\nSubject: Minutes\r\n"
listed = MailMessage.from_bytes((HEAD + mixed("a", text("Regards, Ann"), text("To leave the list, write to us."))).encode())
print(f"letter and footer: {listed.text!r}")
inner = "Content-Type: message/rfc822\r\n\r\nFrom: bob@example.net\r\n" + mixed("b", text("I resign."), PDF)
outer = MailMessage.from_bytes((HEAD + mixed("a", text("See below."), inner)).encode())
message, file = outer.attachments
assert (file.filename, file.payload) == ("a.pdf", b"%PDF-1.7")
assert b"JVBERi0xLjc=" in message.payload
print(f"letter and attached message: {outer.text!r}, files: {message.content_type} with it, {file.content_type} alone")
PY
seen=$("$here/venv/bin/python" "$here/read.py" | paste -sd'|' | sed 's,|, / ,g')
echo "$seen"
[ "$seen" = "letter and footer: 'Regards, AnnTo leave the list, write to us.' / \
letter and attached message: 'See below.I resign.', files: message/rfc822 with it, application/pdf alone" ]
