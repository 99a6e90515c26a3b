"""The gateway as its operator runs it, Postfix's smtp-sink behind it, and clients before it."""

import contextlib
import dataclasses
import os
import pwd
import re
import resource
import shutil
import signal
import site
import smtplib
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Self

import psutil
import pytest
import yaml
from gatepost.config import load
from gatepost.model.record import Record
from gatepost.store import Archive, Box, JournalQuery, KeptMessage, KeptQuery, open_archive
from ports import free_port

PATIENCE_SECONDS = 60.0
"""For each thing that is waited for; a healthy one takes milliseconds."""
ROOT = Path(__file__).parents[2]
LISTENS_ON = re.compile(r"listens on .*?127\.0\.0\.1:(\d+)")
TRACE = re.compile(rb"Received: from .+\r\n\tby .+ id [^\s;]+(?:\r\n\tfor <.+>)?;\r\n\t.+\r\n")
"""The field that the gateway adds; mail may begin with a line that would continue it."""
"""CLONE_NEWNET of unshare(2): for the thread that asks."""
COUNTING = """
    import asyncio

    from gatepost import Verdict, hookimpl


    class Counting:
        @hookimpl
        async def filter_message(self, transaction):
            return Verdict(reason=str(len(asyncio.all_tasks())))
"""
COUNTED = "counting@gateway.example.net"
"""Whoever writes there is told how many tasks the event loop has."""
PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin"


def wait_until(condition: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up, f"{what}: not within {PATIENCE_SECONDS:g} s"
        time.sleep(0.01)


def gatepost(
    *arguments: str, folder: Path, timeout: float = 120, **options
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "gatepost", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )


def environment(extra_path: str = "", **more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (extra_path, str(ROOT / "proxy"), str(ROOT / "plugins"))))
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "120", **more}


class Gatepost:
    """A command that runs until it is told to stop: serve or complaints."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        self.folder = folder
        self.error_file = folder / "stderr"
        self.output_file = folder / "stdout"
        with self.error_file.open("wb") as errors, self.output_file.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gatepost", *arguments],
                cwd=folder,
                env=environment(**environ),
                stdout=output,
                stderr=errors,
            )
        try:
            wait_until(lambda: self.ended or LISTENS_ON.search(self.log), "the gateway listens")
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        assert not self.ended, self.log
        self.port = int(LISTENS_ON.search(self.log)[1])

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def worker(self) -> int:
        """The process id of the only worker of a gateway without a desk."""
        (one,) = psutil.Process(self.pid).children()
        return one.pid

    def crash(self) -> None:
        """Kill all its processes, none of which sees the others end."""
        self.kill(signal.SIGSTOP)
        children = psutil.Process(self.pid).children()
        for child in children:
            child.kill()
        self.kill(signal.SIGKILL)
        self.wait()
        psutil.wait_procs(children, timeout=PATIENCE_SECONDS)

    @property
    def desk(self) -> str:
        """The address of the web desk, ``host:port``."""
        return re.search(r"https?://([^/]+)/", self.log)[1]

    @property
    def password(self) -> dict[str, str]:
        """The header field with the desk's generated password; empty in complaints mode."""
        file = self.folder / "gatepost.db-desk-password"
        return {"Authorization": f"Bearer {file.read_text().strip()}"} if file.exists() else {}

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def log(self) -> str:
        return self.error_file.read_text()

    @property
    def output(self) -> str:
        return self.output_file.read_text()

    def logs(self, text: str, times: int = 1) -> None:
        """Wait for a text in the log."""
        wait_until(lambda: self.log.count(text) >= times, f"the log says {text!r}, it says:\n{self.log}")

    def kill(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, patience: float = PATIENCE_SECONDS) -> int:
        """The exit status of a gateway that ends."""
        return self.process.wait(patience)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if not self.ended:
            self.kill(number)
        return self.wait()

    def smtp(self) -> "Session":
        return Session("127.0.0.1", self.port, local_hostname="client.example.org", timeout=PATIENCE_SECONDS)

    def client(self, first: bytes = b"") -> "Client":
        return Client(self.port, first)

    def send(self, content: bytes | str, *recipients: str, sender: str = "alice@example.org") -> str:
        """One transaction in a session of its own; the reply that ended it."""
        with self.smtp() as smtp:
            return smtp.transact(content, *recipients, sender=sender)

    def archive(self) -> Archive:
        loaded = load(self.folder / "rules.yaml")
        return open_archive(loaded.config.store, loaded.base)

    def journal(self, count: int | None = None) -> list[Record]:
        """The newest records first; waits for that many."""
        with contextlib.closing(self.archive()) as archive:

            def records() -> list[Record]:
                return archive.records(JournalQuery(), limit=10_000)

            if count is not None:
                wait_until(lambda: len(records()) >= count, f"{count} records")
            return records()

    def kept(self, box: Box = Box.QUARANTINE) -> list[KeptMessage]:
        with contextlib.closing(self.archive()) as archive:
            found = archive.kept(KeptQuery(box=box), limit=1000)
            return [archive.kept_message(kept.id) for kept in found]


class Session(smtplib.SMTP):
    """smtplib's, which sends messages as they are."""

    def transact(self, content: bytes | str, *recipients: str, sender: str = "alice@example.org") -> str:
        """One transaction; the reply that ended it: the first refusal or that to the final dot."""
        self.ehlo_or_helo_if_needed()
        octets = content.encode() if isinstance(content, str) else content
        refusal = None
        for command in (
            f"MAIL FROM:<{sender}>",
            *(f"RCPT TO:<{recipient}>" for recipient in recipients or ("bob@example.com",)),
        ):
            code, text = self.docmd(command)
            if code not in (250, 251):
                refusal = refusal or (code, text)
            if code == 421:  # and the connection is closed
                return f"{code} {text.decode()}"
        code, text = refusal or self.docmd("DATA")
        if code == 354:
            self.send(
                (b"." if octets.startswith(b".") else b"") + octets.replace(b"\r\n.", b"\r\n..") + b".\r\n"
            )
            code, text = self.getreply()
        elif refusal:
            self.docmd("RSET")
        return f"{code} {text.decode()}"


class Client:
    """A raw SMTP client that has read the greeting; replies come as one string each."""

    def __init__(self, port: int, first: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        self.lines = self.socket.makefile("rb")
        try:
            self.socket.sendall(first)
            self.greeting = self.reply()
        except OSError:
            self.close()
            raise

    def reply(self) -> str:
        """One reply; empty where the connection has ended."""
        lines = []
        while line := self.lines.readline().decode():
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                break
        return "\n".join(lines)

    def say(self, *commands: str) -> list[str]:
        """Say each command and wait for its reply."""
        return [self._say(command) for command in commands]

    def _say(self, command: str) -> str:
        self.socket.sendall(command.encode() + b"\r\n")
        return self.reply()

    def begin(self, *recipients: str) -> "Client":
        """As far as the 354."""
        commands = (*(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA")
        replies = self.say("EHLO client.example.org", "MAIL FROM:<alice@example.org>", *commands)
        assert replies[-1].startswith("354"), replies
        return self

    def close(self) -> None:
        self.lines.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sink:
    """Postfix's smtp-sink, with every message in a file of its own."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.folder = folder
        self.options = options
        self.port = port or free_port()
        self.start()

    def start(self) -> None:
        user = ("-u", "root") if os.geteuid() == 0 else ()
        command = [program("smtp-sink"), *user, "-d", f"{self.folder}/message.", *self.options]
        self.process = subprocess.Popen([*command, f"127.0.0.1:{self.port}", "100"], cwd=self.folder)
        wait_until(self._answers, "smtp-sink answers")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)

    def messages(self) -> list["Sunk"]:
        """What came; of a transaction that ended without a message there is an empty file."""
        return [Sunk(octets) for octets in self._dumped() if b"\nReceived: " in octets]

    def _dumped(self) -> Iterator[bytes]:
        # smtp-sink begins a file at MAIL and takes it away at RSET, or when the connection ends: without
        # DATA it is no message, and it may go between the listing and the reading
        for file in self.folder.glob("message.*"):
            with contextlib.suppress(FileNotFoundError):
                yield file.read_bytes()


class Sunk:
    """A message that smtp-sink took: it writes LF for CRLF, fields of its own before, a line behind."""

    def __init__(self, octets: bytes) -> None:
        header, _, rest = octets.partition(b"\nReceived: ")
        fields = [line.partition(b": ") for line in header.split(b"\n")]
        self.recipients = [value[1:-1].decode() for name, _, value in fields if name == b"X-Rcpt-Args"]
        self.mail_from = next(value for name, _, value in fields if name == b"X-Mail-Args")[1:-1].decode()
        content = rest.split(b"\n", 3)[3].removesuffix(b"\n").replace(b"\n", b"\r\n")
        trace = TRACE.match(content)
        assert trace, content[:200]
        self.trace = trace[0]
        self.content = content[len(trace[0]) :]


@dataclass(frozen=True, slots=True)
class Held:
    """What a gateway holds beside its memory."""

    descriptors: int
    upstream_connections: int
    threads: int
    tasks: int


class Watch:
    """What a gateway holds, beside what it held when this was made: the base line."""

    def __init__(self, running: Gatepost) -> None:
        self.running = running
        self.process = psutil.Process(running.worker)
        assert not self.process.children(), "all of it is in one process"
        wait_until(lambda: not self.upstream_connections, "no connection waits to be used again")
        self.base = self.held()
        wait_until(lambda: self.open_descriptors == self.base.descriptors, "it stays so")
        self.resident = self._memory("VmRSS")
        self.forget_peak()

    def held(self) -> Held:
        counted = (self.open_descriptors, self.upstream_connections, self.process.num_threads())
        reply = self.running.send(b"Subject: tasks?\r\n\r\n", COUNTED)
        return Held(*counted, tasks=int(reply.rpartition(" ")[2]))

    @property
    def open_descriptors(self) -> int:
        return self.process.num_fds()

    @property
    def upstream_connections(self) -> int:
        found = self.process.net_connections("tcp")
        return sum(bool(one.raddr) and one.laddr.port != self.running.port for one in found)

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)[1])

    @property
    def grown(self) -> int:
        """Octets of memory more than at the base line."""
        return self._memory("VmRSS") - self.resident

    @property
    def peak(self) -> int:
        """The most that `grown` has been since `forget_peak`."""
        return self._memory("VmHWM") - self.resident

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # proc(5)

    def processor_seconds(self) -> float:
        return sum(self.process.cpu_times()[:2])

    def is_back(self, more: int = 8 << 20, threads: int = 0) -> None:
        """All is as at the base line, but for so many octets of memory, and threads kept for later use."""
        left, grown = "", 0

        def back() -> bool:
            nonlocal left, grown
            left, grown = self._more(threads), self.grown
            return not left and grown <= more

        with contextlib.suppress(AssertionError):
            wait_until(back, "all is given back")
        assert not left, left
        assert grown <= more, f"{grown >> 20} MiB stay"

    def _more(self, threads: int) -> str:
        """What is not as at the base line."""
        held = self.held()
        same = dataclasses.replace(held, threads=self.base.threads) == self.base
        few = self.base.threads <= held.threads <= self.base.threads + threads
        return "" if same and few else f"{held}, at first {self.base}"


def program(name: str) -> str:
    found = shutil.which(name, path=PROGRAMS)
    assert found, name
    return found


@pytest.fixture
def sink(tmp_path) -> Iterator[Callable[..., Sink]]:
    """Start an smtp-sink with options of its own."""
    sinks: list[Sink] = []

    def start(*options: str) -> Sink:
        folder = tmp_path / f"sink{len(sinks)}"
        folder.mkdir()
        sinks.append(Sink(folder, *options))
        return sinks[-1]

    yield start
    for one in sinks:
        one.stop()


@pytest.fixture
def gateway(tmp_path) -> Iterator[Callable[..., Gatepost]]:
    """Start a gateway with rules (what they leave out is chosen for a test) and files beside them.

    One that is to be counted can be asked by `Watch`, and keeps upstream connections hardly any time.
    At the end each that was not killed must stop at SIGTERM with status 0, and none may have logged an
    error that the test did not expect.
    """
    running: list[tuple[Gatepost, Sequence[str]]] = []

    def start(
        rules: str = "",
        *,
        upstream: int | None = None,
        files: Mapping[str, str] = {},
        errors: Sequence[str] = (),
        environment: Mapping[str, str] = {},
        counted: bool = False,
    ) -> Gatepost:
        folder = tmp_path / f"gateway{len(running)}"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(dedent(text))
        write_rules(folder, rules, upstream)
        if counted:
            count(folder)
        one = Gatepost(folder, "serve", "-c", "rules.yaml", **environment)
        running.append((one, errors))
        return one

    yield start
    statuses = [one.stop() for one, _ in running]
    assert {*statuses} <= {0, -signal.SIGKILL}, "\n".join(one.log for one, _ in running)
    for one, errors in running:
        lines = [line for line in one.log.splitlines() if " ERROR " in line or "Traceback" in line]
        unexpected = [line for line in lines if not any(error in line for error in errors)]
        assert not unexpected, one.log


def write_rules(folder: Path, rules: str, upstream: int | None = None) -> Path:
    text = dedent(rules)
    given = yaml.safe_load(text) or {}
    defaults = {
        "hostname": "gateway.example.net",
        "listen": "127.0.0.1:0",
        "relay": [
            {"recipients": "*@example.com", "to": f"smtp://127.0.0.1:{upstream}" if upstream else "inbox"}
        ],
    }
    missing = {key: value for key, value in defaults.items() if key not in given}
    path = folder / "rules.yaml"
    path.write_text(text + ("\n" + yaml.safe_dump(missing) if missing else ""))
    return path


def count(folder: Path) -> None:
    """Has the gateway say how many tasks it has; what the rules say besides stays."""
    path = folder / "rules.yaml"
    rules = yaml.safe_load(path.read_text())
    counting = {"name": "counting", "filter": "./counting.py:Counting", "when": {"recipient": COUNTED}}
    refused = {"action": "reject", "reply": "550 5.7.1 {reason}"}
    rules["rules"] = [counting | refused, *rules.get("rules", ())]
    rules["relay"] = [{"recipients": COUNTED, "to": "discard"}, *rules["relay"]]
    rules["limits"] = {"idle_time": "200ms", **rules.get("limits", {})}
    path.write_text(yaml.safe_dump(rules, sort_keys=False))
    (folder / "counting.py").write_text(dedent(COUNTING))


@pytest.fixture
def many_open_files() -> Iterator[int]:
    """How many this process may have: as many as the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def watch() -> type[Watch]:
    """Of a gateway that is counted and has taken its first messages: what it holds now is the base line."""
    return Watch


@pytest.fixture
def run(tmp_path):
    """Run a command of gatepost to its end in the test's folder."""
    return lambda *arguments, **options: gatepost(*arguments, folder=tmp_path, **options)


@pytest.fixture(scope="session")
def gateway_class() -> type[Gatepost]:
    """To start one in a folder of the test's own choice."""
    return Gatepost


@pytest.fixture(name="environment")
def environment_fixture() -> dict[str, str]:
    """In which this tree's own package is what runs."""
    return environment()


@pytest.fixture(scope="session", name="write_rules")
def write_rules_fixture():
    """Write a rules.yaml into a folder; the keys that it leaves out are chosen for a test."""
    return write_rules


@pytest.fixture(scope="session", name="wait_until")
def wait_until_fixture():
    """Wait for a condition, with patience."""
    return wait_until


@pytest.fixture
def nobodys() -> Iterator[tuple[Path, Mapping[str, str]]]:
    """A folder of the user nobody, and the environment of a Python whose packages nobody may read."""
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="gatepost-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        root.chmod(0o755)
        (own := root / "own").mkdir()
        os.chown(own, nobody.pw_uid, nobody.pw_gid)
        packages = [*map(Path, site.getsitepackages()), ROOT / "proxy", ROOT / "plugins"]
        packages = [one for one in packages if one.is_dir()]
        if not all(_is_for_everybody(one) for one in packages):
            copies = root / "packages"
            for one in packages:
                shutil.copytree(one, copies, dirs_exist_ok=True)
            path = str(copies)
        else:
            path = os.pathsep.join([*map(str, packages[-2:]), *map(str, packages[:-2])])
        yield own, {"PYTHONPATH": path}


def _is_for_everybody(path: Path) -> bool:
    return all(one.stat().st_mode & stat.S_IROTH for one in (path, *path.parents))


@pytest.fixture
def start_complaints(tmp_path) -> Iterator[Callable[..., Gatepost]]:
    """Start the complaints department, however it may end."""
    running: list[Gatepost] = []

    def start(*options: str, **environ: str) -> Gatepost:
        desk = () if "--web" in options else ("--no-web",)
        command = ("complaints", "--smtp", "127.0.0.1:0", *desk, *options)
        running.append(Gatepost(tmp_path, *command, **environ))
        return running[-1]

    yield start
    for one in running:
        one.stop(signal.SIGINT)


@pytest.fixture
def complaints(start_complaints) -> Iterator[Callable[..., Gatepost]]:
    """Start the complaints department; SIGINT must end it with status 0."""
    running: list[Gatepost] = []

    def start(*options: str, **environ: str) -> Gatepost:
        running.append(start_complaints(*options, **environ))
        return running[-1]

    yield start
    for one in running:
        assert one.stop(signal.SIGINT) == 0, one.log
