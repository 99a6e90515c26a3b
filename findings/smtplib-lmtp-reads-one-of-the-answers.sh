#!/bin/sh
# Python 3.11.2 (standard library, module smtplib).
# After the message an LMTP server answers once for each recipient that it accepted (RFC 2033 section 4.2). smtplib.LMTP has
# the sendmail() of smtplib.SMTP, which reads one answer. If the first recipient's copy is kept and the second's refused,
# sendmail() returns {}, "no one refused", and the second copy is lost. The unread answer is then taken for that to
# the next command: the next message, to others, is refused at MAIL with what was said of the second recipient.
# Output: first message {} / second message SMTPSenderRefused 552 5.2.2 mailbox of bob is full
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cat >"$here/ask.py" <<'PY'
import smtplib
import socket
import threading

listening = socket.create_server(("127.0.0.1", 0))


def serve():
    connection, _ = listening.accept()
    with connection, connection.makefile("rwb", buffering=0) as stream:
        stream.write(b"220 mx.example.org LMTP\r\n")
        while line := stream.readline():
            if line.upper().startswith(b"DATA"):
                stream.write(b"354 go on\r\n")
                while stream.readline() != b".\r\n":
                    pass
                stream.write(b"250 2.0.0 ann has it\r\n552 5.2.2 mailbox of bob is full\r\n")
            else:
                stream.write(b"250 2.0.0 fine\r\n")


threading.Thread(target=serve, daemon=True).start()
client = smtplib.LMTP(*listening.getsockname(), timeout=5)
MESSAGE = b"Subject: Minutes\r\n\r\nHello\r\n"
print("first message", client.sendmail("a@example.net", ["ann@example.org", "bob@example.org"], MESSAGE))
try:
    print("second message", client.sendmail("a@example.net", ["cy@example.org"], MESSAGE))
except smtplib.SMTPSenderRefused as error:
    print("second message", type(error).__name__, error.smtp_code, error.smtp_error.decode())
client.close()
PY
seen=$(python3 "$here/ask.py" | paste -sd/ | sed 's,/, / ,')
echo "$seen"
[ "$seen" = "first message {} / second message SMTPSenderRefused 552 5.2.2 mailbox of bob is full" ]
