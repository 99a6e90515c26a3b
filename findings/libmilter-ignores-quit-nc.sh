#!/bin/sh
# libmilter 8.17.1.9-2+deb12u2 (Debian 12, package libmilter1.0.1).
# Since version 6 of the milter protocol a mail server may send QUIT_NC ("quit, new connection follows") and use the
# connection for its next SMTP session. libmilter obeys it after a message that its milter ended with SMFIS_CONTINUE.
# After SMFIS_ACCEPT, the usual end, it is in the state in which a client has greeted, from which QUIT_NC cannot be
# reached: it ignores QUIT_NC, then CONNECT, and answers nothing. A mail server that reuses the connection waits
# until its time is over. Postfix does not use QUIT_NC and is free of this.
# Output: after SMFIS_CONTINUE: b'c', after SMFIS_ACCEPT: nothing
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
version=8.17.1.9-2+deb12u2
apt-get -q download "libmilter-dev=$version" "libmilter1.0.1=$version" >/dev/null 2>&1
for package in ./*.deb; do dpkg -x "$package" root; done
library=$(dirname "$(find root -name 'libmilter.so.1*' | head -1)")
cat >milter.c <<'C'
#include <libmilter/mfapi.h>
#include <stdlib.h>

static sfsistat answer;
static sfsistat end(SMFICTX *context) { return answer; }
static struct smfiDesc milter = {.xxfi_name = "m", .xxfi_version = SMFI_VERSION, .xxfi_eom = end};

int main(int count, char **words)
{
	answer = atoi(words[2]) ? SMFIS_ACCEPT : SMFIS_CONTINUE;
	return smfi_setconn(words[1]) || smfi_register(milter) || smfi_main();
}
C
cc -o milter milter.c -Iroot/usr/include -L"$library" -lmilter -lpthread
cat >server.py <<'PY'
import os
import socket
import struct
import subprocess
import time


def packet(letter, data=b""):
    return struct.pack("!I", len(data) + 1) + letter + data


def ask(wire, letter, data=b""):
    """The letter of the answer; nothing within five seconds, in which an answer takes milliseconds."""
    wire.sendall(packet(letter, data))
    try:
        length = int.from_bytes(wire.recv(4, socket.MSG_WAITALL))
        return wire.recv(length, socket.MSG_WAITALL)[:1]
    except TimeoutError:
        return "nothing"


def after(accepts):
    path = os.path.abspath(f"sock{accepts}")
    with subprocess.Popen(["./milter", f"unix:{path}", str(accepts)]) as process:
        try:
            while not os.path.exists(path):
                time.sleep(0.05)
            with socket.socket(socket.AF_UNIX) as wire:
                while wire.connect_ex(path):
                    time.sleep(0.05)
                wire.settimeout(5)
                ask(wire, b"O", struct.pack("!III", 6, 0x1FF, 0x37F))
                client = b"localhost\0" + b"4" + struct.pack("!H", 25) + b"127.0.0.1\0"
                for letter, data in ((b"C", client), (b"H", b"x\0"), (b"M", b"<a>\0"), (b"R", b"<b>\0")):
                    ask(wire, letter, data)
                ask(wire, b"E")
                wire.sendall(packet(b"K"))
                return ask(wire, b"C", client)
        finally:
            process.kill()


print(f"after SMFIS_CONTINUE: {after(0)}, after SMFIS_ACCEPT: {after(1)}")
PY
seen=$(LD_LIBRARY_PATH="$library" python3 server.py)
echo "$seen"
[ "$seen" = "after SMFIS_CONTINUE: b'c', after SMFIS_ACCEPT: nothing" ]
