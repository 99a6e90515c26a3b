# ruff: noqa: E501 - fields are one line
"""The filters that sign: what leaves is accepted by those who verify it."""

import asyncio
import re
import stat

import pytest
from gatepost.cli import app
from gatepost.testing import (
    FakeUpstream,
    ask_filter,
    make_resolver,
    make_transaction,
    run_finish,
    running_gateway,
)
from gatepost_authentication import Authentication
from gatepost_authentication.arc_seal import ArcSeal
from gatepost_authentication.dkim_sign import DkimSign
from typer.testing import CliRunner

KEYS = [("example.com", "r1", "rsa"), ("example.com", "e1", "ed25519"), ("sub.example.com", "s1", "rsa")]
_RECORD = re.compile(r"(\S+)\. 3600 IN TXT \( (.*) \)")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Key files by selector, and the zone with their records, as the command prints them."""
    folder, zone = tmp_path_factory.mktemp("keys"), {}
    for domain, selector, kind in KEYS:
        file = folder / f"{selector}.pem"
        ran = CliRunner().invoke(
            app, ["dkim", "new", domain, "-f", str(file), "-s", selector, "--type", kind]
        )
        assert ran.exit_code == 0, ran.output
        name, strings = _RECORD.search(ran.output).groups()
        assert name == f"{selector}._domainkey.{domain}"
        assert all(len(one) <= 255 for one in re.findall(r'"(.*?)"', strings))
        zone[name, "TXT"] = ["".join(re.findall(r'"(.*?)"', strings))]
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return folder, zone


def keys(folder):
    return [{"domain": domain, "selector": one, "file": f"{folder}/{one}.pem"} for domain, one, _ in KEYS]


def letter(author="ann@example.com", **headers):
    return make_transaction(
        headers={"From": author, **headers}, subject="Minutes", text="Hello\n\n  there \n\n"
    )


async def verified(content, zone, **settings):
    asked = make_transaction(content, mail_from="ann@example.com")
    settings = {"authserv_id": "mx.receiver.example", **settings}
    return await ask_filter(Authentication, asked, resolver=make_resolver(zone), **settings)


@pytest.mark.parametrize(
    ("author", "selectors"),
    [
        ("ann@example.com", ["r1", "e1"]),
        ("Ann <ann@EXAMPLE.com>", ["r1", "e1"]),
        ("ann@other.example.com", ["r1", "e1"]),
        ("ann@sub.example.com", ["s1"]),
        ("ann@deep.sub.example.com", ["s1"]),
        ("ann@example.org", []),
        ("ann@notexample.com", []),
        ("ann@example.com, bob@example.org", []),
        ("ann@example.com, bob@example.com", ["r1", "e1"]),
        ("ann@sub.example.com, bob@example.com", []),
        ("nobody", []),
    ],
)
def test_the_keys_of_the_authors_domain_sign(made, author, selectors):
    fields = run_finish(DkimSign, letter(author), keys=keys(made[0])).decode()
    assert re.findall(r"\bs=(\w+)", fields) == selectors
    assert fields.count("DKIM-Signature:") == len(selectors)
    assert all(len(line) <= 998 for line in fields.split("\r\n"))


@pytest.mark.parametrize("author", ["ann@example.com", "ann@sub.example.com"])
async def test_what_is_signed_is_verified_and_a_change_is_seen(made, author):
    folder, zone = made
    sent = letter(author, Cc="bob@example.org")
    fields = await asyncio.to_thread(run_finish, DkimSign, sent, keys=keys(folder))
    content = fields + sent.message.content
    verdict = await verified(content, zone)
    assert {one.text.split()[0] for one in verdict.matches if one.where == "dkim"} == {"dkim=pass"}
    for changed in (
        content.replace(b"there", b"where"),
        content.replace(b"Minutes", b"Invoice"),
        b"Subject: second\r\n" + content,
        b"From: eve@example.net\r\n" + content,
        content.replace(b"bob@", b"eve@"),
    ):
        verdict = await verified(changed, zone)
        assert "dkim=pass" not in verdict.reason


def test_a_gateway_signs_what_its_users_send_and_nothing_else(made):
    folder, _ = made
    rules = [
        {
            "name": "sign",
            "filter": "dkim_sign",
            "when": {"authenticated": True},
            "with": {"keys": keys(folder)},
        },
        {"name": "tag", "filter": "match", "action": "tag", "tag": {"subject": "[x] "}},
    ]
    with FakeUpstream() as upstream, running_gateway({"rules": rules}, upstream=upstream) as gateway:
        content = letter().message.content
        for user in (None, "ann"):
            assert gateway.send(make_transaction(content, authenticated=user)).code == 250
        assert [one.content.count(b"DKIM-Signature:") for one in upstream.messages] == [0, 2]
        signed = upstream.messages[1].content
        assert (
            signed.index(b"Received:")
            < signed.index(b"DKIM-Signature:")
            < signed.index(b"Subject: [x] Minutes")
        )


async def test_a_seal_lets_a_forwarder_change_the_message(made):
    folder, zone = made
    sealing = {"domain": "example.com", "selector": "e1", "file": folder / "e1.pem"}
    zone = zone | {
        ("_dmarc.author.example", "TXT"): ["v=DMARC1; p=reject"],
        ("author.example", "TXT"): ["v=spf1 ip4:192.0.2.1 -all"],
    }
    results = "Authentication-Results: mx.example.com; spf=pass smtp.mailfrom=author.example; dkim=none; arc=none; dmarc=pass header.from=author.example\r\n"
    received = letter("ann@author.example", Subject="[list] Minutes").message.content
    for hop in range(1, 4):
        content = results.encode() + received
        fields = ArcSeal(authserv_id="mx.example.com", **sealing).finish_message(
            make_transaction(received), content
        )
        names = re.findall(rb"^([A-Z][\w-]*):", fields, re.MULTILINE)
        assert names == [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"]
        assert fields.count(b"i=%d;" % hop) == 3
        assert (b"cv=none" if hop == 1 else b"cv=pass") in fields
        content = fields + content
        asked = make_transaction(content, mail_from="ann@author.example", client="198.51.100.9")
        verdict = await ask_filter(
            Authentication, asked, resolver=make_resolver(zone), authserv_id="mx.receiver.example",
            dmarc={"trusted_sealers": ["example.com"]},
        )  # fmt: skip
        assert "arc=pass" in verdict.reason, verdict.matches
        assert verdict.reason.endswith("example.com says that it passed there")
        assert "arc=fail" in (await verified(content.replace(b"Hello", b"Hallo"), zone)).reason
        received = content.replace(results.encode(), b"")
        results = results.replace("arc=none", "arc=pass")


@pytest.mark.parametrize(
    "results",
    [
        "",
        "Authentication-Results: other.example; dmarc=pass\r\n",
        "Authentication-Results: mx.example.com; arc=temperror; dmarc=pass\r\n",
    ],
)
def test_what_was_not_verified_is_not_sealed(made, results):
    sealing = {"domain": "example.com", "selector": "e1", "file": made[0] / "e1.pem"}
    sealer = ArcSeal(authserv_id="mx.example.com", **sealing)
    assert sealer.finish_message(letter(), results.encode() + letter().message.content) is None


def test_results_that_were_received_are_not_sealed(made):
    """A rule that accepts before the filter authentication is asked leaves what a forger has written."""
    content = b"Authentication-Results: mx.example.com; dmarc=pass\r\n" + letter().message.content
    sealing = {"domain": "example.com", "selector": "e1", "file": made[0] / "e1.pem"}
    sealer = ArcSeal(authserv_id="mx.example.com", **sealing)
    assert sealer.finish_message(make_transaction(content), content) is None
    assert sealer.finish_message(letter(), content) is not None


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"file": "none.pem"}, "none.pem"),
        ({"file": "junk.pem"}, "expected a private key in PEM format"),
        ({"domain": "localhost"}, "expected a domain like example.com"),
        ({"selector": "a b"}, "expected a name like s2026"),
        ({"selector": ""}, "expected a name like s2026"),
    ],
)
def test_a_key_that_cannot_sign_is_found_by_check(made, tmp_path, monkeypatch, key, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "junk.pem").write_text("junk")
    written = {"domain": "example.com", "selector": "e1", "file": f"{made[0]}/e1.pem", **key}
    fields = ", ".join(f"{name}: '{value}'" for name, value in written.items())
    (tmp_path / "rules.yaml").write_text(
        f"rules:\n  - {{name: s, filter: dkim_sign, with: {{keys: [{{{fields}}}]}}}}\n"
    )
    ran = CliRunner().invoke(app, ["check"])
    assert ran.exit_code == 2
    assert expected in ran.output
    assert "Traceback" not in ran.output


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["example.com", "-f", "there.pem", "-s", "s1"], 1, "there.pem exists; nothing was changed"),
        (["example.com", "-f", "none/k.pem", "-s", "s1"], 1, "none/k.pem"),
        (["localhost", "-f", "k.pem", "-s", "s1"], 2, "expected a domain like example.com"),
        (["a b.example", "-f", "k.pem", "-s", "s1"], 2, "expected a domain like example.com"),
        (["example.com", "-f", "k.pem", "-s", "s 1"], 2, "expected a name like s2026"),
        (["example.com", "-f", "k.pem"], 2, "--selector"),
        (["bücher.example", "-f", "k.pem", "-s", "s1"], 0, "s1._domainkey.xn--bcher-kva.example."),
    ],
)
def test_the_command(tmp_path, monkeypatch, arguments, status, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.pem").write_text("mine")
    ran = CliRunner().invoke(app, ["dkim", "new", *arguments])
    assert ran.exit_code == status
    assert expected in ran.output
    assert (tmp_path / "there.pem").read_text() == "mine"
