"""``gatepost dns``: what the filters would be told, in words."""

import socket

import pytest
from dnslib import QTYPE, RCODE, RR, TXT
from dnslib.server import DNSLogger, DNSServer
from dnslib.zoneresolver import ZoneResolver
from gatepost.cli import app
from typer.testing import CliRunner

ZONE = r"""
example.com. 300 IN A 192.0.2.1
example.com. 300 IN A 192.0.2.2
example.com. 300 IN MX 10 mx.example.com.
example.com. 60 IN TXT "v=spf1 " "-all"
null.example.com. 60 IN MX 0 .
xn--bcher-kva.example. 60 IN A 192.0.2.3
1.2.0.192.in-addr.arpa. 60 IN PTR mx.example.com.
"""


class Zone(ZoneResolver):
    """The records, one with an escape sequence, and a name whose server fails."""

    def resolve(self, request, handler):
        reply = super().resolve(request, handler)
        name = request.q.qname
        if any(name == known for known, _, _ in self.zone):
            reply.header.rcode = RCODE.NOERROR  # dnslib denies the name where only the type is missing
        if str(name).startswith("evil"):
            reply.header.rcode = RCODE.NOERROR
            reply.add_answer(RR(name, QTYPE.TXT, rdata=TXT(b"\x1b[31mred\xff"), ttl=60))
        if str(name).startswith("broken"):
            reply.header.rcode = RCODE.SERVFAIL
        return reply


@pytest.fixture(scope="module")
def name_server():
    server = DNSServer(Zone(ZONE), port=0, address="127.0.0.1", logger=DNSLogger(logf=lambda _: None))
    server.start_thread()
    yield f"127.0.0.1:{server.server.server_address[1]}"
    server.stop()
    server.server.server_close()


@pytest.fixture
def ask(tmp_path):
    """Runs the command with settings that name a server; returns status, lines and errors."""

    def run(server, *arguments, timeout="2s"):
        (tmp_path / "rules.yaml").write_text(f"dns: {{servers: ['{server}'], timeout: {timeout}}}\n")
        ran = CliRunner().invoke(app, ["dns", *arguments, "-c", str(tmp_path / "rules.yaml")])
        if ran.exception and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        return ran.exit_code, ran.stdout.splitlines(), ran.stderr

    return run


@pytest.mark.parametrize(
    ("arguments", "head", "tail", "records"),
    [
        (("example.com", "A"), "example.com A: found, ", " ms, TTL 300 s", ["192.0.2.1", "192.0.2.2"]),
        (("EXAMPLE.com.", "a"), "example.com A: found, ", " ms, TTL 300 s", ["192.0.2.1", "192.0.2.2"]),
        (("example.com", "TXT"), "example.com TXT: found, ", " ms, TTL 60 s", ['"v=spf1 -all"']),
        (("example.com", "MX"), "example.com MX: found, ", " ms, TTL 300 s", ["10 mx.example.com"]),
        (("null.example.com", "MX"), "null.example.com MX: found, ", " ms, TTL 60 s", ["0 ."]),
        (
            ("evil.example.com", "TXT"),
            "evil.example.com TXT: found, ",
            " ms, TTL 60 s",
            [r'"\x1b[31mred\xff"'],
        ),
        (("bücher.example", "A"), "xn--bcher-kva.example A: found, ", " ms, TTL 60 s", ["192.0.2.3"]),
        (("192.0.2.1",), "1.2.0.192.in-addr.arpa PTR: found, ", " ms, TTL 60 s", ["mx.example.com"]),
        (("2001:db8::1",), "1.0.0.0.0", "0.1.0.0.2.ip6.arpa PTR: no such name, 0 ms", []),
        (("example.com", "AAAA"), "example.com AAAA: no data, ", " ms", []),
        (("nobody.example.com", "A"), "nobody.example.com A: no such name, ", " ms", []),
        (("a..b", "A"), "a..b A: no such name, ", " ms", []),
    ],
)
def test_an_answer_is_shown_with_status_time_and_records(ask, name_server, arguments, head, tail, records):
    status, (first, *rest), errors = ask(name_server, *arguments)
    assert (status, errors) == (0, "")
    assert first.startswith(head)
    assert first.endswith(tail) or records == []
    assert [line.strip() for line in rest] == records


def test_without_a_type_all_that_filters_ask_for_is_shown(ask, name_server):
    _, lines, _ = ask(name_server, "example.com")
    heads = [line.partition(",")[0] for line in lines if not line.startswith(" ")]
    assert heads == [
        "example.com A: found",
        "example.com AAAA: no data",
        "example.com MX: found",
        "example.com TXT: found",
    ]


def test_a_server_that_fails_is_an_error_that_names_the_servers(ask, name_server):
    status, (line,), errors = ask(name_server, "broken.example", "TXT")
    assert status == 1
    assert line.startswith("broken.example TXT: failed, ")
    assert errors == f"gatepost: no usable answer; the name servers are {name_server}\n"


def test_a_server_that_does_not_answer_is_given_up_in_time(ask):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        status, (line,), errors = ask(server, "example.com", "TXT", timeout="200ms")
    assert status == 1
    assert line.startswith("example.com TXT: timed out, ")
    assert server in errors


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("192.0.2.1", "A"), "A of an address, expected PTR or no type"),
        (("example.com", "SRV"), "'SRV' is not one of"),
    ],
)
def test_what_cannot_be_asked_is_said(ask, arguments, told):
    status, lines, errors = ask("127.0.0.1:1", *arguments)
    assert (status, lines) == (2, [])
    assert told in errors.replace("\n", " ")
