"""Everything that judges senders in one rules.yaml, before a Postfix with OpenDKIM and OpenDMARC."""

import base64
import contextlib
import json
import pwd
import re
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import dkim
import pytest
import yaml
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from dnslib import DNSRecord
from dnslib.server import DNSLogger, DNSServer
from dnslib.zoneresolver import ZoneResolver

pytestmark = [
    pytest.mark.long,
    pytest.mark.real("postfix", "opendkim", "opendmarc", "smtp-sink", "ip", "unshare"),
]

PATIENCE_SECONDS = 60
HONEST, FREE, STRANGER = "198.51.100.5", "203.0.113.20", "203.0.113.40"
LISTED, EARLY, FAST, GUESSER = "203.0.113.30", "203.0.113.41", "203.0.113.42", "203.0.113.43"
USER = "198.51.100.77"
ADDRESSES = (HONEST, FREE, STRANGER, LISTED, EARLY, FAST, GUESSER, USER)
RULES = """
hostname: mx.example.com
listen:
  - 127.0.0.1:25
  - {address: "127.0.0.1:587", auth: {users: users.yaml, required: true, without_tls: true}}
workers: 2
dns: {servers: [127.0.0.1], timeout: 2s}
early_talkers: accept
relay:
  - {recipients: "*@example.com", to: &mail {host: 127.0.0.1, port: 10026, send_client: xclient}}
  - {recipients: "*", clients: authenticated, to: *mail}
rules:
  - {name: slow-greeting, filter: chaos, when: {client: 203.0.113.41}, with: {at: connect, delay: 2s}}
  - {name: guessers, filter: lockout, with: {failed_auth: 3/hour}, on_error: skip}
  - name: too-fast
    filter: ratelimit
    when: {authenticated: false}
    with: {by: client, messages: [8/hour]}
  - {name: users, filter: ratelimit, with: {by: user, recipients: [100/hour]}}
  - name: authentication
    filter: authentication
    when: {authenticated: false}
    with: {authserv_id: mx.example.com, deadline: 3s, actions: {dmarc=temperror: defer}}
  - {name: early, filter: match, when: {early_talker: true}, score: 3}
  - {name: reverse-name, filter: reverse_dns, when: {authenticated: false}, on_error: skip}
  - name: greeting
    filter: helo
    when: {authenticated: false}
    with: {ours: [mx.example.com]}
    on_error: skip
  - name: lists
    filter: dnsbl
    when: {authenticated: false}
    with:
      lists:
        - {zone: bl.test, score: 6}
        - {zone: uri.test, of: urls, score: 4}
    on_error: skip
  - {name: known, filter: known, when: {any: [{authenticated: true}, {auth: {dmarc: pass}}]}, on_error: skip}
  - {name: unwanted, filter: match, when: {score: ">=6"}, action: reject, reply: "550 5.7.1 Unwanted {id}"}
  - {name: doubtful, filter: match, when: {score: ">=5"}, action: quarantine}
  - {name: try-again, filter: greylist, when: {score: ">=1.5"}, with: {delay: 1s}}
  - name: sign
    filter: dkim_sign
    when: {authenticated: true}
    with: {keys: [{domain: example.com, selector: s1, file: example.com.pem}]}
  - name: seal
    filter: arc_seal
    when: {authenticated: false}
    with: {authserv_id: mx.example.com, domain: example.com, selector: s1, file: example.com.pem}
"""
ZONE = """
5.100.51.198.in-addr.arpa. 60 IN PTR mx.honest.example.
mx.honest.example. 60 IN A 198.51.100.5
honest.example. 60 IN TXT "v=spf1 ip4:198.51.100.5 -all"
_dmarc.honest.example. 60 IN TXT "v=DMARC1; p=reject"
victim.example. 60 IN TXT "v=spf1 ip4:192.0.2.200 -all"
_dmarc.victim.example. 60 IN TXT "v=DMARC1; p=reject"
bank.example. 60 IN TXT "v=spf1 ip4:192.0.2.200 -all"
_dmarc.bank.example. 60 IN TXT "v=DMARC1; p=quarantine"
example.com. 60 IN TXT "v=spf1 ip4:192.0.2.25 -all"
_dmarc.example.com. 60 IN TXT "v=DMARC1; p=reject"
mx.free.example. 60 IN A 203.0.113.20
20.113.0.203.in-addr.arpa. 60 IN PTR mx.free.example.
free.example. 60 IN TXT "v=spf1 ip4:203.0.113.0/24 -all"
_dmarc.free.example. 60 IN TXT "v=DMARC1; p=none"
2.0.0.127.bl.test. 60 IN A 127.0.0.2
test.uri.test. 60 IN A 127.0.0.2
30.113.0.203.bl.test. 60 IN A 127.0.0.2
spam.example.uri.test. 60 IN A 127.0.0.2
"""
MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
shlib_directory = /usr/lib/postfix
meta_directory = /etc/postfix
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = mail.example.com
mynetworks = 0.0.0.0/0
smtpd_authorized_xclient_hosts = 127.0.0.1
inet_protocols = ipv4
mydestination =
alias_maps =
local_recipient_maps =
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_milters = inet:127.0.0.1:8891, inet:127.0.0.1:8893
milter_default_action = tempfail
default_transport = smtp:[127.0.0.1]:2525
"""
MASTER = """
127.0.0.1:10026 inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
smtp unix - - n - - smtp
error unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
OPENDKIM = """
Mode v
Socket inet:8891@127.0.0.1
Nameservers 127.0.0.1
AuthservID dkim.example.com
AlwaysAddARHeader yes
InternalHosts {folder}/nobody
Syslog no
"""
OPENDMARC = """
AuthservID mail.example.com
TrustedAuthservIDs mx.example.com
Socket inet:8893@127.0.0.1
SPFSelfValidate false
RejectFailures false
Syslog false
PublicSuffixList {folder}/suffixes
"""
WITH_OUR_DNS = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"']
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def wait_until(condition, what):
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < give_up, what() if callable(what) else what
        time.sleep(0.02)
    return found


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Zone(ZoneResolver):
    """The records, while it is not dead."""

    def __init__(self, zone):
        super().__init__(zone)
        self.is_dead = False

    def resolve(self, request, handler):
        if self.is_dead:
            raise TimeoutError("no answer")
        return super().resolve(request, handler)


def key(file):
    """Make a private key; returns its record."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = made.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    record = f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"
    return " ".join(f'"{record[at : at + 200]}"' for at in range(0, len(record), 200))


@dataclass
class Site:
    """All the servers, in the network of this thread."""

    folder: Path
    environment: dict[str, str]
    stack: contextlib.ExitStack
    zone: Zone = field(init=False)

    def start(self):
        own = self.folder
        (own / "gateway").mkdir()
        signed, honest = (key(own / "gateway" / f"{name}.pem") for name in ("example.com", "honest"))
        zone = f"{ZONE}s1._domainkey.example.com. 60 IN TXT {signed}\n"
        self.zone = Zone(f"{zone}h1._domainkey.honest.example. 60 IN TXT {honest}\n")
        quiet = DNSLogger(logf=lambda _: None)
        server = DNSServer(self.zone, port=53, address="127.0.0.1", logger=quiet)
        server.server.daemon_threads = True
        server.start_thread()
        self.stack.callback(server.server.server_close)
        self.stack.callback(server.stop)
        for name, text in (("nobody", "192.0.2.254\n"), ("suffixes", "example\ncom\n")):
            (own / name).write_text(text)
        (own / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (own / "opendkim.conf").write_text(OPENDKIM.format(folder=own))
        (own / "opendmarc.conf").write_text(OPENDMARC.format(folder=own))
        with_dns = [*WITH_OUR_DNS, own / "resolv.conf"]
        self.run("opendkim", [*with_dns, "opendkim", "-f", "-x", own / "opendkim.conf"], 8891)
        self.run("opendmarc", [*with_dns, "opendmarc", "-f", "-l", "-c", own / "opendmarc.conf"], 8893)
        (own / "sunk").mkdir()
        sink = [shutil.which("smtp-sink", path="/usr/sbin"), "-u", "root", "-d", f"{own}/sunk/message."]
        self.run("smtp-sink", [*sink, "127.0.0.1:2525", "100"], 2525)
        self.postfix()
        (own / "gateway" / "rules.yaml").write_text(RULES)
        (own / "gateway" / "users.yaml").write_text(yaml.safe_dump({"ann": CHEAP.hash("secret")}))
        command = [sys.executable, "-m", "gatepost", "serve", "-c", "rules.yaml"]
        self.run("gatepost", command, 25, cwd=own / "gateway", env=self.environment)

    def run(self, name, command, port, **options):
        """A program that stays in the foreground; it is ended by its process id."""
        output = self.stack.enter_context((self.folder / f"{name}.output").open("wb"))
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
        self.stack.callback(process.wait, PATIENCE_SECONDS)
        self.stack.callback(process.terminate)
        wait_until(lambda: process.poll() is not None or answers(port), f"{name} answers at {port}")
        assert process.poll() is None, self.output(name)

    def output(self, name):
        return (self.folder / f"{name}.output").read_text(errors="replace")

    def postfix(self):
        folder = self.folder / "postfix"
        for part in ("settings", "queue", "data"):
            (folder / part).mkdir(parents=True)
        shutil.chown(folder / "data", pwd.getpwnam("postfix").pw_name)
        (folder / "settings/main.cf").write_text(MAIN.format(folder=folder))
        (folder / "settings/master.cf").write_text(MASTER)
        command = [shutil.which("postfix", path="/usr/sbin"), "-c", folder / "settings"]
        done = subprocess.run([*command, "start"], capture_output=True, text=True, check=False, timeout=60)
        self.stack.callback(subprocess.run, [*command, "stop"], capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: answers(10026), (folder / "log").read_text)

    def delivered(self, subject):
        """The message as Postfix has delivered it."""

        def found():
            texts = (file.read_text(errors="replace") for file in (self.folder / "sunk").glob("message.*"))
            return next((text for text in texts if f"\nSubject: {subject}\n" in text), None)

        return wait_until(found, (self.folder / "postfix" / "log").read_text)

    def journal(self):
        """The records, the latest first."""
        command = [sys.executable, "-m", "gatepost", "journal", "--json", "-c", "rules.yaml"]
        done = subprocess.run(
            command,
            cwd=self.folder / "gateway",
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_SECONDS,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def text_record(self, name, timeout=0):
        """The TXT record of a name, for dkimpy."""
        question = DNSRecord.question(name.decode(), "TXT")
        (answer,) = DNSRecord.parse(question.send("127.0.0.1", 53, timeout=PATIENCE_SECONDS)).rr
        return b"".join(answer.rdata.data)

    def signed(self, content):
        """The message with a signature of honest.example."""
        private = (self.folder / "gateway" / "honest.pem").read_bytes()
        return dkim.sign(content, b"h1", b"honest.example", private) + content


def message(author, subject, text="Good day."):
    return (
        f"From: {author}\r\nTo: bob@example.com\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\n"
        f"Message-ID: <{subject}@mx.example>\r\nSubject: {subject}\r\n\r\n{text}\r\n"
    ).encode()


def send(content, *, client, helo, mail_from, to="bob@example.com", user=None, early=False):
    """One transaction; the last reply. ``early``: EHLO is sent before the greeting."""
    smtp = smtplib.SMTP(timeout=PATIENCE_SECONDS, source_address=(client, 0))
    with contextlib.closing(smtp):
        if early:
            smtp.sock = socket.create_connection(("127.0.0.1", 25), PATIENCE_SECONDS, (client, 0))
            smtp.putcmd("EHLO", helo)
            greeting = smtp.getreply()
        else:
            greeting = smtp.connect("127.0.0.1", 587 if user else 25)
            if greeting[0] == 220:
                smtp.putcmd("EHLO", helo)
        replies = [greeting]
        if greeting[0] == 220:
            replies.append(smtp.getreply())
            if user:
                secret = base64.b64encode(f"\0ann\0{user}".encode()).decode()
                replies.append(smtp.docmd(f"AUTH PLAIN {secret}"))
            if replies[-1][0] < 400:
                replies += [smtp.docmd(f"MAIL FROM:<{mail_from}>"), smtp.docmd(f"RCPT TO:<{to}>")]
        refused = next((reply for reply in replies if reply[0] >= 400), None)
        code, text = refused or smtp.docmd("DATA")
        if code == 354:
            smtp.send(content + b".\r\n")
            code, text = smtp.getreply()
        return f"{code} {text.decode()}"


def results(delivered, server):
    """The methods with their results that a server has found, of the Authentication-Results fields."""
    unfolded = re.sub(r"\n[ \t]+", " ", delivered.partition("\n\n")[0])
    fields = re.findall(rf"^Authentication-Results: {re.escape(server)};(.*)$", unfolded, re.MULTILINE)
    return dict(re.findall(r"\b(spf|dkim|arc|dmarc)=(\w+)", " ".join(fields)))


HONEST_CLIENT = {"client": HONEST, "helo": "mx.honest.example", "mail_from": "eve@honest.example"}
FREE_CLIENT = {"client": FREE, "helo": "mx.free.example", "mail_from": "kim@free.example"}


def free_client(client, helo="pc.invalid"):
    return {"client": client, "helo": helo, "mail_from": "kim@free.example"}


def refusals(site):
    """Each of them gets the configured answer, and nothing of them is delivered."""
    forged = {**free_client(STRANGER), "mail_from": "boss@victim.example"}
    for subject, facts, author, text, expected in (
        ("forged", forged, "boss@victim.example", "", "550 5.7.26"),
        ("spoofed", FREE_CLIENT, "Ann <ann@example.com>", "", "550 5.7.26"),
        ("unaligned", FREE_CLIENT, "info@bank.example", "", "250"),
        ("listed", free_client(LISTED), "kim@free.example", "", "550 5.7.1 Unwanted"),
        ("link", free_client(STRANGER), "kim@free.example", "http://spam.example/", "550 5.7.1 Unwanted"),
        ("our-name", {**FREE_CLIENT, "helo": "mx.example.com"}, "kim@free.example", "", "250"),
        ("stranger", free_client(STRANGER), "kim@free.example", "", "451 4.7.1 Greylisted"),
    ):
        reply = send(message(author, subject, text), **facts)
        assert reply.startswith(expected), (subject, reply, site.journal()[0])
    boxes = {"unaligned": "quarantined", "our-name": "quarantined"}
    ends = {one["subject"]: {end["disposition"] for end in one["recipients"]} for one in site.journal()}
    assert {subject: ends[subject] for subject in boxes} == {one: {end} for one, end in boxes.items()}


def honest_mail(site):
    """It passes, and the servers behind agree with the gateway, or read what it has found."""
    forged_results = b"Authentication-Results: mx.example.com; dmarc=fail\r\n"
    content = forged_results + site.signed(message("eve@honest.example", "honest"))
    assert send(content, **HONEST_CLIENT).startswith("250")
    delivered = site.delivered("honest")
    passed = {"spf": "pass", "dkim": "pass", "dmarc": "pass"}
    assert {**results(delivered, "mx.example.com"), "arc": ""} == {**passed, "arc": ""}
    assert results(delivered, "dkim.example.com") == {"dkim": "pass"}
    assert results(delivered, "mail.example.com") == {"dmarc": "pass"}
    chain, *_ = dkim.arc_verify(delivered.replace("\n", "\r\n").encode(), dnsfunc=site.text_record)
    assert chain == dkim.CV_Pass, "the seal of example.com"
    assert send(message("kim@free.example", "free"), **FREE_CLIENT).startswith("250")
    assert results(site.delivered("free"), "mail.example.com")["dmarc"] == "pass", "by SPF alone"
    tampered = site.signed(message("eve@honest.example", "tampered")).replace(b"Good", b"Bad")
    assert send(tampered, **HONEST_CLIENT).startswith("250"), "SPF still passes"
    delivered = site.delivered("tampered")
    assert results(delivered, "mx.example.com")["dkim"] == "fail"
    assert results(delivered, "dkim.example.com")["dkim"] == "fail"


def memories(site):
    """Greylist, rates, lockout and correspondents."""
    stranger = free_client(STRANGER)
    again = message("kim@free.example", "again")
    wait_until(lambda: send(again, **stranger).startswith("250"), "it passes in the end")
    many = free_client(FAST, "mx.free.example")
    fast = [send(message("kim@free.example", "fast"), **many) for _ in range(9)]
    assert [reply[:3] for reply in fast[:8]] == ["250"] * 8, "a pair of its network has passed"
    assert re.match(r"451 4\.7\.1 Too many messages, please try again in \d+ seconds", fast[8])
    early = {**free_client(EARLY), "early": True}
    assert send(message("kim@free.example", "early"), **early).startswith("550 5.7.1 Unwanted")
    for password in "abc":
        guess = {"client": GUESSER, "helo": "pc.invalid", "mail_from": "ann@example.com", "user": password}
        assert send(b"", **guess).startswith("535")
    wait_until(lambda: send(b"", **guess).startswith("421 4.7.0 Too many failures"), "the guesser is out")
    user = {"client": USER, "helo": "pc.invalid", "mail_from": "ann@example.com", "user": "secret"}
    content = message("Ann <ann@example.com>", "sent")
    assert send(content, to="lee@free.example", **user).startswith("250")
    delivered = site.delivered("sent")
    assert results(delivered, "dkim.example.com")["dkim"] == "pass", "OpenDKIM verifies our signature"
    answer = {**free_client(EARLY), "mail_from": "lee@free.example", "to": "ann@example.com"}
    assert send(message("lee@free.example", "answer"), **answer).startswith("250"), "she has written to him"


def dead_dns(site):
    """What needs DNS is deferred or skipped, as written; what does not goes on."""
    site.zone.is_dead = True
    unknown = {"client": HONEST, "helo": "mx.new.example", "mail_from": "eve@new.example"}
    assert send(message("eve@new.example", "dead"), **unknown).startswith("451")
    record = site.journal()[0]
    found = {one["rule"]: (one["result"], one["reason"]) for one in record["evaluations"]}
    assert found["authentication"][0] == "hit"
    assert "dmarc=temperror" in found["authentication"][1]
    assert {found[rule][0] for rule in ("greeting",)} == {"error"}
    user = {"client": USER, "helo": "pc.invalid", "mail_from": "ann@example.com", "user": "secret"}
    assert send(message("ann@example.com", "users"), to="x@new.example", **user).startswith("250")


@pytest.fixture
def site(own_network, environment):
    """All servers, in a network of their own; a test calls functions there."""
    with tempfile.TemporaryDirectory(prefix="gatepost-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the servers' own users must reach it
        with contextlib.ExitStack() as stack:
            site = Site(Path(folder), environment, stack)

            def start():
                for address in ADDRESSES:
                    command = [shutil.which("ip"), "address", "add", f"{address}/32", "dev", "lo"]
                    subprocess.run(command, check=True, timeout=PATIENCE_SECONDS)
                site.start()

            try:
                own_network(start)
                yield lambda function: own_network(function, site)
            finally:
                own_network(stack.close)


def test_each_message_gets_its_answer_and_the_servers_behind_agree(site):
    for part in (refusals, honest_mail, memories, dead_dns):
        site(part)
