"""DMARC by RFC 9989: which policy is found, what is aligned, what the domain asks for."""

import pytest
from gatepost import DnsStatus
from gatepost.testing import make_resolver
from gatepost_authentication.dmarc import QUERIES_LIMIT, Tree, judge, parse_record

CASES = [
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject"]},
        ("fail", "example.com", "reject"),
        id="own record",
    ),
    pytest.param(
        "a.example.com",
        None,
        [],
        {
            ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject; sp=quarantine"],
            ("a.example.com", "A"): ["192.0.2.1"],
        },
        ("fail", "example.com", "quarantine"),
        id="subdomain inherits org",
    ),
    pytest.param(
        "a.example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject"], ("a.example.com", "A"): ["192.0.2.1"]},
        ("fail", "example.com", "reject"),
        id="sp absent -> p",
    ),
    pytest.param(
        "nx.example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; p=none; sp=quarantine; np=reject"]},
        ("fail", "example.com", "reject"),
        id="np for non-existent",
    ),
    pytest.param(
        "ok.example.com",
        None,
        [],
        {
            ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=none; sp=quarantine; np=reject"],
            ("ok.example.com", "A"): ["192.0.2.1"],
        },
        ("fail", "example.com", "quarantine"),
        id="np not for existing",
    ),
    pytest.param(
        "m.example.com",
        None,
        [],
        {
            ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=none; sp=none; np=reject"],
            ("m.example.com", "MX"): [(10, "mx.example.com")],
        },
        ("fail", "example.com", "none"),
        id="np: only MX exists",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject; t=y"]},
        ("fail", "example.com", "quarantine"),
        id="t=y lowers reject",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; p=quarantine; t=y"]},
        ("fail", "example.com", "none"),
        id="t=y lowers quarantine",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject; pct=0"]},
        ("fail", "example.com", "reject"),
        id="pct ignored",
    ),
    pytest.param(
        "foo.bank",
        None,
        [],
        {("_dmarc.bank", "TXT"): ["v=DMARC1; p=reject; psd=y"], ("foo.bank", "A"): ["192.0.2.1"]},
        ("fail", "bank", "reject"),
        id="psd=y one label below",
    ),
    pytest.param(
        "x.a.example.com",
        None,
        ["y.a.example.com"],
        {
            ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject; psd=y"],
            ("x.a.example.com", "A"): ["192.0.2.1"],
            ("y.a.example.com", "A"): ["192.0.2.1"],
        },
        ("pass", "example.com", None),
        id="psd=y: subs of one org aligned",
    ),
    pytest.param(
        "d.u.example.com",
        None,
        [],
        {
            ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=none"],
            ("_dmarc.u.example.com", "TXT"): ["v=DMARC1; p=reject"],
            ("d.u.example.com", "A"): ["192.0.2.1"],
        },
        ("fail", "example.com", "none"),
        id="org = fewest labels",
    ),
    pytest.param(
        "a.example.com",
        "b.example.com",
        [],
        {
            ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject"],
            ("a.example.com", "A"): ["192.0.2.1"],
            ("b.example.com", "A"): ["192.0.2.1"],
        },
        ("pass", "example.com", None),
        id="siblings aligned by org",
    ),
    pytest.param(
        "a.example.com",
        None,
        ["example.com"],
        {("_dmarc.a.example.com", "TXT"): ["v=DMARC1; p=reject"]},
        ("fail", "a.example.com", "reject"),
        id="only own record at sub, parent dkim",
    ),
    pytest.param(
        "example.com",
        None,
        ["mail.example.com"],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject; adkim=s"]},
        ("fail", "example.com", "reject"),
        id="strict adkim",
    ),
    pytest.param(
        "a.b.c.d.e.f.g.h.i.j.example.com",
        None,
        [],
        {
            ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject"],
            ("a.b.c.d.e.f.g.h.i.j.example.com", "A"): ["192.0.2.1"],
        },
        ("fail", "example.com", "reject"),
        id="12 labels: record at org found",
    ),
    pytest.param(
        "foo.github.io",
        None,
        [],
        {("_dmarc.github.io", "TXT"): ["v=DMARC1; p=reject"], ("foo.github.io", "A"): ["192.0.2.1"]},
        ("fail", "github.io", "reject"),
        id="PSL suffix without psd (github.io)",
    ),
    pytest.param(
        "foo.com",
        None,
        [],
        {("_dmarc.com", "TXT"): ["v=DMARC1; p=reject"], ("foo.com", "A"): ["192.0.2.1"]},
        ("fail", "com", "reject"),
        id="TLD record without psd",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["hello world", "v=DMARC1; p=reject"]},
        ("fail", "example.com", "reject"),
        id="other TXT beside",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; rua=mailto:d@example.com"]},
        ("fail", "example.com", "none"),
        id="p missing with rua -> none",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; adkim=s"]},
        ("none", None, None),
        id="p missing no rua -> no DMARC",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; rua=mailto:d@example.com; p=reject"]},
        ("fail", "example.com", "reject"),
        id="tag order: rua before p",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject; zz=1"]},
        ("fail", "example.com", "reject"),
        id="unknown tag",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; p=REJECT"]},
        ("fail", "example.com", "reject"),
        id="upper-case policy",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v = DMARC1 ; p = reject"]},
        ("fail", "example.com", "reject"),
        id="blanks round =",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=dmarc1; p=reject"]},
        ("none", None, None),
        id="v=dmarc1 lower is no record",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): DnsStatus.FAILED},
        ("temperror", None, None),
        id="SERVFAIL at author",
    ),
    pytest.param(
        "EXAMPLE.com",
        None,
        ["example.com"],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject"]},
        ("pass", "example.com", None),
        id="upper-case From domain",
    ),
    pytest.param(
        "a.example.co.uk",
        "example.co.uk",
        [],
        {("_dmarc.example.co.uk", "TXT"): ["v=DMARC1; p=reject"], ("a.example.co.uk", "A"): ["192.0.2.1"]},
        ("pass", "example.co.uk", None),
        id="co.uk",
    ),
    pytest.param(
        "example.com",
        None,
        ["mail.example.com"],
        {
            ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject"],
            ("_dmarc.mail.example.com", "TXT"): DnsStatus.FAILED,
        },
        ("temperror", None, None),
        id="nobody knows whether a signer is of the same organization",
    ),
    pytest.param(
        "example.com",
        "notexample.com",
        ["other.example"],
        {
            ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject"],
            ("_dmarc.other.example", "TXT"): DnsStatus.FAILED,
            ("_dmarc.notexample.com", "TXT"): DnsStatus.FAILED,
        },
        ("fail", "example.com", "reject"),
        id="names of strangers are not asked about",
    ),
    pytest.param(
        "a.example.com",
        "a.example.com",
        ["b.example.com"],
        {
            ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject"],
            ("_dmarc.b.example.com", "TXT"): DnsStatus.FAILED,
        },
        ("pass", "example.com", None),
        id="one that is aligned is enough",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject", "v=DMARC1; p=none"]},
        ("none", None, None),
        id="two records are none",
    ),
    pytest.param(
        "a.gone.example.com",
        None,
        [],
        {
            ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=none; np=reject"],
            ("a.gone.example.com", "A"): DnsStatus.TIMED_OUT,
        },
        ("temperror", None, None),
        id="whether the domain exists is not known",
    ),
    pytest.param(
        "example.com",
        None,
        [],
        {("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject; sp=none; np=none"]},
        ("fail", "example.com", "reject"),
        id="wishes for subdomains are not for the domain itself",
    ),
    *(
        pytest.param(
            "example.com",
            None,
            [],
            {("_dmarc.example.com", "TXT"): [f"v=DMARC1; {record}"]},
            expected,
            id=record,
        )
        for record, expected in {
            "p=reject; sp=nonsense": ("none", None, None),
            "p=reject; np=nonsense": ("none", None, None),
            "p=reject; sp=none; np=": ("none", None, None),
            "p=reject; sp=nonsense; rua=mailto:d@example.com": ("fail", "example.com", "none"),
            "p=reject; np=nonsense; rua=x, https://example.com/d": ("fail", "example.com", "none"),
            "p=nonsense; rua=d@example.com": ("none", None, None),
            "rua=mailto:": ("none", None, None),
            "rua=": ("none", None, None),
        }.items()
    ),
]


@pytest.mark.parametrize(("author", "spf", "dkim", "zone", "expected"), CASES)
async def test_a_domain_is_judged(author, spf, dkim, zone, expected):
    found = await judge(author.lower(), spf=spf, dkim=dkim, tree=Tree(make_resolver(zone)))
    assert (found.result, found.policy_domain, found.disposition) == expected


async def test_a_long_name_leads_to_eight_questions():
    asked = []
    resolver = make_resolver()
    look_up = resolver.look_up

    async def noted(name, kind):
        asked.append(name)
        return await look_up(name, kind)

    resolver.look_up = noted
    await Tree(resolver).walk(".".join("abcdefghijklmno") + ".example.com")
    assert len(asked) == QUERIES_LIMIT
    assert asked[1] == "_dmarc.k.l.m.n.o.example.com"
    assert asked[-1] == "_dmarc.com"


@pytest.mark.parametrize(
    ("text", "is_record"),
    [
        ("v=DMARC1; p=none", True),
        ("v=DMARC1;p=none", True),
        ("v = DMARC1 ; p = none ;", True),
        ("v=DMARC1", False),
        ("v=DMARC1; p=", False),
        ("v=DMARC1; p=bogus; rua=mailto:a@example.com", True),
        ("v=DMARC1; p=bogus", False),
        ("v=DMARC10; p=none", False),
        ("p=none; v=DMARC1", False),
        ("", False),
        ("v=spf1 -all", False),
    ],
)
def test_what_a_record_is(text, is_record):
    assert (parse_record(text, "example.com") is not None) == is_record
