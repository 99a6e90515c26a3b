"""Servers' names that no resolver answers hold up nobody else, and nothing is left of them."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from gatepost import connecting
from gatepost.testing import FakeUpstream, make_transaction, running_gateway

DEAD = [f"dead{number}.test" for number in range(5)]
"""More names than the event loop has threads to look up."""


@pytest.fixture
def resolver(monkeypatch):
    """Knows alive.test; about other names of .test it says nothing until it is set."""
    answers = threading.Event()
    asked = []
    look_up = socket.getaddrinfo

    def getaddrinfo(host, port, *args, flags=0, **options):
        if flags & socket.AI_NUMERICHOST:  # which asks nobody
            return look_up(host, port, *args, flags=flags, **options)
        if str(host).endswith(".test"):
            asked.append(host)
        if host in DEAD and not answers.is_set():
            answers.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        host = "127.0.0.1" if str(host).endswith(".test") else host
        return look_up(host, port, *args, flags=flags, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    answers.asked = asked
    yield answers
    answers.set()


@pytest.fixture
def upstream():
    with FakeUpstream() as server:
        yield server


def rules(upstream):
    relay = [
        {"recipients": f"*@{name}", "to": f"smtp://{name}:{upstream.port}"} for name in (*DEAD, "alive.test")
    ]
    relay += [
        {"recipients": "*@address.test", "to": f"smtp://127.0.0.1:{upstream.port}"},
        {"recipients": "*@inbox.test", "to": "inbox"},
    ]
    return {"relay": relay, "limits": {"connect_time": "2s"}}


def to(domain):
    return make_transaction(recipients=f"bob@{domain}")


def test_a_resolver_that_does_not_answer_holds_up_only_who_needs_it(resolver, upstream):
    with running_gateway(rules(upstream)) as gateway, ThreadPoolExecutor(40) as clients:
        waiting = [clients.submit(gateway.send, to(name)) for name in DEAD * 8]
        for healthy in ("alive.test", "address.test", "inbox.test"):
            assert gateway.send(to(healthy)).code == 250
        replies = [one.result() for one in waiting]
        assert {(reply.code, reply.enhanced) for reply in replies} == {(451, "4.4.1")}
        assert all(resolver.asked.count(name) == 1 for name in DEAD), "one lookup of a name at a time"
        names = [thread for thread in threading.enumerate() if thread.name == "gatepost-names"]
        assert len(names) == len(DEAD)
    assert not resolver.is_set(), "the gateway has ended though there was no answer"
    assert len(upstream.messages) == 2


def held():
    """Descriptors and threads of this process."""
    return psutil.Process().num_fds(), threading.active_count()


def test_when_the_resolver_is_back_mail_goes_on_and_nothing_is_left(resolver, upstream, wait_until):
    resolver.set()
    with running_gateway(rules(upstream)) as gateway:
        assert gateway.send(to("alive.test")).code == 250
    assert upstream.wait_until(lambda one: not one.open_connections)
    resolver.clear()
    connecting._known.clear()  # the gateway has looked at all servers when it started
    before, memory = held(), psutil.Process().memory_info().rss
    with running_gateway(rules(upstream)) as gateway:
        with ThreadPoolExecutor(40) as clients:
            replies = [*clients.map(gateway.send, map(to, DEAD * 8))]
        assert {reply.code for reply in replies} == {451}
        resolver.set()
        for thread in threading.enumerate():
            if thread.name == "gatepost-names":
                thread.join(60)
                assert not thread.is_alive()
        assert [gateway.send(to(name)).code for name in DEAD] == [250] * len(DEAD)
        assert not [thread for thread in threading.enumerate() if thread.name == "gatepost-names"]
    assert upstream.wait_until(lambda one: not one.open_connections)
    assert len(upstream.messages) == len(DEAD) + 1
    wait_until(lambda: held() == before, "descriptors and threads are as before")
    assert psutil.Process().memory_info().rss < memory + (16 << 20)
