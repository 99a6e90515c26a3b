"""What is relayed arrives, once, as it was."""

import base64
import hashlib
import os
import re
import subprocess
from pathlib import Path

import psutil
import pytest
from gatepost.mime.fields import HEADER_SECTION
from gatepost.model.record import Disposition

LOOKS_AT_ALL = """
    rules:
      - name: words
        filter: keywords
        with:
          words: [wire transfer, viagra, invoice]
          patterns: ['[0-9]{16}']
          in: [subject, headers, body, html, attachment-names]
        mode: observe
      - name: programs
        filter: attachments
        with: {extensions: [exe, js], mismatch: true, inside_archives: true, encrypted: true}
        mode: observe
"""
PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"


def corpus() -> list[Path]:
    folder = os.environ.get("GATEPOST_CORPUS")
    if not folder:
        pytest.skip("GATEPOST_CORPUS is not set")
    return sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.suffix != ".md")


def as_on_the_wire(octets: bytes) -> bytes | None:
    """With CRLF at each line's end; None where that leaves what no server should take."""
    octets = re.sub(rb"\r?\n", b"\r\n", octets)
    if b"\0" in octets or b"\r" in octets.replace(b"\r\n", b""):
        return None
    return octets if octets.endswith(b"\r\n") else octets + b"\r\n"


def test_real_mail_arrives_octet_for_octet(gateway, sink):
    messages = {
        f"{number}@example.org": octets
        for number, path in enumerate(corpus())
        if (octets := as_on_the_wire(path.read_bytes())) is not None
    }
    behind = sink()
    # one of them has a header section of 213 KB
    running = gateway("    limits: {header_size: 256KiB}" + LOOKS_AT_ALL, upstream=behind.port)
    with running.smtp() as smtp:
        replies = {sender: smtp.transact(octets, sender=sender) for sender, octets in messages.items()}
    assert [reply for reply in replies.values() if not reply.startswith("250 2.")] == []
    arrived = {message.mail_from: message.content for message in behind.messages()}
    assert arrived.keys() == messages.keys()
    # Where all of a message is body, an empty line ends the fields that are put before it.
    expected = {
        sender: octets if HEADER_SECTION.match(octets) else b"\r\n" + octets
        for sender, octets in messages.items()
    }
    assert [sender for sender in arrived if arrived[sender] != expected[sender]] == []
    records = running.journal(len(messages))
    assert {e.result for record in records for e in record.evaluations} == {"hit", "pass"}


@pytest.mark.real("smtp-source")
@pytest.mark.parametrize("options", [(), ("-d",)], ids=["a connection each", "connections reused"])
def test_a_burst_of_smtp_source_is_relayed(gateway, sink, options):
    behind = sink()
    running = gateway(LOOKS_AT_ALL, upstream=behind.port)
    command = ["smtp-source", *options, "-s", "20", "-l", "1024", "-m", "500", "-t", "b@example.com"]
    path = {**os.environ, "PATH": PROGRAMS}
    done = subprocess.run(
        [*command, f"127.0.0.1:{running.port}"], capture_output=True, timeout=120, env=path, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    ends = [recipient.disposition for record in running.journal(500) for recipient in record.recipients]
    assert ends == [Disposition.RELAYED] * 500
    assert len(behind.messages()) == 500


@pytest.mark.long
def test_a_message_of_30_mb_needs_less_than_four_times_its_size(gateway, sink):
    behind = sink()
    rules = f"limits: {{message_size: 64MiB}}\n{LOOKS_AT_ALL.replace(chr(10) + '    ', chr(10))}"
    running = gateway(rules, upstream=behind.port)
    lines = base64.encodebytes(os.urandom(22_200_000)).replace(b"\n", b"\r\n")
    content = b"From: a@example.org\r\nSubject: large\r\nContent-Type: application/octet-stream\r\n"
    content += b"Content-Transfer-Encoding: base64\r\n\r\n" + lines
    assert len(content) > 30_000_000
    before = psutil.Process(running.worker).memory_info().rss
    assert running.send(content).startswith("250 2.")
    factor = (memory_peak(running.worker) - before) / len(content)
    print(f"\npeak memory for {len(content) / 1e6:.1f} MB: {factor:.2f} times its size")  # noqa: T201 - seen with pytest -s
    (message,) = behind.messages()
    assert hashlib.sha256(message.content).digest() == hashlib.sha256(content).digest()
    assert factor < 4


def memory_peak(pid: int) -> int:
    """Octets of resident memory that the process had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


@pytest.mark.case(75)
def test_upstream_stopped_is_451_and_the_second_try_is_delivered_once(gateway, sink):
    """RELIABILITY 75."""
    behind = sink()
    running = gateway(upstream=behind.port)
    assert running.send("Subject: first\r\n\r\n").startswith("250 2.")
    behind.stop()
    reply = running.send("Subject: second\r\n\r\n")
    assert reply.startswith("451 4.4.1 ")
    assert not re.search(r"127\.0\.0\.1|Error|refused|\[Errno", reply), reply
    running.logs(f"WARNING upstream 127.0.0.1:{behind.port} cannot be used: ")
    assert running.log.count("cannot be used") == 1
    behind.start()
    assert running.send("Subject: second\r\n\r\n").startswith("250 2.")
    assert sorted(message.content for message in behind.messages()) == [
        b"Subject: first\r\n\r\n",
        b"Subject: second\r\n\r\n",
    ]
    running.logs("can be used again")
    ends = [record.recipients[0].disposition for record in running.journal(3)]
    assert ends == [Disposition.RELAYED, Disposition.DEFERRED, Disposition.RELAYED]
