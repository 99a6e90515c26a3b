"""Stores on a server that the tests of this folder share, and a line to it that can be cut."""

import contextlib
import select
import shutil
import socket
import tempfile
import threading
from pathlib import Path

import pytest
from gatepost.config.store import StoreSettings
from gatepost.store.postgresql import open_store

SOCKET = ".s.PGSQL.5432"
WRITES = b"INSERT INTO transactions"
"""The connection that writes groups of changes sends this before its first COMMIT; only that one breaks."""


@pytest.fixture
def settings(postgresql):
    """Of a store that is empty."""
    return StoreSettings(url=postgresql.clean_schema())


@pytest.fixture
async def store(settings, tmp_path):
    opened = open_store(settings, tmp_path)
    yield opened
    await opened.close()


class Line:
    """A Unix socket that passes everything on to the server, until it is told to break."""

    def __init__(self, server):
        self.server = server
        self.folder = Path(tempfile.mkdtemp(prefix="gatepost-", dir="/tmp"))
        self.breaks_at = None
        """``before`` the server has the next COMMIT, or ``after`` it has carried it out."""
        self.is_open = True
        """False: it takes no connections."""
        self.stays_closed = False
        """Whether it takes none any more once it broke."""
        self.broken = 0
        self.clients = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.folder / SOCKET))
        self.listener.listen()
        self.threads = [threading.Thread(target=self.listen, daemon=True)]
        self.threads[0].start()

    def listen(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if self.is_open:
                    self.threads.append(threading.Thread(target=self.carry, args=(client,), daemon=True))
                    self.threads[-1].start()
                else:
                    client.close()

    def cut(self):
        """End all connections, without a word to the server about what was under way."""
        for client in self.clients:
            client.shutdown(socket.SHUT_RDWR)

    def carry(self, client):
        with client, socket.socket(socket.AF_UNIX) as server:
            self.clients.append(client)
            server.connect(str(self.server.folder / SOCKET))
            with contextlib.suppress(OSError):
                self.pass_on(client, server)

    def pass_on(self, client, server):
        is_last = writes = False
        while True:
            ready, _, _ = select.select([client, server], [], [])
            if server in ready:
                octets = server.recv(65536)
                if is_last and b"COMMIT\0" in octets:
                    return
                if not octets:
                    return
                client.sendall(octets)
            if client in ready:
                octets = client.recv(65536)
                if not octets:
                    return
                writes = writes or WRITES in octets
                if writes and b"COMMIT" in octets and self.breaks_at:
                    is_last = self.breaks_at == "after"
                    self.broken += 1
                    self.is_open = not self.stays_closed
                    self.breaks_at = None
                    if not is_last:
                        return
                server.sendall(octets)

    def settings(self, settings):
        """Those that lead over this line."""
        return settings.model_copy(
            update={"url": settings.url.replace(str(self.server.folder), str(self.folder))}
        )

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        shutil.rmtree(self.folder)
        for thread in self.threads:
            thread.join(60)


@pytest.fixture
def line(postgresql):
    made = Line(postgresql)
    yield made
    made.close()


@pytest.fixture
async def far_store(line, settings, tmp_path):
    """A store over the line."""
    opened = open_store(line.settings(settings), tmp_path)
    yield opened
    await opened.close()
