#!/bin/sh
# flufl.bounce 6.0.0 (PyPI; Mailman 3 uses it), mail 2.7.1 (Debian's ruby-mail), Ruby 3.1.2.
# The notification about a message that was sent with SMTPUTF8 has the type message/global-delivery-status with the same
# fields (RFC 6533 section 3), and Postfix writes it so: any message with an address or a field in UTF-8 that was sent that
# way, also one whose recipient is ASCII. Neither library knows the type. flufl.bounce finds no address, and mail
# answers nil to bounced? and final_recipient, for a mailbox that does not exist: who writes to it again each day, as
# mailing lists do, never learns of it. The same notification as message/delivery-status is read by both.
# Output: delivery-status: flufl.bounce ann@example.net, mail bounced true /
#  global-delivery-status: flufl.bounce nobody, mail bounced nil
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check flufl.bounce==6.0.0 2>/dev/null
cat >"$here/scan.py" <<'PY'
import subprocess
from email import message_from_string

from flufl.bounce import scan_message

BOUNCE = (
    "From: MAILER-DAEMON@mx.example\r\nTo: list-bounces@example.org\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/report; report-type={0}; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nNot delivered.\r\n"
    "--b\r\nContent-Type: message/{0}\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
    "Final-Recipient: rfc822; ann@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
)
for kind in ("delivery-status", "global-delivery-status"):
    text = BOUNCE.format(kind)
    found = ", ".join(address.decode() for address in scan_message(message_from_string(text))) or "nobody"
    command = ["ruby", "-W0", "-rmail", "-e", "p Mail.new($stdin.binmode.read).bounced?"]
    ruby = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout.decode().strip()
    print(f"{kind}: flufl.bounce {found}, mail bounced {ruby}")
PY
seen=$("$here/venv/bin/python" "$here/scan.py" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "delivery-status: flufl.bounce ann@example.net, mail bounced true / \
global-delivery-status: flufl.bounce nobody, mail bounced nil" ]
