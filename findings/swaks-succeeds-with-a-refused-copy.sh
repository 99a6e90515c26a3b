#!/bin/sh
# swaks 20201014.0 (Debian).
# An LMTP server answers for each recipient once the message is there (RFC 2033 section 4.2). swaks reads all answers, and
# marks each that refuses, but exits with 0 as soon as one copy was kept, though the code for a message that was not
# accepted is 26, as it is with one recipient. At RCPT it is the same: 24 means that no recipient was accepted, and there is
# no code for some. A script that tests a server with several recipients has to read what swaks prints.
# Output: LMTP, ann: 0 / LMTP, bob: 26 / LMTP, ann and bob: 0, printed "<** 552" / LMTP, bob and ann: 0, printed "<** 552" /
#  SMTP, eve: 24 / SMTP, ann and eve: 0, printed "<** 550"
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cat >"$here/try.py" <<'PY'
import re
import socket
import subprocess
import threading

TRIED = ("LMTP ann", "LMTP bob", "LMTP ann bob", "LMTP bob ann", "SMTP eve", "SMTP ann eve")


def serve(wire):
    """Ann has a mailbox, Bob's is full, Eve is unknown."""
    taken, lmtp, reading = [], False, False
    with wire, wire.makefile("rb") as lines:
        wire.sendall(b"220 mx.example\r\n")
        for line in lines:
            if reading:
                if line != b".\r\n":
                    continue
                reading = False
                kept = [b"552 mailbox is full\r\n" if b"bob" in one else b"250 kept\r\n" for one in taken]
                wire.sendall(b"".join(kept) if lmtp else b"250 taken\r\n")
            elif line.startswith(b"DATA"):
                reading = True
                wire.sendall(b"354 go on\r\n")
            elif line.startswith(b"RCPT") and b"eve" in line:
                wire.sendall(b"550 unknown\r\n")
            else:
                lmtp |= line.startswith(b"LHLO")
                if line.startswith(b"RCPT"):
                    taken.append(line)
                wire.sendall(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 fine\r\n")


def run(listener):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=run, args=(listener,), daemon=True).start()
server = f"127.0.0.1:{listener.getsockname()[1]}"
for protocol, *names in map(str.split, TRIED):
    command = ["swaks", "--protocol", protocol, "--server", server, "--helo", "client.example"]
    command += ["--from", "joe@example.net", "--to", ",".join(f"{name}@example.org" for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    refused = re.findall(r"^<\*\* \d+", done.stdout, re.MULTILINE)
    said = f', printed "{refused[0]}"' if refused and not done.returncode else ""
    print(f"{protocol}, {' and '.join(names)}: {done.returncode}{said}")
PY
seen=$(python3 "$here/try.py" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = 'LMTP, ann: 0 / LMTP, bob: 26 / LMTP, ann and bob: 0, printed "<** 552" / '\
'LMTP, bob and ann: 0, printed "<** 552" / SMTP, eve: 24 / SMTP, ann and eve: 0, printed "<** 550"' ]
