"""Two nodes of one name with one store are named at the start of the second, and nothing else is."""

import os
import signal
import subprocess
import sys
import time

import pytest
from gatepost.store import RunningNode
from gatepost.store.postgresql import namesakes, open_store

SAID = "with the node name {} has the store postgresql://"
RULES = """\
node: {name}
workers: {workers}
listen: ['127.0.0.1:0']
pid_file: pid
store: {{url: "{url}"}}
web: {{address: "127.0.0.1:0", password_file: password}}
relay: [{{recipients: "*@example.net", to: inbox}}]
"""


def until(condition, what=lambda: ""):
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, what()
        time.sleep(0.05)


@pytest.fixture
async def open_as(settings, tmp_path, caplog, monkeypatch):
    """Open the store as a process of a node; returns it, and how many namesakes were warned of."""
    monkeypatch.setattr(namesakes, "_PATIENCE_SECONDS", 0.3)
    opened = []

    def open_as(node):
        caplog.clear()
        opened.append(open_store(settings, tmp_path, node=node))
        return opened[-1], caplog.text.count(SAID.format(node.name))

    yield open_as
    for one in opened:
        await one.close()


async def test_another_node_of_the_same_name_is_named_once_and_another_process_of_one_never(open_as):
    one, other = RunningNode.started("mx-a"), RunningNode.started("mx-a")
    assert open_as(one)[1] == 0
    assert open_as(one)[1] == 0, "another worker, or one that takes the place of one"
    assert open_as(RunningNode.started("mx-b"))[1] == 0
    assert open_as(RunningNode.started("MX-A"))[1] == 0
    assert open_as(other)[1] == 1
    assert [open_as(node)[1] for node in (one, other)] == [0, 0], "its other workers say nothing"


async def test_a_node_that_has_ended_is_no_namesake(open_as):
    store, _ = open_as(RunningNode.started("mx-a"))
    await store.close()
    assert open_as(RunningNode.started("mx-a"))[1] == 0


async def test_one_store_is_another_than_that_of_another_schema(
    open_as, postgresql, settings, tmp_path, caplog
):
    open_as(RunningNode.started("mx-a"))
    elsewhere = settings.model_copy(update={"url": postgresql.new_schema()})
    store = open_store(elsewhere, tmp_path, node=RunningNode.started("mx-a"))
    assert "node name" not in caplog.text
    await store.close()


async def test_a_node_whose_connections_broke_is_seen_again_once_it_writes(
    open_as, postgresql, settings, make_record
):
    store, _ = open_as(RunningNode.started("mx-a"))
    await store.commit(make_record())
    postgresql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'gatepost' AND pid <> pg_backend_pid()"
    )
    await store.commit(make_record())
    assert open_as(RunningNode.started("mx-a"))[1] == 1


class Node:
    """A running `gatepost serve`."""

    def __init__(self, folder, url, *, name="mx-a", workers=1):
        folder.mkdir()
        (folder / "rules.yaml").write_text(RULES.format(name=name, url=url, workers=workers))
        (folder / "password").write_text("correct horse\n")
        self.errors = folder / "stderr"
        with self.errors.open("wb") as errors:
            command = [sys.executable, "-m", "gatepost", "serve"]
            self.process = subprocess.Popen(command, cwd=folder, stderr=errors, start_new_session=True)
        self.until("gatepost listens on")

    @property
    def log(self):
        return self.errors.read_text()

    @property
    def warnings(self):
        return self.log.count(SAID.format("mx-a"))

    def until(self, said):
        until(lambda: said in self.log, lambda: self.log)

    def replace(self):
        self.process.send_signal(signal.SIGUSR2)
        self.until("all workers have been replaced")

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            if how is signal.SIGKILL:
                os.killpg(self.process.pid, how)
            else:
                self.process.send_signal(how)
            self.process.wait(60)


@pytest.fixture
def start(settings, tmp_path):
    nodes = []

    def start(**options):
        nodes.append(Node(tmp_path / f"node{len(nodes)}", settings.url, **options))
        return nodes[-1]

    yield start
    for node in nodes:
        node.end()


def test_gateways_warn_at_their_start_alone_and_not_of_what_was_killed(start):
    one = start(workers=2)
    one.replace()
    other = start(workers=2)
    other.replace()
    assert (one.warnings, other.warnings) == (0, 1), other.log
    start(name="mx-b")
    for node in (one, other):
        node.end(signal.SIGKILL)
    later = start()
    assert later.warnings == 0
    later.replace()
    assert later.warnings == 0
    later.end()
    assert start().warnings == 0, "a restart"
