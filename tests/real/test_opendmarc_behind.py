"""OpenDMARC behind the gateway reads the results that the gateway has added, and no one else's."""

import socket
import struct
import subprocess
import time
from contextlib import contextmanager

import pytest
from dnslib.server import DNSLogger, DNSServer
from dnslib.zoneresolver import ZoneResolver
from gatepost.testing import FakeUpstream, make_transaction, running_gateway

pytestmark = [pytest.mark.long, pytest.mark.real("opendmarc", "unshare", "ip")]

ZONE = """
honest.example. 60 IN TXT "v=spf1 ip4:198.51.100.5 -all"
_dmarc.honest.example. 60 IN TXT "v=DMARC1; p=reject"
"""
SETTINGS = """\
AuthservID mail.example.com
TrustedAuthservIDs mx.example.com
Socket inet:8893@127.0.0.1
RejectFailures true
SPFSelfValidate false
Syslog false
PublicSuffixList {suffixes}
"""
START = "mount --bind {resolv_conf} /etc/resolv.conf && exec opendmarc -f -l -c {settings}"
PATIENCE_SECONDS = 60
CONTINUE, ACCEPT, ADD_FIELD = b"c", b"a", b"i"


class Milter:
    """A mail server's side of the milter protocol, as in libmilter's mfdef.h."""

    def __init__(self):
        self.wire = socket.create_connection(("127.0.0.1", 8893), PATIENCE_SECONDS)
        self.added = []
        self.ask(b"O", struct.pack("!III", 6, 0x1FF, 0))

    def ask(self, command, data=b""):
        """Send a command; returns the answer to it."""
        self.send(command, data)
        while True:
            (length,) = struct.unpack("!I", self.exactly(4))
            answer = self.exactly(length)
            if answer[:1] != ADD_FIELD:
                return answer
            self.added.append(answer[5:].replace(b"\0", b": ", 1).rstrip(b"\0"))

    def send(self, command, data):
        self.wire.sendall(struct.pack("!I", len(data) + 1) + command + data)

    def exactly(self, size):
        data = b""
        while len(data) < size:
            data += self.wire.recv(size - len(data)) or pytest.fail("OpenDMARC has closed the connection")
        return data


def judged(content):
    """What OpenDMARC answers to a message at its end, and the fields that it adds."""
    milter = Milter()
    with milter.wire:
        milter.send(b"D", b"Cj\0mail.example.com\0")
        assert milter.ask(b"C", b"mx.example.com\0004" + struct.pack("!H", 25) + b"192.0.2.25\0") == CONTINUE
        assert milter.ask(b"H", b"mx.example.com\0") == CONTINUE
        milter.send(b"D", b"Mi\0ABC123\0")
        assert milter.ask(b"M", b"<eve@honest.example>\0") == CONTINUE
        assert milter.ask(b"R", b"<ann@example.com>\0") == CONTINUE
        head, _, body = content.partition(b"\r\n\r\n")
        for field in head.replace(b"\r\n\t", b"\n\t").replace(b"\r\n ", b"\n ").split(b"\r\n"):
            name, _, value = field.partition(b":")
            assert milter.ask(b"L", name + b"\0" + value.strip() + b"\0") == CONTINUE
        assert milter.ask(b"N") == CONTINUE
        assert milter.ask(b"B", body) == CONTINUE
        return milter.ask(b"E"), milter.added


@contextmanager
def opendmarc(folder):
    (folder / "suffixes").write_text("example\n")
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (folder / "opendmarc.conf").write_text(SETTINGS.format(suffixes=folder / "suffixes"))
    start = START.format(resolv_conf=folder / "resolv.conf", settings=folder / "opendmarc.conf")
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", start]) as process:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up:
            try:
                socket.create_connection(("127.0.0.1", 8893), 1).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        try:
            yield
        finally:
            process.terminate()


def relayed():
    """A message as the gateway has relayed it."""
    rule = {"name": "a", "filter": "authentication", "with": {"authserv_id": "mx.example.com"}}
    letter = make_transaction(
        mail_from="eve@honest.example",
        client="198.51.100.5",
        headers={
            "From": "eve@honest.example",
            "Authentication-Results": "mx.example.com; spf=fail; dmarc=fail",
        },
        text="Hello",
    )
    with FakeUpstream() as upstream:
        settings = {"dns": {"servers": ["127.0.0.1"]}, "rules": [rule]}
        with running_gateway(settings, upstream=upstream) as gateway:
            assert gateway.send(letter).code == 250
        (message,) = upstream.messages
        return message.content


def play(folder):
    server = DNSServer(
        ZoneResolver(ZONE), port=53, address="127.0.0.1", logger=DNSLogger(logf=lambda _: None)
    )
    server.start_thread()
    try:
        content = relayed()
        with opendmarc(folder):
            return [
                judged(content),
                judged(content.replace(b"spf=pass", b"spf=fail")),
                judged(content.replace(b"Results: mx.example.com", b"Results: mx.victim.example")),
            ]
    finally:
        server.stop()
        server.server.server_close()


def test_opendmarc_reads_the_results_of_the_gateway(own_network, tmp_path):
    genuine, failed, untrusted = own_network(play, tmp_path)
    (field,) = genuine[1]
    assert genuine[0] == ACCEPT
    assert field.startswith(b"Authentication-Results: mail.example.com; dmarc=pass (p=reject dis=none)")
    refused = b"y550 5.7.1 rejected by DMARC policy for honest.example\0"
    assert failed == (refused, [])
    assert untrusted == (refused, []), "a field of another server counts for nothing"
