#!/bin/sh
# Haraka 3.3.4 (npm), plugin queue/smtp_forward.
# Haraka announces 8BITMIME and SMTPUTF8 to its clients. What it takes with BODY=8BITMIME and SMTPUTF8 it passes on to the
# server behind with neither word, although that server announces both: an address beyond ASCII arrives in UTF-8 without
# SMTPUTF8 (RFC 6531 section 3.4 wants the word), and the next server may refuse it. Of DSN it announces nothing, but
# answers 250 to NOTIFY=NEVER, where RFC 5321 section 4.1.1.11 asks for 555, and drops it: a sender who was promised
# that there would be no notice gets one. The plugin queue/smtp_proxy does the same.
# Output: announced: 8BITMIME SMTPUTF8, and no DSN /
#  MAIL FROM:<jörg@example.org> BODY=8BITMIME SMTPUTF8 -> MAIL FROM:<jörg@example.org> /
#  RCPT TO:<jörg@example.net> -> RCPT TO:<jörg@example.net> /
#  RCPT TO:<ann@example.net> NOTIFY=NEVER -> RCPT TO:<ann@example.net>
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
echo '{}' >"$here/package.json"
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts --omit=optional Haraka@3.3.4 >/dev/null
mkdir "$here/haraka" "$here/haraka/queue"
cp -R "$here/node_modules/Haraka/config" "$here/haraka/config"
cat >"$here/try.py" <<'PY'
import pathlib
import socket
import subprocess
import sys
import threading
import time

here = pathlib.Path(sys.argv[1])
MAIL = "MAIL FROM:<jörg@example.org> BODY=8BITMIME SMTPUTF8"
RECIPIENTS = ("RCPT TO:<jörg@example.net>", "RCPT TO:<ann@example.net> NOTIFY=NEVER")
arrived = []


def behind(listener):
    """The server behind, which has all extensions."""
    with listener.accept()[0] as wire, wire.makefile("rb") as lines:
        wire.sendall(b"220 behind.example\r\n")
        reading = False
        for line in lines:
            if reading:
                if line == b".\r\n":
                    reading = False
                    wire.sendall(b"250 2.0.0 taken\r\n")
            elif line.startswith(b"EHLO"):
                wire.sendall(b"250-behind.example\r\n250-8BITMIME\r\n250-DSN\r\n250 SMTPUTF8\r\n")
            elif line.startswith(b"DATA"):
                reading = True
                wire.sendall(b"354 go on\r\n")
            else:
                arrived.append(line.decode().strip())
                wire.sendall(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 fine\r\n")


def ask(lines, wire, command):
    """The reply, in lines."""
    if command:
        wire.sendall(command.encode() + b"\r\n")
    reply = [next(lines)]
    while reply[-1][3:4] == b"-":
        reply.append(next(lines))
    return [line.decode().strip() for line in reply]


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=behind, args=(listener,), daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
config = here / "haraka" / "config"
(config / "smtp.ini").write_text(f"listen=127.0.0.1:{port}\nnodes=0\n")
(config / "smtp_forward.ini").write_text(f"host=127.0.0.1\nport={listener.getsockname()[1]}\n")
(config / "me").write_text("haraka.example\n")
(config / "plugins").write_text("rcpt_to.in_host_list\nqueue/smtp_forward\n")
(config / "host_list").write_text("example.net\n")
command = ["node", here / "node_modules" / "Haraka" / "bin" / "haraka", "-c", here / "haraka"]
with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as haraka:
    try:
        while True:
            try:
                wire = socket.create_connection(("127.0.0.1", port), 30)
                break
            except ConnectionRefusedError:
                assert haraka.poll() is None, "Haraka does not start"
                time.sleep(0.2)
        with wire, wire.makefile("rb") as lines:
            ask(lines, wire, "")
            announced = [line[4:] for line in ask(lines, wire, "EHLO client.example")]
            for line in (MAIL, *RECIPIENTS):
                assert ask(lines, wire, line)[0].startswith("250"), line
            assert ask(lines, wire, "DATA")[0].startswith("354")
            assert ask(lines, wire, "Subject: Minutes\r\n\r\nGrüße\r\n.")[0].startswith("250")
    finally:
        haraka.terminate()
there = [word for word in ("8BITMIME", "SMTPUTF8") if word in announced]
print("announced:", *there, end=", and DSN\n" if "DSN" in announced else ", and no DSN\n", sep=" ")
for sent, passed in zip((MAIL, *RECIPIENTS), (line for line in arrived if line.startswith(("MAIL", "RCPT")))):
    print(f"{sent} -> {passed}")
PY
seen=$(PYTHONUTF8=1 python3 "$here/try.py" "$here")
echo "$seen"
[ "$seen" = "announced: 8BITMIME SMTPUTF8, and no DSN
MAIL FROM:<jörg@example.org> BODY=8BITMIME SMTPUTF8 -> MAIL FROM:<jörg@example.org>
RCPT TO:<jörg@example.net> -> RCPT TO:<jörg@example.net>
RCPT TO:<ann@example.net> NOTIFY=NEVER -> RCPT TO:<ann@example.net>" ]
