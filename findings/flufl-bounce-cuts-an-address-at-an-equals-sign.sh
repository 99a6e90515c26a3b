#!/bin/sh
# flufl.bounce 6.0.0 (PyPI), by which Mailman 3 finds out which member a bounce is about.
# A delivery status notification names the recipient as "rfc822; ann@example.net" (RFC 3464 section 2.3.2). flufl.bounce
# reads that as parameters, and takes a "=" in the address for the end of a parameter's name. A "=" is allowed in a local
# part (RFC 5322 section 3.2.3), and forwarding servers (SRS), BATV and VERP write it: of "prvs=0123=ann@example.net"
# "prvs" is returned as the address that failed, which no list has: the dead member stays, and each post bounces. A comment
# before the semicolon hides the address. Beside Original-Recipient with the type "utf-8" (RFC 6533 section 3), or any other
# than rfc822, the type itself is returned as an address that failed, too.
# Output: rfc822; ann@example.net: ann@example.net / rfc822; prvs=0123=ann@example.net: prvs /
#  rfc822; SRS0=HHH=TT=example.net=ann@example.com: srs0 / rfc822 (given); ann@example.net: nobody /
#  utf-8; ann@example.net beside it: ann@example.net, utf-8
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check flufl.bounce==6.0.0 2>/dev/null
cat >"$here/scan.py" <<'PY'
from email import message_from_string

from flufl.bounce import scan_message

BOUNCE = (
    "From: MAILER-DAEMON@mx.example\r\nTo: list-bounces@example.org\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: text/plain\r\n\r\nNot delivered.\r\n"
    "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
    "{}Action: failed\r\nStatus: 5.1.1\r\n\r\n"
    "--b\r\nContent-Type: text/rfc822-headers\r\n\r\nSubject: Minutes\r\n\r\n--b--\r\n"
)


def failed(*fields):
    found = scan_message(message_from_string(BOUNCE.format("".join(f"{field}\r\n" for field in fields))))
    return ", ".join(sorted(address.decode() for address in found)) or "nobody"


for recipient in (
    "rfc822; ann@example.net",
    "rfc822; prvs=0123=ann@example.net",
    "rfc822; SRS0=HHH=TT=example.net=ann@example.com",
    "rfc822 (given); ann@example.net",
):
    print(f"{recipient}: {failed('Final-Recipient: ' + recipient)}")
both = failed("Original-Recipient: utf-8; ann@example.net", "Final-Recipient: rfc822; ann@example.net")
print("utf-8; ann@example.net beside it:", both)
PY
seen=$("$here/venv/bin/python" "$here/scan.py" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "rfc822; ann@example.net: ann@example.net / rfc822; prvs=0123=ann@example.net: prvs / \
rfc822; SRS0=HHH=TT=example.net=ann@example.com: srs0 / rfc822 (given); ann@example.net: nobody / \
utf-8; ann@example.net beside it: ann@example.net, utf-8" ]
