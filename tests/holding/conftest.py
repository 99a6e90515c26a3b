"""A gateway whose sessions can be held, the desk's side of that, and clients; all on one event loop."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import yaml
from gatepost.config import load
from gatepost.holding import Channel, HeldSessions
from gatepost.process.service import Service
from gatepost.store import Box, JournalQuery, KeptQuery

PATIENCE_SECONDS = 60


class Client:
    """An SMTP client that shows the last line of each reply."""

    def __init__(self, reader, writer):
        self._reader, self.writer = reader, writer

    async def reply(self):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                line = (await self._reader.readline()).decode()
                if line[3:4] != "-":
                    return line.rstrip()

    async def say(self, *lines):
        """Send commands one after the other; the last reply."""
        answer = ""
        for line in lines:
            self.writer.write(line if isinstance(line, bytes) else f"{line}\r\n".encode())
            answer = await self.reply()
        return answer

    async def leave(self):
        self.writer.close()


class Gateway:
    """A running gateway, and those who answer for its sessions."""

    def __init__(self, service, desk):
        self.service, self.desk = service, desk

    async def client(self):
        client = Client(*await asyncio.open_connection(*self.service.addresses[0]))
        self.clients.append(client)
        return client

    clients: list = []  # noqa: RUF012 - set for each

    async def one(self):
        """The session that is held, as soon as one is."""
        (found,) = await self.desk.wait(None, PATIENCE_SECONDS)
        return found

    async def nothing_held(self):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.desk.count:
                await asyncio.sleep(0.005)

    async def archive(self):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.service.store.backlog:
                await asyncio.sleep(0.005)
        return self.service.store.archive

    async def journal(self):
        """The records, the newest first."""
        return (await self.archive()).records(JournalQuery(), limit=100)

    async def kept(self, box=Box.INBOX):
        archive = await self.archive()
        return [archive.kept_message(kept.id) for kept in archive.kept(KeptQuery(box=box), limit=100)]


@pytest.fixture
async def gateway(tmp_path):
    """Start a gateway with these rules; ``desk=False``: nobody answers for its sessions."""
    async with AsyncExitStack() as stack:

        async def start(*rules, upstream=None, desk=True, relays=True, **settings):
            to = f"smtp://{upstream.host}:{upstream.port}" if upstream else "inbox"
            document = {
                "hostname": "mx.example.net",
                "listen": [{"address": "127.0.0.1:0"}],
                "relay": [{"recipients": "*@example.com", "to": to}],
                "rules": list(rules),
            } | settings
            path = tmp_path / "rules.yaml"
            path.write_text(yaml.safe_dump(document))
            channel = Channel.make()
            stack.callback(channel.close)
            loaded = load(path)
            service = Service(replace(loaded), relays=relays, holds=channel if desk else None)
            held = HeldSessions(channel, arms=True)
            following = asyncio.create_task(held.follow())
            await service.start()
            running = Gateway(service, held)
            running.clients = []
            running.following = following

            async def end():
                for client in running.clients:
                    client.writer.close()
                await service.stop(0.2)
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

            stack.push_async_callback(end)
            return running

        yield start
