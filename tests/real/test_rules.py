"""What rules do to reply, upstream, quarantine and journal, and what bad filters cannot do."""

import base64
import contextlib
import io
import os
import re
import select
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import psutil
import pytest
import yaml
from gatepost.model.record import Disposition
from gatepost.store import Box

# in two halves, so that no scanner takes this file for the virus that it is not
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
MIXED = """
    mixed_recipients: {mixed}
    rules:
      - name: words
        filter: keywords
        when: {{recipient: bob@example.com}}
        with: {{words: [wire transfer]}}
        action: reject
        reply: "550 5.7.1 Not accepted here ({{rule}})"
"""
SPAM = "Subject: a wire  Transfer\r\n\r\nHello\r\n"
HAM = "Subject: lunch\r\n\r\nHello\r\n"


def mail(name: str, attachment: bytes) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "alice@example.org", "bob@example.com", "For you"
    message.set_content("See below.\n")
    message.add_attachment(attachment, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes(policy=message.policy.clone(linesep="\r\n"))


@pytest.mark.parametrize(
    ("mixed", "reply", "relayed", "quarantined", "ends"),
    [
        ("quarantine", "250 2.", ["carol@example.com"], ["bob@example.com"], ["quarantined", "relayed"]),
        ("defer", "451 4.5.3 ", None, None, ["deferred", "deferred"]),
        ("reject", "550 5.7.1 Not accepted here (words)", None, None, ["refused", "refused"]),
    ],
)
def test_a_hit_for_one_of_two_recipients(gateway, sink, mixed, reply, relayed, quarantined, ends):
    behind = sink()
    running = gateway(MIXED.format(mixed=mixed), upstream=behind.port)
    with running.smtp() as smtp:
        assert smtp.transact(SPAM) == "550 5.7.1 Not accepted here (words)"
        assert smtp.transact(SPAM, "bob@example.com", "carol@example.com").startswith(reply)
        assert smtp.transact(HAM).startswith("250 2.")
    sent = [message for message in behind.messages() if message.content == SPAM.encode()]
    assert [message.recipients for message in sent] == ([relayed] if relayed else [])
    assert [m.recipients for m in behind.messages() if m.content == HAM.encode()] == [["bob@example.com"]]
    kept = running.kept()
    assert [(list(k.recipients), k.rule, k.content) for k in kept] == (
        [(quarantined, "words", SPAM.encode())] if quarantined else []
    )
    record = running.journal(3)[1]
    assert [recipient.disposition for recipient in record.recipients] == ends


@pytest.fixture
def clamd(tmp_path) -> Iterator[str]:
    """A clamd that knows EICAR alone; its address."""
    database = tmp_path / "database"
    database.mkdir()
    (database / "test.ndb").write_text(f"Eicar-Test:0:*:{EICAR.hex()}\n")
    path = tmp_path / "clamd.ctl"
    (tmp_path / "clamd.conf").write_text(
        f"DatabaseDirectory {database}\nForeground yes\nLocalSocket {path}\nStreamMaxLength 1M\n"
    )
    output = (tmp_path / "clamd.log").open("wb")
    with (
        output,
        subprocess.Popen(["/usr/sbin/clamd", "-c", tmp_path / "clamd.conf"], stdout=output) as process,
    ):
        try:
            while not is_listening(path):
                assert process.poll() is None, (tmp_path / "clamd.log").read_text()
                time.sleep(0.05)
            yield f"unix:{path}"
        finally:
            process.terminate()


def is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return path.exists() and probe.connect_ex(str(path)) == 0


@pytest.mark.case(89)
@pytest.mark.real("clamd")
def test_a_virus_in_a_base64_part_is_refused_by_the_real_clamd(gateway, sink, clamd):
    """RELIABILITY 89."""
    behind = sink()
    rules = f"""
        rules:
          - name: viruses
            filter: clamav
            with: {{address: "{clamd}"}}
            action: reject
            reply: "554 5.7.0 {{reason}}"
    """
    running = gateway(rules, upstream=behind.port)
    virus = mail("a.bin", EICAR)
    assert base64.b64encode(EICAR)[:40] in virus
    assert EICAR not in virus
    assert running.send(virus) == "554 5.7.0 ClamAV found Eicar-Test.UNOFFICIAL"
    assert running.send(clean := mail("a.bin", b"harmless")).startswith("250 2.")
    assert [message.content for message in behind.messages()] == [clean]


@pytest.mark.case(89)
@pytest.mark.real("clamd")
def test_what_is_too_large_for_the_real_clamd_is_not_clean(gateway, sink, clamd):
    """RELIABILITY 89: the limit of clamd is below the gateway's."""
    behind = sink()
    ways = ("defer", "quarantine", "skip")
    rules = [
        {
            "name": way,
            "filter": "clamav",
            "when": {"recipient": f"{way}@example.com"},
            "with": {"address": clamd},
            "on_error": way,
            "timeout": "25s",
        }
        for way in ways
    ]
    running = gateway(yaml.safe_dump({"rules": rules}), upstream=behind.port, errors=("Traceback",))
    for octets in ((1 << 20) + 1, 8 << 20):
        lines = b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * (octets // 1000 + 1)
        large = lines + EICAR + b"\r\n"
        said = [running.send(large, f"{way}@example.com") for way in ways]
        assert said[0] == "451 4.3.0 Temporary failure, try again later"
        assert [one[:6] for one in said[1:]] == ["250 2."] * 2
    assert running.send(mail("a.bin", b"harmless"), "defer@example.com").startswith("250 2."), "of its size"
    relayed = sorted(message.recipients[0] for message in behind.messages())
    assert relayed == ["defer@example.com", "skip@example.com", "skip@example.com"], "skip: as was chosen"
    assert [kept.recipients for kept in running.kept()] == [("quarantine@example.com",)] * 2
    _, *records = running.journal(7)
    assert [e.result for record in records for e in record.evaluations] == ["error"] * 6
    assert all("size limit exceeded" in e.reason for record in records for e in record.evaluations)


def test_a_program_in_a_zip_is_quarantined(gateway, sink):
    behind = sink()
    rules = """
        rules:
          - name: programs
            filter: attachments
            with: {extensions: [exe], inside_archives: true}
            action: quarantine
    """
    running = gateway(rules, upstream=behind.port)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("folder/Invoice.EXE", b"MZ")
    content = mail("invoice.zip", archive.getvalue())
    assert running.send(content).startswith("250 2.")
    assert behind.messages() == []
    (kept,) = running.kept()
    assert (kept.rule, kept.content) == ("programs", content)
    assert kept.prepended.startswith(b"Received: ")
    assert kept.reason == "attachment invoice.zip: extension exe inside"


def test_discarded_mail_is_in_the_journal_and_nowhere_else(gateway, sink):
    behind = sink()
    running = gateway(
        "rules: [{name: hole, filter: discard, when: {sender: '*@spam.example'}}]", upstream=behind.port
    )
    with running.smtp() as smtp:
        assert smtp.transact(HAM, sender="a@spam.example").startswith("250 2.")
    assert behind.messages() == []
    assert running.kept() == []
    (record,) = running.journal(1)
    (recipient,) = record.recipients
    assert (recipient.disposition, recipient.rule) == (Disposition.DISCARDED, "hole")


BAD = '''
    """A filter that fails in the way that the subject names."""

    import asyncio
    import sys
    import time

    from gatepost import hookimpl


    def fail(subject):
        if subject == "raise":
            raise RuntimeError("secret \\x1b[31m\\r\\n250 2.0.0 Ok")
        if subject == "non-ascii":
            raise ValueError("secret \\u00e4\\u20ac")
        if subject == "exit":
            sys.exit("secret")
        if subject == "recursion":
            fail(subject)
        if subject == "interrupt":
            raise KeyboardInterrupt
        return "250 secret" if subject == "type" else None


    class Async:
        @hookimpl
        async def filter_message(self, transaction):
            subject = transaction.message.view.subject
            if subject == "hang":
                await asyncio.sleep(60)
            return fail(subject)


    class Threaded:
        @hookimpl
        def filter_message(self, transaction):
            subject = transaction.message.view.subject
            if subject == "hang":
                time.sleep(4)
            return fail(subject)
'''


@pytest.mark.case(87, 88)
@pytest.mark.parametrize("kind", ["Async", "Threaded"])
def test_a_bad_filter_defers_its_own_message_and_nothing_else(gateway, sink, kind):
    """RELIABILITY 87, 88."""
    behind = sink()
    running = gateway(
        f"rules: [{{name: bad, filter: './bad.py:{kind}', timeout: 2s}}]",
        upstream=behind.port,
        files={"bad.py": BAD},
        errors=("bad", "Traceback"),
    )
    ways = ("raise", "non-ascii", "exit", "recursion", "type", "interrupt", "hang")
    with running.smtp() as smtp:
        for way in ways:
            reply = smtp.transact(f"Subject: {way}\r\n\r\n", f"{way}@example.com", "both@example.com")
            assert reply == "451 4.3.0 Temporary failure, try again later", way
            assert smtp.transact(HAM, f"after-{way}@example.com").startswith("250 2."), way
    assert sorted(message.recipients for message in behind.messages()) == sorted(
        [f"after-{way}@example.com"] for way in ways
    )
    assert {message.content for message in behind.messages()} == {HAM.encode()}
    results = [e.result for record in running.journal(2 * len(ways)) for e in record.evaluations]
    assert results[::-1] == ["error", "pass"] * (len(ways) - 1) + ["timeout", "pass"]
    lines = running.log.splitlines()
    assert all(line.isprintable() for line in lines)
    assert all(re.match("    |[0-9-]{10} [0-9:]{8} [A-Z]+ ", line) for line in lines)
    assert any(line.startswith("    RuntimeError: secret") for line in lines)


@pytest.mark.case(88)
@pytest.mark.long
def test_a_thread_that_hangs_does_not_hold_the_end_up(gateway, sink):
    """RELIABILITY 88: the gateway ends although a filter's thread never does."""
    stuck = """
        import time

        from gatepost import hookimpl

        class Stuck:
            @hookimpl
            def filter_message(self, transaction):
                time.sleep(600)
    """
    running = gateway(
        "rules: [{name: bad, filter: './bad.py:Stuck', timeout: 0.1s}]",
        files={"bad.py": stuck},
        errors=("bad",),
    )
    assert running.send(HAM).startswith("451 4.3.0 ")
    before = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - before < 30


HOLDS = '''
    import ctypes
    import os
    import sys
    from pathlib import Path

    from gatepost import Verdict, hookimpl

    HERE = Path(__file__).parent
    C = ctypes.PyDLL(None)  # its functions keep Python's lock

    def hold(transaction):
        """Until there is something to read. Nobody else gets Python's lock before the call, nor during it."""
        if transaction.message.view.subject != "hold":
            return None
        fifo = os.open(HERE / "fifo", os.O_RDWR)
        sys.setswitchinterval(1000)
        C.creat(os.fsencode(HERE / "begun"), 0o600)
        C.read(fifo, ctypes.create_string_buffer(1), 1)
        sys.setswitchinterval(0.005)
        os.close(fifo)
        return Verdict(reason="late")

    class Async:
        @hookimpl
        async def filter_message(self, transaction):
            return hold(transaction)

    class InC:
        @hookimpl
        def filter_message(self, transaction):
            return hold(transaction)
'''


def connected_to(process):
    """The ports of the clients of a worker."""
    return {one.raddr.port for one in process.net_connections("tcp") if one.raddr}


@pytest.mark.case(88)
@pytest.mark.parametrize("kind", ["Async", "InC"])
@pytest.mark.long
def test_what_no_time_limit_ends_stops_its_own_process_until_it_returns_and_no_other(
    gateway, wait_until, kind
):
    """RELIABILITY 88: an `async def` that blocks, and C code that keeps Python's lock."""
    rules = f"""
        workers: 2
        rules: [{{name: holds, filter: './holds.py:{kind}', timeout: 0.2s, action: reject}}]
    """
    running = gateway(rules, files={"holds.py": HOLDS}, errors=("holds",))
    os.mkfifo(running.folder / "fifo")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(running.client()) for _ in range(24)]
        slow = stack.enter_context(running.client()).begin("bob@example.com")
        slow.socket.sendall(b"Subject: hold\r\n\r\n.\r\n")
        wait_until((running.folder / "begun").exists, "it holds")
        for client in clients:
            client.socket.sendall(b"NOOP\r\n")
        by_port = {client.socket.getsockname()[1]: client for client in (slow, *clients)}
        workers = [connected_to(child) & {*by_port} for child in psutil.Process(running.pid).children()]
        (held, served) = sorted(workers, key=lambda ports: slow.socket.getsockname()[1] not in ports)
        assert len(held) > 1, "it has other clients"
        assert served, "so has the other worker"
        for port in served:
            assert by_port[port].reply().startswith("250 "), "the other worker serves"
        assert not select.select([by_port[port].socket for port in held], [], [], 0.2)[0], (
            "it does nothing else"
        )
        (running.folder / "fifo").write_text("x")
        assert slow.reply().startswith(("550 5.7.1 ", "451 4.3.0 ")), (
            "its own answer, or that it was too late"
        )
        for port, client in by_port.items():
            if client is slow:
                continue
            if port in held:
                assert client.reply().startswith("250 "), "nobody was sent away"
            client.begin("bob@example.com").socket.sendall(b"Subject: x\r\n\r\n.\r\n")
            assert client.reply().startswith("250 2.")
    assert len(running.kept(Box.INBOX)) == len(clients)
