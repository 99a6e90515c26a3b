#!/bin/sh
# Python 3.11.2 (standard library, module email, both policies).
# A part of type message/global may have any transfer encoding, base64 too (RFC 6532 section 3.7; message/rfc822 may not), as
# it needs where only 7 bits pass. Python parses what is within any message/* without decoding it: a message without a field,
# whose text is the base64. get_payload(decode=True) of the part is None. A program that looks at each part of a message
# so finds no field, no text and no attachment of the inner one; only a defect noted on the inner message hints at it.
# Output: is_multipart True, fields [], text RnJvbTogYW5u..., defects 0 and 1, decoded None
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cat >"$here/read.py" <<'PY'
import base64
import email
import email.policy

inner = "From: ann@example.org\r\nSubject: Grüße\r\n\r\nHello\r\n".encode()
mail = (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: message/global\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(inner).replace(b"\n", b"\r\n") + b"--b--\r\n"
)
for policy in (email.policy.compat32, email.policy.default):
    part = email.message_from_bytes(mail, policy=policy).get_payload(0)
    (within,) = part.get_payload()
    print(
        f"is_multipart {part.is_multipart()}, fields {within.keys()}, text {within.get_payload()[:12]}...,"
        f" defects {len(part.defects)} and {len(within.defects)}, decoded {part.get_payload(decode=True)}"
    )
PY
seen=$(python3 "$here/read.py" | uniq)
echo "$seen"
[ "$seen" = "is_multipart True, fields [], text RnJvbTogYW5u..., defects 0 and 1, decoded None" ]
