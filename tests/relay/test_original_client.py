"""What a server behind is told of the original client, and that it is never told of another one."""

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from gatepost.config.limits import Limits
from gatepost.config.relay import UpstreamServer
from gatepost.model.mail import Envelope, Recipient, Session
from gatepost.relay import Relay
from gatepost.relay.original_client import helo_of, proxy_header, xclient_command, xforward_commands
from hypothesis import example, given
from hypothesis import strategies as st

XFORWARD = "NAME ADDR PORT PROTO HELO IDENT SOURCE"
XCLIENT = "NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT"
ALICE = Session(
    id="01",
    client=ip_address("203.0.113.9"),
    client_port=4711,
    listener="mx:25",
    connected_at=datetime.now(UTC),
    helo="alice.example",
    extended=True,
    authenticated="alice",
)
TCP4 = ip_address("192.0.2.1")
TCP6 = ip_address("2001:db8::1")


def decoded(value):
    """Xtext, written down a second time from RFC 3461 section 4."""
    assert re.fullmatch(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+", value), value
    return re.sub(rb"\+(..)", lambda found: bytes.fromhex(found[1].decode()), value).decode()


def attributes(lines):
    words = [word for line in lines for word in line.removesuffix(b"\r\n").split(b" ")[1:]]
    return {name.decode(): decoded(value) for name, _, value in (word.partition(b"=") for word in words)}


def test_xforward_says_what_is_known_and_what_is_not():
    [line] = xforward_commands(XFORWARD, ALICE, "t1")
    assert line == (
        b"XFORWARD NAME=[UNAVAILABLE] ADDR=203.0.113.9 PORT=4711 PROTO=ESMTPA HELO=alice.example IDENT=t1"
        b" SOURCE=REMOTE\r\n"
    )


def test_only_announced_attributes_are_sent_each_once():
    [line] = xforward_commands("addr HELO addr FOO", ALICE, "t1")
    assert line == b"XFORWARD ADDR=203.0.113.9 HELO=alice.example\r\n"
    assert xforward_commands("FOO", ALICE, "t1") == []
    assert xclient_command("NAME HELO", ALICE, login=True) is None  # without an address it would say nothing
    assert xclient_command("ADDR", ALICE, login=True) == b"XCLIENT ADDR=203.0.113.9"


def test_what_is_unknown_is_said_to_be():
    stranger = replace(ALICE, client_port=0, helo="", extended=False, authenticated=None)
    said = attributes(xforward_commands(XFORWARD, stranger, "t1"))
    assert (said["PORT"], said["HELO"], said["PROTO"]) == ("[UNAVAILABLE]", "[UNAVAILABLE]", "SMTP")


def test_an_ipv6_address_has_its_prefix():
    session = replace(ALICE, client=TCP6)
    assert attributes(xforward_commands(XFORWARD, session, "t1"))["ADDR"] == "IPV6:2001:db8::1"


def test_mail_from_this_machine_is_local():
    session = replace(ALICE, client=ip_address("::1"))
    assert attributes(xforward_commands(XFORWARD, session, "t1"))["SOURCE"] == "LOCAL"


def test_xclient_says_the_login_unless_the_gateway_has_one_of_its_own():
    command = xclient_command(XCLIENT, ALICE, login=True)
    assert attributes([command]) == {
        "NAME": "[UNAVAILABLE]",
        "REVERSE_NAME": "[UNAVAILABLE]",
        "ADDR": "203.0.113.9",
        "PORT": "4711",
        "PROTO": "ESMTP",
        "HELO": "alice.example",
        "LOGIN": "alice",
    }
    assert b"LOGIN" not in xclient_command(XCLIENT, ALICE, login=False)


def test_a_login_is_never_cut_off():
    assert attributes([xclient_command(XCLIENT, replace(ALICE, authenticated="a" * 255), login=True)])[
        "LOGIN"
    ]
    assert b"LOGIN" not in xclient_command(XCLIENT, replace(ALICE, authenticated="a" * 256), login=True)


@given(st.text(), st.text(), st.text())
@example("x\r\nMAIL FROM:<eve@example.org>", "a\r\nb", XFORWARD)
@example("x ADDR=192.0.2.1 LOGIN=root", "a b", XCLIENT)
@example("+0D+0A=", "=", XCLIENT)
@example("ü" * 300, "ü" * 300, XFORWARD)
@example("\u2028\x85\0", "\x7f", XFORWARD)
def test_no_client_can_add_an_attribute_or_a_line(helo, user, announced):
    session = replace(ALICE, helo=helo, authenticated=user)
    for names in (XFORWARD, XCLIENT, announced):
        lines = xforward_commands(names, session, "t1")
        command = xclient_command(names, session, login=True)
        for line in lines:
            assert line.endswith(b"\r\n")
            assert len(line) <= 512
        for line in (*lines, *([command] if command else [])):
            assert re.fullmatch(rb"(?:XFORWARD|XCLIENT)(?: [A-Z_]+=[!-~]+)+(?:\r\n)?", line), line
            said = attributes([line])
            assert set(said) <= {*names.upper().split()}
            for name, true in (("HELO", helo), ("LOGIN", user)):
                value = said.get(name, true)
                assert value == true or (name == "HELO" and (helo.startswith(value) or not helo)), value
            assert said.get("ADDR", "203.0.113.9") == "203.0.113.9"


@given(st.text())
@example("alice.example\r\nMAIL FROM:<>")
@example("a b")
def test_ehlo_after_xclient_has_the_clients_name_if_that_is_one(helo):
    name = helo_of(replace(ALICE, helo=helo), "mx.example.com")
    assert name in (helo, "mx.example.com")
    assert re.fullmatch(r"[!-~]+", name)


@pytest.mark.parametrize("helo", ["alice.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "a_b"])
def test_the_usual_names_are_said_as_they_are(helo):
    assert helo_of(replace(ALICE, helo=helo), "mx.example.com") == helo


@pytest.mark.parametrize(
    ("client", "server", "header"),
    [
        (("203.0.113.9", 4711), ("192.0.2.1", 25), b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 25\r\n"),
        (("2001:db8::9", 4711), ("2001:db8::1", 25), b"PROXY TCP6 2001:db8::9 2001:db8::1 4711 25\r\n"),
        (("203.0.113.9", 0), ("2001:db8::1", 25), b"PROXY TCP4 203.0.113.9 0.0.0.0 0 25\r\n"),
        (("2001:db8::9", 1), ("192.0.2.1", 25), b"PROXY TCP6 2001:db8::9 :: 1 25\r\n"),
        (("fe80::1%eth0", 1), ("fe80::2%eth0", 25), b"PROXY TCP6 fe80::1 fe80::2 1 25\r\n"),
    ],
)
def test_a_proxy_header_is_of_the_clients_family(client, server, header):
    assert proxy_header(client, server) == header


class Judge:
    """A server that is told of clients, and notes for each message which one it believes in."""

    def __init__(self, offers=(), *, expects_header=False):
        self.offers = offers
        self.expects_header = expects_header
        self.messages = []
        self.opened = 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.talk, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def talk(self, reader, writer):
        try:
            await self.converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def converse(self, reader, writer):
        self.opened += 1
        connection, header, named = "gateway", None, None
        if self.expects_header:
            header = (await reader.readuntil(b"\r\n")).split()
            assert header[:2] in ([b"PROXY", b"TCP4"], [b"PROXY", b"TCP6"])
            connection = header[2].decode()
            if connection == "203.0.113.66":
                writer.write(b"554 5.7.1 Listed\r\n")
                return
        forwarded, content = {}, None
        writer.write(b"220 judge.example\r\n")
        while line := await reader.readline():
            verb = line.split()[0] if line.strip() else b""
            reply = b"250 OK"
            if content is not None:
                content += line
                if line != b".\r\n":
                    continue
                client = forwarded.get("ADDR", connection)
                self.messages.append((client, content))
                forwarded, content = {}, None
                if b"close" in self.messages[-1][1]:
                    writer.write(b"250 OK\r\n")
                    return
            elif verb == b"EHLO":
                reply = b"\r\n".join((b"250-judge.example", *self.offers, b"250 PIPELINING"))
                forwarded = {}
            elif verb == b"XFORWARD":
                forwarded |= attributes([line])
            elif verb == b"XCLIENT":
                assert named is None, "a connection has one client"
                named = attributes([line])
                connection, reply = named["ADDR"], b"220 judge.example"
                if connection == "203.0.113.66":
                    reply = b"554 5.7.1 Listed"
            elif verb == b"RSET":
                forwarded = {}
            elif verb == b"RCPT" and b"refused" in line:
                reply = b"550 5.1.1 Unknown"
            elif verb == b"DATA":
                content, reply = b"", b"354 Go on"
            elif verb == b"QUIT":
                return
            writer.write(reply + b"\r\n")
            await writer.drain()


OFFERS = {
    "xforward": (f"250-XFORWARD {XFORWARD}".encode(),),
    "xclient": (f"250-XCLIENT {XCLIENT}".encode(),),
    "proxy": (),
}
CLIENTS = [replace(ALICE, id=f"0{n}", client=ip_address(f"203.0.113.{n}")) for n in (1, 2, 3)]


async def send(relay, server, session, subject, recipients=("b@example.com",)):
    """One transaction as the gateway makes it; the last reply."""
    delivery = relay.begin(
        (server,), Envelope(mail_from="a@example.org"), session=session, transaction_id="t"
    )
    accepted = []
    for address in recipients:
        recipient = Recipient(address=address)
        reply = await delivery.rcpt(recipient)
        if reply.positive:
            accepted.append(recipient)
    if not accepted or subject == "abandoned":
        await delivery.abandon()
        return reply
    content = f"Subject: {subject} {session.client if session else 'gateway'}.\r\n\r\n".encode()
    deadline = asyncio.get_running_loop().time() + 20
    return (await delivery.send(tuple(accepted), (content,), deadline=deadline)).reply


TRANSACTIONS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["sent", "close", "abandoned"]),
        st.sampled_from(
            [("b@example.com",), ("refused@example.com",), ("b@example.com", "refused@example.com")]
        ),
        st.booleans(),
    ),
    max_size=12,
)


@pytest.mark.parametrize("way", ["xforward", "xclient", "proxy"])
@given(transactions=TRANSACTIONS)
@example(transactions=[(0, "sent", ("b@example.com",), True), (1, "sent", ("b@example.com",), True)])
def test_no_message_ever_bears_the_facts_of_another_client(way, transactions):
    """One after the other and at the same time, with refusals, closed connections and RSET in between."""

    async def play():
        async with Judge(OFFERS[way], expects_header=way == "proxy") as judge:
            server = UpstreamServer(host="127.0.0.1", port=judge.port, tls="none", send_client=way)
            relay = Relay(hostname="mx.example.com", limits=Limits())
            running = []
            for client, subject, recipients, waits in transactions:
                running.append(asyncio.create_task(send(relay, server, CLIENTS[client], subject, recipients)))
                if waits:
                    await running[-1]
            await asyncio.gather(*running)
            await relay.close()
            return judge.messages

    for client, content in asyncio.run(play()):
        assert content.split()[2] == f"{client}.".encode()


async def test_a_connection_is_used_again_for_the_same_client_alone(caplog):
    for way, opened in (("xforward", 1), ("xclient", 2), ("proxy", 2)):
        async with Judge(OFFERS[way], expects_header=way == "proxy") as judge:
            server = UpstreamServer(host="127.0.0.1", port=judge.port, tls="none", send_client=way)
            relay = Relay(hostname="mx.example.com", limits=Limits())
            for client in (0, 0, 1, 0):
                assert (await send(relay, server, CLIENTS[client], "sent")).positive
            assert [client for client, _ in judge.messages] == [
                "203.0.113.1", "203.0.113.1", "203.0.113.2", "203.0.113.1"
            ]  # fmt: skip
            assert judge.opened == opened
            await relay.close()
    assert caplog.messages == []


@pytest.mark.parametrize("way", ["xforward", "xclient"])
async def test_a_server_that_does_not_announce_it_gets_the_mail_and_the_log_says_so_once(way, caplog):
    async with Judge() as judge:
        server = UpstreamServer(host="127.0.0.1", port=judge.port, tls="none", send_client=way)
        relay = Relay(hostname="mx.example.com", limits=Limits())
        await relay.probe([server])
        for client in CLIENTS:
            assert (await send(relay, server, client, "close")).positive
        await relay.close()
    assert [client for client, _ in judge.messages] == ["gateway"] * 3
    [message] = caplog.messages
    assert message == (
        f"upstream 127.0.0.1:{judge.port} is not told of the client (send_client: {way}): "
        "it does not announce that to this gateway"
    )


async def test_mail_of_the_gateway_itself_is_of_no_client():
    for way, offers in OFFERS.items():
        async with Judge(offers, expects_header=way == "proxy") as judge:
            server = UpstreamServer(host="127.0.0.1", port=judge.port, tls="none", send_client=way)
            relay = Relay(hostname="mx.example.com", limits=Limits())
            await relay.probe([server])
            await send(relay, server, None, "sent")
            await relay.close()
        assert [client for client, _ in judge.messages] == ["127.0.0.1" if way == "proxy" else "gateway"]


@pytest.mark.parametrize("way", ["xclient", "proxy"])
async def test_a_server_that_refuses_the_client_is_passed_on_and_stays_in_use(way, caplog):
    async with Judge(OFFERS[way], expects_header=way == "proxy") as judge:
        server = UpstreamServer(host="127.0.0.1", port=judge.port, tls="none", send_client=way)
        relay = Relay(hostname="mx.example.com", limits=Limits())
        listed = replace(ALICE, client=ip_address("203.0.113.66"))
        assert str(await send(relay, server, listed, "sent")) == "554 5.7.1 Listed"
        assert (await send(relay, server, CLIENTS[0], "sent")).positive
        assert [failed for _, _, failed in relay.connections()] == [0]
        await relay.close()
    assert caplog.messages == []


async def test_an_idle_connection_of_one_client_is_closed_soon(monkeypatch):
    """Its client may be gone, and nobody else may use it."""
    monkeypatch.setattr("gatepost.relay.pool._BOUND_IDLE_SECONDS", 0.02)
    async with Judge(OFFERS["xclient"]) as judge:
        server = UpstreamServer(host="127.0.0.1", port=judge.port, tls="none", send_client="xclient")
        relay = Relay(hostname="mx.example.com", limits=Limits())
        await relay.probe([server])  # its connection stays for a minute
        await send(relay, server, CLIENTS[0], "sent")
        [bound] = [one for one in relay._pool._open if one.client]
        async with asyncio.timeout(30):
            await bound.gone
        assert [one.client for one in relay._pool._open] == [None]
        assert list(relay._pool._idle) == [(server, None)]
        await relay.close()
