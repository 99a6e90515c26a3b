"""The client that a trusted server in front names is the client of everything that the gateway does."""

import smtplib
import subprocess

import pytest
from gatepost.testing import running_gateway
from gatepost.testing.upstream import FakeUpstream

FILTER = '''
from gatepost import Verdict, hookimpl


class Facts:
    """Reports what it is told."""

    @hookimpl
    def filter_connect(self, session):
        return Verdict(reason=f"connect {session.client} {session.client_port}")

    @hookimpl
    def filter_helo(self, session):
        return Verdict(reason=f"helo {session.helo} {session.protocol}")


class Senders:
    """Reports whose message it is."""

    @hookimpl
    def filter_message(self, transaction):
        return Verdict(reason=f"message {transaction.session.client} {transaction.session.authenticated}")
'''
TAG = {"action": "tag", "tag": {"add": {"X-Facts": "x"}}}
RULES = {
    "hostname": "mx.example.com",
    "listen": {
        "address": "127.0.0.1:0",
        "proxy_protocol_from": "127.0.0.1",
        "xforward_from": "10.0.0.1",
        "xclient_from": "10.0.0.2",
    },
    "limits": {"connections_per_client": 2},
    "rules": [
        {"name": "listed", "filter": "match", "when": {"client": "203.0.113.66"}, "action": "reject"},
        {"name": "named", "filter": "match", "when": {"helo": "evil.*"}, "action": "reject"},
        {"name": "facts", "filter": "./facts.py:Facts", **TAG},
        {"name": "facts-too", "filter": "./facts.py:Senders", **TAG},
    ],
    "relay": [
        {"recipients": "*@example.com", "to": None},
        {"recipients": "*", "clients": ["203.0.113.7", "authenticated"], "to": None},
    ],
}
POSTFIX, NGINX = "10.0.0.1", "10.0.0.2"


@pytest.fixture(scope="module")
def upstream():
    with FakeUpstream() as started:
        yield started


@pytest.fixture(scope="module")
def gateway(upstream):
    relay = [{**route, "to": upstream.url} for route in RULES["relay"]]
    with running_gateway({**RULES, "relay": relay}, files={"facts.py": FILTER}) as started:
        yield started


class Front(smtplib.SMTP):
    """A server in front of the gateway, at an address of its own."""

    def __init__(self, gateway, address):
        self.preamble = b"PROXY TCP4 %s 127.0.0.1 40000 25\r\n" % address.encode()
        super().__init__(local_hostname="front.example.net", timeout=60)
        self.connect("127.0.0.1", gateway.port)
        self.ehlo()

    def _get_socket(self, host, port, timeout):
        connected = super()._get_socket(host, port, timeout)
        connected.sendall(self.preamble)
        return connected

    def post(self, recipient="bob@example.com"):
        """One transaction; the reply that ended it."""
        for command in ("MAIL FROM:<alice@example.org>", f"RCPT TO:<{recipient}>", "DATA"):
            code, text = self.docmd(command)
            if code not in (250, 354):
                self.docmd("RSET")
                return f"{code} {text.decode()}"
        self.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
        code, text = self.getreply()
        return f"{code} {text.decode()}"


def test_with_xforward_rules_journal_received_and_log_are_about_the_named_client(gateway, upstream, caplog):
    caplog.set_level("INFO", "gatepost.transaction")
    with Front(gateway, POSTFIX) as front:
        front.docmd("XFORWARD NAME=c.example ADDR=203.0.113.9 PORT=4711 HELO=c.example PROTO=ESMTP")
        assert front.post().startswith("250")
    [record, *_] = gateway.journal()
    assert (record.client, record.helo, record.authenticated) == ("203.0.113.9", "c.example", None)
    assert [one.reason for one in record.evaluations if one.rule.startswith("facts")] == [
        "connect 203.0.113.9 4711",
        "helo c.example ESMTP",
        "message 203.0.113.9 None",
    ]
    trace = upstream.messages[-1].content.partition(b"\r\n\t")[0]
    assert trace == b"Received: from c.example ([203.0.113.9])"
    assert "client=203.0.113.9 helo='c.example'" in caplog.messages[-1]


@pytest.mark.parametrize(
    ("said", "rule"), [("ADDR=203.0.113.66", "listed"), ("ADDR=203.0.113.9 HELO=evil.example", "named")]
)
def test_a_rule_about_the_named_client_refuses_its_mail_and_not_the_next_ones(gateway, said, rule):
    with Front(gateway, POSTFIX) as front:
        front.docmd(f"XFORWARD {said}")
        assert front.post() == "550 5.7.1 Refused by policy"
        [record, *_] = gateway.journal()
        assert (record.client, record.mail_from) == (said.split()[0][len("ADDR=") :], "alice@example.org")
        assert [one.rule for one in record.evaluations][-1] == rule
        front.docmd("XFORWARD ADDR=203.0.113.9 HELO=c.example")
        assert front.post().startswith("250")
        assert front.post().startswith("250")
        assert gateway.journal()[0].client == POSTFIX


def test_routes_are_for_the_named_client(gateway):
    with Front(gateway, POSTFIX) as front:
        for address, code in (("203.0.113.9", "550 5.7.1 Relaying denied"), ("203.0.113.7", "250")):
            front.docmd(f"XFORWARD ADDR={address}")
            assert front.post("bob@elsewhere.example").startswith(code)
    with Front(gateway, NGINX) as front:
        assert front.docmd("XCLIENT ADDR=203.0.113.9 LOGIN=alice")[0] == 220
        front.ehlo()
        assert front.post("bob@elsewhere.example").startswith("250")
    assert gateway.journal()[0].authenticated == "alice"


def test_with_xclient_the_rules_answer_the_command(gateway):
    with Front(gateway, NGINX) as front:
        assert front.docmd("XCLIENT ADDR=203.0.113.66")[0] == 550
    assert gateway.journal()[0].client == "203.0.113.66"
    with Front(gateway, NGINX) as front:
        assert front.docmd("XCLIENT ADDR=203.0.113.9 PORT=4711 HELO=c.example PROTO=ESMTP")[0] == 220
        front.ehlo()
        assert front.post().startswith("250")
    record = gateway.journal()[0]
    assert [one.reason for one in record.evaluations if one.rule.startswith("facts")] == [
        "connect 203.0.113.9 4711",
        "helo c.example ESMTP",
        "message 203.0.113.9 None",
    ]


def test_nobody_else_is_believed(gateway):
    with Front(gateway, "192.0.2.1") as front:
        assert not front.has_extn("xforward")
        assert front.docmd("XFORWARD ADDR=203.0.113.7")[0] == 550
        assert front.docmd("XCLIENT ADDR=203.0.113.7 LOGIN=alice")[0] == 550
        assert front.post("bob@elsewhere.example") == "550 5.7.1 Relaying denied"
    assert gateway.journal()[0].client == "192.0.2.1"


def test_new_rules_are_asked_about_the_named_client(gateway, upstream):
    with Front(gateway, NGINX) as front:
        front.docmd("XCLIENT ADDR=203.0.113.9 PORT=4711 HELO=c.example PROTO=ESMTP")
        front.ehlo()
        relay = [{**route, "to": upstream.url} for route in RULES["relay"]]
        listed = {"name": "new", "filter": "match", "when": {"client": "203.0.113.9"}, "action": "reject"}
        gateway.reload({**RULES, "relay": relay, "rules": [listed]})
        try:
            assert front.post() == "550 5.7.1 Refused by policy"
        finally:
            gateway.reload({**RULES, "relay": relay})


def test_mail_with_parameters_that_upstream_does_not_have_is_relayed_without_them():
    """Postfix as a proxy passes on what its client has sent, whatever is offered."""
    with (
        FakeUpstream(extensions=("PIPELINING",)) as upstream,
        running_gateway({}, upstream=upstream) as gateway,
    ):
        with smtplib.SMTP("127.0.0.1", gateway.port, timeout=60) as client:
            client.ehlo()
            assert not {"dsn", "smtputf8"} & {*client.esmtp_features}
            mail = "SIZE=10 BODY=8BITMIME SMTPUTF8 AUTH=<> RET=HDRS ENVID=q1"
            for command, code in (
                (f"MAIL FROM:<alice@example.org> {mail}", 250),
                ("RCPT TO:<bob@example.com> NOTIFY=NEVER ORCPT=rfc822;bob@example.com", 250),
                ("DATA", 354),
                ("Subject: x", None),
                (".", 250),
            ):
                client.send(f"{command}\r\n")
                assert code is None or client.getreply()[0] == code, command
        [message] = upstream.messages
    assert (message.parameters, message.recipients[0].parameters) == ((), ())


@pytest.mark.real("swaks")
def test_swaks_names_a_client_with_xclient(upstream):
    rules = {
        "listen": {"address": "127.0.0.1:0", "xclient_from": "127.0.0.1"},
        "relay": {"recipients": "*", "clients": "authenticated", "to": upstream.url},
    }
    with running_gateway({**rules, "relay": [rules["relay"]]}) as gateway:
        command = ["swaks", "--server", f"127.0.0.1:{gateway.port}", "--to", "bob@elsewhere.example"]
        named = [
            "--xclient-addr",
            "IPV6:2001:db8::9",
            "--xclient-helo",
            "c.example",
            "--xclient-login",
            "al+ice",
        ]
        done = subprocess.run(
            [*command, "--from", "alice@example.org", "--xclient-proto", "ESMTP", *named],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        [record] = gateway.journal()
    assert (record.client, record.helo, record.authenticated) == ("2001:db8::9", "c.example", "al+ice")


def test_mail_of_a_client_that_could_not_be_read_is_deferred_and_journalled(gateway):
    with Front(gateway, POSTFIX) as front:
        assert front.docmd("XFORWARD ADDR=nowhere")[0] == 501
        assert front.post() == "451 4.3.0 The client is unknown: a command that may name it failed"
    record = gateway.journal()[0]
    assert (record.mail_from, record.reply[:3]) == ("alice@example.org", "451")
