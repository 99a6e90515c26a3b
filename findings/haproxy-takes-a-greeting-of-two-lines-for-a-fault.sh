#!/bin/sh
# HAProxy 2.6.12 (Debian).
# A greeting may have several lines, "220-" before the last (RFC 5321 section 4.2.1); postscreen of Postfix sends such a
# one with its setting postscreen_greet_banner. `option smtpchk` reads a reply of several lines to EHLO rightly, but wants
# "220 " or an empty 220 of the greeting: it closes the connection without a command, and takes the server for down. Mail
# is then refused for all servers of the backend at once, while each of them would have taken it.
# Output: one line: UP L7OK / two lines: DOWN L7RSP 220-mx.example / EHLO of two lines: UP L7OK
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cat >"$here/try.py" <<'PY'
import socket
import subprocess
import sys
import threading
import time

here = sys.argv[1]
SERVERS = {
    "one line": (b"220 mx.example ESMTP\r\n", b"250 mx.example\r\n"),
    "two lines": (b"220-mx.example\r\n220 mx.example ESMTP\r\n", b"250 mx.example\r\n"),
    "EHLO of two lines": (b"220 mx.example ESMTP\r\n", b"250-mx.example\r\n250 8BITMIME\r\n"),
}


def answer(wire, greeting, ehlo):
    try:
        with wire, wire.makefile("rb") as lines:
            wire.sendall(greeting)
            for line in lines:
                wire.sendall(ehlo if line.startswith(b"EHLO") else b"221 bye\r\n")
    except OSError:
        pass  # what is seen is what HAProxy says


def serve(greeting, ehlo):
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        while True:
            wire = listener.accept()[0]
            threading.Thread(target=answer, args=(wire, greeting, ehlo), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def states():
    """What HAProxy says of each server, once it has looked at it."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(f"{here}/stats")
        wire.sendall(b"show stat\n")
        with wire.makefile() as answer:
            names, *rows = (line.strip().lstrip("# ").split(",") for line in answer if line.strip())
    found = [dict(zip(names, row)) for row in rows]
    return [one for one in found if one["svname"].startswith("server") and one["last_chk"]]


with socket.create_server(("127.0.0.1", 0)) as free:
    front = free.getsockname()[1]
config = f"""global
 stats socket {here}/stats
defaults
 mode tcp
 timeout connect 5s
 timeout client 5s
 timeout server 5s
listen mail
 bind 127.0.0.1:{front}
 option smtpchk EHLO haproxy.example.com
"""
for number, replies in enumerate(SERVERS.values()):
    config += f" server server{number} 127.0.0.1:{serve(*replies)} check inter 500ms fall 1 rise 1\n"
with open(f"{here}/haproxy.cfg", "w") as file:
    file.write(config)
haproxy = subprocess.Popen(["haproxy", "-db", "-q", "-f", f"{here}/haproxy.cfg"], stderr=subprocess.DEVNULL)
try:
    for _ in range(200):
        time.sleep(0.1)
        try:
            found = states()
        except OSError:
            continue
        if len(found) == len(SERVERS):
            break
finally:
    haproxy.kill()
for name, one in zip(SERVERS, found):
    said = "" if one["status"] == "UP" else f" {one['last_chk'].strip()}"
    print(f"{name}: {one['status']} {one['check_status']}{said}")
PY
seen=$(PATH="$PATH:/usr/sbin" python3 "$here/try.py" "$here" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "one line: UP L7OK / two lines: DOWN L7RSP 220-mx.example / EHLO of two lines: UP L7OK" ]
