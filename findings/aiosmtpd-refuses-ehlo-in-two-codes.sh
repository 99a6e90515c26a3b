#!/bin/sh
# aiosmtpd 1.4.6, Python 3.11.2.
# A handler's handle_EHLO in its older form, with four arguments, returns the reply to EHLO. aiosmtpd has written the
# lines of its own extensions before that: where the handler refuses, one reply has the lines 250-... and then 550,
# although RFC 5321 section 4.2.1 asks for the same code on every line. smtplib takes the last code, and the
# client is refused; a client that reads the first line believes to be accepted. The newer form, with five arguments,
# returns all lines itself and is free of this.
# Output: b'250-mail.example' ... b'550 not you'
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q aiosmtpd==1.4.6 2>/dev/null
cat >"$here/hello.py" <<'PY'
import socket
import warnings

from aiosmtpd.controller import Controller

warnings.simplefilter("ignore")


class Refuses:
    async def handle_EHLO(self, server, session, envelope, hostname):
        return "550 not you"


controller = Controller(Refuses(), hostname="127.0.0.1", port=0, server_hostname="mail.example")
with socket.socket() as free:  # the controller cannot tell which port it was given
    free.bind(("127.0.0.1", 0))
    controller.port = free.getsockname()[1]
controller.start()
try:
    with socket.create_connection((controller.hostname, controller.port)) as client:
        lines = client.makefile("rb")
        lines.readline()
        client.sendall(b"EHLO client.example\r\n")
        seen = [lines.readline().rstrip()]
        while seen[-1][3:4] == b"-":
            seen.append(lines.readline().rstrip())
finally:
    controller.stop()
print(seen[0], "...", seen[-1])
PY
seen=$("$here/venv/bin/python" "$here/hello.py")
echo "$seen"
[ "$seen" = "b'250-mail.example' ... b'550 not you'" ]
