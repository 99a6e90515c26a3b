# ruff: noqa: E501 - the cases are one line each
"""``dnsbl``: listed is what a working list says, and nothing else."""

import asyncio
import logging
from pathlib import Path

import pytest
from gatepost import DnsStatus, Place
from gatepost.testing import make_resolver, make_transaction, run_all, run_filter
from gatepost_dnsbl import Dnsbl, DnsList

SIX = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
TESTS = {
    ("2.0.0.127.bl.example", "A"): ["127.0.0.2"],
    ("2.0.0.127.two.example", "A"): ["127.0.0.2"],
    ("test.dom.example", "A"): ["127.0.0.2"],
}
CLIENTS = {"zone": "bl.example", "score": 3.0}
DOMAINS = {"zone": "dom.example", "of": "urls", "score": 2.0}


def listed(name, *answers):
    return {(name, "A"): list(answers or ["127.0.0.2"])}


def ask(transaction, zone, *lists, **settings):
    settings |= {"resolver": make_resolver(TESTS | zone), "place": Place(rule="lists", folder=Path())}
    return run_filter(Dnsbl, transaction, lists=list(lists), **settings)


@pytest.mark.parametrize(
    ("client", "zone", "settings", "score"),
    [
        ("192.0.2.7", {}, {}, 0),
        ("192.0.2.7", listed("7.2.0.192.bl.example"), {}, 3),
        ("192.0.2.7", listed("7.2.0.192.bl.example", "127.0.0.2", "127.0.0.9"), {}, 3),
        ("2001:db8::1", listed(f"{SIX}.bl.example"), {}, 3),
        ("192.0.2.7", listed("7.2.0.192.bl.example"), {"score": -2.0}, -2),
        ("192.0.2.7", listed("7.2.0.192.bl.example", "127.0.0.4"), {"codes": {"127.0.0.2": {}}}, 0),
        ("192.0.2.7", listed("7.2.0.192.bl.example", "127.0.0.4"), {"codes": {"127.0.0.4": {}}}, 3),
        ("192.0.2.7", listed("7.2.0.192.bl.example", "127.0.0.4"), {"codes": {"127.0.0.0/29": {"score": 1.5}}}, 1.5),
        (
            "192.0.2.7",
            listed("7.2.0.192.bl.example", "127.0.0.4", "127.0.0.10"),
            {"codes": {"127.0.0.4": {"score": 1.0}, "127.0.0.10": {"score": 4.0, "reason": "open proxy"}}},
            4,
        ),
        ("127.0.0.1", listed("1.0.0.127.bl.example"), {}, 0),
        ("10.1.2.3", listed("3.2.1.10.bl.example"), {}, 0),
        ("fd00::1", {}, {}, 0),
    ],
)  # fmt: skip
def test_clients(client, zone, settings, score):
    verdict = ask(make_transaction(client=client), zone, CLIENTS | settings)
    assert (verdict.score if verdict else 0) == score
    if score:
        assert verdict.reason.startswith(f"{client} is listed: bl.example: ")
        assert verdict.action is None


def test_lists_count_by_themselves_and_the_reason_names_all():
    zone = listed("7.2.0.192.bl.example") | listed("7.2.0.192.two.example", "127.0.0.10")
    two = {"zone": "two.example", "score": 1.25, "codes": {"127.0.0.10": {"reason": "dynamic"}}}
    verdict = ask(make_transaction(client="192.0.2.7"), zone, CLIENTS, two)
    assert verdict.score == 4.25
    assert verdict.reason == "192.0.2.7 is listed: bl.example: 127.0.0.2; two.example: dynamic"
    assert [match.where for match in verdict.matches] == ["bl.example", "two.example"]


@pytest.mark.parametrize(
    ("zone", "problem"),
    [
        (listed("7.2.0.192.bl.example", "127.255.255.254"), "this resolver may not ask it"),
        (listed("7.2.0.192.bl.example", "127.0.0.2", "127.255.255.252"), "this resolver may not ask it"),
        (listed("7.2.0.192.bl.example", "203.0.113.1"), "which is no code of a list"),
        (listed("7.2.0.192.bl.example") | listed("1.0.0.127.bl.example"), "which no list may have"),
        (
            listed("7.2.0.192.bl.example") | {("1.0.0.127.bl.example", "A"): DnsStatus.TIMED_OUT},
            "DNS: timed out",
        ),
        ({("7.2.0.192.bl.example", "A"): DnsStatus.FAILED}, "DNS: failed"),
        ({("7.2.0.192.bl.example", "A"): DnsStatus.TIMED_OUT}, "DNS: timed out"),
    ],
)
def test_what_is_no_answer_of_a_list_is_no_listing(zone, problem, caplog):
    asked = make_transaction(client="192.0.2.7")
    with pytest.raises(OSError, match=f"no list has answered: .*{problem}"):
        ask(asked, zone, CLIENTS)
    with caplog.at_level(logging.WARNING):
        verdict = ask(asked, zone | listed("7.2.0.192.two.example"), CLIENTS, {"zone": "two.example"})
    assert verdict.score == 1
    assert verdict.reason == "192.0.2.7 is listed: two.example: 127.0.0.2"
    assert "list bl.example is not used: " in caplog.text
    assert problem in caplog.text


URLS = "see http://{0}/offer now"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (URLS.format("evil.example"), ["evil.example"]),
        (URLS.format("EVIL.Example."), ["evil.example"]),
        (
            URLS.format("www.shop.evil.example"),
            ["evil.example", "shop.evil.example", "www.shop.evil.example"],
        ),
        (URLS.format("good.example@evil.example"), ["evil.example"]),
        (URLS.format("evil.example:8080"), ["evil.example"]),
        (URLS.format("evil%2Eexample"), ["evil.example"]),
        ("http:\\\\evil.example", ["evil.example"]),
        ("https:evil.example", ["evil.example"]),
        ("//evil.example/x", ["evil.example"]),
        ("www.evil.example", ["evil.example"]),
        (URLS.format("bücher.example"), ["xn--bcher-kva.example"]),
        (URLS.format("evil\u3002example"), ["evil.example"]),
        (URLS.format("a@b@evil.example"), ["evil.example"]),
        (URLS.format("a:b@c:d@evil.example:80"), ["evil.example"]),
        (URLS.format("192.0.2.7"), ["7.2.0.192"]),
        (URLS.format("192.0.2.7."), ["7.2.0.192"]),
        (URLS.format("0xc0.0.2.7"), ["7.2.0.192"]),
        (URLS.format("0300.0.01007"), ["7.2.0.192"]),
        (URLS.format("3221225991"), ["7.2.0.192"]),
        (URLS.format("%33221225991"), ["7.2.0.192"]),
        (URLS.format("[::ffff:192.0.2.7]"), ["7.2.0.192"]),
        (URLS.format("[2001:db8::1]:80"), [SIX]),
    ],
)
def test_hosts_of_urls_however_they_are_spelled(text, names):
    for name in names:
        for kind in ("text", "html"):
            body = (
                text
                if kind == "text"
                else f'<a href="{text.removeprefix("see ").removesuffix(" now")}">x</a>'
            )
            verdict = ask(make_transaction(**{kind: body}), listed(f"{name}.dom.example"), DOMAINS)
            assert verdict, (name, kind)
            assert verdict.score == 2


@pytest.mark.parametrize(
    "text",
    [
        "(see http://evil.example)", "at http://evil.example, now", "http://evil.example!", "<http://evil.example>",
        "\u201chttp://evil.example\u201d", '"http://evil.example","http://good.example"', "[www.evil.example]",
    ],
)  # fmt: skip
def test_a_url_ends_where_the_sentence_goes_on(text):
    assert ask(make_transaction(text=text), listed("evil.example.dom.example"), DOMAINS)


@pytest.mark.parametrize(
    "url", ["http://ev\til.example", "http://evil.ex\nample/", "/\t/evil.example", "http://a'b@evil.example", "http://a<b@evil.example"]
)  # fmt: skip
def test_an_attribute_is_read_as_browsers_read_it(url):
    html = f'<a href="{url}">x</a>'
    assert ask(make_transaction(html=html), listed("evil.example.dom.example"), DOMAINS)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "127.1", "300.0.2.7", "1.2.3.4.5", "09.0.2.7", "[::g]", "4294967296"]
)
def test_what_is_no_public_address_is_not_looked_up(host):
    verdict = ask(make_transaction(text=URLS.format(host)), {}, DOMAINS | {"zone": "unknown.example"})
    assert verdict is None


@pytest.mark.parametrize("text", ["http:", "//", "http:a@,"])
def test_a_megabyte_of_beginnings_takes_linear_time(text, within_yardsticks):
    transaction = make_transaction(text=text * (1_000_000 // len(text)))
    with within_yardsticks(300):
        ask(transaction, {}, DOMAINS)


def test_one_good_answer_does_not_hide_a_bad_one():
    codes = {"127.0.0.2": {"score": 2.0}, "127.0.0.9": {"score": -9.0}}
    zone = listed("evil.example.dom.example") | listed("good.example.dom.example", "127.0.0.9")
    text = "http://evil.example http://good.example"
    assert ask(make_transaction(text=text), zone, DOMAINS | {"codes": codes}).score == 2
    both = listed("evil.example.dom.example", "127.0.0.9", "127.0.0.2")
    assert ask(make_transaction(text=text), both, DOMAINS | {"codes": codes}).score == 2


def test_few_hosts_are_looked_up_and_each_list_counts_once():
    many = " ".join(f"http://h{n}.example/" for n in range(100))
    zone = listed("h19.example.dom.example") | listed("h5.example.dom.example")
    assert ask(make_transaction(text=many), zone, DOMAINS).score == 2
    assert ask(make_transaction(text=many), listed("h20.example.dom.example"), DOMAINS) is None
    assert (
        ask(make_transaction(text=many), listed("h99.example.dom.example"), DOMAINS, urls_limit=100).score
        == 2
    )


def test_names_of_ehlo_and_sender():
    zone = listed("evil.example.dom.example")
    asked = make_transaction(mail_from="x@mail.evil.example", helo="mx.evil.example", client="127.0.0.1")
    lists = [DOMAINS | {"of": "helo"}, DOMAINS | {"of": "sender", "score": 1.0}]
    settings = {"resolver": make_resolver(TESTS | zone), "place": Place(rule="lists", folder=Path())}
    hits = run_all(Dnsbl, asked, lists=lists, **settings)
    assert [(str(hit.stage.name), hit.verdict.score) for hit in hits] == [("HELO", 2), ("MAIL", 1)]
    assert ask(make_transaction(mail_from=""), zone, lists[1]) is None
    assert ask(make_transaction(helo="[192.0.2.1]"), zone, lists[0]) is None


@pytest.mark.parametrize(
    ("zone", "warning"),
    [
        ({}, ""),
        (
            {("2.0.0.127.bl.example", "A"): DnsStatus.NO_NAME},
            "does not have its test entry 2.0.0.127.bl.example",
        ),
        ({("2.0.0.127.bl.example", "A"): DnsStatus.TIMED_OUT}, "DNS: timed out"),
        (listed("2.0.0.127.bl.example", "127.255.255.254"), "this resolver may not ask it"),
        (listed("1.0.0.127.bl.example"), "which no list may have"),
    ],
)
async def test_lists_are_tested_at_the_start(zone, warning, caplog):
    counted = []
    place = Place(rule="lists", folder=Path(), counter=lambda rule, what: counted.append((rule, what)))
    lists = Dnsbl(resolver=make_resolver(TESTS | zone), place=place, lists=[DnsList(zone="bl.example")])
    await lists.open()
    await lists.open()
    assert len(caplog.records) == bool(warning)
    assert warning in caplog.text
    assert set(counted) == ({("lists", "failed")} if warning else set())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"lists": []}, "no list, expected at least one"),
        ({"lists": [{"zone": "bl"}]}, "expected a domain like bl.example.net"),
        ({"lists": [{"zone": "bl.example", "of": "body"}]}, "'client', 'helo', 'sender' or 'urls'"),
        ({"lists": [{"zone": "bl.example", "codes": {"127.0.0.300": {}}}]}, "expected an address or network"),
        ({"lists": [{"zone": "bl.example", "codes": {"10.0.0.1": {}}}]}, "expected a part of 127.0.0.0/8"),
        ({"lists": [{"zone": "bl.example", "codes": {"127.255.255.1": {}}}]}, "without 127.255.255.0/24"),
        ({"lists": [CLIENTS], "urls_limit": 0}, "expected at least 1"),
    ],
)
def test_wrong_settings(settings, expected):
    with pytest.raises(ValueError, match=expected):
        run_filter(
            Dnsbl,
            make_transaction(),
            resolver=make_resolver({}),
            place=Place(rule="r", folder=Path()),
            **settings,
        )


@pytest.mark.parametrize(
    ("transaction", "of", "asked"),
    [
        (make_transaction(client="127.0.0.1"), "client", False),
        (make_transaction(client="192.0.2.7"), "client", True),
        (make_transaction(client="192.0.2.7"), "helo", True),
        (make_transaction(helo="[192.0.2.7]"), "helo", False),
        (make_transaction(mail_from=""), "sender", False),
        (make_transaction(text="no link"), "urls", False),
        (make_transaction(text="http://shop.example/"), "urls", True),
    ],
)
def test_it_says_whether_it_has_asked_a_list(transaction, of, asked):
    async def answers():
        place = Place(rule="lists", folder=Path())
        lists = [DnsList(zone="bl.example", of=of)]
        filter_ = Dnsbl(resolver=make_resolver(TESTS), place=place, lists=lists)
        return [
            await filter_.filter_connect(transaction.session),
            await filter_.filter_helo(transaction.session),
            await filter_.filter_mail(transaction.envelope),
            await filter_.filter_message(transaction),
        ]

    found = [answer is None or answer.asked for answer in asyncio.run(answers())]
    assert found == [asked and of == stage for stage in ("client", "helo", "sender", "urls")]
