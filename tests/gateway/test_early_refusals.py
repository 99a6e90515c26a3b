"""What is refused at whichever stage: one id from the reply to the journal, and all that others have too."""

import re
import socket
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import trustme
from gatepost.server.auth import hash_password
from gatepost.store import JournalQuery, find
from gatepost.testing import running_gateway

NOTED = """
from pathlib import Path
from gatepost import hookimpl

class Noted:
    '''Writes down the report of each transaction; fails for one sender.'''

    def __init__(self, file: str):
        self._file = Path(file)

    @hookimpl
    async def filter_mail(self, session, envelope):
        if envelope.mail_from.startswith("faulty@"):
            raise LookupError("no such table")
        return None

    @hookimpl
    async def report_transaction(self, record):
        with self._file.open("a") as file:
            file.write(record.id + chr(10))
"""
MAIL = "MAIL FROM:<ann@example.org>"
RCPT = "RCPT TO:<bob@example.com>"
EHLO = "EHLO client.example.org"
NO = "550 5.7.1 Refused as {id} by {rule}"
HELD = "the rule's when holds"
CASES = {
    # stage: (listener, proxied client, lines of the client, code, disposition, rule, reason)
    "connect": ("plain", "192.0.2.66", [], 550, "refused", "client", HELD),
    "connect, deferred": ("plain", "192.0.2.67", [], 451, "deferred", "later", HELD),
    "early talker": ("plain", "192.0.2.1", ["early"], 421, "deferred", None, ""),
    "helo": ("plain", "192.0.2.1", ["EHLO blocked.example"], 550, "refused", "helo", HELD),
    "mail": ("plain", "192.0.2.1", [EHLO, "MAIL FROM:<blocked@x.example>"], 550, "refused", "sender", HELD),
    "mail, a filter that fails": (
        "plain",
        "192.0.2.1",
        [EHLO, "MAIL FROM:<faulty@x.example>"],
        451,
        "deferred",
        "noted",
        "LookupError: no such table",
    ),
    "mail, SIZE too big": ("plain", "192.0.2.1", [EHLO, f"{MAIL} SIZE=99999"], 552, "refused", None, ""),
    "mail, no memory": ("plain", "192.0.2.1", [EHLO, f"{MAIL} SIZE=15000"], 452, "deferred", None, ""),
    "mail without TLS": ("tls", "192.0.2.1", [EHLO, MAIL], 530, "refused", None, ""),
    "a wrong mail without TLS": ("tls", "192.0.2.1", [EHLO, "MAIL FROM:ann"], 530, "refused", None, ""),
    "mail without AUTH": ("auth", "192.0.2.1", [EHLO, MAIL], 530, "refused", None, ""),
    "rcpt": (
        "plain",
        "192.0.2.1",
        [EHLO, MAIL, "RCPT TO:<blocked@example.com>"],
        550,
        "refused",
        "recipient",
        HELD,
    ),
    "rcpt, no route": (
        "plain",
        "192.0.2.1",
        [EHLO, MAIL, "RCPT TO:<bob@elsewhere.example>"],
        550,
        "refused",
        None,
        "",
    ),
    "message": (
        "plain",
        "192.0.2.1",
        [EHLO, MAIL, RCPT, "DATA", "Subject: blocked\r\n\r\n."],
        550,
        "refused",
        "words",
        '"blocked" in subject',
    ),
    "message too big": (
        "plain",
        "192.0.2.1",
        [EHLO, MAIL, RCPT, "DATA", "Subject: x\r\n\r\n" + "x" * 30_000 + "\r\n."],
        552,
        "refused",
        None,
        "",
    ),
    "a bare newline in the message": (
        "plain",
        "192.0.2.1",
        [EHLO, MAIL, RCPT, "DATA", "Subject: x\n\r\n."],
        550,
        "refused",
        None,
        "",
    ),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("early")
    issued = trustme.CA().issue_cert("mx.example.com")
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    (folder / "users.yaml").write_text(f'ann: "{hash_password("secret")}"')
    reports = folder / "reports"
    tls = {"certificate": str(folder / "cert.pem"), "key": str(folder / "key.pem"), "required": True}
    auth = {"users": str(folder / "users.yaml"), "required": True, "without_tls": True}
    proxied = {"address": "127.0.0.1:0", "proxy_protocol_from": "127.0.0.1"}
    match = {"filter": "match", "action": "reject", "reply": NO}
    rules = {
        "listen": [proxied, {**proxied, "tls": tls}, {**proxied, "auth": auth}],
        "limits": {"message_size": "20KB", "memory": "10KB"},
        "relay": [{"recipients": "*@example.com", "to": "inbox"}],
        "rules": [
            {"name": "client", **match, "when": {"client": "192.0.2.66"}},
            {
                "name": "later",
                "filter": "match",
                "action": "defer",
                "reply": "451 4.7.1 Later {id}",
                "when": {"client": "192.0.2.67"},
            },
            {"name": "helo", **match, "when": {"helo": "blocked.example"}},
            {"name": "sender", **match, "when": {"sender": "blocked@*"}},
            {"name": "recipient", **match, "when": {"recipient": "blocked@*"}},
            {"name": "noted", "filter": "./noted.py:Noted", "with": {"file": str(reports)}},
            {
                "name": "words",
                "filter": "keywords",
                "with": {"words": ["blocked"]},
                "action": "reject",
                "reply": NO,
            },
        ],
    }
    with running_gateway(rules, files={"noted.py": NOTED}) as running:
        addresses = dict(zip(("plain", "tls", "auth"), running.addresses, strict=True))
        yield SimpleNamespace(running=running, addresses=addresses, reports=reports)


@contextmanager
def session(address):
    with socket.create_connection(address) as connection, connection.makefile("rb") as file:

        def reply():
            lines = []
            while not lines or lines[-1][3:4] == b"-":
                lines.append(file.readline())
                assert lines[-1], "the gateway has closed the connection"
            return lines[-1].decode().strip()

        yield SimpleNamespace(send=lambda text: connection.sendall(text.encode()), reply=reply)


def play(address, client, lines):
    """The last reply to these lines; the session ends before this returns."""
    header = f"PROXY TCP4 {client} 192.0.2.9 5000 25\r\n"
    early = lines == ["early"]
    with session(address) as server:
        server.send(header + (f"{EHLO}\r\n" if early else ""))
        last = server.reply()
        for line in () if early else lines:
            server.send(f"{line}\r\n")
            last = server.reply()
    return last


def value_of(gateway, disposition):
    return gateway.running._service.samples()["messages", disposition]


@pytest.mark.parametrize("case", CASES)
def test_what_is_refused_has_all_that_others_have(gateway, caplog, wait_until, case):
    listener, client, lines, code, disposition, rule, reason = CASES[case]
    caplog.set_level("INFO", "gatepost.transaction")
    known = {record.id for record in gateway.running.journal()}
    count = value_of(gateway, disposition)
    reply = play(gateway.addresses[listener], client, lines)
    assert reply.startswith(str(code)), reply

    def found():
        return [record for record in gateway.running.journal() if record.id not in known]

    wait_until(found, "there is no record")
    (record,) = found()
    assert record.client == client
    assert (record.dispositions, record.rules) == ((disposition,), (rule,) if rule else ())
    assert (record.early_end or record.recipients[0]).reason == reason
    mail = next((line for line in lines if line.startswith("MAIL")), "")
    addressed = re.search("<(.*)>", mail)
    assert record.mail_from == (addressed[1] if addressed else None)

    archive = gateway.running._archive()
    of_disposition = archive.records(JournalQuery(disposition=disposition), limit=100)
    assert record in of_disposition
    if rule:
        assert record in archive.records(JournalQuery(rule=rule), limit=100)
    assert find(archive, record.session_id).records == (record,)
    if rule and rule != "noted":  # the reply of a filter that fails is Gatepost's own
        assert record.id in reply, "the id in the reply is that of the record"

    assert value_of(gateway, disposition) == count + 1
    wait_until(lambda: f"{record.id}\n" in gateway.reports.read_text(), "there is no report")
    (line,) = [one.getMessage() for one in caplog.records if one.getMessage().startswith(record.id)]
    assert f" {disposition} client={client} " in line
    assert (f" rules={rule} " in line) if rule else (" rules=" not in line)


def test_a_client_that_a_reload_refuses_has_a_record_of_its_mail(gateway, wait_until):
    rules = {
        "relay": [{"recipients": "*", "to": "inbox"}],
        "rules": [
            {
                "name": "new",
                "filter": "match",
                "action": "reject",
                "reply": NO,
                "when": {"client": "127.0.0.1"},
            }
        ],
    }
    with (
        running_gateway({"relay": rules["relay"]}) as running,
        session((running.host, running.port)) as server,
    ):
        server.reply()
        server.send(f"{EHLO}\r\n")
        server.reply()
        running.reload(rules)
        server.send(f"{MAIL}\r\n")
        reply = server.reply()
        (record,) = running.journal()
        assert record.id in reply
        assert (record.mail_from, record.rules) == ("ann@example.org", ("new",))


@pytest.mark.parametrize("limit", ["connections", "connections_per_client"])
def test_connections_over_a_limit_are_counted(limit):
    with running_gateway({"limits": {limit: 1}}) as running:
        address = (running.host, running.port)
        with session(address) as first, session(address) as second:
            assert first.reply().startswith("220 ")
            assert second.reply().startswith("421 4.7.0")
        samples = running._service.samples()
        counted = {key[1]: value for key, value in samples.items() if key[0] == "sessions_refused"}
        assert counted == {"connections": 0, "connections_per_client": 0, limit: 1}


def test_recipients_over_the_limit_are_recorded_as_deferred():
    with running_gateway({"limits": {"recipients": 1}}) as running:
        with session((running.host, running.port)) as server:
            server.reply()
            for line in (EHLO, MAIL, RCPT, "RCPT TO:<carol@example.com>", "DATA", "Subject: x\r\n\r\n."):
                server.send(f"{line}\r\n")
                server.reply()
        (record,) = running.journal()
        ends = {one.address: (one.disposition, one.reply) for one in record.recipients}
        assert ends["bob@example.com"][0] == "inbox"
        assert ends["carol@example.com"] == ("deferred", "452 4.5.3 Too many recipients")


def test_a_client_cannot_fill_the_memory_with_refused_recipients(monkeypatch):
    monkeypatch.setattr("gatepost.gateway.open_transaction._REFUSED_LIMIT", 3)
    rules = [
        {"name": "counts", "filter": "match", "when": {"recipient": "*"}, "score": 1},
        {"name": "refuses", "filter": "match", "when": {"recipient": "x@*"}},
    ]
    with running_gateway(
        {"relay": [{"recipients": "*@example.com", "to": "inbox"}], "rules": rules}
    ) as running:
        for refused in ("x@elsewhere.example", "x@example.com"):
            with session((running.host, running.port)) as server:
                server.reply()
                for line in (EHLO, MAIL, *[f"RCPT TO:<{refused}>"] * 5, RCPT, "RSET"):
                    server.send(f"{line}\r\n")
                    server.reply()
        second, first = running.journal()
        assert [len(one.recipients) for one in (first, second)] == [4, 4]
        assert [len(one.evaluations) for one in (first, second)] == [1, 3 * 2 + 1]
