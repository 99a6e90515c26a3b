"""Rules, routes and lists take the same mailbox however it is spelt, and nothing else."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import idna
import pytest
from gatepost import Envelope, Recipient, mailbox_key
from gatepost.cli import app
from gatepost.config.patterns import AddressPatterns, names_a_domain
from gatepost.config.relay import Route
from gatepost.config.rules import RuleSettings
from gatepost.config.unmatchable import never_matches
from gatepost.model.addresses import domain_readings, mailbox, spellings
from gatepost.process.service import Service, _reload
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
U, A = "bücher.example", "xn--bcher-kva.example"
DECOMPOSED = "bu\u0308cher.example"
FULL_WIDTH = "\uff22\uff35\u0308cher\uff0e\uff25xample"
EVERY_SPELLING = [
    U,
    A,
    A.upper(),
    "XN--Bcher-KVA.Example",
    "BÜCHER.EXAMPLE",
    DECOMPOSED,
    DECOMPOSED.upper(),
    FULL_WIDTH,
    "bücher\u3002example",
    "bücher\uff61example",
    "xn--bcher-kva\uff0eexample",
    "bü\u00adcher.example",
    "\uff58\uff4e--bcher-kva.example",
    f"{U}.",
    f"{A}.",
    "bücher.example\u3002",
]

TABLE = [
    # whole domains
    *[(f"*@{domain}", f"a@{other}", True) for domain in EVERY_SPELLING for other in (U, A)],
    *[(f"*@{domain}", f"a@{other}", True) for domain in (U, A) for other in EVERY_SPELLING],
    *[(f"boss@{domain}", f"BOSS@{A}", True) for domain in EVERY_SPELLING],
    (f"*@{U}", "a@bucher.example", False),
    (f"*@{U}", f"a@x.{A}", False),
    ("*@bucher.example", f"a@{U}", False),
    ("*@straße.example", "a@xn--strae-oqa.example", True),
    ("*@straße.example", "a@strasse.example", False),  # nontransitional, as browsers and IDNA 2008
    ("*@i❤.example", "a@xn--i-7iq.example", True),  # UTS 46 knows it, IDNA 2008 does not
    ("*@日本語.example", "a@XN--WGV71A119E.example", True),
    # domains below
    *[(f"*@*.{domain}", f"a@x.{other}", True) for domain in (U, A) for other in EVERY_SPELLING],
    (f"*@*.{U}", f"a@{A}", False),
    (f"*@*.{U}", "a@_x.-y.BÜCHER.example", True),  # one label that IDNA does not know hides no other
    (f"*@*.{U}", f"a@x\ue000.{A}", True),
    (f"*@*.{A}", f"a@xn--99999999.{U}", True),
    # parts of labels
    *[("*@*bücher*", f"a@{other}", True) for other in EVERY_SPELLING],
    *[("*@*xn--bcher*", f"a@{other}", True) for other in EVERY_SPELLING],
    ("*@*BU\u0308CHER*", f"a@{A}", True),
    ("*@buch*.bücher.example", "a@buch1.xn--bcher-kva.example", True),
    ("*@ß*.xn--bcher-kva.example", "a@xn--x-pfa.bücher.example", True),
    ("*@*bücher*", "a@bucher.example", False),
    ("a*@*.bücher.*", f"ann@x.{A}", True),
    # no domain names
    ("*@\ue000.example", "a@\ue000.EXAMPLE", True),
    ("*@xn--99999999.example", "a@XN--99999999.example", True),
    ("*@example.com", "a@evil.net\uff20example.com", False),
    ("*@*.example.com", "a@evil.net\uff20example.com", False),
    ("a*@example.com", "a@evil.net\uff20example.com", False),
    ("*@" + "ü" * 63, "a@" + "Ü" * 63, True),  # too long for an A-label
    ("*@xn--abc-.example", "a@abc.example", False),
    # the trailing dot
    ("*@example.com.", "a@example.com", True),
    ("*@example.com", "a@Example.com.", True),
    ("a@example.com.", "a@example.com", True),
    ("*@*.example.com", "a@x.example.com.", True),
    ("*@*.example.com.", "a@x.example.com", True),
    ("a*@example.com", "ab@example.com.", True),
    ("*@*.", "a@example.com", False),
    ("*@*.", "a@example.com.", True),
    ("*@example.com", "a@example.com..", False),
    # address literals
    ("*@[IPv6:2001:db8::1]", "a@[IPV6:2001:DB8:0:0:0:0:0:1]", True),
    ("*@[ipv6:2001:0DB8::0001]", "a@[IPv6:2001:db8::1]", True),
    ("*@[IPv6:2001:db8::c000:201]", "a@[IPv6:2001:db8::192.0.2.1]", True),
    ("*@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::2]", False),
    ("a*@[IPv6:2001:DB8::1]", "ab@[ipv6:2001:db8:0::1]", True),
    ("*@[IPv6:2001:db8:*]", "a@[IPv6:2001:DB8:0::1]", True),
    ("*@[192.0.2.1]", "a@[192.0.2.1]", True),
    ("*@[192.0.2.1]", "a@192.0.2.1", False),
    # quoted local parts
    ("boss@example.com", '"b\\oss"@example.com', True),
    ("boss@example.com", '"Boss"@example.com', True),
    ('"boss"@example.com', "boss@example.com", True),
    ('"b\\o\\ss"@example.com', '"\\boss"@example.com', True),
    ('"boss"@example.com', '"b oss"@example.com', False),
    ('"a b"@example.com', '"a b"@example.com', True),
    ('"a b"@example.com', '"a\\ b"@EXAMPLE.com', True),
    ('"a b"@example.com', "ab@example.com", False),
    ('"a@b"@example.com', '"a\\@b"@example.com', True),
    ("*@example.com", '"a@b"@example.com', True),
    ("*@b", '"a@b"@example.com', False),
    ("a@b@example.com", '"a@b"@example.com', False),
    ("*@*@example.com", '"a@b"@example.com', True),
    ('""@example.com', '""@example.com', True),
    ('"a\\\\b"@example.com', '"a\\b"@example.com', False),
    ('"a\\"b"@example.com', '"a\\"b"@example.com', True),
    ("bo*@example.com", '"boss"@example.com', True),
    ("bo*@example.com", '"b\\oss man"@example.com', True),
    ('"bo*"@example.com', "boss@example.com", True),
    ('"bo*"@example.com', '"boss man"@example.com', True),
    ("*%*@*", '"a%b"@example.com', True),
    ('"*"@*', '"boss"@example.com', True),
    ('"*"@*', "boss@example.com", False),  # a rule about quotes is no rule about everybody
    ('"*"@bücher.example', f'"a b"@{A}', True),
    ('"boss"@bücher.example', f'"b\\oss"@{A}.', True),
    # local parts beyond ASCII
    ("jürgen@example.com", "JÜRGEN@example.com", True),
    ("jürgen@example.com", "ju\u0308rgen@example.com", True),
    ("jürgen@example.com", "jurgen@example.com", False),
    ("jür*@example.com", "JU\u0308RGEN@example.com", True),
    ("straße@example.com", "STRASSE@example.com", True),
    ("ς@example.com", "Σ@example.com", True),
    ("ꭰ*@example.com", "Ꭰx@example.com", True),  # Cherokee folds to upper case
    ('"jü rgen"@bücher.example', f'"JU\u0308 RGEN"@{A}', True),
]


def holds(when, session, address):
    made = RuleSettings.model_validate({"name": "a", "filter": "match", "when": when}).when
    return made.holds(session, Envelope(mail_from=address), Recipient(address=address))


@pytest.mark.parametrize(("pattern", "address", "matches"), TABLE)
def test_a_pattern_takes_every_spelling_of_the_same_mailbox(session, pattern, address, matches):
    assert holds({"sender": pattern}, session(), address) is matches
    assert holds({"recipient": [pattern, "x@y.z"]}, session(), address) is matches
    assert holds({"not": {"recipient": pattern}}, session(), address) is not matches
    route = Route(recipients=pattern, clients="192.0.2.1", to="inbox")
    assert route.matches(session(), Recipient(address=address)) is matches


def test_entries_of_lists_take_the_same(loaded, session, tmp_path):
    for number, (pattern, _, _) in enumerate(TABLE):
        Path(f"{number}.txt").write_text(f"{pattern}\n", "utf-8")
    names = "".join(f"  l{number}: {number}.txt\n" for number in range(len(TABLE)))
    rules = "".join(
        f"  - {{name: r{number}, filter: match, when: {{sender: [$l{number}]}}}}\n"
        for number in range(len(TABLE))
    )
    routes = "".join(
        f"  - {{recipients: $l{number}, clients: 192.0.2.1, to: inbox}}\n" for number in range(len(TABLE))
    )
    config = loaded(f"lists:\n{names}relay:\n{routes}rules:\n{rules}").config
    for rule, route, (pattern, address, matches) in zip(config.rules, config.relay, TABLE, strict=True):
        assert rule.when.holds(session(), Envelope(mail_from=address)) is matches, (pattern, address)
        assert route.matches(session(), Recipient(address=address)) is matches, (pattern, address)


@pytest.mark.parametrize("mail_from", ["", "a@b"])
@pytest.mark.parametrize(
    ("pattern", "takes_null"), [("*", True), ("<>", True), ("", True), ("*@*", False), ("*@", False)]
)
def test_the_null_reverse_path_is_no_mailbox_of_a_domain(pattern, takes_null, mail_from):
    taken = takes_null if not mail_from else pattern in ("*", "*@*")
    assert AddressPatterns([pattern]).matches(mail_from) is taken


@pytest.mark.parametrize(
    "label",
    [
        "\ue000",  # private use
        *[f"xn--{text.encode('punycode').decode()}" for text in ("\ue000", "bÜcher", "bu\u0308cher")],
        "xn--",
        "xn--a-",
        "xn--99999999",
        "xn--ü",
        "".join(chr(0x4E00 + 37 * number) for number in range(40)),  # its A-label would be too long
        "a\u2024b",
        "a\uff20b",
    ],
)
def test_a_label_that_is_no_idna_has_one_reading(label):
    assert domain_readings(f"{label}.example") == (f"{label}.example",)


@pytest.mark.parametrize(
    ("pattern", "helo", "matches"),
    [
        (f"*.{U}", f"mx.{A}", True),
        (f"*.{A}", "MX.BÜCHER.example", True),
        ("mx.example.com", "MX.example.com.", True),
        ("*.", "mx.example.com", False),
        ("*.", "mx.example.com.", True),
        ("[IPv6:2001:db8::1]", "[ipv6:2001:DB8:0::1]", True),
        ("*bücher*", A, True),
        ("localhost", "local host", False),
    ],
)
def test_names_in_helo_are_compared_as_domains(session, pattern, helo, matches):
    made = RuleSettings.model_validate({"name": "a", "filter": "match", "when": {"helo": pattern}}).when
    assert made.holds(session(helo=helo)) is matches


@pytest.mark.parametrize(
    "address",
    [
        '"user@elsewhere.net"@{}',
        '"user\\@elsewhere.net"@{}',
        '"us\\er%elsewhere.net"@{}',
        '"elsewhere.net!user"@{}',
        "user%elsewhere.net@{}",
        "user\uff05elsewhere.net@{}",  # NFKC makes % of it
        "user\ufe6aelsewhere.net@{}",
        "user\uff20elsewhere.net@{}",
        "elsewhere.net\uff01user@{}",
    ],
)
def test_no_spelling_hides_a_route_of_the_sender(session, address):
    route = Route(recipients=[f"*@{U}", f"*@*.{U}"], to="inbox")
    for domain in EVERY_SPELLING:
        recipient = Recipient(address=address.format(domain))
        assert not route.matches(session(), recipient)
        assert route.matches(session("127.0.0.1"), recipient)


@pytest.mark.parametrize(
    "address",
    [
        "a@elsewhere.net\uff20bücher.example",
        "a@elsewhere.net\uff05bücher.example",
        "a@elsewhere.net\u2024bücher.example",
        "a@xbücher.example",
        "a@bücher.example.net",
        "a@bücher\u2024example",
        "a@bücher.example\uff0fx",
        "\uff50ostmaster",
    ],
)
def test_what_only_looks_like_a_local_address_has_no_route(session, address):
    route = Route(recipients=[f"*@{U}", f"*@*.{U}"], to="inbox")
    assert not route.matches(session(), Recipient(address=address))


def test_bare_postmaster_goes_where_a_domain_is_named_and_is_no_mailbox_of_it(session):
    route = Route(recipients=f"*@{U}", to="inbox")
    assert route.matches(session(), Recipient(address="PostMaster"))
    assert not holds({"recipient": f"postmaster@{U}"}, session(), "postmaster")


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("*@*.bücher.example", True),
        ("*@*。bücher。example", True),
        ("*@*\uff0ecom", False),
        ("*@*.com\u3002", False),
        ("*@[*.0.2.1]", False),
    ],
)
def test_a_pattern_of_any_domain_stays_one_in_every_spelling(pattern, named):
    assert names_a_domain(pattern) is named


@pytest.mark.parametrize("domain", EVERY_SPELLING)
def test_an_address_stays_as_it_came_and_only_its_comparison_is_normal(domain):
    address = f'"A\\b"@{domain}'
    recipient = Recipient(address=address)
    assert (recipient.address, recipient.local_part) == (address, '"A\\b"')
    assert (recipient.domain, mailbox_key(address)) == (A, f"ab@{A}")


@given(st.text(max_size=60))
@example("<>")
@example("\ud800@\udfff.example")
@example("a@xn--\ud800")
@example("a@" + "xn--" * 80)
@example('"@"@"@[IPv6:%]')
@example("a@" + "\ufdfa" * 80)
@example("a@" + "u\u0308\u0316" * 40)
@example("a" * 3000 + "@" + "ü" * 3000)
def test_every_text_is_read_without_an_error_and_is_its_own_mailbox(address):
    read = mailbox(address)
    is_a_pattern = "*" in address or address == "<>"  # which is the null reverse-path
    assert AddressPatterns(["*"] if is_a_pattern else [mailbox_key(address)]).matches(address)
    assert mailbox_key(read.key) == read.key or '"' in address or len(address) > 1000
    assert spellings(address)[0] == address
    never_matches(address, is_sender=True)


@given(st.from_regex(r"[a-zA-Z0-9.!#$%&'+/=?^_`{|}~-]{1,20}@[a-z0-9.-]{1,20}[a-z0-9]", fullmatch=True))
def test_plain_ascii_addresses_differ_by_case_alone(address):
    if "xn--" not in address.lower():
        assert mailbox_key(address) == address.lower()


@given(st.text(st.characters(whitelist_categories=("Ll", "Lo", "Nd")), min_size=1, max_size=12))
def test_what_idna_2008_encodes_is_compared_by_its_encoding(label):
    try:
        encoded = idna.encode(label, uts46=True).decode()
    except idna.IDNAError:
        return
    assert domain_readings(f"{label}.example")[0] == f"{encoded}.example"
    assert domain_readings(f"{encoded}.example") == domain_readings(f"{label}.example")


NEVER = [
    ("a@b@c", "'@' before the last @ needs quotes around the local part"),
    ("a(c)@b", "'(' before the last @"),
    ('"a@b', "'\"' before the last @"),
    ('a"b"@c', "'\"' before the last @"),
    ("*@a..b", "a label of its domain is empty"),
    ("*@.b", "a label of its domain is empty"),
    ("*@*..b", "a label of its domain is empty"),
    ("*@b..", "a label of its domain is empty"),
    ("*@a,b", "no domain has the character ','"),
    ("*@example.com>", "no domain has the character '>'"),
    ("*@10.0.0.0/8", "no domain has the character '/'"),
    ("*@$ours", "no domain has the character '$'"),
    ("a@b:25", "no domain has the character ':'"),
    ("*@-a.b", "begins or ends with a hyphen"),
    ("*@*.a-", "begins or ends with a hyphen"),
    ("*@[example.com]", "an address literal is like"),
    ("*@[2001:db8::1]", "an address literal is like"),
    ("*@[10.0.0.0/8]", "an address literal is like"),
    ("*@[10.0.0.1", "an address literal is like"),
    ("*@" + "a." * 127 + "bc", "a domain has at most 255 bytes"),
    ("a" * 251 + "@b.c", "an address has at most 254 bytes"),
]


@pytest.mark.parametrize(("pattern", "why"), NEVER)
def test_a_pattern_that_no_address_fits_has_its_reason(pattern, why):
    assert why in never_matches(pattern, is_sender=False)


@pytest.mark.parametrize(
    "pattern",
    [
        *[pattern for pattern, _, matches in TABLE if matches],
        "*",
        "postmaster",
        "*@*",
        "*@*.",
        "*@a..*",
        "*@*-a.b",
        "a@*@b",
        "*@a_b.c",
        '"a b@c"@d',
        "*@[192.0.2.*]",
        "*@[IPv6:2001:db8::1]",
        "*@xn--99999999.x",
    ],
)
def test_a_pattern_that_fits_some_address_has_no_warning(pattern):
    assert never_matches(pattern, is_sender=False) == ""


WARNED = """\
lists: {partners: p.txt}
relay:
  - recipients: "*@a..b"
    to: inbox
rules:
  - name: a
    filter: match
    when:
      recipient: [$partners, "*@example.com>"]
      not: {any: [{sender: postmaster}, {sender: "<>"}]}
"""
WARNINGS = [
    ("p.txt", 2, 1, "'a@b@c' never matches: '@' before the last @ needs quotes around the local part"),
    ("rules.yaml", 3, 17, "'*@a..b' never matches: a label of its domain is empty"),
    ("rules.yaml", 9, 30, "'*@example.com>' never matches: no domain has the character '>'"),
    ("rules.yaml", 10, 28, "'postmaster' never matches: without a domain it can only be a recipient"),
]


@pytest.fixture
def warned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("boss@example.com\na@b@c\n")
    Path("rules.yaml").write_text(WARNED)


@pytest.mark.usefixtures("warned")
def test_check_warns_at_line_and_column_and_exits_0(tmp_path):
    result = CliRunner().invoke(app, ["check"])
    shown = [line.replace(f"{tmp_path}/", "") for line in result.stderr.splitlines()]
    assert shown == [f"{path}:{line}:{column}: warning: {what}" for path, line, column, what in WARNINGS]
    assert (result.exit_code, result.stdout[:16]) == (0, "rules.yaml: ok: ")
    plain = json.loads(CliRunner().invoke(app, ["check", "--json"]).stdout)
    assert (plain["ok"], plain["problems"]) == (True, [])
    assert [(w["line"], w["column"], w["what"]) for w in plain["warnings"]] == [w[1:] for w in WARNINGS]


@pytest.mark.usefixtures("warned")
def test_a_reload_logs_what_check_warns_of(loaded, caplog):
    before = loaded("mixed_recipients: defer\n")
    Path("rules.yaml").write_text(WARNED)

    async def reload():
        service = Service(before)
        await _reload(service, Path("rules.yaml"), lambda _: None)
        await service.stop()

    with caplog.at_level(logging.WARNING, "gatepost"):
        asyncio.run(reload())
    assert [what for *_, what in WARNINGS if what in caplog.text] == [what for *_, what in WARNINGS]


@pytest.mark.usefixtures("warned")
def test_serve_logs_what_check_warns_of_and_starts(tmp_path):
    path = os.pathsep.join((str(ROOT / "proxy"), str(ROOT / "plugins")))
    Path("rules.yaml").write_text(f"{WARNED}listen: 127.0.0.1:0\n")
    with subprocess.Popen(
        [sys.executable, "-m", "gatepost", "serve", "--quiet"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if "gatepost listens on" in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    for path, line, column, what in WARNINGS:
        assert any(
            f"WARNING {path}:{line}:{column}: {what}" in one.replace(f"{tmp_path}/", "") for one in said
        )


def test_a_network_where_an_address_belongs_is_told_its_key(problems):
    (line,) = problems("relay: [{recipients: 10.0.0.0/8, to: inbox}]\n")
    assert line.endswith("(networks belong under client or clients)")
