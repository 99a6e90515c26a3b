"""What is said in a session is with the store soon after, cut by transaction, and never without bounds."""

import asyncio
import os
import re
import signal
import smtplib
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest
from gatepost.config import LoadedConfig
from gatepost.config.settings import Config
from gatepost.config.store import StoreSettings
from gatepost.process import recorder as recorder_module
from gatepost.process.recorder import Recorder
from gatepost.process.service import Service
from gatepost.store import of_transaction, open_conversations
from gatepost.traffic.events import event_of

ROOT = Path(__file__).parents[2]
ANYBODY = {"users": "any", "without_tls": True}


@pytest.fixture
def talk(tmp_path):
    """Runs a client's side against a server whose conversations are kept; gives what is kept then."""

    async def talk(client, **settings):
        config = Config(
            **{
                "listen": [{"address": "127.0.0.1:0", "auth": ANYBODY}],
                "relay": [{"recipients": "*", "to": "inbox"}],
                "store": {"conversations": True},
                **settings,
            }
        )
        service = Service(LoadedConfig(config=config, base=tmp_path))
        await service.start()
        await asyncio.to_thread(client, service.addresses[0])
        await service.stop()
        conversations = open_conversations(config.store, tmp_path)
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


@pytest.mark.parametrize(
    ("line", "helo"),
    [
        (b"EHLO a b\r\n", "a b"),
        (b"ehlo <x>  \r\n", "<x>"),
        ("HELO b\u00fccher\r\n".encode(), "b\u00fccher"),
        (b"EHLO " + b"x" * 300 + b"\r\n", "x" * 255),
    ],
)
async def test_a_session_has_the_name_that_its_client_gave(talk, line, helo):
    def client(address):
        with socket.create_connection(address, 20) as connection, connection.makefile("rb") as lines:
            lines.readline()
            connection.sendall(line + b"QUIT\r\n")
            lines.read()

    (found,) = await talk(client)
    assert found.session.helo == helo


@pytest.mark.parametrize(
    ("commands", "facts"),
    [
        (["EHLO front", "XCLIENT ADDR=203.0.113.9 PORT=5 HELO=c.example", "EHLO front"], ("203.0.113.9", 5)),
        (["EHLO front", "XFORWARD ADDR=203.0.113.9 HELO=c.example", "MAIL FROM:<a@b>"], ("203.0.113.9", 0)),
    ],
)
async def test_a_session_is_that_of_the_client_which_its_source_has_named(talk, commands, facts):
    def client(address):
        with socket.create_connection(address, 20) as connection, connection.makefile("rb") as lines:
            lines.readline()
            for command in [*commands, "QUIT"]:
                connection.sendall(f"{command}\r\n".encode())
                while lines.readline()[3:4] == b"-":
                    pass

    listed = {"xclient_from": ["127.0.0.1"], "xforward_from": ["127.0.0.1"]}
    (found,) = await talk(client, listen=[{"address": "127.0.0.1:0", **listed}])
    assert (found.session.client, found.session.client_port) == facts
    assert found.session.helo == "c.example"


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
        assert said(lines)[0].lower().startswith(f"mail from:<{sender}>")
        assert said(lines)[-1].lower() == "data"
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


async def test_a_connection_that_never_became_a_session_is_not_kept(talk):
    def client(address):
        with socket.create_connection(address) as first:
            first.recv(999)
            with socket.create_connection(address) as second:
                assert second.recv(999).startswith(b"421 4.7.0")

    (found,) = await talk(client, limits={"connections_per_client": 1})
    assert found.session.last_reply.startswith("220 ")


async def test_a_refused_recipient_and_what_came_of_the_rest(talk):
    def client(address):
        with smtplib.SMTP(*address) as client:
            refused = client.sendmail("a@b.example", ["no@elsewhere.example", "c@d.example"], "\r\nHello\r\n")
            assert list(refused) == ["no@elsewhere.example"]

    relay = [{"recipients": "*@d.example", "to": "inbox"}]
    (found,) = await talk(client, relay=relay)
    (marker,) = [line for line in said(found.lines, "*") if line.startswith("transaction ")]
    replies = [reply[:9] for reply in said(of_transaction(found, marker.split()[1]), "S")]
    assert replies == ["250 2.1.0", "550 5.7.1", "250 2.1.5", "354 End d", "250 2.0.0"]


async def test_what_was_said_survives_kill_9(tmp_path):
    (tmp_path / "rules.yaml").write_text(
        "listen: ['127.0.0.1:0']\nstore: {conversations: true}\nrelay: [{recipients: '*', to: inbox}]\n"
    )
    command = [sys.executable, "-m", "gatepost", "serve", "-c", tmp_path / "rules.yaml"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'proxy'}:{ROOT / 'plugins'}"}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            while not (listens := re.search(rb"listens on 127.0.0.1:(\d+)", await process.stderr.readline())):
                pass
            reader, writer = await asyncio.open_connection("127.0.0.1", int(listens[1]))
            await reader.readline()
            writer.write(b"HELO client.example\r\nMAIL FROM:<ann@example.com>\r\n")
            await reader.readline()
            await reader.readline()
            with open_conversations(StoreSettings(), tmp_path) as conversations:
                while not any(session.transactions for session in conversations.sessions()):
                    await asyncio.sleep(0.02)
    finally:
        process.send_signal(signal.SIGSTOP)  # so that the worker does not see the supervisor end
        for child in psutil.Process(process.pid).children():
            child.kill()
        process.kill()
        await process.communicate()
    writer.close()
    with open_conversations(StoreSettings(), tmp_path) as conversations:
        (session,) = conversations.sessions()
        assert (session.helo, session.transactions, session.ended_at) == ("client.example", 1, None)
        lines = conversations.conversation(session.id).lines
        assert said(lines) == ["HELO client.example", "MAIL FROM:<ann@example.com>"]


class Parts(list):
    """What a recorder hands over; ``loses`` plays a store that cannot keep up."""

    loses = False

    def save(self, part):
        if not self.loses:
            self.append(part)
        return not self.loses

    @property
    def octets(self):
        return sum(len(data) for part in self for _, _, data in part.lines)

    @property
    def left_out(self):
        return sum({part.session.id: part.session.left_out for part in self}.values())


def tap(recorder, session_id, direction, data):
    recorder.tap(event_of(at=time.time_ns() // 1000, session_id=session_id, direction=direction, data=data))


def connected(recorder, *names):
    for name in names:
        tap(recorder, name, "*", b"connected 127.0.0.1 1 to 127.0.0.1:2525")


async def test_what_all_sessions_have_to_save_is_bounded(monkeypatch):
    monkeypatch.setattr(recorder_module, "_UNSAVED_OCTETS", 100_000)
    parts, names = Parts(), [f"s{number}" for number in range(50)]
    recorder = Recorder(parts.save)
    connected(recorder, *names)
    for name in names:
        for _ in range(10):
            tap(recorder, name, "C", b"NOOP\r\n" * 100)
    assert not parts
    for name in names:
        tap(recorder, name, "*", b"closed")
    assert parts.octets < 110_000
    assert parts.left_out + parts.octets == 50 * (
        10 * 600 + len("connected 127.0.0.1 1 to 127.0.0.1:2525closed")
    )
    assert all(part.session.ended_at for part in parts)
    assert not recorder._sessions
    assert recorder._room == 100_000


async def test_one_session_is_bounded_and_its_end_is_seen_all_the_same(monkeypatch):
    monkeypatch.setattr(recorder_module, "_SESSION_OCTETS", 100_000)
    parts = Parts()
    recorder = Recorder(parts.save)
    connected(recorder, "s")
    for _ in range(1000):
        tap(recorder, "s", "C", b"NOOP" + b"x" * 994 + b"\r\n")
    tap(recorder, "s", "S", b"221 2.0.0 Bye\r\n")
    tap(recorder, "s", "*", b"closed")
    assert [part.number for part in parts] == [0, 1]  # the first was full, and waited for nothing
    assert parts.octets < 100_000
    assert parts.left_out > 900_000
    assert (parts[-1].session.last_reply, bool(parts[-1].session.ended_at)) == ("221 2.0.0 Bye", True)


async def test_a_line_is_saved_while_the_session_goes_on():
    parts = Parts()
    recorder = Recorder(parts.save)
    connected(recorder, "s")
    tap(recorder, "s", "C", b"EHLO x\r\n")
    while not parts:
        await asyncio.sleep(0.02)
    assert parts[0].lines[-1][1:] == ("C", b"EHLO x\r\n")
    assert parts[0].session.ended_at is None
    tap(recorder, "s", "*", b"closed")
    assert [part.number for part in parts] == [0, 1]


async def test_what_the_store_did_not_take_is_counted_and_numbers_have_no_gap():
    parts = Parts()
    recorder = Recorder(parts.save)
    connected(recorder, "s")
    parts.loses = True
    await asyncio.sleep(0.25)
    parts.loses = False
    tap(recorder, "s", "*", b"closed")
    (part,) = parts
    assert part.number == 0
    assert part.session.left_out == len("connected 127.0.0.1 1 to 127.0.0.1:2525")


async def test_nothing_follows_the_end_of_a_session():
    parts = Parts()
    recorder = Recorder(parts.save)
    tap(recorder, "", "S", b"421 4.7.0 Too many connections\r\n")
    connected(recorder, "s")
    tap(recorder, "s", "*", b"closed")
    tap(recorder, "s", "S", b"421 4.3.0 Too late\r\n")
    assert not recorder._sessions
    assert len(parts) == 1
