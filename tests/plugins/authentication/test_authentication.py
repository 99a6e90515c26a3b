"""The filter: what it says of messages, what it does, and what it makes of the header section."""

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gatepost import Action, AddHeader, Answer, DnsStatus, RemoveHeader, Resolver
from gatepost.model.edits import apply
from gatepost.testing import ask_filter, make_resolver, make_transaction, run_filter
from gatepost_authentication import Authentication
from gatepost_authentication.canonical import split_fields
from gatepost_authentication.signed import Body, encode
from gatepost_authentication.signing import Signer, dkim_signature, seal

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = encode(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
ZONE = {
    ("example.org", "TXT"): ["v=spf1 ip4:192.0.2.1 -all"],
    ("_dmarc.example.org", "TXT"): ["v=DMARC1; p=reject"],
    ("sel._domainkey.example.org", "TXT"): [f"v=DKIM1; k=ed25519; p={PUBLIC}"],
    ("sel._domainkey.lists.example", "TXT"): [f"v=DKIM1; k=ed25519; p={PUBLIC}"],
    ("_dmarc.quiet.example", "TXT"): ["v=DMARC1; p=none"],
    ("_dmarc.careful.example", "TXT"): ["v=DMARC1; p=quarantine"],
    ("slow.example", "TXT"): DnsStatus.TIMED_OUT,
    ("_dmarc.slow.example", "TXT"): ["v=DMARC1; p=reject"],
}


def letter(sender="ann@example.org", *, client="192.0.2.1", mail_from=None, **headers):
    return make_transaction(
        mail_from=sender if mail_from is None else mail_from,
        client=client,
        text="Hello",
        headers={"From": sender, "Subject": "Minutes", **headers},
    )


def asked(transaction, zone=ZONE, **settings):
    settings = {"authserv_id": "mx.example.com", **settings}
    return run_filter(Authentication, transaction, resolver=make_resolver(zone), **settings)


def added(verdict):
    (field,) = [edit for edit in verdict.edits if isinstance(edit, AddHeader)]
    assert field.name == "Authentication-Results"
    return field.value


async def signed(transaction, domain="example.org"):
    head, _, body = transaction.message.content.partition(b"\r\n\r\n")
    fields = split_fields(head + b"\r\n")
    value = dkim_signature(fields, Body(body), Signer(domain, "sel", KEY), now=1)
    content = b"DKIM-Signature:" + value + b"\r\n" + transaction.message.content
    return make_transaction(
        content, mail_from=transaction.envelope.mail_from, client=str(transaction.session.client)
    )


def test_an_honest_message():
    verdict = asked(letter())
    assert verdict.action is Action.TAG
    assert verdict.reason == "spf=pass, dkim=none, arc=none, dmarc=pass"
    assert verdict.auth == ("spf=pass", "dkim=none", "arc=none", "dmarc=pass")
    assert added(verdict) == (
        "mx.example.com; spf=pass (ip4:192.0.2.1) smtp.mailfrom=example.org; dkim=none; arc=none; "
        "dmarc=pass header.from=example.org"
    )


async def test_a_signed_message_from_anywhere():
    verdict = await ask_filter(
        Authentication,
        await signed(letter(client="198.51.100.7")),
        resolver=make_resolver(ZONE),
        authserv_id="mx.example.com",
    )
    assert verdict.reason == "spf=fail, dkim=pass, arc=none, dmarc=pass"
    assert "dkim=pass header.d=example.org header.s=sel header.a=ed25519-sha256 header.b=" in added(verdict)


def test_a_forged_author_is_refused_as_the_domain_asks():
    verdict = asked(letter(client="198.51.100.7"))
    assert (verdict.action, str(verdict.reply)[:10]) == (Action.REJECT, "550 5.7.26")
    assert verdict.reason.endswith("dmarc=fail; example.org asks for p=reject")
    assert verdict.auth[-2:] == ("dmarc=fail", "dmarc=reject")


async def test_who_has_signed_the_whole_body():
    twice = await signed(await signed(letter()), "lists.example")
    found = await ask_filter(
        Authentication, twice, resolver=make_resolver(ZONE), authserv_id="mx.example.com"
    )
    assert found.auth[-2:] == ("signed_by=lists.example", "signed_by=example.org")
    changed = make_transaction(twice.message.content.replace(b"Hello", b"Hallo"), mail_from="ann@example.org")
    found = await ask_filter(
        Authentication, changed, resolver=make_resolver(ZONE), authserv_id="mx.example.com"
    )
    assert "dkim=fail" in found.auth
    assert not [one for one in found.auth if one.startswith("signed_by")]


@pytest.mark.parametrize(
    ("transaction", "settings", "action"),
    [
        (letter("a@careful.example"), {}, Action.QUARANTINE),
        (letter("a@quiet.example"), {}, Action.TAG),
        (letter("a@unknown.example"), {}, Action.TAG),
        (letter(client="198.51.100.7"), {"dmarc": {"honour": False}}, Action.TAG),
        (letter(client="198.51.100.7"), {"dmarc": {"exceptions": ["Example.ORG"]}}, Action.TAG),
        (
            letter("a@sub.example.org", client="198.51.100.7"),
            {"dmarc": {"exceptions": ["example.org"]}},
            Action.TAG,
        ),
        (letter("a@notexample.org"), {"dmarc": {"exceptions": ["example.org"]}}, Action.TAG),
        (letter(client="198.51.100.7"), {"actions": {"dmarc=fail": "discard"}}, Action.DISCARD),
        (letter(client="198.51.100.7"), {"actions": {"spf=fail": "nothing"}}, Action.TAG),
        (letter("a@slow.example"), {}, Action.TAG),
        (letter("a@slow.example"), {"actions": {"dmarc=temperror": "defer"}}, Action.DEFER),
        (letter("a@slow.example"), {"actions": {"spf=temperror": "quarantine"}}, Action.QUARANTINE),
        (letter("a@unknown.example"), {"actions": {"dkim=none": "reject"}}, Action.REJECT),
    ],
)
def test_what_is_done(transaction, settings, action):
    verdict = asked(transaction, **settings)
    assert verdict.action is action
    if action.refuses:
        assert verdict.reply.permanent == (action is Action.REJECT)


@pytest.mark.parametrize(
    ("headers", "result", "action"),
    [
        ({"From": "a@unknown.example, b@example.org"}, "dmarc=fail", Action.REJECT),
        ({"From": "b@example.org, a@unknown.example"}, "dmarc=fail", Action.REJECT),
        ({"From": '"ann@example.org" <a@unknown.example>'}, "dmarc=none", Action.TAG),
        ({"From": "=?utf-8?q?ann=40example=2Eorg?= <b@EXAMPLE.org>"}, "dmarc=fail", Action.REJECT),
        ({"From": "nobody"}, "dmarc=permerror", Action.TAG),
        ({"From": ""}, "dmarc=permerror", Action.TAG),
    ],
)
def test_authors(headers, result, action):
    verdict = asked(letter(client="198.51.100.7", mail_from="x@elsewhere.example", **headers))
    assert (verdict.reason.partition(";")[0].rpartition(" ")[2], verdict.action) == (result, action)


def test_two_from_fields_are_both_authors():
    content = letter().message.content.replace(b"From:", b"From: x@unknown.example\r\nFrom:")
    verdict = asked(make_transaction(content, client="198.51.100.7", mail_from="x@unknown.example"))
    assert verdict.action is Action.REJECT


def test_a_bounce_is_judged_by_its_helo_name():
    transaction = make_transaction(
        mail_from="", helo="example.org", client="192.0.2.1", headers={"From": "postmaster@example.org"}
    )
    assert "spf=pass (ip4:192.0.2.1) smtp.mailfrom=example.org" in added(asked(transaction))


def test_a_helo_name_that_is_none_is_shown_safely():
    transaction = make_transaction(mail_from="", helo='[192.0.2.1]";x', headers={"From": "a@quiet.example"})
    assert 'spf=none (not a domain) smtp.mailfrom="[192.0.2.1]\\";x"' in added(asked(transaction))


FORGED = (
    "mx.example.com; dmarc=pass",
    "(x) MX.EXAMPLE.COM 1; dmarc=pass",
    '"mx.example.com"; dmarc=pass',
    "(open; mx.example.com; dmarc=pass",
    "; dmarc=pass",
    "mx . example.(x)com; dmarc=pass",
    "mx.example.com.; dmarc=pass",
)
OTHERS = ("mx.example.org; spf=pass", "mx.example.com.evil.example; spf=pass")


@pytest.mark.parametrize(
    "name", [b"Authentication-Results", b"authentication-RESULTS", b"Authentication-Results "]
)
def test_fields_that_claim_to_be_ours_are_gone(name):
    fields = b"".join(name + b": " + text.encode() + b"\r\n" for text in (*FORGED, *OTHERS))
    folded = name + b":\r\n\tmx.example.com;\r\n\t dmarc=pass\r\n"
    content = fields + folded + letter().message.content
    verdict = asked(make_transaction(content, client="192.0.2.1", mail_from="ann@example.org"))
    sent = b"".join(apply(content, verdict.edits))
    left = [one.text.strip() for one in split_fields(sent)["authentication-results"]]
    assert left[0].startswith("mx.example.com;\r\n spf=pass")
    assert left[1:] == list(OTHERS)
    assert sent.endswith(letter().message.content)


def test_a_forged_field_that_is_there_twice_is_removed_twice():
    content = b"Authentication-Results: mx.example.com; spf=pass\r\n" * 2 + letter().message.content
    verdict = asked(make_transaction(content))
    assert [edit for edit in verdict.edits if isinstance(edit, RemoveHeader)] == [
        RemoveHeader("Authentication-Results", " mx.example.com; spf=pass")
    ]
    assert b"".join(apply(content, verdict.edits)).count(b"Authentication-Results") == 1


async def forwarded(results, sealer="lists.example"):
    """A message that a list has changed and sealed."""
    content = letter(Subject="[list] Minutes").message.content
    head, _, body = content.partition(b"\r\n\r\n")
    fields = seal(
        split_fields(head + b"\r\n"),
        Body(body),
        Signer(sealer, "sel", KEY),
        sets=(),
        results=f"lists.example; {results}",
        valid="none",
        now=1,
    )
    lines = b"".join(field.name + b":" + field.value + b"\r\n" for field in fields)
    return make_transaction(lines + content, client="198.51.100.7", mail_from="bounce@lists.example")


@pytest.mark.parametrize(
    ("results", "trusted", "action"),
    [
        ("dmarc=pass header.from=example.org", ["lists.example"], Action.TAG),
        ("dmarc=pass header.from=example.org", ["LISTS.example."], Action.TAG),
        ("dmarc=pass header.from=example.org", [], Action.REJECT),
        ("dmarc=pass header.from=example.org", ["other.example"], Action.REJECT),
        ("dmarc=fail header.from=example.org", ["lists.example"], Action.REJECT),
        ("dmarc=fail (dmarc=pass)", ["lists.example"], Action.REJECT),
    ],
)
async def test_a_trusted_forwarder(results, trusted, action):
    verdict = await ask_filter(
        Authentication,
        await forwarded(results),
        resolver=make_resolver(ZONE),
        authserv_id="mx.example.com",
        dmarc={"trusted_sealers": trusted},
    )
    assert verdict.action is action
    assert "arc=pass" in verdict.reason
    if action is Action.TAG:
        assert verdict.reason.endswith("; lists.example says that it passed there")


async def test_a_broken_chain_is_no_excuse():
    transaction = await forwarded("dmarc=pass")
    content = transaction.message.content.replace(b"Hello", b"Hullo")
    verdict = await ask_filter(
        Authentication,
        make_transaction(content, client="198.51.100.7", mail_from="bounce@lists.example"),
        resolver=make_resolver(ZONE),
        authserv_id="mx.example.com",
        dmarc={"trusted_sealers": ["lists.example"]},
    )
    assert verdict.action is Action.REJECT
    assert "arc=fail" in verdict.reason


async def test_with_dead_dns_all_is_temporary_within_the_deadline():
    async def never(name, kind):
        await asyncio.sleep(60)
        return Answer(status=DnsStatus.FAILED), 0

    async with asyncio.timeout(30):
        verdict = await ask_filter(
            Authentication,
            await signed(letter()),
            resolver=Resolver(ask=never, timeout_seconds=60),
            authserv_id="mx.example.com",
            deadline=0.1,
        )
    assert verdict.reason == "spf=temperror, dkim=temperror, arc=none, dmarc=temperror"
    assert verdict.action is Action.TAG


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"authserv_id": "not a name"}, "authserv_id"),
        ({"authserv_id": ""}, "authserv_id"),
        ({"actions": {"spf=broken": "reject"}}, "spf=broken"),
        ({"actions": {"nonsense": "reject"}}, "nonsense"),
        ({"actions": {"spf=fail": "explode"}}, "explode"),
        ({"dmarc": {"exceptions": ["a@example.org"]}}, "exceptions"),
        ({"dmarc": {"trusted_sealers": ["nonsense"]}}, "trusted_sealers"),
        ({"dmarc": {"honor": True}}, "honour"),
        ({"deadline": 0}, "deadline"),
    ],
)
def test_wrong_settings_are_named(settings, what):
    with pytest.raises(ValueError, match=what):
        asked(letter(), **settings)
