import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import redis
from gatepost.state import State
from gatepost.state import redis as redis_state
from gatepost.state.database import Database
from gatepost.state.redis import RedisClient, RedisState
from gatepost.state.sqlite import SqliteState


class Clock:
    """Two clocks that go on together, unless the first is set."""

    def __init__(self):
        self.now, self.steady = 1_700_000_000.0, 5.0
        self.server = None

    def go_on(self, seconds):
        self.now += seconds
        self.steady += seconds
        if self.server:  # its clock cannot be set: what it has to forget is sooner over instead
            for name in self.server.scan_iter():
                self.server.pexpire(name, self.server.pttl(name) - int(seconds * 1000))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(tmp_path, clock):
    """Make a database or a backend; several have the same file, as those of several processes."""

    def make(kind=Database, max_entries=1000, **options):
        return kind(
            tmp_path / "state",
            max_entries=max_entries,
            clock=lambda: clock.now,
            steady_clock=lambda: clock.steady,
            **options,
        )

    return make


@pytest.fixture
async def open_state(make):
    """Open a state of its own thread; all are closed at the end."""
    opened = []

    def open_state(space="test", **options):
        opened.append(make(SqliteState, **options))
        return State(opened[-1], space)

    yield open_state
    for one in opened:
        await one.close()


class RedisServer:
    """A redis-server on a Unix socket in a folder of its own."""

    def __init__(self, *options):
        self.folder = Path(tempfile.mkdtemp(prefix="gatepost-", dir="/tmp"))
        self.socket = self.folder / "redis"
        self.url = f"unix://{self.socket}"
        self.client = redis.Redis.from_url(self.url)
        self.options = options
        self.start()

    def start(self):
        command = ["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.folder]
        command += ["--save", "", "--appendonly", "no", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while True:
            try:
                self.client.ping()
            except redis.AuthenticationError:
                return
            except redis.ConnectionError:
                assert self.process.poll() is None, "redis-server has ended"
                assert time.monotonic() < until
                time.sleep(0.01)
            else:
                return

    def stop(self):
        self.process.kill()
        self.process.wait(30)
        self.socket.unlink(missing_ok=True)

    def close(self):
        self.stop()
        self.client.close()
        shutil.rmtree(self.folder)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Wait longer for a server than on a real one's machine, which runs nothing beside."""
    monkeypatch.setattr(redis_state, "_SECONDS", 20.0)


@pytest.fixture(scope="session")
def one_server():
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def server(one_server):
    """A server that remembers nothing; stopping it is for tests that make their own."""
    one_server.client.flushall()
    return one_server


@pytest.fixture
def make_server():
    """Start servers of a test's own."""
    made = []

    def make(*options):
        made.append(RedisServer(*options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
async def on_server(clock):
    """Open a state on a server; all are closed at the end."""
    opened = []

    def on_server(url, space="test", *, keeps_changes=True, **options):
        opened.append(
            RedisState(RedisClient(url, **options), clock=lambda: clock.now, keeps_changes=keeps_changes)
        )
        return State(opened[-1], space)

    yield on_server
    for one in opened:
        await one.close()


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.real("redis-server"))])
def open_any(request, clock):
    """Open a state of each kind, by its space; all of a test share what they remember."""
    if request.param == "sqlite":
        return request.getfixturevalue("open_state")
    server, on_server = request.getfixturevalue("server"), request.getfixturevalue("on_server")
    clock.server = server.client
    return lambda space="test", **options: on_server(server.url, space, **options)
