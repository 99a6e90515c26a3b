#!/bin/sh
# aiodns 4.0.4, pycares 5.2.1 (c-ares 1.34), dnslib 0.9.26, Python 3.11.2.
# `timeout` of a resolver, in seconds, holds only until a server has answered. After fast answers c-ares measures
# the server and gives a try 250 ms, however long it was told to wait. A recursive server that must ask slow
# servers for the next name is then given up: with tries=1 and timeout=5, a name that takes 0.6 s times out after
# a quarter of a second, while it is found if it is the first to be asked for.
# Output: first: found / after a fast answer: Timeout while contacting DNS servers, early
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q aiodns==4.0.4 pycares==5.2.1 dnslib==0.9.26
cat >"$here/ask.py" <<'PY'
import asyncio, time
import aiodns
from dnslib import QTYPE, RR, TXT
from dnslib.server import BaseResolver, DNSLogger, DNSServer


class Names(BaseResolver):
    def resolve(self, request, handler):
        if request.q.qname.label[0] == b"slow":
            time.sleep(0.6)
        reply = request.reply()
        reply.add_answer(RR(request.q.qname, QTYPE.TXT, rdata=TXT(b"here"), ttl=0))
        return reply


async def ask(name, before=()):
    server = DNSServer(Names(), port=0, address="127.0.0.1", logger=DNSLogger(logf=lambda _: None))
    server.start_thread()
    resolver = aiodns.DNSResolver([f"127.0.0.1:{server.server.server_address[1]}"], timeout=5, tries=1)
    for other in before:
        await resolver.query_dns(other, "TXT")
    begin = time.monotonic()
    try:
        await resolver.query_dns(name, "TXT")
        said = "found"
    except aiodns.error.DNSError as error:
        said = error.args[1] + (", early" if time.monotonic() - begin < 0.5 else "")
    await resolver.close()
    server.stop()
    return said


print("first:", asyncio.run(ask("slow.example.com")))
print("after a fast answer:", asyncio.run(ask("slow.example.com", ["fast.example.com"] * 3)))
PY
seen=$("$here/venv/bin/python" "$here/ask.py")
echo "$seen"
[ "$seen" = "first: found
after a fast answer: Timeout while contacting DNS servers, early" ]
