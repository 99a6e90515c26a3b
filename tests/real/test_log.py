"""The log of the running program, as its readers get it: JSON, systemd's journal, syslog."""

import base64
import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from textwrap import dedent

import pytest
from gatepost.process.certificate import make_certificate
from gatepost.server.auth import hash_password
from ports import free_port

BROKEN = """
    from gatepost import hookimpl

    class Broken:
        @hookimpl
        async def filter_message(self, transaction):
            raise ConnectionError("no classifier at 192.0.2.1:80")
"""
RULES = "rules: [{name: broken, filter: './broken.py:Broken', when: {recipient: broken@example.com}}]"


@pytest.fixture
def listen(tmp_path):
    """A listener with a certificate and a user, alice, whose password is "wonder land"."""
    certificate, key = make_certificate(tmp_path)
    (tmp_path / "users.yaml").write_text(f'alice: "{hash_password("wonder land")}"\n')
    tls = f"tls: {{certificate: {certificate}, key: {key}}}"
    return f"listen: {{address: 127.0.0.1:0, {tls}, auth: {{users: {tmp_path}/users.yaml}}}}"


def plain(password):
    return base64.b64encode(f"\0alice\0{password}".encode()).decode()


@pytest.mark.long
def test_json_is_every_line_of_the_log(gateway, listen):
    running = gateway(f"log: json\n{listen}\n{RULES}", files={"broken.py": BROKEN})
    with running.smtp() as smtp:
        smtp.starttls(context=ssl._create_unverified_context())
        smtp.ehlo("client.example.org")
        assert smtp.docmd("AUTH PLAIN", plain("guess"))[0] == 535
        assert smtp.docmd("AUTH PLAIN", plain("wonder land"))[0] == 235
        smtp.transact("Message-ID: <1@example.org>\r\n\r\n", "bob@example.com", "carol@example.com")
        smtp.transact("x\r\n\r\n", "broken@example.com")
    assert running.stop() == 0
    lines = [json.loads(line) for line in running.log.splitlines()]
    relayed, deferred = [line for line in lines if line["logger"] == "gatepost.transaction"]
    (failed,) = [line for line in lines if line["logger"] == "gatepost.auth"]
    known = {record.id: record for record in running.journal(3)}
    record = known[relayed["transaction"]]
    assert relayed.pop("message").startswith(f"{record.id} inbox client=127.0.0.1 ")
    assert relayed.pop("time") > "2020"
    assert relayed.pop("seconds") > 0
    assert relayed.pop("process") == failed["process"] != running.pid, "the worker's"
    assert relayed.pop("node") == failed["node"] == record.node
    assert relayed == {
        "level": "INFO",
        "logger": "gatepost.transaction",
        "transaction": record.id,
        "session": record.session_id,
        "disposition": ["inbox"],
        "rules": [],
        "client": "127.0.0.1",
        "helo": "client.example.org",
        "tls": "TLSv1.3",
        "user": "alice",
        "sender": "alice@example.org",
        "recipients": ["bob@example.com", "carol@example.com"],
        "recipient_count": 2,
        "size": 31,
        "message_id": "<1@example.org>",
        "reply": f"250 2.0.0 Ok: {record.id}",
    }
    assert (deferred["disposition"], deferred["rules"]) == (["deferred"], ["broken"])
    assert known[failed["transaction"]].failed_user == failed["user"] == "alice"
    assert (failed["level"], failed["client"], failed["tls"]) == ("WARNING", "127.0.0.1", "TLSv1.3")


@pytest.mark.long
def test_a_quiet_log_has_failed_logins_and_no_transactions(tmp_path, gateway_class, write_rules, listen):
    write_rules(tmp_path, f"{listen.replace('users.yaml', 'users.yaml, without_tls: true')}\n")
    running = gateway_class(tmp_path, "serve", "--quiet")
    with running.smtp() as smtp:
        smtp.ehlo("client.example.org")
        assert smtp.docmd("AUTH PLAIN", plain("guess"))[0] == 535
        assert smtp.transact("x: y\r\n\r\n").startswith("250 ")
    assert running.stop() == 0
    (record, _) = reversed(running.journal(2))
    greeting, *lines = [line.partition(" ")[2].partition(" ")[2] for line in running.log.splitlines()]
    assert greeting.startswith("INFO gatepost listens on ")
    assert lines == [
        f"WARNING {record.id} AUTH failed client=127.0.0.1 user='alice' helo='client.example.org' tls=none"
    ]


SCRIPT = r"""
set -e
trap 'kill $journald $first $second || :' EXIT
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
mount -t tmpfs tmpfs /dev
mknod -m 666 /dev/null c 1 3
mknod -m 666 /dev/urandom c 1 9
ln -s /run/systemd/journal/dev-log /dev/log
/lib/systemd/systemd-journald & journald=$!
until test -S /run/systemd/journal/stdout && test -S /run/systemd/journal/dev-log; do sleep 0.02; done
cd "$1"
systemd-cat --identifier=gatepost sh -c \
    'JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec "$0" -m gatepost serve' "$2" & first=$!
cd "$3"
"$2" -m gatepost serve & second=$!
read -r _
sed -i 's/rules:/rulez:/' "$1/rules.yaml"
kill -HUP $first
until journalctl --output=cat | grep -q 'not reloaded'; do sleep 0.02; done
kill $first $second
wait $first $second
journalctl --sync
first= second=
journalctl --output=json
"""
"""In a /run and a /dev of its own: systemd's journal, which is a syslog daemon too, and two gateways."""


@pytest.mark.long
@pytest.mark.real("unshare", "systemd-cat", "journalctl")
def test_priorities_in_the_journal_of_systemd_and_in_syslog(tmp_path, write_rules, environment):
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("only root has mounts of its own")
    ports, folders = [], []
    for log in ("log: text", "log: {to: syslog, format: json}"):
        ports.append(free_port())
        folders.append(tmp_path / str(ports[-1]))
        folders[-1].mkdir()
        (folders[-1] / "broken.py").write_text(dedent(BROKEN))
        write_rules(folders[-1], f"listen: 127.0.0.1:{ports[-1]}\n{log}\n{RULES}")
    command = ["unshare", "-m", "bash", "-c", SCRIPT, "bash", folders[0], sys.executable, folders[1]]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as script:
        try:
            for port in ports:
                transact(script, port, "bob@example.com", "broken@example.com")
            output, _ = script.communicate("go\n", timeout=60)
        finally:
            script.send_signal(signal.SIGTERM)
    entries = [json.loads(line) for line in output.splitlines()]
    ours = [entry for entry in entries if entry.get("SYSLOG_IDENTIFIER") == "gatepost"]
    streamed = [entry for entry in ours if entry["_TRANSPORT"] == "stdout"]
    for text, priority in (
        (" INFO gatepost listens on ", "6"),
        (" WARNING ", "4"),
        (" ERROR not reloaded", "3"),
    ):
        assert {entry["PRIORITY"] for entry in streamed if text in entry["MESSAGE"]} == {priority}, text
    assert {entry["PRIORITY"] for entry in streamed if "rulez" in entry["MESSAGE"]} == {"3"}, "a further line"
    sent = [entry for entry in ours if entry["_TRANSPORT"] == "syslog"]
    priorities = {"INFO": "6", "WARNING": "4"}
    assert {json.loads(entry["MESSAGE"])["level"] for entry in sent} == set(priorities)
    for entry in sent:
        assert entry["PRIORITY"] == priorities[json.loads(entry["MESSAGE"])["level"]]
        assert entry["SYSLOG_FACILITY"] == "2"


def transact(script, port, *recipients):
    """One message to each recipient, as soon as the gateway listens."""
    give_up = time.monotonic() + 30
    while True:
        try:
            client = smtplib.SMTP("127.0.0.1", port, timeout=30)
        except OSError:
            assert script.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.02)
        else:
            break
    with client:
        for recipient in recipients:
            with suppress(smtplib.SMTPDataError):  # the filter is broken
                client.sendmail("alice@example.org", [recipient], "x: y\r\n\r\n")
