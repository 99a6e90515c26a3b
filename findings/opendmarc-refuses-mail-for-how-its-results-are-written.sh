#!/bin/sh
# opendmarc 1.4.2-2+b1 (Debian), with SPFSelfValidate false, RejectFailures true and a policy of p=reject.
# OpenDMARC believes the Authentication-Results of a server that it trusts, but reads only one way of several that RFC 8601
# has for the same result. It does not count SPF if smtp.mailfrom is the whole address (ABNF of section 2.2: a local part
# may stand before the domain), DKIM if the domain is in header.i alone (section 2.7.1), and neither if the method has its
# version, "spf/1". If one method has a type of property that it does not know, like dns.zone of RFC 8904, it drops the
# whole field, though an unknown method by itself does no harm. The honest sender's mail is refused with 550.
# Output: spf=pass smtp.mailfrom=honest.example: accepted / spf=pass smtp.mailfrom=eve@honest.example: refused /
#  spf/1=pass smtp.mailfrom=honest.example: refused / dkim=pass header.d=honest.example: accepted /
#  dkim=pass header.i=@honest.example: refused / x-new=pass; spf=pass smtp.mailfrom=honest.example: accepted /
#  dnswl=pass dns.zone=list.example; spf=pass smtp.mailfrom=honest.example: refused
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cat >"$here/try.py" <<'PY'
import os
import socket
import struct
import subprocess
import sys
import time

here = sys.argv[1]
RESULTS = (
    "spf=pass smtp.mailfrom=honest.example",
    "spf=pass smtp.mailfrom=eve@honest.example",
    "spf/1=pass smtp.mailfrom=honest.example",
    "dkim=pass header.d=honest.example",
    "dkim=pass header.i=@honest.example",
    "x-new=pass; spf=pass smtp.mailfrom=honest.example",
    "dnswl=pass dns.zone=list.example; spf=pass smtp.mailfrom=honest.example",
)
FILES = {
    "zone": "_dmarc.honest.example v=DMARC1; p=reject\n",
    "suffixes": "example\n",
    "conf": f"""AuthservID mail.example.com
TrustedAuthservIDs mx.example.com
Socket local:{here}/milter
RejectFailures true
SPFSelfValidate false
Syslog false
PublicSuffixList {here}/suffixes
TestDNSData {here}/zone
""",
}
for name, content in FILES.items():
    with open(f"{here}/{name}", "w") as file:
        file.write(content)


def judged(results):
    """What the milter answers at the end of a message with these results."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(20)
        wire.connect(f"{here}/milter")

        def ask(letter, data=b"", answers=True):
            wire.sendall(struct.pack("!I", len(data) + 1) + letter + data)
            while answers:
                size = int.from_bytes(wire.recv(4, socket.MSG_WAITALL), "big")
                said = wire.recv(size, socket.MSG_WAITALL)
                if said[:1] != b"i":  # it adds its own field
                    return said

        ask(b"O", struct.pack("!III", 6, 0x1FF, 0))
        ask(b"D", b"Cj\0mail.example.com\0", answers=False)
        ask(b"C", b"mx.example.com\0004" + struct.pack("!H", 25) + b"192.0.2.25\0")
        ask(b"H", b"mx.example.com\0")
        ask(b"M", b"<eve@honest.example>\0")
        ask(b"R", b"<ann@example.com>\0")
        ask(b"L", b"From\0eve@honest.example\0")
        ask(b"L", b"Date\0Mon, 30 Nov 2026 10:00:00 +0000\0")
        ask(b"L", b"Authentication-Results\0mx.example.com; " + results.encode() + b"\0")
        ask(b"N")
        ask(b"B", b"Hello\r\n")
        return ask(b"E")


with subprocess.Popen(["opendmarc", "-f", "-c", f"{here}/conf"], stderr=subprocess.DEVNULL) as milter:
    try:
        while not os.path.exists(f"{here}/milter"):
            assert milter.poll() is None, "opendmarc does not start"
            time.sleep(0.1)
        time.sleep(0.5)  # between bind and listen
        for results in RESULTS:
            said = judged(results)
            print(f"{results}:", {b"a": "accepted", b"c": "accepted", b"y": "refused"}[said[:1]])
    finally:
        milter.kill()
PY
seen=$(PATH="$PATH:/usr/sbin" python3 "$here/try.py" "$here")
echo "$seen"
[ "$seen" = "spf=pass smtp.mailfrom=honest.example: accepted
spf=pass smtp.mailfrom=eve@honest.example: refused
spf/1=pass smtp.mailfrom=honest.example: refused
dkim=pass header.d=honest.example: accepted
dkim=pass header.i=@honest.example: refused
x-new=pass; spf=pass smtp.mailfrom=honest.example: accepted
dnswl=pass dns.zone=list.example; spf=pass smtp.mailfrom=honest.example: refused" ]
