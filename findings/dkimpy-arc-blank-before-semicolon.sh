#!/bin/sh
# dkimpy 1.1.8 with dnspython 2.7.0 and authres 1.2.0 (PyPI).
# A tag of an ARC field may have blanks around it (RFC 6376 section 3.2: tag-spec = [FWS] tag-name ... [FWS]). dkimpy
# looks for the message signature of a set by its text " i=1;": if that field is written with a blank before the
# semicolon, " i=1 ;", arc_verify raises IndexError instead of returning a result. Without the blank the same chain passes.
# Output: i=1; pass / i=1 ; IndexError
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check dkimpy==1.1.8 dnspython==2.7.0 authres==1.2.0 cryptography==45.0.7 2>/dev/null
cat >"$here/seal.py" <<'PY'
import base64
import re
import dkim
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from dkim.canonicalization import Relaxed

key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


MESSAGE = (
    b"Authentication-Results: mx.example.org; spf=pass smtp.mailfrom=example.net\r\n"
    b"From: ann@example.net\r\nTo: bob@example.org\r\nSubject: Minutes\r\n\r\nHello\r\n"
)


def sealed(instance):
    """The message with one ARC set, whose signature and seal are made over the instance as it is written."""
    made = dkim.arc_sign(MESSAGE, b"sel", b"example.org", private, b"mx.example.org")
    seal, signature, results = made
    signature = signature.replace(b" i=1;", b" " + instance)
    names = re.search(rb"h=([^;]*)", signature)[1].replace(b" ", b"").replace(b"\r\n", b"").lower().split(b":")
    present = {line.split(b":")[0].lower(): line + b"\r\n" for line in MESSAGE.split(b"\r\n\r\n")[0].split(b"\r\n")}
    signature = signed([present.pop(name) for name in names if name in present], signature)
    return signed([results, signature], seal) + signature + results + MESSAGE


def signed(covered, own):
    """The field with a new signature, over these fields and itself in relaxed form."""
    empty = re.sub(rb"(?s)([ ;\n]b=).*?(;|$)", rb"\1\2", own.rstrip(b"\r\n"))
    fields = [tuple(one.split(b":", 1)) for one in (*covered, empty + b"\r\n")]
    text = b"".join(name + b":" + value for name, value in Relaxed.canonicalize_headers(fields))
    made = base64.b64encode(key.sign(text.removesuffix(b"\r\n"), padding.PKCS1v15(), hashes.SHA256()))
    return re.sub(rb"([ ;\n]b=)(;|$)", rb"\g<1>" + made + rb"\2", empty) + b"\r\n"


for instance in (b"i=1;", b"i=1 ;"):
    try:
        result, _, _ = dkim.arc_verify(sealed(instance), dnsfunc=lambda *_, **__: record)
        print(instance.decode(), result.decode())
    except Exception as error:
        print(instance.decode(), type(error).__name__)
PY
seen=$("$here/venv/bin/python" "$here/seal.py" | paste -sd/ | sed 's,/, / ,')
echo "$seen"
[ "$seen" = "i=1; pass / i=1 ; IndexError" ]
