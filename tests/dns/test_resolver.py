"""The resolver against a real name server on loopback, and its cache."""

import asyncio
import time

import pytest
from dnslib import AAAA, CNAME, MX, PTR, QTYPE, RCODE, RR, SOA, TXT, A
from dnslib.server import BaseResolver, DNSLogger, DNSServer
from gatepost.dns import Answer, DnsStatus, Resolver

FOUND = DnsStatus.FOUND


class Zone(BaseResolver):
    """Records by name; a few names answer in other ways."""

    def __init__(self):
        self.asked = []
        self.records = {
            "example.com.": [A("192.0.2.1"), A("192.0.2.2"), AAAA("2001:db8::1"), MX("mx.example.com", 10)],
            "text.example.com.": [TXT([b"v=spf1 ", b"-all"]), TXT([b"\xff\x00"])],
            "alias.example.com.": [CNAME("example.com")],
            "1.2.0.192.in-addr.arpa.": [PTR("mx.example.com")],
            "large.example.com.": [TXT([b"x" * 250] * 8)],
        }

    def resolve(self, request, handler):
        name, kind = str(request.q.qname).lower(), QTYPE[request.q.qtype]
        self.asked.append((name, kind, handler.protocol))
        reply = request.reply()
        if name.startswith("broken"):
            reply.header.rcode = RCODE.SERVFAIL
        elif name.startswith("refused"):
            reply.header.rcode = RCODE.REFUSED
        elif name.startswith("slow"):
            time.sleep(0.6)
            reply.add_answer(RR(name, QTYPE.TXT, rdata=TXT(b"late"), ttl=60))
        elif name.startswith("foreign"):
            reply.add_answer(RR("example.com.", QTYPE.TXT, rdata=TXT(b"v=spf1 +all"), ttl=60))
        elif name.startswith("beside"):
            reply.add_answer(RR("example.com.", QTYPE.TXT, rdata=TXT(b"v=spf1 +all"), ttl=60))
            reply.add_answer(RR("There.example.com.", QTYPE.TXT, rdata=TXT(b"v=spf1 -all"), ttl=60))
            reply.add_answer(RR("here.example.com.", QTYPE.CNAME, rdata=CNAME("there.Example.com"), ttl=60))
            reply.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME("HERE.example.com"), ttl=60))
        elif name.startswith("circle"):
            reply.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME("here.example.com"), ttl=60))
            reply.add_answer(RR("here.example.com.", QTYPE.CNAME, rdata=CNAME(name), ttl=60))
        elif name not in self.records:
            reply.header.rcode = RCODE.NXDOMAIN
            reply.add_auth(RR("example.com.", QTYPE.SOA, rdata=SOA("a.", "b.", (1, 1, 1, 1, 30)), ttl=30))
        else:
            for data in self.records[name]:
                of = type(data).__name__
                if of in (kind, "CNAME"):
                    reply.add_answer(RR(name, getattr(QTYPE, of), rdata=data, ttl=60))
                if of == "CNAME":
                    reply.add_answer(RR("example.com.", QTYPE.A, rdata=A("192.0.2.1"), ttl=60))
        return reply


@pytest.fixture(scope="module")
def zone():
    return Zone()


@pytest.fixture(scope="module")
def address(zone):
    quiet = DNSLogger(logf=lambda _: None)
    # TCP first: connections that have just ended occupy its ports.
    servers = [DNSServer(zone, port=0, address="127.0.0.1", tcp=True, logger=quiet)]
    port = servers[0].server.server_address[1]
    servers.append(DNSServer(zone, port=port, address="127.0.0.1", logger=quiet))
    for server in servers:
        server.start_thread()
    yield f"127.0.0.1:{port}"
    for server in servers:
        server.stop()
        server.server.server_close()


@pytest.fixture
async def resolver(address):
    resolver = Resolver(servers=[address])
    yield resolver
    await resolver.close()


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("example.com", "A", Answer(status=FOUND, records=("192.0.2.1", "192.0.2.2"))),
        ("EXAMPLE.com.", "A", Answer(status=FOUND, records=("192.0.2.1", "192.0.2.2"))),
        ("example.com", "AAAA", Answer(status=FOUND, records=("2001:db8::1",))),
        ("example.com", "MX", Answer(status=FOUND, records=((10, "mx.example.com"),))),
        ("1.2.0.192.in-addr.arpa", "PTR", Answer(status=FOUND, records=("mx.example.com",))),
        ("text.example.com", "TXT", Answer(status=FOUND, records=(b"v=spf1 -all", b"\xff\x00"))),
        ("large.example.com", "TXT", Answer(status=FOUND, records=(b"x" * 2000,))),
        ("alias.example.com", "A", Answer(status=FOUND, records=("192.0.2.1",))),
        ("foreign.example.com", "TXT", Answer(status=DnsStatus.FAILED)),
        ("beside.example.com", "TXT", Answer(status=FOUND, records=(b"v=spf1 -all",))),
        ("circle.example.com", "TXT", Answer(status=DnsStatus.NO_DATA)),
        (r"te\xt.example.com", "TXT", Answer(status=DnsStatus.NO_NAME)),
        ("example.com", "TXT", Answer(status=DnsStatus.NO_DATA)),
        ("nobody.example.com", "A", Answer(status=DnsStatus.NO_NAME)),
        ("broken.example.com", "A", Answer(status=DnsStatus.FAILED)),
        ("refused.example.com", "A", Answer(status=DnsStatus.FAILED)),
        ("a..b", "A", Answer(status=DnsStatus.NO_NAME)),
        ("x" * 64 + ".example.com", "A", Answer(status=DnsStatus.NO_NAME)),
        ("x." * 200 + "example.com", "A", Answer(status=DnsStatus.NO_NAME)),
        ("ü.example.com", "A", Answer(status=DnsStatus.NO_NAME)),
        ("a\0b.example.com", "A", Answer(status=DnsStatus.NO_NAME)),
        ("", "A", Answer(status=DnsStatus.NO_NAME)),
    ],
)
async def test_what_the_server_says(resolver, name, kind, answer):
    assert await resolver.look_up(name, kind) == answer


async def test_a_server_that_was_fast_may_take_its_time_for_another_name(resolver):
    await resolver.look_up("example.com", "A")
    assert (await resolver.look_up("slow.example.com", "TXT")).records == (b"late",)


async def test_a_question_ends_in_time(address):
    resolver = Resolver(servers=[address], timeout_seconds=0.1)
    assert (await resolver.look_up("slow2.example.com", "TXT")).status is DnsStatus.TIMED_OUT
    await resolver.close()


async def test_without_a_server_it_times_out_or_fails():
    resolver = Resolver(servers=["127.0.0.1:1"], timeout_seconds=0.2)
    assert (await resolver.look_up("example.com", "A")).status.is_temporary
    await resolver.close()


async def test_what_is_known_is_not_asked_again(resolver, zone):
    for name in ("text.example.com", "nowhere.example.com"):
        first = await resolver.look_up(name, "TXT")
        before = len(zone.asked)
        assert await resolver.look_up(name, "TXT") is first
        assert len(zone.asked) == before


class Asked:
    """Stands in for the servers: answers with a number, when it is told to."""

    def __init__(self, seconds=60.0):
        self.count = 0
        self.seconds = seconds
        self.go = asyncio.Event()

    async def __call__(self, name, kind):
        self.count += 1
        await self.go.wait()
        return Answer(status=FOUND, records=(self.count,)), self.seconds


async def test_the_same_question_of_many_is_asked_once_and_outlives_one_who_leaves():
    asked = Asked()
    resolver = Resolver(ask=asked)
    waiting = [asyncio.ensure_future(resolver.look_up("example.com", "A")) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    asked.go.set()
    answers = await asyncio.gather(*waiting[1:])
    assert asked.count == 1
    assert {answer.records for answer in answers} == {(1,)}


async def test_an_answer_is_forgotten_when_it_has_expired(monkeypatch):
    asked = Asked(seconds=30)
    asked.go.set()
    resolver = Resolver(ask=asked)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert (await resolver.look_up("example.com", "A")).records == (1,)
    monkeypatch.setattr(time, "monotonic", lambda: now + 29)
    assert (await resolver.look_up("example.com", "A")).records == (1,)
    monkeypatch.setattr(time, "monotonic", lambda: now + 31)
    assert (await resolver.look_up("example.com", "A")).records == (2,)


async def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr("gatepost.dns.resolver._CACHE_LIMIT", 3)
    asked = Asked()
    asked.go.set()
    resolver = Resolver(ask=asked)
    for name in ("a", "b", "c", "a", "d"):
        await resolver.look_up(name, "A")
    assert asked.count == 4
    await resolver.look_up("a", "A")
    assert asked.count == 4, "it was used last but one"
    await resolver.look_up("b", "A")
    assert asked.count == 5, "it was used least"


async def test_closing_ends_the_questions():
    resolver = Resolver(ask=Asked())
    waiting = asyncio.ensure_future(resolver.look_up("example.com", "A"))
    await asyncio.sleep(0)
    await resolver.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
