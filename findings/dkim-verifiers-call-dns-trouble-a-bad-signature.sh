#!/bin/sh
# dkimpy 1.1.8 with dnspython 2.9.2, dnslib 0.9.26 (PyPI), Mail::DKIM 1.20230212 (Debian's libmail-dkim-perl), mailauth
# 4.13.3 (npm).
# While the name server that has a signature's key answers SERVFAIL, or nothing, nobody knows whether the signature is good:
# the mail should wait, or pass without a result (RFC 6376 section 6.1.2, TEMPFAIL). dkimpy returns False, as for a message
# that was changed and for a key that does not exist; its own exception for a time-out is caught on the way. Mail::DKIM
# says "invalid", as for a key that does not exist: only the text of result_detail tells them apart. So a fault of DNS
# looks like a forgery, and with DMARC good mail is refused for good. mailauth says "temperror".
# Output: key: dkimpy True, perl pass, mailauth pass / no such key: dkimpy False, perl invalid, mailauth neutral /
#  SERVFAIL: dkimpy False, perl invalid, mailauth temperror / silence: dkimpy False, perl invalid, mailauth temperror
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check dkimpy==1.1.8 dnspython==2.9.2 dnslib==0.9.26 \
  cryptography==50.0.2 2>/dev/null
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mailauth@4.13.3 >/dev/null
cat >"$here/verify.js" <<'JS'
const { Resolver } = require("node:dns").promises;
const { readFileSync } = require("node:fs");
const { dkimVerify } = require("mailauth/lib/dkim/verify");
const resolver = new Resolver({ timeout: 1000, tries: 1 });
resolver.setServers([`127.0.0.1:${process.argv[3]}`]);
dkimVerify(readFileSync(process.argv[2]), { resolver: (name, type) => resolver.resolve(name, type) }).then(({ results }) =>
  console.log(results[0].status.result),
);
JS
cat >"$here/verify.pl" <<'PL'
use strict;
use warnings;
use Mail::DKIM::DNS;
use Mail::DKIM::Verifier;
use Net::DNS::Resolver;

my ($file, $port) = @ARGV;
my $mail = do { open my $opened, "<:raw", $file or die; local $/; <$opened> };
my %patience = (retry => 1, retrans => 1, udp_timeout => 1, tcp_timeout => 1);
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => ["127.0.0.1"], port => $port, %patience));
my $verifier = Mail::DKIM::Verifier->new;
$verifier->PRINT($mail);
$verifier->CLOSE;
print $verifier->result;
PL
cat >"$here/try.py" <<'PY'
import base64
import pathlib
import socket
import subprocess
import sys

import dkim
import dns.resolver
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from dnslib import QTYPE, RCODE, RR, TXT
from dnslib.server import BaseResolver, DNSLogger, DNSServer

here = pathlib.Path(sys.argv[1])
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
public = base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
mail = b"From: ann@example.org\r\nSubject: Minutes\r\n\r\nHello\r\n"
mail = dkim.sign(mail, b"sel", b"example.org", private) + mail
(here / "mail.eml").write_bytes(mail)


class Answering(BaseResolver):
    code = RCODE.NOERROR

    def resolve(self, request, handler):
        reply = request.reply()
        reply.header.rcode = self.code
        if self.code == RCODE.NOERROR:
            record = TXT([b"v=DKIM1; p=" + public[:200], public[200:]])
            reply.add_answer(RR(request.q.qname, QTYPE.TXT, rdata=record))
        return reply


def tried(name, port):
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], port
    dns.resolver.default_resolver = resolver
    perl, javascript = (
        subprocess.run([*command, here / "mail.eml", str(port)], capture_output=True, text=True, check=True).stdout.strip()
        for command in (["perl", here / "verify.pl"], ["node", here / "verify.js"])
    )
    print(f"{name}: dkimpy {dkim.verify(mail, timeout=1)}, perl {perl}, mailauth {javascript}")


quiet = DNSLogger("-recv,-send,-request,-reply,-truncated,-error,-data")
answering = Answering()
server = DNSServer(answering, address="127.0.0.1", port=0, logger=quiet)
server.start_thread()
for name, answering.code in (("key", RCODE.NOERROR), ("no such key", RCODE.NXDOMAIN), ("SERVFAIL", RCODE.SERVFAIL)):
    tried(name, server.server.server_address[1])
server.stop()
with socket.socket(type=socket.SOCK_DGRAM) as silent:
    silent.bind(("127.0.0.1", 0))
    tried("silence", silent.getsockname()[1])
PY
seen=$("$here/venv/bin/python" "$here/try.py" "$here" 2>/dev/null | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "key: dkimpy True, perl pass, mailauth pass / no such key: dkimpy False, perl invalid, mailauth neutral / \
SERVFAIL: dkimpy False, perl invalid, mailauth temperror / silence: dkimpy False, perl invalid, mailauth temperror" ]
