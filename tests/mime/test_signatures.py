"""Which DKIM signatures an edited message has lost; a DKIM library has the last word."""

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from gatepost.mime.signatures import broken_signatures
from gatepost.model.edits import AddHeader, ChangeHeader, PrefixSubject, RemoveHeader, ReplaceBody, apply

MAIL = (
    b"From: a@example.com\r\nSubject:  hello \r\n world\r\nX-Two: 1\r\nX-Two: 2\r\n"
    b"\r\nbody  text \r\n\r\nend\r\n\r\n\r\n"
)
KEY = generate_private_key(65537, 2048)
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).split(b"\n")[1:-2]
SIGNED = [b"from", b"subject", b"x-two"]


def is_valid(content):
    return dkim.verify(content, dnsfunc=lambda *_, **__: b"v=DKIM1; k=rsa; p=" + b"".join(PUBLIC))


@pytest.mark.parametrize("header", [b"simple", b"relaxed"])
@pytest.mark.parametrize("body", [b"simple", b"relaxed"])
@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        (AddHeader("X-New", "x"), ()),
        (AddHeader("X-Two", "0"), ()),
        (AddHeader("X-Two", "3", None), ("x-two",)),
        (AddHeader("Subject", "another"), ()),
        (AddHeader("Subject", "another", None), ("subject",)),
        (ChangeHeader("From", "b@example.com"), ("from",)),
        (ChangeHeader("X-Two", "0"), ()),
        (ChangeHeader("X-Two", "0", 2), ("x-two",)),
        (RemoveHeader("X-Two", number=1), ()),
        (PrefixSubject("[A] "), ("subject",)),
        (ChangeHeader("Subject", b" hello world"), ("subject", "only if simple")),
        (ReplaceBody(b"new\r\n"), ("body",)),
        (ReplaceBody(b"body  text \r\n\r\nend\r\n"), ()),
        (ReplaceBody(b"body text\r\n\r\nend\r\n\r\n"), ("body", "only if simple")),
    ],
)
def test_what_a_signature_covers_is_reported_as_changed_and_a_library_agrees(header, body, edit, changed):
    signature = dkim.sign(
        MAIL, b"sel", b"example.com", PRIVATE, canonicalize=(header, body), include_headers=SIGNED
    )
    content = signature + MAIL
    assert is_valid(content)
    after = b"".join(apply(content, (edit,)))
    if changed[1:]:
        relaxed = body if changed[0] == "body" else header
        changed = changed[:1] if relaxed == b"simple" else ()
    found = broken_signatures(content, after)
    assert tuple(name for one in found for name in one.changed) == changed
    assert is_valid(after) == (not changed)


def test_it_says_whose_signature():
    mail = (
        b"DKIM-Signature: v=1; d=example.com; s=sel;\r\n h=From : Subject; c=relaxed; b= abc\r\n de/fghi\r\n"
        + MAIL
    )
    (found,) = broken_signatures(mail, mail.replace(b"a@example.com", b"b@example.com"))
    assert str(found) == "DKIM signature of example.com (sel)"
    assert (found.changed, found.value) == (("from",), "abcde/fg")
    assert broken_signatures(mail, mail) == ()
    longer = mail.replace(b"b= ", b"l=4; b= ")
    assert broken_signatures(longer, longer.replace(b"end", b"and")) == ()


@pytest.mark.parametrize(
    "tags", [b"", b";;;", b"h", b"h=", b"h=:::", b"l=x; h=from", b"=", b"a" * 9000, b"c=/"]
)
def test_a_damaged_signature_raises_nothing(tags):
    mail = b"DKIM-Signature: " + tags + b"\r\n" + MAIL
    broken_signatures(mail, mail.replace(b"hello", b"bye"))


@pytest.mark.parametrize("body", [b" " * 1_000_000, b"\r\n" * 500_000, b" \r\n" * 300_000, b"a \t" * 300_000])
def test_the_canonical_form_takes_linear_time(within_yardsticks, body):
    mail = b"DKIM-Signature: c=relaxed/relaxed; h=from\r\n" + MAIL + body
    with within_yardsticks(40):
        broken_signatures(mail, mail.replace(b"hello", b"bye"))
