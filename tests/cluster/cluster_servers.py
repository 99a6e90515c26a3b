"""What the nodes of a cluster share, as real servers: PostgreSQL with a standby, Redis, a mail server.

All of them are in a network of their own, where each node reaches them by addresses that only it uses, so
that one node can be cut off. Node 1 has 10.0.0.11 itself, and reaches the servers in 10.1.1.0/24.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

PATIENCE_SECONDS = 120.0
"""For each thing that is waited for; on a machine with nothing else to do it takes a second or two."""
PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin"
DATABASE, REDIS, SINK = 1, 3, 2
"""The last part of the address by which a node reaches each of them."""
DATABASE_PORTS = (5432, 5433)
REDIS_PORT, SINK_PORT = 6379, 2526
LOCAL = "127.0.0.1"
PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = {
    what: [line for line in block.splitlines() if not line.startswith("#")]
    for what in ("pg_basebackup", "SET", "RESET", "pg_promote")
    for kind, block in BLOCKS
    if kind == "sh" and re.search(rf"\b{what}\b", block)
}
"""Those of the page about PostgreSQL, by a word of theirs."""
SETTINGS = dict(
    re.findall(r"^(\w+) = '?(.*?)'?$", next(block for kind, block in BLOCKS if kind == "ini"), re.MULTILINE)
)
"""Those of the page for PostgreSQL."""
_NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of unshare(2)."""


def wait_until(condition: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up, f"{what}: not within {PATIENCE_SECONDS:g} s"
        time.sleep(0.02)


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found, name
    return found


def run(*command: object) -> None:
    subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_SECONDS
    )


def listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


def node_address(number: int) -> str:
    return f"10.0.0.1{number}"


def address(number: int, server: int) -> str:
    """The address by which a node reaches a server."""
    return f"10.1.{number}.{server}"


@contextlib.contextmanager
def own_network(nodes: int) -> Iterator[None]:
    """This thread, what it starts and the sockets it opens are in a network of their own; needs root."""
    library = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if library.unshare(_NEW_NETWORK):
        os.close(before)
        raise PermissionError(ctypes.get_errno(), "only root has networks of its own")
    try:
        run(program("ip"), "link", "set", "lo", "up")
        for number in range(1, nodes + 1):
            for one in (node_address(number), *(address(number, server) for server in (1, 2, 3))):
                run(program("ip"), "address", "add", f"{one}/32", "dev", "lo")
        yield
    finally:
        library.setns(before, 0)
        os.close(before)


class Cut:
    """A node whose packets are dropped, to and from everything, while the block lasts."""

    def __init__(self, number: int) -> None:
        self._rules = [
            (option, which)
            for option in ("-s", "-d")
            for which in (f"{node_address(number)}/32", f"10.1.{number}.0/24")
        ]

    def __enter__(self) -> None:
        for rule in self._rules:
            run(program("iptables"), "-A", "INPUT", *rule, "-j", "DROP")

    def __exit__(self, *_: object) -> None:
        for rule in self._rules:
            run(program("iptables"), "-D", "INPUT", *rule, "-j", "DROP")


class Postgres:
    """A PostgreSQL server; root starts it as another user."""

    def __init__(self, folder: Path, name: str, port: int) -> None:
        self.data, self.log = folder / name, folder / f"{name}.log"
        self.name, self.port = name, port
        self.bin = max(Path("/usr/lib/postgresql").glob("*/bin"))
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, command: str, *arguments: object) -> None:
        run(*self._as_user(), self.bin / command, *arguments)

    @staticmethod
    def _as_user() -> tuple[str, ...]:
        if os.geteuid() != 0:
            return ()
        return ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")

    def make(self) -> None:
        self.run("initdb", "-D", self.data, "-U", "gatepost", "--auth=trust", "--no-sync", "--encoding=UTF8")
        with (self.data / "pg_hba.conf").open("a") as file:
            file.writelines(f"host {what} all 10.0.0.0/8 trust\n" for what in ("all", "replication"))

    def copy_from(self, primary: "Postgres") -> None:
        """Become its standby, as a server that is made anew."""
        shutil.rmtree(self.data, ignore_errors=True)
        command, *_ = COMMANDS["pg_basebackup"]
        command = command.replace("/var/lib/postgresql/17/main", str(self.data))
        command = command.replace(
            "host=10.0.0.21 user=replicator", f"host={LOCAL} port={primary.port} user=gatepost"
        )
        self.sh(command.replace("application_name=db2", f"application_name={self.name}"))

    def sh(self, command: str) -> None:
        """Run a command of docs/cluster.md, which connects to this server unless it says otherwise."""
        environment = {
            **os.environ,
            "PATH": f"{self.bin}:{PATH}",
            "PGHOST": LOCAL,
            "PGPORT": str(self.port),
            "PGUSER": "gatepost",
            "PGDATABASE": "postgres",
        }
        command = [*self._as_user(), "sh", "-ec", command]
        done = subprocess.run(
            command,
            cwd=self.data.parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def runs_alone(self) -> None:
        """Commits wait for no standby from now on."""
        for command in COMMANDS["RESET"]:
            self.sh(command)

    def start(self) -> None:
        settings = {
            "listen_addresses": "*",
            "port": self.port,
            "unix_socket_directories": "",
            "shared_buffers": "32MB",
            "max_connections": 60,
            "jit": "off",
            "fsync": "off",  # the kernel goes on; on a busy disk a restart would outlast a node
            **SETTINGS,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*self._as_user(), self.bin / "postgres", "-D", self.data, *options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.data.parent, stdout=log, stderr=log)
        wait_until(self.answers, f"PostgreSQL {self.name} answers")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        with contextlib.suppress(psycopg.OperationalError):
            return bool(self.ask("SELECT 1"))
        return False

    def stop(self, how: int = signal.SIGQUIT) -> None:
        """SIGINT ends it in order, SIGQUIT at once, with all its processes."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(PATIENCE_SECONDS)

    def connect(self, database: str = "mail") -> psycopg.Connection:
        return psycopg.connect(
            host=LOCAL, port=self.port, user="gatepost", dbname=database, autocommit=True, connect_timeout=5
        )

    def ask(self, statement: str, *values: object, database: str = "postgres") -> list[tuple]:
        with self.connect(database) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []


class Databases:
    """A primary and its synchronous standby: a commit is on the disks of both."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gatepost-", dir="/tmp"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self.primary, self.standby = (
            Postgres(self.folder, name, port) for name, port in zip("ab", DATABASE_PORTS, strict=True)
        )
        self.primary.make()
        self.primary.start()
        self.primary.ask("CREATE DATABASE mail TEMPLATE template0")
        self.primary.ask("CREATE EXTENSION pg_trgm", database="mail")
        self.follow()

    def follow(self) -> None:
        """Make the standby anew, and let each commit wait for it from now on."""
        self.standby.copy_from(self.primary)
        self.standby.start()
        self.wait_for_standby()

    def wait_for_standby(self) -> None:
        """Let each commit wait for the standby, which runs."""
        for command in COMMANDS["SET"]:
            self.primary.sh(command.replace("db2", self.standby.name))
        wait_until(self.is_safe, "the standby is synchronous")

    @property
    def has_standby(self) -> bool:
        return self.standby.process is not None and self.standby.process.poll() is None

    def is_safe(self) -> bool:
        found = self.primary.ask("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'")
        return found == [("sync",)]

    def restart(self, how: int = signal.SIGINT) -> None:
        self.primary.stop(how)
        self.primary.start()

    def fail_over(self) -> None:
        """The primary ends at once and does not come back; the standby takes its place, alone."""
        self.primary.stop(signal.SIGQUIT)
        self.primary, self.standby = self.standby, self.primary
        self.primary.runs_alone()
        for command in COMMANDS["pg_promote"]:
            self.primary.sh(command)
        assert self.primary.ask("SELECT pg_is_in_recovery()") == [(False,)]

    def url(self, number: int) -> str:
        """The store's, as a node reaches it."""
        host = address(number, DATABASE)
        hosts = ",".join(f"{host}:{port}" for port in DATABASE_PORTS)
        return f"postgresql://gatepost@{hosts}/mail?target_session_attrs=read-write"

    def close(self) -> None:
        self.primary.stop()
        self.standby.stop()
        shutil.rmtree(self.folder)


class Server:
    """A program that listens on a port, and can be killed and started again."""

    def __init__(self, folder: Path, port: int, *command: object) -> None:
        self.folder, self.port, self.command = folder, port, [str(part) for part in command]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdout=output, stderr=output)
        wait_until(self._listens, f"{self.command[0]} listens")

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "output").read_text()
        return listens(LOCAL, self.port)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_SECONDS)


def make_redis(folder: Path) -> Server:
    options = ("--port", REDIS_PORT, "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "")
    return Server(folder, REDIS_PORT, program("redis-server"), *options, "--appendonly", "no")


def make_sink(folder: Path) -> Server:
    """Postfix's smtp-sink, with every message in a file of its own."""
    user = ("-u", "root") if os.geteuid() == 0 else ()
    command = (program("smtp-sink"), *user, "-d", f"{folder}/message.", f"0.0.0.0:{SINK_PORT}", "500")
    return Server(folder, SINK_PORT, *command)


def make_haproxy(folder: Path, settings: str) -> Server:
    (folder / "haproxy.cfg").write_text(settings)
    return Server(folder, 25, program("haproxy"), "-db", "-f", folder / "haproxy.cfg")
