#!/bin/sh
# mailauth 4.13.3 (npm; the version that "npm install mailauth" chooses with Node 20), dkimpy 1.1.8 with dnspython 2.9.2
# (PyPI), Mail::DKIM 1.20230212 (Debian's libmail-dkim-perl).
# A field may be in UTF-8 (RFC 6532). mailauth reads its bytes as Latin-1 and squeezes white space as JavaScript knows it,
# with the byte A0, the no-break space of Latin-1, which is the second half of "à" and of Cyrillic "Р" in UTF-8. With
# relaxed canonicalization it hashes a blank there, or nothing: it fails valid signatures, and those that it makes are
# failed by all others, while it passes them itself, so that its own tests see nothing. "é" is spared, and so is the
# body. Version 7.1.0, which wants Node 22, hashes the letter.
# Output: Café: signed by dkimpy: mailauth pass, perl pass; by mailauth: mailauth pass, dkimpy True, perl pass /
#  Voilà: signed by dkimpy: mailauth fail, perl pass; by mailauth: mailauth pass, dkimpy False, perl fail /
#  Расписание: signed by dkimpy: mailauth fail, perl pass; by mailauth: mailauth pass, dkimpy False, perl fail
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check dkimpy==1.1.8 dnspython==2.9.2 cryptography==50.0.2 2>/dev/null
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts mailauth@4.13.3 >/dev/null
cat >"$here/verify.js" <<'JS'
const { readFileSync } = require("node:fs");
const { dkimVerify } = require("mailauth/lib/dkim/verify");
const [mail, record] = [readFileSync(process.argv[2]), readFileSync(process.argv[3], "latin1")];
dkimVerify(mail, { resolver: async () => [[record]] }).then(({ results }) => console.log(results[0].status.result));
JS
cat >"$here/sign.js" <<'JS'
const { readFileSync } = require("node:fs");
const { dkimSign } = require("mailauth/lib/dkim/sign");
const [mail, privateKey] = [readFileSync(process.argv[2]), readFileSync(process.argv[3])];
const signatureData = [{ signingDomain: "example.org", selector: "sel", algorithm: "rsa-sha256", privateKey }];
dkimSign(mail, { canonicalization: "relaxed/relaxed", signatureData }).then(({ signatures }) =>
  process.stdout.write(signatures),
);
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
import pathlib
import subprocess
import sys

import dkim
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

here = pathlib.Path(sys.argv[1])
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
record = b"v=DKIM1; p=" + base64.b64encode(public)
MAIL, RECORD, KEY = here / "mail.eml", here / "record", here / "key.pem"
RECORD.write_bytes(record)
KEY.write_bytes(private)


def run(*command):
    return subprocess.run(command, capture_output=True, check=True).stdout


def verified(mail):
    MAIL.write_bytes(mail)
    mailauth = run("node", here / "verify.js", MAIL, RECORD).decode().strip()
    perl = run("perl", here / "verify.pl", MAIL, RECORD).decode()
    return mailauth, dkim.verify(mail, dnsfunc=lambda *_, **__: record), perl


for word in ("Café", "Voilà", "Расписание"):
    mail = f"From: ann@example.org\r\nSubject: {word}\r\n\r\n{word}\r\n".encode()
    signature = dkim.sign(mail, b"sel", b"example.org", private, canonicalize=(b"relaxed", b"relaxed"))
    mailauth, _, perl = verified(signature + mail)
    MAIL.write_bytes(mail)
    itself, dkimpy, other = verified(run("node", here / "sign.js", MAIL, KEY) + mail)
    print(f"{word}: signed by dkimpy: mailauth {mailauth}, perl {perl}; ", end="")
    print(f"by mailauth: mailauth {itself}, dkimpy {dkimpy}, perl {other}")
PY
seen=$(PYTHONUTF8=1 "$here/venv/bin/python" "$here/try.py" "$here")
echo "$seen"
[ "$seen" = "Café: signed by dkimpy: mailauth pass, perl pass; by mailauth: mailauth pass, dkimpy True, perl pass
Voilà: signed by dkimpy: mailauth fail, perl pass; by mailauth: mailauth pass, dkimpy False, perl fail
Расписание: signed by dkimpy: mailauth fail, perl pass; by mailauth: mailauth pass, dkimpy False, perl fail" ]
