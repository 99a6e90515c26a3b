"""Why a message has no text: the page and the API say it."""

import base64

import pytest
from gatepost.web.view import view_message

ENVELOPED = base64.b64encode(bytes.fromhex("3080 0609 2a864886f70d010703 a080 3080")).decode()
SIGNED = base64.b64encode(bytes.fromhex("3080 0609 2a864886f70d010702 a080 3080")).decode()
AUTH = base64.b64encode(bytes.fromhex("3080 060b 2a864886f70d0109100117 a080 3080")).decode()
TNEF = "Content-Type: application/ms-tnef; name=winmail.dat\n\nx"
FILE = "Content-Type: application/pdf; name=a.pdf\n\nx"


def mixed(*parts, kind="multipart/mixed"):
    return f"Content-Type: {kind}; boundary=b\n\n" + "".join(f"--b\n{part}\n" for part in parts) + "--b--\n"


def smime(octets, parameters="", kind="application/pkcs7-mime"):
    return f"Content-Type: {kind}{parameters}\nContent-Transfer-Encoding: base64\n\n{octets}\n"


PGP = mixed(
    "Content-Type: application/pgp-encrypted\n\nVersion: 1",
    "Content-Type: application/octet-stream\n\n-----BEGIN PGP MESSAGE-----",
    kind='multipart/encrypted; protocol="application/pgp-encrypted"',
)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("\nHello", None),
        ("Content-Type: text/html\n\n<p>Hello", None),
        (mixed("\nHello", FILE), None),
        (PGP, "openpgp"),
        (mixed(PGP.rstrip("\n"), "\nA footer of the list"), "openpgp"),
        ("\n\n-----BEGIN PGP MESSAGE-----\n\nabc", "openpgp"),
        ("\n> -----BEGIN PGP MESSAGE-----", None),
        ("\n-----BEGIN PGP SIGNED MESSAGE-----\n\nHello", None),
        (mixed("\nHello", "Content-Type: application/pgp-signature\n\nx", kind="multipart/signed"), None),
        (mixed("\n", kind='multipart/encrypted; protocol="application/pkcs7-mime"'), "smime-encrypted"),
        (smime(ENVELOPED, "; smime-type=enveloped-data; name=smime.p7m"), "smime-encrypted"),
        (smime("x", '; smime-type="authEnveloped-data"'), "smime-encrypted"),
        (smime(ENVELOPED, kind="application/x-pkcs7-mime"), "smime-encrypted"),
        (smime(AUTH), "smime-encrypted"),
        (smime(SIGNED, "; smime-type=signed-data"), "smime-signed"),
        (smime(SIGNED), "smime-signed"),
        (smime("x", "; smime-type=compressed-data"), "smime-compressed"),
        (smime("eA=="), "attachments"),
        (smime("eA==", "; smime-type=certs-only"), "attachments"),
        (mixed("\nHello", smime(SIGNED, kind="application/pkcs7-signature"), kind="multipart/signed"), None),
        (mixed("\n", TNEF), "outlook"),
        (mixed("\nHello", TNEF), None),
        (FILE, "attachments"),
        (mixed(FILE, FILE), "attachments"),
        (mixed("Content-Disposition: attachment\n\nHello"), "attachments"),
        ("Content-Type: text/html\n\n<img src='http://a.example/b.png'>", "images"),
        ("Content-Type: text/html\n\n<p></p>", "empty"),
        ("Content-Type: text/plain\n\n \n\n", "empty"),
        ("", "empty"),
        ("\n", "empty"),
        (f"Content-Type: message/rfc822\n\n{PGP}", "openpgp"),
        (mixed("\nSee below", f"Content-Type: message/rfc822\n\n{PGP}".rstrip()), None),
    ],
)
def test_it_is_told_why_there_is_no_text(message, reason):
    seen = view_message(f"From: a@example.com\nMIME-Version: 1.0\n{message}".encode())
    assert (seen.no_text.reason if seen.no_text else None) == reason
    assert seen.no_text is None or seen.no_text.text.endswith(".")
