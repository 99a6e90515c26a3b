#!/bin/sh
# dnslib 0.9.26 (PyPI).
# A name that exists without records of the type that was asked for is answered with NOERROR and no record (RFC 2308
# section 2.2); NXDOMAIN says that nothing exists at the name or below it (RFC 8020). dnslib's ZoneResolver answers
# NXDOMAIN in both cases. A program that is tested with it never meets the first answer, and one that believes RFC 8020
# takes the other records of the name for gone.
# Output: A NOERROR 1 / MX NXDOMAIN 0
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check dnslib==0.9.26 2>/dev/null
cat >"$here/ask.py" <<'PY'
from dnslib import RCODE, DNSRecord
from dnslib.zoneresolver import ZoneResolver

resolver = ZoneResolver("example.org. 60 IN A 192.0.2.1")
seen = []
for kind in ("A", "MX"):
    answer = resolver.resolve(DNSRecord.question("example.org", kind), None)
    seen.append(f"{kind} {RCODE[answer.header.rcode]} {len(answer.rr)}")
print(" / ".join(seen))
PY
seen=$("$here/venv/bin/python" "$here/ask.py")
echo "$seen"
[ "$seen" = "A NOERROR 1 / MX NXDOMAIN 0" ]
