"""A running gateway is backed up and moved to another machine, while clients send."""

import itertools
import re
import shutil
import signal
import threading
import urllib.request

import pytest
from gatepost.store import Box

PASSWORD = "swordfish"
RULES = """
workers: 2
web: {address: "127.0.0.1:0", password_file: password}
store: {conversations: true}
relay:
  - {recipients: "*@inbox.example", to: inbox}
  - {recipients: "*@example.com", to: "smtp://127.0.0.1:%d"}
rules: [{name: kept, filter: match, when: {recipient: kept@example.com}, action: quarantine}]
"""


class Load(threading.Thread):
    """A client that sends without a pause; `answered` has the subjects of what was answered 250."""

    def __init__(self, running, name, *recipients):
        super().__init__(daemon=True)
        self.running, self.prefix, self.recipients = running, name, recipients
        self.answered = []
        self.stopped = threading.Event()
        self.start()

    def run(self):
        with self.running.smtp() as smtp:
            for number in itertools.count():
                if self.stopped.is_set():
                    return
                subject = f"{self.prefix}{number}"
                content = f"Subject: {subject}\r\n\r\n" + "0123456789\r\n" * 500
                assert smtp.transact(content, *self.recipients).startswith("250 ")
                self.answered.append(subject)

    def stop(self):
        self.stopped.set()
        self.join()
        return self.answered


def subjects(running):
    """Of the records, of the inbox, of quarantine."""
    return (
        {record.subject for record in running.journal()},
        {kept.subject for kept in running.kept(Box.INBOX)},
        {kept.subject for kept in running.kept(Box.QUARANTINE)},
    )


@pytest.mark.long
def test_a_backup_under_load_is_restored_elsewhere_with_all_that_was_answered_250(
    gateway, sink, run, tmp_path, wait_until
):
    behind = sink()
    running = gateway(RULES % behind.port, files={"password": PASSWORD})
    config = running.folder / "rules.yaml"
    relayed = [running.send(f"Subject: relayed{number}\r\n\r\n") for number in range(20)]
    assert {reply[:4] for reply in relayed} == {"250 "}
    wait_until(lambda: len(running.journal()) == 20, "the records of relayed mail are written")
    loads = [
        Load(running, "inbox", "bob@inbox.example"),
        Load(running, "kept", "kept@example.com"),
        Load(running, "relay", "bob@example.com"),
    ]
    wait_until(lambda: all(len(load.answered) > 10 for load in loads), "clients send")
    before = [{*load.answered} for load in loads]
    done = run("backup", "copy.db", "-c", config)
    assert done.returncode == 0, done.stderr
    sent_during = [len(load.answered) - len(found) for load, found in zip(loads, before, strict=True)]
    assert min(sent_during) > 0, "no client waits for the backup"
    refused = run("restore", "copy.db", "-c", config, "--replace")
    assert refused.returncode == 1
    assert "gatepost.db is in use: stop gatepost first" in refused.stderr
    after = [{*load.stop()} for load in loads]

    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("rules.yaml", "password"):
        shutil.copy(running.folder / name, moved / name)
    done = run("restore", "copy.db", "-c", moved / "rules.yaml")
    assert done.returncode == 0, done.stderr
    elsewhere = type(running)(moved, "serve", "-c", "rules.yaml")
    try:
        records, inbox, quarantine = subjects(elsewhere)
        assert before[0] <= inbox <= after[0] | {f"inbox{len(after[0])}"}
        assert before[1] <= quarantine
        assert before[0] | before[1] | {f"relayed{number}" for number in range(20)} <= records
        assert elsewhere.send("Subject: new\r\n\r\n", "bob@inbox.example").startswith("250 ")
        address = re.search(r"http://([^/]+)/", elsewhere.log)[1]
        wait_until(lambda: found_by_its_words(address, "kept1"), "the index is rebuilt")
    finally:
        assert elsewhere.stop() == 0
    # The first machine goes on as if nothing had been.
    assert running.send("Subject: still here\r\n\r\n", "bob@inbox.example").startswith("250 ")
    assert running.stop(signal.SIGTERM) == 0


def found_by_its_words(address, words):
    address = f"http://{address}/api/v1/messages?query=subject:{words}"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {PASSWORD}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return words in answer.read().decode()
