"""What is said in a session is with the store soon after, cut by transaction, and never without bounds."""

import asyncio
import smtplib
import socket

import pytest

from proxy.config import LoadedConfig
from proxy.config.settings import Config
from proxy.recorder import Recorder
from proxy.service import Service
from proxy.store import Conversations, of_transaction

ANYBODY = {"users": "any", "without_tls": True}


@pytest.fixture
def talk(tmp_path):
    """Runs a client's side against a server whose conversations are kept; gives what is kept then."""

    async def talk(client):
        config = Config(
            listen=[{"address": "127.0.0.1:0", "auth": ANYBODY}],
            relay=[{"recipients": "*", "to": "inbox"}],
            store={"conversations": True},
        )
        service = Service(LoadedConfig(config=config, base=tmp_path))
        await service.start()
        await asyncio.to_thread(client, service.addresses[0])
        await service.stop()
        conversations = Conversations.open(config.store, tmp_path)
        found = [conversations.conversation(session.id) for session in conversations.sessions()]
        conversations.close()
        return found

    return talk


def said(lines, direction="C"):
    return [line.data.decode().rstrip() for line in lines if line.direction == direction]


def send(address, *messages):
    with smtplib.SMTP(*address) as client:
        client.ehlo("client.example")
        for sender, subject in messages:
            client.sendmail(sender, ["bob@example.net"], f"Subject: {subject}\r\n\r\nHello\r\n")


async def test_each_transaction_of_a_session_has_its_own_part_of_the_conversation(talk):
    messages = ("ann@example.com", "one"), ("eve@example.org", "two")
    (found,) = await talk(lambda address: send(address, *messages))
    session = found.session
    assert (session.client, session.helo, session.transactions) == ("127.0.0.1", "client.example", 2)
    assert session.ended_at >= session.started_at
    assert session.last_reply == "221 2.0.0 Bye"
    markers = [line for line in said(found.lines, "*") if line.startswith("transaction ")]
    first, second = (of_transaction(found, marker.split()[1]) for marker in markers)
    for lines, sender, subject in ((first, "ann@example.com", "one"), (second, "eve@example.org", "two")):
        assert said(lines)[0].startswith(f"mail FROM:<{sender}>")
        assert said(lines)[-1] == "data"
        assert said(lines, "D")[0].startswith(f"Subject: {subject}")
        assert said(lines, "S")[-1].startswith("250 2.0.0 Ok")
    assert not set(first) & set(second)


async def test_sessions_that_are_refused_or_broken_off_are_kept_too(talk):
    def client(address):
        with socket.create_connection(address) as broken:
            broken.recv(999)
            broken.sendall(b"EHLO x\r\nMAIL FROM:<a@b>\r\n")
            broken.recv(999)
        with socket.create_connection(address) as lost:
            lost.sendall(b"GET / HTTP/1.1\r\n")
            lost.recv(999)

    lost, broken = await talk(client)
    assert said(broken.lines)[-1] == "MAIL FROM:<a@b>"
    assert said(broken.lines, "*")[-1] == said(lost.lines, "*")[-1] == "closed"
    assert lost.session.last_reply.startswith("421")


async def test_what_auth_keeps_secret_is_not_kept(talk):
    def client(address):
        with smtplib.SMTP(*address) as client:
            client.login("ann", "hunter2-secret")

    (found,) = await talk(client)
    assert found.session.authenticated == "ann"
    assert "AUTH PLAIN ********" in said(found.lines)
    assert b"aHVudGVyMi1zZWNyZXQ" not in b"".join(line.data for line in found.lines)


async def test_a_long_message_is_left_out_of_the_conversation_and_counted(talk):
    content = b"Subject: long\r\n\r\n" + (b"y" * 70 + b"\r\n") * 5000

    def client(address):
        with smtplib.SMTP(*address) as client:
            client.sendmail("a@b.example", ["c@d.example"], content)

    (found,) = await talk(client)
    kept = sum(len(line.data) for line in found.lines if line.direction == "D")
    assert kept == 16 << 10
    assert found.session.left_out == len(content) + len(".\r\n") - kept
    assert found.session.last_reply.startswith("221")


async def test_memory_is_bounded_however_much_is_said():
    parts = []
    recorder = Recorder(parts.append)
    for number in range(50):
        recorder.tap(f"s{number}", "*", b"connected 127.0.0.1 1 to 127.0.0.1:2525")
        for _ in range(300):
            recorder.tap(f"s{number}", "C", b"NOOP " + b"x" * 2000 + b"\r\n")
    for number in range(50):
        recorder.tap(f"s{number}", "*", b"closed")
    kept = sum(len(line.data) for part in parts for line in part.lines)
    assert kept < 32 << 20
    assert sum(part.session.left_out for part in parts) + kept >= 50 * 300 * 2007
    assert all(part.session.ended_at for part in parts)
    assert not recorder._sessions
    assert recorder._unsaved == 0


async def test_a_line_is_saved_while_the_session_goes_on():
    parts = []
    recorder = Recorder(parts.append)
    recorder.tap("s", "*", b"connected ::1 1 to [::1]:2525")
    recorder.tap("s", "C", b"EHLO x\r\n")
    while not parts:
        await asyncio.sleep(0.02)
    assert [line.data for line in parts[0].lines][-1] == b"EHLO x\r\n"
    assert parts[0].session.ended_at is None
    recorder.tap("s", "*", b"closed")
    assert [part.number for part in parts] == [0, 1]
