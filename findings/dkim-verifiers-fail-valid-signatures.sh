#!/bin/sh
# haraka-plugin-dkim 1.3.1 and mailauth 4.13.3 (npm), dkimpy 1.1.8 with dnspython 2.9.2 (PyPI),
# Mail::DKIM 1.20230212 (Debian's libmail-dkim-perl).
# Four valid signatures of RFC 6376, of which only Mail::DKIM accepts all. Of a message without text nothing is hashed with
# relaxed canonicalization (section 3.4.4): Haraka's plugin hashes a line end, and fails it. A blank before a "=" is allowed
# (section 3.2): where it is that of b=, both JavaScript verifiers hash the signature along, and fail it; in a key record
# Haraka's finds no key. s= of a key record is a list, in which "email" may be one of several (section 3.6.1): dkimpy
# compares the whole of it, and returns False.
# Output: no text: haraka fail, mailauth pass, dkimpy True, perl pass /
#  "b =": haraka fail, mailauth fail, dkimpy True, perl pass /
#  record "p =": haraka invalid, mailauth pass, dkimpy True, perl pass /
#  s=other:email: haraka pass, mailauth pass, dkimpy False, perl pass
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check dkimpy==1.1.8 dnspython==2.9.2 cryptography==50.0.2 2>/dev/null
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts haraka-plugin-dkim@1.3.1 mailauth@4.13.3 >/dev/null
cat >"$here/verify.js" <<'JS'
const dns = require("node:dns");
const { readFileSync } = require("node:fs");
const { DKIMVerifyStream } = require("haraka-plugin-dkim/lib/dkim.js");
const { dkimVerify } = require("mailauth/lib/dkim/verify");

const [mail, record] = [readFileSync(process.argv[2]), readFileSync(process.argv[3], "latin1")];
dns.promises.resolveTxt = async () => [[record]];
console.debug = () => {};
const stream = new DKIMVerifyStream({ timeout: 5 }, async (_error, _result, [one]) => {
  const { results } = await dkimVerify(mail, { resolver: async () => [[record]] });
  console.log(`haraka ${one.result}, mailauth ${results[0].status.result}`);
});
stream.write(mail);
stream.end();
JS
cat >"$here/verify.pl" <<'PL'
use strict;
use warnings;
use Mail::DKIM::Verifier;
use Net::DNS;

my ($mail, $record) = map { open my $file, "<:raw", $_ or die; local $/; <$file> } @ARGV;
no warnings "redefine";
*Mail::DKIM::DNS::query = sub {
    Net::DNS::RR->new(name => "a.example", type => "TXT", txtdata => [unpack "(a200)*", $record]);
};
my $verifier = Mail::DKIM::Verifier->new;
$verifier->PRINT($mail);
$verifier->CLOSE;
print $verifier->result;
PL
cat >"$here/try.py" <<'PY'
import base64
import hashlib
import pathlib
import re
import subprocess
import sys

import dkim
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

here = pathlib.Path(sys.argv[1])
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
public = base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
FIELDS = (b"From: ann@example.org", b"To: bob@example.net", b"Subject: Minutes")
SIGNATURE = b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=sel; h=from:to:subject; bh=%s; b="


def relaxed(field):
    name, _, value = field.partition(b":")
    return name.lower() + b":" + re.sub(rb"\s+", b" ", value).strip()


def signed(body, before_equals=b""):
    """The message with a signature by the RFC's rules; the body has nothing that its canonicalization changes."""
    own = SIGNATURE % base64.b64encode(hashlib.sha256(body).digest())
    own = own[:-1] + before_equals + b"="
    covered = b"\r\n".join(map(relaxed, (*FIELDS, own)))
    own += base64.b64encode(key.sign(covered, padding.PKCS1v15(), SHA256()))
    return b"\r\n".join((own, *FIELDS, b"", body))


CASES = {
    "no text": (signed(b""), b"v=DKIM1; p=" + public),
    '"b ="': (signed(b"Hello\r\n", b" "), b"v=DKIM1; p=" + public),
    'record "p ="': (signed(b"Hello\r\n"), b"v=DKIM1; p = " + public),
    "s=other:email": (signed(b"Hello\r\n"), b"v=DKIM1; s=other:email; p=" + public),
}
for name, (mail, record) in CASES.items():
    files = here / "mail.eml", here / "record"
    for file, content in zip(files, (mail, record)):
        file.write_bytes(content)
    ours = dkim.verify(mail, dnsfunc=lambda *_, **__: record)
    javascript, perl = (
        subprocess.run([*command, *files], capture_output=True, text=True, check=True).stdout.strip()
        for command in (["node", here / "verify.js"], ["perl", here / "verify.pl"])
    )
    print(f"{name}: {javascript}, dkimpy {ours}, perl {perl}")
PY
seen=$("$here/venv/bin/python" "$here/try.py" "$here" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = 'no text: haraka fail, mailauth pass, dkimpy True, perl pass / '\
'"b =": haraka fail, mailauth fail, dkimpy True, perl pass / '\
'record "p =": haraka invalid, mailauth pass, dkimpy True, perl pass / '\
's=other:email: haraka pass, mailauth pass, dkimpy False, perl pass' ]
