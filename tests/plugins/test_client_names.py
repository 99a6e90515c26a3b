# ruff: noqa: E501 - the cases are one line each
"""``reverse_dns`` and ``helo``: what names say about a client."""

import pytest
from gatepost import DnsStatus
from gatepost.testing import make_resolver, make_transaction, run_filter
from gatepost_helo import Helo
from gatepost_reverse_dns import ReverseDns

SIX = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"


def pointer(address):
    return (".".join(reversed(address.split("."))) + ".in-addr.arpa", "PTR")


@pytest.mark.parametrize(
    ("client", "zone", "score", "reason"),
    [
        ("192.0.2.7", {}, 2.0, "192.0.2.7 has no reverse name"),
        ("192.0.2.7", {pointer("192.0.2.7"): DnsStatus.NO_DATA}, 2.0, "has no reverse name"),
        (
            "192.0.2.7",
            {pointer("192.0.2.7"): ["mx.example.org"]},
            1.5,
            "192.0.2.7 is called mx.example.org, which does not have this address",
        ),
        (
            "192.0.2.7",
            {pointer("192.0.2.7"): ["mx.example.org"], ("mx.example.org", "A"): ["192.0.2.8"]},
            1.5,
            "does not have this address",
        ),
        (
            "192.0.2.7",
            {pointer("192.0.2.7"): ["mx.example.org"], ("mx.example.org", "A"): ["192.0.2.8", "192.0.2.7"]},
            0,
            "",
        ),
        (
            "192.0.2.7",
            {pointer("192.0.2.7"): ["no.example.org", "mx.example.org"], ("mx.example.org", "A"): ["192.0.2.7"]},
            0,
            "",
        ),
        ("2001:db8::1", {(SIX, "PTR"): ["mx.example.org"], ("mx.example.org", "AAAA"): ["2001:db8:0:0::1"]}, 0, ""),
        ("2001:db8::1", {(SIX, "PTR"): ["mx.example.org"], ("mx.example.org", "A"): ["192.0.2.7"]}, 1.5, "is called"),
        *[
            (
                "203.0.113.54",
                {pointer("203.0.113.54"): [name], (name.lower(), "A"): ["203.0.113.54"]},
                score,
                "made of the address" if score else "",
            )
            for name, score in {
                "host-203-0-113-54.dsl.example.net": 1.0,
                "54.113.0.203.dyn.example.net": 1.0,
                "ip113-54.example.net": 1.0,
                "h203000113054.example.net": 1.0,
                "cb007136.example.net": 1.0,
                "CB007136.example.net": 1.0,
                "mx54.example.net": 0,
                "mail.example.net": 0,
                "out113.mail54.example.net": 1.0,
                "mta-201-7.example.net": 0,
            }.items()
        ],
    ],
)  # fmt: skip
def test_reverse_names(client, zone, score, reason):
    verdict = run_filter(ReverseDns, make_transaction(client=client), resolver=make_resolver(zone))
    assert (verdict.score if verdict else 0) == score
    assert reason in (verdict.reason if verdict else "")
    assert verdict is None or verdict.action is None


@pytest.mark.parametrize(
    "zone",
    [
        {pointer("192.0.2.7"): DnsStatus.TIMED_OUT},
        {pointer("192.0.2.7"): DnsStatus.FAILED},
        {pointer("192.0.2.7"): ["mx.example.org"], ("mx.example.org", "A"): DnsStatus.FAILED},
        {
            pointer("192.0.2.7"): ["a.example.org", "b.example.org"],
            ("a.example.org", "A"): ["192.0.2.1"],
            ("b.example.org", "A"): DnsStatus.TIMED_OUT,
        },
    ],
)
def test_without_an_answer_nothing_is_said_about_a_client(zone):
    with pytest.raises(OSError, match="DNS: "):
        run_filter(ReverseDns, make_transaction(client="192.0.2.7"), resolver=make_resolver(zone))


def test_a_score_of_zero_is_no_hit():
    settings = {"missing": 0.0, "resolver": make_resolver({})}
    assert run_filter(ReverseDns, make_transaction(client="192.0.2.7"), **settings) is None


ZONE = {
    ("mx.example.org", "A"): ["192.0.2.7"],
    ("six.example.org", "AAAA"): ["2001:db8::1"],
    ("other.example.org", "A"): ["192.0.2.8"],
    ("empty.example.org", "A"): DnsStatus.NO_DATA,
    ("empty.example.org", "AAAA"): DnsStatus.NO_DATA,
    ("slow.example.org", "A"): DnsStatus.TIMED_OUT,
    ("half.example.org", "A"): ["192.0.2.7"],
    ("half.example.org", "AAAA"): DnsStatus.FAILED,
    ("xn--bcher-kva.example", "A"): ["192.0.2.7"],
}


@pytest.mark.parametrize(
    ("name", "score", "reason"),
    [
        ("mx.example.org", 0, ""),
        ("MX.Example.ORG.", 0, ""),
        ("half.example.org", 0, ""),
        ("bücher.example", 0, ""),
        ("xn--bcher-kva.example", 0, ""),
        ("other.example.org", 0, ""),
        ("none.example.org", 1.5, "'none.example.org' does not exist"),
        ("empty.example.org", 1.5, "'empty.example.org' has no address"),
        ("mx.gatepost.example", 5, "'mx.gatepost.example' is our own name"),
        ("MX.GATEPOST.EXAMPLE.", 5, "is our own name"),
        ("[198.51.100.1]", 5, "is our own name"),
        ("[192.0.2.7]", 1, "[192.0.2.7] is the client's address, and no name"),
        ("[192.0.2.8]", 3, "[192.0.2.8] is not the client's address"),
        ("[IPv6:2001:db8::1]", 3, "is not the client's address"),
        ("[1.2.3]", 2, "[1.2.3] is no address"),
        ("192.0.2.7", 2, "is no domain name"),
        ("localhost", 2, "'localhost' has no dot"),
        ("WIN-5HG72", 2, "has no dot"),
        ("a..example.org", 2, "is no domain name"),
        ("a b", 2, "is no domain name"),
        ("-a.example", 2, "is no domain name"),
        ("x@y.example", 2, "is no domain name"),
        ("a" * 64 + ".example", 2, "is no domain name"),
        ("my_host.example.org", 1.5, "does not exist"),
    ],
)
def test_names_in_ehlo(name, score, reason):
    asked = make_transaction(client="192.0.2.7", helo=name)
    settings = {"ours": ["mx.gatepost.example", "[198.51.100.1]"], "resolver": make_resolver(ZONE)}
    verdict = run_filter(Helo, asked, **settings)
    assert (verdict.score if verdict else 0) == score
    assert reason in (verdict.reason if verdict else "")


def test_scores_of_ehlo_can_be_chosen():
    asked = make_transaction(client="192.0.2.7", helo="other.example.org")
    verdict = run_filter(Helo, asked, scores={"other": 0.5}, resolver=make_resolver(ZONE))
    assert verdict.score == 0.5
    assert verdict.reason == "'other.example.org' does not have the address 192.0.2.7"
    nobody = make_transaction(client="192.0.2.7", helo="slow.example.org")
    assert run_filter(Helo, nobody, scores={"unknown": 0}, resolver=make_resolver(ZONE)) is None
    with pytest.raises(ValueError, match="'bare'"):
        run_filter(Helo, asked, scores={"bear": 1}, resolver=make_resolver(ZONE))


def test_without_an_answer_nothing_is_said_about_the_name():
    with pytest.raises(OSError, match=r"DNS: slow\.example\.org: timed out"):
        run_filter(Helo, make_transaction(helo="slow.example.org"), resolver=make_resolver(ZONE))
