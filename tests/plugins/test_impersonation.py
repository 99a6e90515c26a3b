"""A name or an address of ours in From, with an address of others: found however it is written."""

import base64

import pytest
from gatepost.testing import make_transaction, run_filter
from gatepost_impersonation import Impersonation

SETTINGS = {"domains": ["example.com", "bücher.example"], "names": ["Ann Lee", "Bob Müller"]}
B64 = base64.b64encode(b"Ann Lee <ann@example.com>, ").decode()
OURS = [
    "Ann Lee <ann@example.com>",
    "ann@EXAMPLE.com (Ann Lee)",
    "Ann Lee <ann@mail.example.com>",
    "Bob Müller <bob@xn--bcher-kva.example>",
    '"ann@example.com" <ann@example.com>',
    "Ann Lee <@relay.example:ann@example.com>",
]
OTHERS = [
    "Ann <ann@example.org>",
    "Annlee <x@y.example>",
    "Bob <bob@example.com.evil.example>",
    "Ann Leeds <ann@y.example>",
    '"ann@example.com.evil.example" <x@y.example>',
    "x@y.example",
    "",
]
IMPERSONATORS = {
    "plain": "Ann Lee <x@y.example>",
    "order and other words": '"LEE, Ann (CEO)" <x@y.example>',
    "without accents": "Bob Muller <x@y.example>",
    "decomposed": "Bob Mu\u0308ller <x@y.example>",
    "full width": "\uff21\uff4e\uff4e Lee <x@y.example>",
    "characters that are not shown": "A\u200bnn L\u00adee <x@y.example>",
    "encoded": "=?utf-8?q?Ann?= =?utf-8?q?_Lee?= <x@y.example>",
    "an address that is encoded in the name": f"=?utf-8?b?{B64}?= <x@y.example>",
    "an address as the name": '"ann@example.com" <x@y.example>',
    "an address as the name, another spelling": "ann@BÜCHER.example <x@y.example>",
    "an address as the name, without quotes": "ann@example.com <x@y.example>",
    "a subdomain as the name": '"Ann <ann@it.example.com>" <x@y.example>',
    "the comment": "x@y.example (Ann Lee)",
    "a list": "Zoe <z@y.example>, Ann Lee <x@y.example>",
    "beside an address of ours": "Ann Lee <ann@example.com>, Ann Lee <x@y.example>",
    "a group": "Ann Lee: x@y.example;",
    "a name alone": "Ann Lee",
    "the null address": "Ann Lee <>",
    "domain within another": "Ann Lee <ann@notexample.com>",
}


def verdict_on(field, **settings):
    content = b"From: " + field.encode() + b"\r\nSubject: x\r\n\r\ny\r\n"
    return run_filter(Impersonation, make_transaction(content), **{**SETTINGS, **settings})


@pytest.mark.parametrize("field", IMPERSONATORS.values(), ids=IMPERSONATORS)
def test_one_of_ours_with_an_address_of_others_is_a_hit(field):
    verdict = verdict_on(field)
    assert verdict is not None
    assert verdict.reason.startswith("From shows ")
    assert verdict.matches[0].where == "header From"


@pytest.mark.parametrize("field", [*OURS, *OTHERS])
def test_our_own_addresses_and_other_peoples_names_are_no_hit(field):
    assert verdict_on(field) is None


def test_a_second_from_field_is_looked_at_too():
    content = b"From: ann@example.com\r\nFROM: Ann Lee <x@y.example>\r\n\r\n"
    assert run_filter(Impersonation, make_transaction(content), **SETTINGS)
    assert (
        run_filter(
            Impersonation, make_transaction(b"Subject: x\r\n\r\nFrom: Ann Lee <x@y.example>\r\n"), **SETTINGS
        )
        is None
    )


def test_without_names_only_addresses_are_looked_for():
    assert verdict_on("Ann Lee <x@y.example>", names=[]) is None
    verdict = verdict_on('"ann@example.com" <x@y.example>', names=[])
    assert verdict.reason == "From shows ann@example.com, and is <x@y.example>"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"domains": []}, "domains: expected at least one"),
        ({"domains": ["@example.com"]}, "domains: '@example.com', expected a domain"),
        ({"domains": ["*.example.com"]}, "domains: '\\*.example.com', expected a domain"),
        ({"domains": ["example"]}, "domains: 'example', expected a domain"),
        ({"names": ["..."]}, "names: '...', expected a name with letters"),
        ({"names": "Ann"}, "names"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        verdict_on("", **settings)
