#!/bin/sh
# haraka-plugin-dkim 1.3.1 and, for comparison, mailauth 4.13.3 (npm); signed by dkimpy 1.1.8 with PyNaCl 1.6.2 (PyPI).
# Haraka's plugin says that it verifies ed25519-sha256. A record's p= holds the 32 bytes of the key (RFC 8463 section
# 4.2). The plugin wants an X.509 SubjectPublicKeyInfo there, as RSA has it, and calls every such signature invalid. A
# sender that signs with this algorithm alone has no valid signature there, and a list of results shows a broken one
# beside that of RSA.
# Output: haraka-plugin-dkim: invalid, verification error / mailauth: pass / dkimpy: True
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check dkimpy==1.1.8 dnspython==2.9.2 PyNaCl==1.6.2 2>/dev/null
npm install --prefix "$here" --silent --no-package-lock --ignore-scripts haraka-plugin-dkim@1.3.1 mailauth@4.13.3 >/dev/null
cat >"$here/sign.py" <<'PY'
import base64
import sys

import dkim
import nacl.signing

MAIL = b"From: ann@example.org\r\nTo: bob@example.net\r\nSubject: Minutes\r\n\r\nHello\r\n"
key = nacl.signing.SigningKey.generate()
signature = dkim.sign(
    MAIL, b"sel", b"example.org", base64.b64encode(bytes(key)), canonicalize=(b"relaxed", b"relaxed"),
    signature_algorithm=b"ed25519-sha256", include_headers=[b"from", b"to", b"subject"],
)
record = b"v=DKIM1; k=ed25519; p=" + base64.b64encode(bytes(key.verify_key))
open(sys.argv[1], "wb").write(signature + MAIL)
open(sys.argv[2], "wb").write(record)
print("dkimpy:", dkim.verify(signature + MAIL, dnsfunc=lambda *_, **__: record))
PY
cat >"$here/verify.js" <<'JS'
const dns = require("node:dns");
const { readFileSync } = require("node:fs");
const { DKIMVerifyStream } = require("haraka-plugin-dkim/lib/dkim.js");
const { dkimVerify } = require("mailauth/lib/dkim/verify");

const [mail, record] = [readFileSync(process.argv[2]), readFileSync(process.argv[3], "latin1")];
dns.promises.resolveTxt = async () => [[record]];
console.debug = () => {};
const stream = new DKIMVerifyStream({ timeout: 5 }, async (_error, _result, [one]) => {
  console.log("haraka-plugin-dkim:", `${one.result}, ${one.error}`);
  const { results } = await dkimVerify(mail, { resolver: async () => [[record]] });
  console.log("mailauth:", results[0].status.result);
});
stream.write(mail);
stream.end();
JS
signed=$("$here/venv/bin/python" "$here/sign.py" "$here/mail.eml" "$here/record")
seen=$( (node "$here/verify.js" "$here/mail.eml" "$here/record"; echo "$signed") | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "haraka-plugin-dkim: invalid, verification error / mailauth: pass / dkimpy: True" ]
