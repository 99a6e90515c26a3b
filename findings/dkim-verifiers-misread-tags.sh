#!/bin/sh
# haraka-plugin-dkim 1.3.1 and mailauth 4.13.3 (npm), dkimpy 1.1.8 with dnspython 2.9.2 (PyPI),
# Mail::DKIM 1.20230212 (Debian's libmail-dkim-perl).
# Valid signatures of RFC 6376 again; each of the four verifiers fails some. q= is a list of ways to get the key, of which
# unknown ones are ignored (section 3.5): two take "dns/txt:dns/new" for one unknown way. A tag that nobody knows is
# ignored, may have "_" in its name and nothing behind "=" (section 3.2): Haraka's plugin refuses it. z= copies fields, a
# subject "b=1" too: both JavaScript verifiers take "b=" within it for the signature and cut it off. In a key record a
# list may have blanks around its colons (section 3.6.1): Mail::DKIM finds no sha256 in "sha256 : sha1". Of a field whose
# name has a blank behind it (RFC 5322 section 4.5) Haraka's plugin fails the signature, and dkim.verify() of dkimpy,
# which otherwise returns True or False, raises MessageFormatError.
# Output: q=dns/txt:dns/new: haraka invalid, mailauth pass, dkimpy False, perl pass /
#  x_new=: haraka invalid, mailauth pass, dkimpy True, perl pass /
#  z=Subject:b=3D1: haraka fail, mailauth fail, dkimpy True, perl pass /
#  record h=sha256 : sha1: haraka pass, mailauth pass, dkimpy True, perl invalid /
#  "Subject :": haraka fail, mailauth pass, dkimpy MessageFormatError, perl pass
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
import subprocess
import sys

import dkim
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

here = pathlib.Path(sys.argv[1])
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
public = base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
BODY = b"Hello\r\n"
HASH = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
TAGS = "v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=sel; {}h=from:subject; bh={}; b="


def signed(more="", subject="Subject: b=1"):
    """The message with a signature by the RFC's rules, and these tags besides."""
    own = "DKIM-Signature: " + TAGS.format(more, HASH)
    covered = f"from:ann@example.org\r\nsubject:b=1\r\ndkim-signature:{own.partition(': ')[2]}"
    own += base64.b64encode(key.sign(covered.encode(), padding.PKCS1v15(), SHA256())).decode()
    return "\r\n".join((own, "From: ann@example.org", subject, "", "")).encode() + BODY


def ours(mail, record):
    try:
        return dkim.verify(mail, dnsfunc=lambda *_, **__: record.encode())
    except dkim.DKIMException as error:
        return type(error).__name__


RECORD = f"v=DKIM1; p={public}"
CASES = {
    "q=dns/txt:dns/new": (signed("q=dns/txt:dns/new; "), RECORD),
    "x_new=": (signed("x_new=; "), RECORD),
    "z=Subject:b=3D1": (signed("z=Subject:b=3D1; "), RECORD),
    "record h=sha256 : sha1": (signed(), f"v=DKIM1; h=sha256 : sha1; p={public}"),
    '"Subject :"': (signed(subject="Subject : b=1"), RECORD),
}
assert ours(signed(), RECORD) is True
for name, (mail, record) in CASES.items():
    files = here / "mail.eml", here / "record"
    files[0].write_bytes(mail)
    files[1].write_text(record)
    javascript, perl = (
        subprocess.run([*command, *files], capture_output=True, text=True, check=True).stdout.strip()
        for command in (["node", here / "verify.js"], ["perl", here / "verify.pl"])
    )
    print(f"{name}: {javascript}, dkimpy {ours(mail, record)}, perl {perl}")
PY
seen=$("$here/venv/bin/python" "$here/try.py" "$here")
echo "$seen"
[ "$seen" = 'q=dns/txt:dns/new: haraka invalid, mailauth pass, dkimpy False, perl pass
x_new=: haraka invalid, mailauth pass, dkimpy True, perl pass
z=Subject:b=3D1: haraka fail, mailauth fail, dkimpy True, perl pass
record h=sha256 : sha1: haraka pass, mailauth pass, dkimpy True, perl invalid
"Subject :": haraka fail, mailauth pass, dkimpy MessageFormatError, perl pass' ]
