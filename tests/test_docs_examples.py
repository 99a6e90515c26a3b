"""The settings of docs/examples: set up as their comments say, checked, and played in a running gateway."""

import ctypes.util
import json
import re
import shlex
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dkim
import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from dnslib.server import DNSLogger, DNSServer
from dnslib.zoneresolver import ZoneResolver
from gatepost import Disposition
from gatepost.testing import FakeUpstream, make_transaction, running_gateway

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
OPENDKIM = Path(__file__).with_name("plugins") / "authentication" / "peers" / "opendkim.py"
ZONE = """
5.100.51.198.in-addr.arpa. 60 IN PTR mx.honest.example.
mx.honest.example. 60 IN A 198.51.100.5
honest.example. 60 IN TXT "v=spf1 ip4:198.51.100.5 -all"
_dmarc.honest.example. 60 IN TXT "v=DMARC1; p=reject"
customer.example. 60 IN TXT "v=spf1 ip4:203.0.113.0/24 -all"
_dmarc.customer.example. 60 IN TXT "v=DMARC1; p=reject"
victim.example. 60 IN TXT "v=spf1 ip4:192.0.2.200 -all"
_dmarc.victim.example. 60 IN TXT "v=DMARC1; p=reject"
bank.example. 60 IN TXT "v=spf1 ip4:192.0.2.200 -all"
_dmarc.bank.example. 60 IN TXT "v=DMARC1; p=quarantine"
example.com. 60 IN TXT "v=spf1 ip4:192.0.2.25 -all"
_dmarc.example.com. 60 IN TXT "v=DMARC1; p=reject"
mx.free.example. 60 IN A 203.0.113.20
20.113.0.203.in-addr.arpa. 60 IN PTR mx.free.example.
free.example. 60 IN TXT "v=spf1 ip4:203.0.113.20 ip4:203.0.113.30 ip4:203.0.113.40 -all"
_dmarc.free.example. 60 IN TXT "v=DMARC1; p=none"
2.0.0.127.zen.spamhaus.org. 60 IN A 127.0.0.2
2.0.0.127.bl.spamcop.net. 60 IN A 127.0.0.2
2.0.0.127.list.dnswl.org. 60 IN A 127.0.10.0
test.dbl.spamhaus.org. 60 IN A 127.0.1.2
30.113.0.203.zen.spamhaus.org. 60 IN A 127.0.0.4
50.113.0.203.bl.spamcop.net. 60 IN A 127.0.0.2
50.113.0.203.zen.spamhaus.org. 60 IN A 127.0.0.10
spam.example.dbl.spamhaus.org. 60 IN A 127.0.1.2
"""
HONEST = {"client": "198.51.100.5", "helo": "mx.honest.example", "mail_from": "eve@honest.example"}
FREE = {"client": "203.0.113.20", "helo": "mx.free.example", "mail_from": "kim@free.example"}
STRANGER = {"client": "203.0.113.40", "helo": "pc.invalid", "mail_from": "kim@free.example"}
LISTED = {"client": "203.0.113.30", "helo": "pc.invalid", "mail_from": "kim@free.example"}
SKIPPED = {
    "authentication": "dmarc=temperror",
    "reverse-name": "DNS",
    "greeting": "DNS",
    "block-lists": "no list",
}
PROGRAM = {"invoice.exe": b"MZ\x90\0"}


@pytest.fixture(scope="module")
def name_server():
    server = DNSServer(ZoneResolver(ZONE), port=0, address="127.0.0.1", logger=DNSLogger(logf=lambda _: None))
    server.start_thread()
    yield f"127.0.0.1:{server.server.server_address[1]}"
    server.stop()
    server.server.server_close()


@pytest.fixture(scope="module")
def silent_server():
    """A name server that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{silent.getsockname()[1]}"


def made(name, folder):
    """Copy the examples and run the commands in the comment of one; returns what the last one printed."""
    shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True)
    commands = re.findall(r"^#   \$ (.+)", (folder / name).read_text(), re.MULTILINE)
    assert commands[-1] == f"gatepost check -c {name}"
    for command in commands:
        words = shlex.split(command)
        if words[0] == "gatepost":
            words[:1] = [sys.executable, "-m", "gatepost"]
        ran = subprocess.run(words, cwd=folder, input="secret\n", capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{command}: {ran.stderr}"
    return ran.stdout, ran.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folders with the examples, each made once."""
    folders = {}

    def of(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            made(name, folders[name])
        return folders[name]

    return of


@contextmanager
def played(name, folder, server, *, dns_time="30s", **more):
    """A gateway with the example, where nothing but dns, listen, relay and paths is replaced."""
    files = {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}
    settings = yaml.safe_load(files[name])
    settings["dns"] = {"servers": [server], "timeout": dns_time}
    for listener in settings["listen"]:
        listener["address"] = "127.0.0.1:0"
    settings |= more
    with FakeUpstream() as upstream:
        for route in settings["relay"]:
            route["to"] = f"smtp://{upstream.host}:{upstream.port}"
        with running_gateway(settings, files=files) as gateway:
            yield gateway, upstream


def letter(*, author=None, to="ann@example.com", **facts):
    fields = {"From": author or facts["mail_from"], "To": to, "Date": "Thu, 01 Jan 2026 12:00:00 +0000"}
    fields["Message-ID"] = "<1@mx.example>"
    text = facts.pop("text", "Good day.\n")
    return make_transaction(recipients=to, headers=fields, subject="Hello", text=text, **facts)


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_an_example_is_valid_after_the_commands_in_its_comment(name, tmp_path):
    output, warnings = made(name, tmp_path)
    assert output.startswith(f"{name}: ok: ")
    assert warnings == ""


COMPANY = [
    ("honest", letter(**HONEST), 250, "", Disposition.RELAYED),
    ("forged", letter(**STRANGER | {"mail_from": "boss@victim.example"}), 550, "5.7.26", Disposition.REFUSED),
    ("spoofed", letter(**FREE, author="Ann Lee <ann@example.com>"), 550, "5.7.26", Disposition.REFUSED),
    ("unaligned", letter(**FREE, author="info@bank.example"), 250, "", Disposition.QUARANTINED),
    ("display name", letter(**FREE, author="Ann Lee <ann@free.example>"), 451, "4.7.1", Disposition.DEFERRED),
    ("listed", letter(**LISTED), 550, "5.7.1", Disposition.REFUSED),
    ("listed twice", letter(**STRANGER | {"client": "203.0.113.50"}), 550, "5.7.1", Disposition.REFUSED),
    ("listed link", letter(**FREE, text="http://www.spam.example/"), 250, "", Disposition.QUARANTINED),
    ("unknown", letter(**STRANGER), 451, "4.7.1", Disposition.DEFERRED),
    ("our name", letter(**FREE | {"helo": "mx.example.com"}), 250, "", Disposition.QUARANTINED),
    ("blocked client", letter(**FREE | {"client": "203.0.113.66"}), 550, "5.7.1", Disposition.REFUSED),
    ("blocked sender", letter(**HONEST | {"mail_from": "x@bulk.example"}), 550, "5.7.1", Disposition.REFUSED),
    ("program", letter(**HONEST, attachments=PROGRAM), 250, "", Disposition.QUARANTINED),
    ("allowed", letter(**LISTED | {"mail_from": "bo@customer.example"}), 250, "", Disposition.RELAYED),
    ("elsewhere", letter(**HONEST, to="x@elsewhere.example"), 550, "5.7.1", Disposition.REFUSED),
]  # fmt: skip


def test_the_company_answers_each_message_as_configured(folder, name_server):
    with played("company.yaml", folder("company.yaml"), name_server) as (gateway, upstream):
        for what, transaction, code, enhanced, disposition in COMPANY:
            reply = gateway.send(transaction)
            record = gateway.journal()[0]
            told = [(one.rule, one.reason) for one in record.evaluations]
            found = {one.disposition for one in record.recipients} or {record.early_end.disposition}
            assert (reply.code, found) == (code, {disposition}), (what, reply, told)
            assert not enhanced or reply.enhanced == enhanced, what
        assert len(upstream.messages) == 2
        assert b"dmarc=pass header.from=honest.example" in upstream.messages[0].content


def test_the_company_limits_a_client_and_trusts_whom_its_people_have_written_to(
    folder, name_server, tmp_path
):
    state = {"path": str(tmp_path / "state.db")}
    reply = letter(**STRANGER, to="ann@example.com")
    with played("company.yaml", folder("company.yaml"), name_server, state=state) as (gateway, _):
        assert gateway.send(reply).code == 451
    with played("submission.yaml", folder("submission.yaml"), name_server, state=state) as (gateway, _):
        assert gateway.send(sent(to="kim@free.example")).code == 250
    with played("company.yaml", folder("company.yaml"), name_server, state=state) as (gateway, _):
        assert gateway.send(reply).code == 250, "the same greylisted message as before"
        codes = [gateway.send(letter(**STRANGER, to="nobody@elsewhere.example")).code for _ in range(60)]
        assert codes == [550] * 58 + [451] * 2, "sixty in a minute, with the two above"
        assert gateway.send(letter(**HONEST)).code == 250, "another client"


def sent(**facts):
    """A message of a user who has logged in."""
    usual = {
        "mail_from": "ann@example.com",
        "client": "198.51.100.77",
        "authenticated": "ann",
        "tls": "TLSv1.3",
    }
    return letter(**usual | facts)


def test_the_submission_server_takes_mail_of_users_alone(folder, name_server):
    content = sent(to="kim@free.example").message.content
    context = ssl.create_default_context(cafile=folder("submission.yaml") / "mail.pem")
    context.check_hostname = False
    with played("submission.yaml", folder("submission.yaml"), name_server) as (gateway, upstream):
        with smtplib.SMTP(*gateway.addresses[0], timeout=30) as client:
            client.ehlo()
            assert "auth" not in client.esmtp_features
            assert client.mail("ann@example.com")[0] == 530
            client.starttls(context=context)
            client.ehlo()
            assert client.mail("ann@example.com")[0] == 530
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("ann", "wrong")
        with smtplib.SMTP_SSL(*gateway.addresses[1], context=context, timeout=30) as client:
            client.login("ann", "secret")
            client.sendmail("ann@example.com", "kim@free.example", content)
        assert len(upstream.messages) == 1


SUBMISSION = [
    ("usual", sent(to="kim@free.example"), 250),
    ("bounce", sent(to="kim@free.example", mail_from="", author="ann@example.com"), 250),
    ("no user", letter(**HONEST, to="kim@free.example"), 550),
    ("another sender", sent(mail_from="ann@victim.example"), 550),
    ("another author", sent(author="boss@victim.example"), 550),
    ("program", sent(attachments=PROGRAM), 550),
]


def test_the_submission_server_answers_each_message_as_configured(folder, name_server):
    with played("submission.yaml", folder("submission.yaml"), name_server) as (gateway, upstream):
        for what, transaction, code in SUBMISSION:
            reply = gateway.send(transaction)
            assert reply.code == code, (what, reply)
        assert len(upstream.messages) == 2
        for number in range(4):
            crowd = tuple(f"{number}-{one}@free.example" for one in range(100))
            reply = gateway.send(
                replace(
                    sent(), envelope=make_transaction(recipients=crowd, mail_from="ann@example.com").envelope
                )
            )
        assert (reply.code, reply.enhanced) == (451, "4.7.1")
        assert gateway.send(sent(authenticated="bob", mail_from="bob@example.com")).code == 250


def key_record(file):
    """The record for DNS of a private key."""
    public = load_pem_private_key(file.read_bytes(), None).public_key()
    if "ed25519" in file.name:
        return b"v=DKIM1; k=ed25519; p=" + b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw))
    octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b"v=DKIM1; k=rsa; p=" + b64encode(octets)


def test_what_users_send_has_two_valid_signatures(folder, name_server):
    here = folder("submission.yaml")
    keys = {
        b"s2026._domainkey.example.com.": key_record(here / "example.com-rsa.pem"),
        b"e2026._domainkey.example.com.": key_record(here / "example.com-ed25519.pem"),
    }
    with played("submission.yaml", here, name_server) as (gateway, upstream):
        assert gateway.send(sent(to="kim@free.example")).code == 250
        (message,) = upstream.messages
    verifier = dkim.DKIM(message.content)
    assert [verifier.verify(idx=one, dnsfunc=lambda name, timeout: keys[name]) for one in (0, 1)] == [
        True
    ] * 2
    assert message.content.count(b"DKIM-Signature:") == 2
    if not ctypes.util.find_library("opendkim"):
        pytest.skip("not installed: libopendkim11")
    given = {
        "keys": {name.decode().rstrip("."): record.decode() for name, record in keys.items()},
        "letters": [{"content": b64encode(message.content).decode()}],
    }
    ran = subprocess.run(
        [sys.executable, OPENDKIM], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout) == [{"dkim": ["pass", "pass"]}]


ORG, COM = {"to": "kay@example.org"}, {"to": "ann@example.com"}
PROVIDER = [
    ("honest, com", letter(**HONEST, **COM), 250, Disposition.RELAYED, b"dmarc=pass"),
    ("honest, org", letter(**HONEST, **ORG), 250, Disposition.RELAYED, b"dmarc=pass"),
    ("honest, edu", letter(**HONEST, to="a@example.edu"), 250, Disposition.RELAYED, b"cv=none"),
    ("forged", letter(**FREE | {"mail_from": "x@victim.example"}, **ORG), 550, Disposition.REFUSED, None),
    ("unaligned", letter(**FREE, author="info@bank.example", **ORG), 250, Disposition.QUARANTINED, None),
    ("listed, com", letter(**LISTED, **COM), 550, Disposition.REFUSED, None),
    ("listed, org", letter(**LISTED, **ORG), 250, Disposition.RELAYED, b"Subject: [spam?] Hello"),
    ("listed, edu", letter(**LISTED, to="a@example.edu"), 550, Disposition.REFUSED, None),
    ("stranger, com", letter(**STRANGER, **COM), 451, Disposition.DEFERRED, None),
    ("stranger, org", letter(**STRANGER, **ORG), 250, Disposition.RELAYED, b"Subject: Hello"),
    ("program, com", letter(**HONEST, attachments=PROGRAM, **COM), 250, Disposition.QUARANTINED, None),
    ("program, org", letter(**HONEST, attachments=PROGRAM, **ORG), 250, Disposition.RELAYED, b"invoice.exe"),
    ("blocked", letter(**HONEST | {"client": "203.0.113.66"}, **ORG), 550, Disposition.REFUSED, None),
    ("elsewhere", letter(**HONEST, to="x@elsewhere.example"), 550, Disposition.REFUSED, None),
]


def test_the_provider_answers_each_message_as_its_domain_has_configured(folder, name_server):
    here = folder("provider.yaml")
    keys = {b"arc2026._domainkey.example.net.": key_record(here / "example.net-arc.pem")}
    with played("provider.yaml", here, name_server) as (gateway, upstream):
        for what, transaction, code, disposition, expected in PROVIDER:
            reply = gateway.send(transaction)
            record = gateway.journal()[0]
            told = [(one.rule, one.reason) for one in record.evaluations]
            found = {one.disposition for one in record.recipients} or {record.early_end.disposition}
            assert (reply.code, found) == (code, {disposition}), (what, reply, told)
            if expected:
                content = upstream.messages[-1].content
                assert expected in content, what
                chain, *_ = dkim.arc_verify(content, dnsfunc=lambda name, timeout: keys[name])
                assert chain == dkim.CV_Pass, what


def test_the_provider_limits_mail_to_one_recipient(folder, name_server):
    with played("provider.yaml", folder("provider.yaml"), name_server) as (gateway, _):
        codes = [gateway.send(letter(**HONEST, to="a@example.edu")).code for _ in range(101)]
        assert codes == [250] * 100 + [451]
        assert gateway.send(letter(**HONEST, to="b@example.edu")).code == 250


FORGED = letter(**FREE | {"mail_from": "x@victim.example"})


@pytest.mark.parametrize(
    ("name", "transaction", "code", "expected"),
    [
        ("company.yaml", letter(**HONEST), 451, {"authentication": "dmarc=temperror"}),
        ("company.yaml", FORGED, 451, {"authentication": "dmarc=temperror"}),
        ("submission.yaml", sent(to="kim@free.example"), 250, {}),
        ("provider.yaml", letter(**HONEST), 250, SKIPPED),
    ],
)  # fmt: skip
def test_with_dead_dns_mail_is_deferred_or_judged_without_it_as_written(
    folder, silent_server, name, transaction, code, expected
):
    with played(name, folder(name), silent_server, dns_time="500ms") as (gateway, _):
        reply = gateway.send(transaction)
        (record,) = gateway.journal()
        told = [(one.rule, one.reason) for one in record.evaluations]
        assert reply.code == code, (reply, told)
        for rule, expected_reason in expected.items():
            assert any(rule == one and expected_reason in reason for one, reason in told), (rule, told)
