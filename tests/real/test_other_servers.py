"""docs/other-servers.md, run as it is: Postfix, Dovecot and HAProxy before and behind the gateway.

Each recipe has a network of its own, in which its ports are free and strangers have addresses.
"""

import base64
import contextlib
import json
import pwd
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from gatepost.server.auth import hash_password

pytestmark = [pytest.mark.long, pytest.mark.real("postfix", "smtp-sink", "ip")]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "other-servers.md").read_text(encoding="utf-8")
STRANGER, LISTED, ELSEWHERE, GATEWAY = "203.0.113.9", "203.0.113.66", "203.0.113.77", "127.0.0.1"
SINK = 2525
PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE_SECONDS = 60.0
RULES = """
rules:
  - {name: listed, filter: match, when: {client: 203.0.113.66}, action: reject}
  - {name: named, filter: match, when: {helo: "evil.*"}, action: reject}
  - {name: words, filter: keywords, with: {words: [wire transfer]}, action: reject}
  - {name: bob, filter: match, when: {authenticated: bob}, action: reject}
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
inet_protocols = all
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
smtpd_peername_lookup = no
default_transport = smtp:[127.0.0.1]:2525
relay_transport = smtp:[127.0.0.1]:2525
smtp_tls_security_level = none
"""
MASTER = """
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
"""The services of Debian's file, without chroot."""
DOVECOT = """
hostname = submission.example.com
ssl = no
disable_plaintext_auth = no
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
mail_location = maildir:{folder}/mail
first_valid_uid = 1
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/mail
}}
"""


def blocks(heading):
    """The files of a section of the page, by their names."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert section, heading
    found = re.findall(r"^```\w+\n# ([\w.-]+)[^\n]*\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return dict(found)


def wait_until(condition, what):
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < give_up, f"{what}: not within {PATIENCE_SECONDS:g} s"
        time.sleep(0.01)
    return found


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def program(name):
    return shutil.which(name, path=PROGRAMS)


@dataclass
class Site:
    """The servers of one recipe, in the network of this thread."""

    folder: Path
    environment: Mapping[str, str]
    stack: contextlib.ExitStack

    def start(self, name, command, port, **options):
        """A program that stays in the foreground; it is ended by its process id."""
        output = self.stack.enter_context((self.folder / f"{name}.output").open("wb"))
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)
        self.stack.callback(self._end, process)
        wait_until(lambda: process.poll() is not None or answers(port), f"{name} answers at {port}")
        assert process.poll() is None, (self.folder / f"{name}.output").read_text()

    def _end(self, process):
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)

    def sink(self):
        """The place where Postfix delivers to."""
        (self.folder / "sunk").mkdir()
        command = [program("smtp-sink"), "-u", "root", "-d", f"{self.folder}/sunk/message."]
        self.start("smtp-sink", [*command, f"127.0.0.1:{SINK}", "100"], SINK)

    def postfix(self, main, master, port):
        folder = self.folder / "postfix"
        for part in ("settings", "queue", "data"):
            (folder / part).mkdir(parents=True)
        shutil.chown(folder / "data", pwd.getpwnam("postfix").pw_name)
        (folder / "settings/main.cf").write_text(MAIN.format(folder=folder) + main)
        (folder / "settings/master.cf").write_text(master + MASTER)
        command = [program("postfix"), "-c", folder / "settings"]
        done = subprocess.run([*command, "start"], capture_output=True, text=True, check=False, timeout=60)
        self.stack.callback(subprocess.run, [*command, "stop"], capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr + self.log
        wait_until(lambda: answers(port), f"Postfix answers at {port}: {self.log}")

    @property
    def log(self):
        file = self.folder / "postfix/log"
        return file.read_text() if file.exists() else ""

    def gateway(self, rules, files=None):
        folder = self.folder / "gateway"
        folder.mkdir()
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
        (folder / "rules.yaml").write_text(rules + RULES)
        listen = yaml.safe_load(rules)["listen"]
        port = int((listen if isinstance(listen, str) else listen["address"]).rpartition(":")[2])
        command = [sys.executable, "-m", "gatepost", "serve", "-c", "rules.yaml"]
        self.start("gatepost", command, port, cwd=folder, env=self.environment)

    def dovecot(self, settings):
        folder = self.folder / "dovecot"
        for part in ("run", "mail"):
            (folder / part).mkdir(parents=True)
        shutil.chown(folder / "mail", "nobody")
        (folder / "dovecot.conf").write_text(settings + DOVECOT.format(folder=folder))
        self.start("dovecot", [program("dovecot"), "-F", "-c", folder / "dovecot.conf"], 587)

    def haproxy(self, settings):
        (self.folder / "haproxy.cfg").write_text(settings)
        self.start("haproxy", [program("haproxy"), "-db", "-f", self.folder / "haproxy.cfg"], 25)

    def delivered(self, subject):
        """The message as it was delivered in the end, in lines."""

        def found():
            texts = (file.read_text(errors="replace") for file in (self.folder / "sunk").glob("message.*"))
            return next((text for text in texts if f"\nSubject: {subject}\n" in text), None)

        return wait_until(found, f"{subject!r} is delivered: {self.log}")

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
            timeout=60,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    @property
    def gateway_log(self):
        return (self.folder / "gatepost.output").read_text()


@pytest.fixture
def play(own_network, environment):
    """Run a test in a network of its own, with the servers of a recipe."""

    def play(test):
        with (
            tempfile.TemporaryDirectory(prefix="gatepost-", ignore_cleanup_errors=True) as folder,
            contextlib.ExitStack() as stack,
        ):
            Path(folder).chmod(0o755)  # the servers' own users must reach it
            for address in (STRANGER, LISTED, ELSEWHERE):
                command = [program("ip"), "address", "add", f"{address}/32", "dev", "lo"]
                subprocess.run(command, check=True, timeout=60)
            site = Site(Path(folder), environment, stack)
            site.sink()
            test(site)

    return lambda test: own_network(play, test)


def send(
    port=25, *, source=STRANGER, helo="c.example", subject="x", text="Hello", login="", options=("", "")
):
    """One transaction of a client with this address; the last reply."""
    smtp = smtplib.SMTP(timeout=PATIENCE_SECONDS, source_address=(source, 0))
    smtp.command_encoding = "utf-8"
    with smtp:
        code, reply = smtp.connect("127.0.0.1", port)
        if code != 220:
            return f"{code} {reply.decode()}"
        answers = [smtp.docmd(f"EHLO {helo}")]
        if login:
            secret = base64.b64encode(b"\0%s\0secret" % login.encode()).decode()
            answers.append(smtp.docmd(f"AUTH PLAIN {secret}"))
        answers.append(smtp.docmd(f"MAIL FROM:<alice@example.org>{options[0]}"))
        answers.append(
            smtp.docmd(f"RCPT TO:<{'bob@elsewhere.example' if login else 'bob@example.com'}>{options[1]}")
        )
        refused = next((one for one in answers if one[0] >= 400), None)
        code, reply = refused or smtp.docmd("DATA")
        if code == 354:
            smtp.send(f"Subject: {subject}\r\n\r\n{text}\r\n.\r\n".encode())
            code, reply = smtp.getreply()
        return f"{code} {reply.decode()}"


DSN = " SIZE=1000 BODY=8BITMIME RET=HDRS ENVID=q1", " NOTIFY=NEVER ORCPT=rfc822;bob@example.com"


def clients(site):
    return [(record["client"], record["helo"]) for record in site.journal()]


def test_postfix_before_queue(play):
    files = blocks("Postfix before-queue")

    def test(site):
        site.gateway(files["rules.yaml"])
        site.postfix(files["main.cf"], files["master.cf"], 25)
        assert send(subject="one", options=DSN).startswith("250 ")
        message = site.delivered("one")
        assert (
            f"Received: from c.example ([{STRANGER}])\n\tby mx.example.com (Gatepost) with ESMTP" in message
        )
        [record] = site.journal()
        assert (
            f"client=unknown[{GATEWAY}], orig_queue_id={record['id']}, orig_client=unknown[{STRANGER}]"
            in site.log
        )
        assert send(text="a wire transfer").startswith("550 5.7.1 ")
        assert send(source=LISTED).startswith("550 5.7.1 ")
        assert send(helo="evil.example").startswith("550 5.7.1 ")
        assert clients(site) == [
            (STRANGER, "evil.example"),
            (LISTED, "c.example"),
            (STRANGER, "c.example"),
            (STRANGER, "c.example"),
        ]
        strange = ["h" * 1900, "b\u00fccher.example", "\u2028x", "a=b+c", "[UNAVAILABLE]", "\u00fc" * 900]
        for number, helo in enumerate(strange):
            assert send(helo=helo, subject=f"strange{number}").startswith("250 "), helo
            site.delivered(f"strange{number}")
        assert {client for client, _ in clients(site)} == {STRANGER, LISTED}

    play(test)


def test_postfix_after_queue(play):
    files = {**blocks("Postfix before-queue"), **blocks("Postfix after-queue")}

    def test(site):
        site.gateway(files["rules.yaml"])
        site.postfix(files["main.cf"], files["master.cf"], 25)
        assert send(subject="one", options=DSN).startswith("250 ")
        assert f"Received: from c.example ([{STRANGER}])\n\tby mx.example.com (Gatepost)" in site.delivered(
            "one"
        )
        assert f"orig_client=unknown[{STRANGER}]" in site.log
        assert clients(site) == [(STRANGER, "c.example")]
        assert send(source=LISTED).startswith("250 ")
        wait_until(lambda: "status=bounced" in site.log, "Postfix bounces what the gateway has refused")
        assert clients(site)[0] == (LISTED, "c.example")
        local = [program("sendmail"), "-C", str(site.folder / "postfix/settings"), "bob@example.com"]
        subprocess.run(local, input=b"Subject: local\n\nx\n", check=True, timeout=60)
        site.delivered("local")
        assert clients(site)[0][0] == GATEWAY  # Postfix says that it is the client itself

    play(test)


@pytest.mark.parametrize("way", ["xclient", "proxy", "xforward"])
def test_in_front_of_postfix(play, way):
    files = blocks("In front of Postfix")
    rules, master = files["rules.yaml"], files["master.cf"]
    if way == "proxy":
        rules = rules.replace("send_client: xclient", "send_client: proxy")
        master = master.replace(
            "smtpd_authorized_xclient_hosts=127.0.0.1", "smtpd_upstream_proxy_protocol=haproxy"
        )
    if way == "xforward":
        rules = rules.replace("send_client: xclient", "send_client: xforward")
        master = master.replace("_xclient_", "_xforward_")

    rules = rules.replace(
        "listen: 0.0.0.0:25",
        "listen: {address: 0.0.0.0:25, auth: {users: users.yaml, without_tls: true}}",
    )
    users = f'alice: "{hash_password("secret")}"'

    def test(site):
        listed = "smtpd_client_restrictions = check_client_access inline:{203.0.113.77=REJECT}\n"
        site.postfix(files["main.cf"] + listed, master, 10026)
        site.gateway(rules, {"users.yaml": users})
        assert send(subject="one", options=DSN).startswith("250 ")
        message = site.delivered("one")
        if way == "xforward":
            assert f"client=unknown[{GATEWAY}], orig_queue_id=" in site.log
            assert f"orig_client=unknown[{STRANGER}]" in site.log
        else:
            assert f"Received: from c.example (unknown [{STRANGER}])" in message
            assert f": client=unknown[{STRANGER}]" in site.log
        refused = send(source=ELSEWHERE)
        if way == "xforward":
            assert refused.startswith("250 ")
        else:
            assert refused.startswith("554 5.7.1 "), refused
        assert send(source=LISTED).startswith("550 5.7.1 ")
        assert "is not told" not in site.gateway_log
        with smtplib.SMTP("127.0.0.1", 25, timeout=PATIENCE_SECONDS, source_address=(STRANGER, 0)) as smtp:
            for number in range(3):
                smtp.sendmail("alice@example.org", "bob@example.com", f"Subject: many{number}\r\n\r\nx")
            smtp.login("alice", "secret")
            smtp.sendmail("alice@example.org", "bob@example.com", "Subject: of alice\r\n\r\nx")
        site.delivered("of alice")
        login = f"client=unknown[{STRANGER}], sasl_method=XCLIENT, sasl_username=alice"
        assert (login in site.log) == (way == "xclient")
        for number in range(3):
            assert way == "xforward" or f"(unknown [{STRANGER}])" in site.delivered(f"many{number}")

    play(test)


@pytest.mark.real("haproxy")
def test_haproxy(play):
    files = blocks("HAProxy")

    def test(site):
        site.postfix(files["main.cf"], files["master.cf"], 10026)
        site.gateway(files["rules.yaml"])
        site.haproxy(files["haproxy.cfg"])
        assert send(subject="one").startswith("250 ")
        message = site.delivered("one")
        assert f"Received: from c.example ([{STRANGER}])" in message
        assert f"Received: from c.example (unknown [{STRANGER}])" in message
        assert send(source=LISTED).startswith("550 5.7.1 ")
        assert clients(site) == [(LISTED, ""), (STRANGER, "c.example")]
        log = (site.folder / "haproxy.output").read_text()
        assert "DOWN" not in log, log

    play(test)


@pytest.mark.real("dovecot")
def test_submission_through_dovecot(play):
    files = blocks("Submission")

    def test(site):
        site.postfix("myhostname = mail.example.com\n", files["master.cf"], 10026)
        site.gateway(files["rules.yaml"])
        site.dovecot(files["dovecot.conf"])
        assert send(587, login="alice", subject="one").startswith("250 ")
        message = site.delivered("one")
        assert f"Received: from c.example ([{STRANGER}])\n\tby submission.example.com (Gatepost)" in message
        assert "with ESMTPA id" in message
        assert f"orig_client=unknown[{STRANGER}]" in site.log
        assert send(587, login="bob").startswith("550 5.7.1 ")
        assert [(one["client"], one["helo"], one["authenticated"]) for one in site.journal()] == [
            (STRANGER, "c.example", "bob"),
            (STRANGER, "c.example", "alice"),
        ]
        assert send(10025, source=STRANGER, login="").startswith("550 5.7.1 ")

    play(test)
