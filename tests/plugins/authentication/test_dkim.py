"""Signatures: the printed examples of RFC 6376 and RFC 8463, and what is wrong with others."""

import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from gatepost import DnsStatus
from gatepost.testing import make_resolver
from gatepost_authentication.canonical import Field, canonical_body, split_fields
from gatepost_authentication.dkim import verify_all
from gatepost_authentication.signed import Body, encode
from gatepost_authentication.signing import Signer, dkim_signature, load_key

LETTER = """\
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
"""
RFC_8463 = (
    """\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
"""
    + LETTER
)
"""Appendix A.3."""
RFC_6376 = """\
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
        4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
        KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
        4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
""" + LETTER.replace("game.  Are", "game. Are")
"""Appendix A.2, with errata 3192 and 4926."""
ZONE = {
    ("brisbane._domainkey.football.example.com", "TXT"): [
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    ],
    ("test._domainkey.football.example.com", "TXT"): [
        """v=DKIM1; k=rsa;
        p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi
        0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kr
        yOTIKT+l/K4w3QIDAQAB"""
    ],
    ("brisbane._domainkey.example.com", "TXT"): [
        """v=DKIM1;
        p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v
        3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPS
        PDdQPNUYckcQ2QIDAQAB"""
    ],
}


async def verified(text, zone=ZONE, now=1_600_000_000):
    content = text.encode() if isinstance(text, str) else text
    head, _, body = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").partition(b"\r\n\r\n")
    return await verify_all(split_fields(head + b"\r\n"), Body(body), make_resolver(zone), now=now, seconds=5)


async def test_the_example_of_rfc_8463():
    found = await verified(RFC_8463)
    assert [(one.result, one.domain, one.algorithm) for one in found] == [
        ("pass", "football.example.com", "ed25519-sha256"),
        ("pass", "football.example.com", "rsa-sha256"),
    ]
    assert [one.value for one in found] == ["/gCrinpc", "F45dVWDf"]


async def test_the_example_of_rfc_6376():
    (found,) = await verified(RFC_6376)
    assert (found.result, found.domain, found.identity) == ("pass", "example.com", "joe@football.example.com")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("We lost", "We won"),
        ("Is dinner", "Is lunch"),
        ("Joe SixPack", "Joe Sixpack"),
        ("Subject:", "Subject: another\nSubject:"),
        ("Date: Fri, 11", "Date: Fri, 12"),
        ("From: Joe", "From: evil@example.net\nFrom: Joe"),
        ("h=from : to", "h=from"),
        ("t=1528637909", "t=1528637910"),
    ],
)
async def test_what_is_changed_fails(old, new):
    assert [one.result for one in await verified(RFC_8463.replace(old, new))] == ["fail", "fail"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Joe.\n", "Joe.  \n\n\n\n"),
        ("game.  Are", "game. \t Are"),
        ("Subject: Is dinner", "SUBJECT  :   Is\n  dinner"),
        ("Message-ID:", "X-Other: 1\nMessage-ID:"),
    ],
)
async def test_what_relaxed_allows_passes(old, new):
    assert [one.result for one in await verified(RFC_8463.replace(old, new))] == ["pass", "pass"]


def signature(**tags):
    """The first signature of RFC 8463 with other tags; None takes one out."""
    head = RFC_8463.split("DKIM-Signature: ")[1]
    given = dict(tag.strip().split("=", 1) for tag in head.replace("\n", "").split(";"))
    given = {name: value for name, value in {**given, **tags}.items() if value is not None}
    return "DKIM-Signature: " + "; ".join(f"{name}={value}" for name, value in given.items()) + "\n" + LETTER


@pytest.mark.parametrize(
    ("text", "result", "reason"),
    [
        *[
            (signature(**{tag: None}), "permerror", f"no tag {tag}")
            for tag in ("v", "a", "b", "bh", "d", "h", "s")
        ],
        (signature(v="2"), "permerror", "version"),
        (signature(a="rsa-sha1"), "policy", "rsa-sha1"),
        (signature(a="rsa-sha512"), "permerror", "unknown algorithm"),
        (signature(a="rsa-sha256"), "permerror", "of another type"),
        (signature(b="%"), "permerror", "not base64"),
        (signature(bh="%"), "permerror", "not base64"),
        (signature(bh="AAAA"), "fail", "body was changed"),
        (signature(c="loose"), "permerror", "canonicalization"),
        (signature(c="relaxed/relaxed/x"), "permerror", "canonicalization"),
        (signature(d="not a domain"), "permerror", "identity"),
        (signature(d="com"), "permerror", "identity"),
        (signature(i="joe@example.net"), "permerror", "identity"),
        (signature(i="joe@notfootball.example.com"), "permerror", "identity"),
        (signature(h="to:subject"), "permerror", "does not sign the From"),
        (signature(h=":".join(["from"] * 1001)), "permerror", "more than 1000"),
        (signature(l="9999"), "permerror", "shorter"),
        (signature(l="-1"), "permerror", "not a number"),
        (signature(q="http"), "permerror", "not in DNS"),
        (signature(s="a..b"), "permerror", "selector"),
        (signature(s="none"), "permerror", "no key"),
        (signature(t="x"), "permerror", "not a number"),
        (signature(x="1500000000"), "permerror", "before it was made"),
        (signature(x="1590000000"), "policy", "expired"),
        ("DKIM-Signature: v=1; v=1\n" + LETTER, "permerror", "twice"),
        ("DKIM-Signature: nonsense\n" + LETTER, "permerror", "not a tag"),
        ("DKIM-Signature:\n" + LETTER, "permerror", "no tag v"),
    ],
)
async def test_what_is_wrong_with_a_signature_is_said(text, result, reason):
    (found,) = await verified(text)
    assert found.result == result
    assert reason in found.reason


@pytest.fixture(scope="module")
def signer():
    return Signer("example.org", "sel", rsa.generate_private_key(65537, 2048))


def public(signer):
    if signer.algorithm == "rsa-sha256":
        octets = signer.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        octets = signer.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return encode(octets)


async def signed(signer, text=LETTER, **more):
    head, _, body = text.encode().replace(b"\n", b"\r\n").partition(b"\r\n\r\n")
    fields = split_fields(head + b"\r\n")
    value = dkim_signature(fields, Body(body), signer, now=1_600_000_000, **more)
    return b"DKIM-Signature:" + value + b"\r\n" + head + b"\r\n\r\n" + body


NAME = ("sel._domainkey.example.org", "TXT")


@pytest.mark.parametrize(
    ("record", "result", "reason"),
    [
        ("v=DKIM1; k=rsa; p={key}", "pass", ""),
        ("p={key}", "pass", ""),
        ("v=DKIM1; t=y; p={key}", "pass", ""),
        ("v=DKIM1; h=sha1:sha256; s=email; n=a note; p={key}", "pass", ""),
        ("v=DKIM1; h=sha256 : sha1; s=tlsrpt : email; x_new=; p={key}", "pass", ""),
        ("k=rsa; v=DKIM1; p={key}", "permerror", "first tag"),
        ("v=DKIM2; p={key}", "permerror", "first tag"),
        ("v=DKIM1; h=sha1; p={key}", "permerror", "SHA-256"),
        ("v=DKIM1; s=tlsrpt; p={key}", "permerror", "not for mail"),
        ("v=DKIM1; k=dsa; p={key}", "permerror", "type is unknown"),
        ("v=DKIM1; k=ed25519; p={key}", "permerror", "32 bytes"),
        ("v=DKIM1; p=", "permerror", "revoked"),
        ("v=DKIM1", "permerror", "no tag p"),
        ("v=DKIM1; p=AAAA", "permerror", "key is invalid"),
        ("v=DKIM1; p=%%%", "permerror", "not base64"),
        ("something else", "permerror", "record is invalid"),
    ],
)
async def test_the_record_of_a_key_is_obeyed(signer, record, result, reason):
    zone = {NAME: [record.format(key=public(signer))]}
    (found,) = await verified(await signed(signer), zone)
    assert (found.result, reason in found.reason) == (result, True), found


@pytest.mark.parametrize(
    ("records", "result", "reason"),
    [
        (DnsStatus.TIMED_OUT, "temperror", "timed out"),
        (DnsStatus.FAILED, "temperror", "failed"),
        (DnsStatus.NO_DATA, "permerror", "no key"),
        (["v=DKIM1; p=", "v=DKIM1; p="], "permerror", "several keys"),
        (["v=spf1 -all", "some text"], "permerror", "no key"),
    ],
)
async def test_trouble_with_dns_is_no_bad_signature(signer, records, result, reason):
    (found,) = await verified(await signed(signer), {NAME: records})
    assert (found.result, reason in found.reason) == (result, True), found


async def test_a_key_for_its_own_domain_only(signer):
    zone = {NAME: [f"v=DKIM1; t=s; p={public(signer)}"]}
    (found,) = await verified(await signed(signer), zone)
    assert found.result == "pass"


async def test_small_keys_are_not_believed():
    signer = Signer("example.org", "sel", rsa.generate_private_key(65537, 1024))
    zone = {NAME: [f"v=DKIM1; p={public(signer)}"]}
    assert (await verified(await signed(signer), zone))[0].result == "pass"
    tiny = (
        "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALVSu0dHVDYZd8RG2ZsRMd0vNXhWXjzIEmPpyl8mLQWBpnBSQ5x1lKJ8qFqrk0H7l5w6"
    )
    tiny += "0aYJaO2S9nNJ0+lJwUECAwEAAQ=="
    (found,) = await verified(await signed(signer), {NAME: [f"v=DKIM1; p={tiny}"]})
    assert (found.result, found.reason) == ("policy", "the key is too small: 512 bits")


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
async def test_what_we_sign_verifies(signer, kind):
    if kind == "ed25519":
        signer = Signer("example.org", "sel", ed25519.Ed25519PrivateKey.generate())
    zone = {NAME: [f"v=DKIM1; k={kind}; p={public(signer)}"]}
    content = await signed(signer, expires=1_700_000_000)
    (found,) = await verified(content, zone)
    assert (found.result, found.algorithm) == ("pass", f"{kind}-sha256")
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))
    for name in (b"From", b"Subject", b"Reply-To", b"Content-Type"):
        (found,) = await verified(name + b": another@example.net\r\n" + content, zone)
        assert found.result == "fail", f"{name} can be added"


async def test_an_unsigned_rest_of_the_body_is_noticed(signer):
    zone = {NAME: [f"v=DKIM1; p={public(signer)}"]}
    field = Field(b"DKIM-Signature", b"")
    assert field.key == "dkim-signature"
    content = (await signed(signer)).replace(b"v=1;", b"v=1; l=4;")
    (found,) = await verified(content, zone)
    assert found.result == "fail", "the length is signed too"


async def test_at_most_ten_signatures_are_looked_at(signer):
    content = await signed(signer)
    line, _, rest = content.partition(b"\r\nFrom:")
    found = await verified((line + b"\r\n") * 50 + b"From:" + rest, {NAME: [f"v=DKIM1; p={public(signer)}"]})
    assert [one.result for one in found] == ["pass"] * 10


@pytest.mark.parametrize(
    ("body", "relaxed", "simple"),
    [
        (b"", b"", b"\r\n"),
        (b"\r\n", b"", b"\r\n"),
        (b"\r\n\r\n\r\n", b"", b"\r\n"),
        (b"a", b"a\r\n", b"a\r\n"),
        (b"a\r\n", b"a\r\n", b"a\r\n"),
        (b"a\r\n\r\n", b"a\r\n", b"a\r\n"),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n", b" C \r\nD \t E\r\n"),
        (b"a \t", b"a\r\n", b"a \t\r\n"),
        (b" \t\r\n", b"", b" \t\r\n"),
        (b"\t\r\n \r\n", b"", b"\t\r\n \r\n"),
        (b"a\r\n\r", b"a\r\n\r\r\n", b"a\r\n\r\r\n"),
        (b"a\n\r\n", b"a\n\r\n", b"a\n\r\n"),
        (b"a\r\r\n\r\n", b"a\r\r\n", b"a\r\r\n"),
    ],
)
def test_canonical_bodies(body, relaxed, simple):
    for size in (1, 2, 3, 100):
        assert b"".join(canonical_body(body, "relaxed", piece=size)) == relaxed
        assert b"".join(canonical_body(body, "simple", piece=size)) == simple


@pytest.mark.parametrize(
    ("field", "relaxed", "simple"),
    [
        (b"A: X\r\n", b"a:X\r\n", b"A: X\r\n"),
        (b"B : Y\t\r\n\tZ  \r\n", b"b:Y Z\r\n", b"B : Y\t\r\n\tZ  \r\n"),
        (b"Subject:\r\n", b"subject:\r\n", b"Subject:\r\n"),
        (b"Subject:  a  b\r\n", b"subject:a b\r\n", b"Subject:  a  b\r\n"),
    ],
)
def test_canonical_fields(field, relaxed, simple):
    """The examples of RFC 6376 section 3.4.5 and their neighbours."""
    ((one,),) = split_fields(field).values()
    assert one.canonical("relaxed") == relaxed
    assert one.canonical("simple") == simple


@pytest.mark.parametrize(
    "body",
    [
        b" " * (1 << 20),
        b"a " * (1 << 19),
        b"\r\n" * (1 << 19),
        b" \r\n" * (1 << 18),
        b"\t \t" * (1 << 18) + b"x",
    ],
    ids=["blanks", "words", "empty lines", "blank lines", "tabs"],
)
def test_a_megabyte_takes_linear_time(body):
    def cost(octets):
        begin = time.process_time()
        for _ in canonical_body(octets, "relaxed"):
            pass
        return time.process_time() - begin

    small, large = (min(cost(octets) for _ in range(5)) for octets in (body[: len(body) // 8], body))
    assert large < 40 * max(small, 1e-4)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"nonsense", "PEM"),
        (None, "encrypted"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_said(tmp_path, text, what):
    file = tmp_path / "key.pem"
    if text is None:
        key = ed25519.Ed25519PrivateKey.generate()
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    file.write_bytes(text)
    with pytest.raises(ValueError, match=what):
        load_key(file)


def test_a_key_file_is_loaded(tmp_path):
    key = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert Signer("example.org", "a", load_key(tmp_path / "key.pem")).algorithm == "ed25519-sha256"
