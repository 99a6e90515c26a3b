"""The filter in a running gateway that asks a real name server on loopback."""

import json
import time

import pytest
import yaml
from dnslib.server import DNSLogger, DNSServer
from dnslib.zoneresolver import ZoneResolver
from gatepost.cli import app
from gatepost.testing import FakeUpstream, make_transaction, running_gateway
from typer.testing import CliRunner

ZONE = """
example.org. 60 IN TXT "v=spf1 ip4:127.0.0.1 -all"
_dmarc.example.org. 60 IN TXT "v=DMARC1; p=reject"
victim.example. 60 IN TXT "v=spf1 ip4:192.0.2.1 -all"
_dmarc.victim.example. 60 IN TXT "v=DMARC1; p=reject"
"""
DEAD = "127.0.0.1:1"
"""Nobody answers there."""


@pytest.fixture(scope="module")
def name_server():
    server = DNSServer(ZoneResolver(ZONE), port=0, address="127.0.0.1", logger=DNSLogger(logf=lambda _: None))
    server.start_thread()
    yield f"127.0.0.1:{server.server.server_address[1]}"
    server.stop()
    server.server.server_close()


def rules(server, **more):
    return {
        "dns": {"servers": [server], "timeout": "300ms" if server == DEAD else "30s"},
        "rules": [
            {
                "name": "authentication",
                "filter": "authentication",
                "with": {"authserv_id": "mx.example.com", **more},
            }
        ],
    }


def letter(domain):
    return make_transaction(
        mail_from=f"ann@{domain}",
        headers={"From": f"ann@{domain}", "Authentication-Results": "mx.example.com; dmarc=pass"},
        text="Hello",
        client="127.0.0.1",
    )


def test_honest_mail_passes_and_forged_mail_is_refused(name_server):
    with FakeUpstream() as upstream, running_gateway(rules(name_server), upstream=upstream) as gateway:
        assert gateway.send(letter("example.org")).code == 250
        reply = gateway.send(letter("victim.example"))
        assert (reply.code, reply.enhanced) == (550, "5.7.26")
        (received,) = upstream.messages
        assert received.content.count(b"Authentication-Results:") == 1
        assert b"dmarc=pass header.from=example.org" in received.content
        refused, relayed = gateway.journal()
        assert relayed.evaluations[0].reason == "spf=pass, dkim=none, arc=none, dmarc=pass"
        assert refused.evaluations[0].reason.endswith("victim.example asks for p=reject")
        assert [match.where for match in refused.evaluations[0].matches] == ["spf", "dkim", "arc", "dmarc"]


def test_with_dead_dns_mail_is_relayed_or_deferred_as_written():
    begin = time.monotonic()
    with FakeUpstream() as upstream:
        with running_gateway(rules(DEAD), upstream=upstream) as gateway:
            assert gateway.send(letter("victim.example")).code == 250
        actions = {"dmarc=temperror": "defer"}
        with running_gateway(rules(DEAD, actions=actions), upstream=upstream) as gateway:
            assert gateway.send(letter("victim.example")).code == 451
        (received,) = upstream.messages
        assert b"dmarc=temperror" in received.content
    assert time.monotonic() - begin < 40


def test_explain_shows_each_method(name_server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules(name_server)))
    (tmp_path / "letter.eml").write_bytes(letter("example.org").message.content)
    ran = CliRunner().invoke(
        app, ["explain", "letter.eml", "--json", "--sender", "ann@example.org", "--client", "127.0.0.1"]
    )
    assert ran.exit_code == 0, ran.output
    (evaluation,) = json.loads(ran.stdout)["evaluations"]
    assert [match["text"].partition(" ")[0] for match in evaluation["matches"]] == [
        "spf=pass",
        "dkim=none",
        "arc=none",
        "dmarc=pass",
    ]


def test_a_reload_keeps_what_the_resolver_knows_unless_dns_has_changed(name_server):
    with FakeUpstream() as upstream, running_gateway(rules(name_server), upstream=upstream) as gateway:
        gateway.reload(rules(name_server, deadline="4s"))
        assert gateway.send(letter("victim.example")).code == 550
        gateway.reload(rules(DEAD))
        assert gateway.send(letter("victim.example")).code == 250, "another server, which is dead"
