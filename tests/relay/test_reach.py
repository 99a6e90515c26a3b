"""A server can be used if it takes a session as a delivery would begin one."""

import asyncio
import ssl

import pytest
import trustme
from gatepost.config.relay import UpstreamAuth, UpstreamServer
from gatepost.relay.reach import Reach
from gatepost.testing.upstream import Close, FakeUpstream, Stall


def server_at(upstream, **fields):
    return UpstreamServer(host=upstream.host, port=upstream.port, **fields)


@pytest.fixture
def closed():
    with FakeUpstream() as gone:
        return server_at(gone)


async def test_one_of_a_route_is_enough_and_gets_no_mail(closed):
    reach = Reach(hostname="gateway.example")
    with FakeUpstream() as upstream, FakeUpstream() as second:
        assert await reach.unreachable([closed, server_at(upstream), server_at(second)], 2) == ""
        assert (upstream.connections, second.connections) == (1, 0)
        assert not upstream.messages


async def test_why_none_can_be_used_is_told_of_each(closed):
    reach = Reach(hostname="gateway.example")
    with FakeUpstream({"connect": b"554 no\r\n"}) as refusing, FakeUpstream({"ehlo": Close()}) as closing:
        why = await reach.unreachable([closed, server_at(refusing), server_at(closing)], 2)
    first, second, third = why.split("; ")
    assert first.startswith(f"{closed}: ")
    assert "554" in second
    assert third


async def test_it_ends_in_time_and_the_last_server_has_its_part(closed):
    reach = Reach(hostname="gateway.example")
    loop = asyncio.get_running_loop()
    with FakeUpstream({"connect": Stall()}) as silent, FakeUpstream() as upstream:
        started = loop.time()
        assert "no greeting in time" in await reach.unreachable([server_at(silent)], 0.2)
        assert await reach.unreachable([server_at(silent), server_at(upstream)], 1) == ""
        assert loop.time() - started < 5


async def test_a_wrong_certificate_or_password_is_a_server_that_cannot_be_used(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "right").write_text("word\n")
    (tmp_path / "wrong").write_text("other\n")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    reach = Reach(hostname="gateway.example")
    with FakeUpstream(tls=context, users={"gateway": "word"}) as upstream:

        def server(file, ca=tmp_path / "ca.pem"):
            auth = UpstreamAuth(username="gateway", password_file=tmp_path / file)
            return server_at(upstream, tls="required", auth=auth, ca=ca)

        assert await reach.unreachable([server("right")], 5) == ""
        assert await reach.unreachable([server("wrong")], 5)
        assert "certificate" in await reach.unreachable([server("right", ca=None)], 5)
