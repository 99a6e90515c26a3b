"""What a shared store costs: two workers on SQLite, on PostgreSQL, and two nodes of one worker on PostgreSQL.

python benchmarks/cluster.py [--turns 5] [--seconds 3] [--sessions 20]

PostgreSQL is on this machine too, with its own defaults and fsync; its processor time is not counted. All
gateways run from the beginning and are measured in turns, so that ratios are of the same minutes. Mail is
relayed to smtp-sink, or kept in quarantine.
"""

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import report
from measure import PATIENCE_SECONDS, WARM_UP_SECONDS, cpu_seconds, say
from proxies import MissingError, Proxy, free_port, program, sink, started

OCTETS = 1 << 10
CLIENTS = 2
"""As many as there are nodes at most."""
RULES = """\
hostname: bench.example
listen: ["127.0.0.1:{port}"]
workers: {workers}
limits: {{connections: 4000, connections_per_client: 4000}}
relay: [{{recipients: "*", clients: 127.0.0.0/8, to: "smtp://127.0.0.1:{upstream}"}}]
store: {{url: "{store}", keep: {{messages: 10000000}}}}
rules: [{{name: kept, filter: match, when: {{recipient: kept@example.com}}, action: quarantine}}]
"""


@dataclass(frozen=True, kw_only=True)
class Mail:
    """What is sent."""

    recipient: str
    reuse: bool

    def __str__(self) -> str:
        end = "kept" if self.recipient.startswith("kept") else "relayed"
        return f"{end}, {'reused' if self.reuse else 'new'}"


MAIL = [
    Mail(recipient=recipient, reuse=reuse)
    for recipient in ("recipient@example.com", "kept@example.com")
    for reuse in (True, False)
]


@dataclass
class Setup:
    """One way to run it, and what was measured."""

    name: str
    nodes: Sequence[Proxy]
    rates: dict[Mail, list[float]] = field(default_factory=dict)
    """Messages a second."""
    costs: dict[Mail, list[float]] = field(default_factory=dict)
    """Milliseconds of processor a message, of the gateways alone."""


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[int]:
    """A server with an empty database `mail`; its port. Raises MissingError."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise MissingError("postgres is not installed (Debian: apt install postgresql)")
    folder.mkdir()
    user: tuple[str, ...] = ()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
    data, port = folder / "data", free_port()
    make = [
        *user,
        found[-1] / "initdb",
        "-D",
        data,
        "-U",
        "gatepost",
        "--auth=trust",
        "--encoding=UTF8",
        "-N",
    ]
    subprocess.run(make, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    given = {"port": port, "unix_socket_directories": folder, "listen_addresses": "127.0.0.1"}
    options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
    command = [*map(str, (*user, found[-1] / "postgres", "-D", data)), *options]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as server,
    ):
        try:
            where = ["-h", "127.0.0.1", "-p", str(port), "-U", "gatepost", "-d", "postgres"]
            until = time.monotonic() + PATIENCE_SECONDS
            while subprocess.run([found[-1] / "pg_isready", "-q", *where], check=False).returncode:
                if time.monotonic() > until:
                    raise RuntimeError("PostgreSQL does not answer")
                time.sleep(0.05)
            psql = [found[-1] / "psql", "-q", *where]
            for name in ("workers", "nodes"):
                subprocess.run([*psql, "-c", f"CREATE DATABASE {name} TEMPLATE template0"], check=True)
            yield port
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


@contextlib.contextmanager
def gateway(folder: Path, name: str, upstream: int, store: str, workers: int) -> Iterator[Proxy]:
    """`gatepost serve` in a folder of its own."""
    port = free_port()
    folder.mkdir()
    (folder / "rules.yaml").write_text(
        RULES.format(port=port, workers=workers, upstream=upstream, store=store)
    )
    command = [Path(sys.executable).parent / "gatepost", "serve", "-q", "-c", folder / "rules.yaml"]
    with started(command, port, name, log=folder / "log") as proxy:
        yield proxy


def send(setup: Setup, mail: Mail, messages: int, sessions: int) -> float:
    """Seconds, where the same clients send their parts at the same time, to one node or to both."""

    def one(number: int) -> None:
        command = [program("smtp-source", "postfix"), *(["-d"] if mail.reuse else [])]
        command += ["-s", str(max(1, sessions // CLIENTS)), "-l", str(OCTETS)]
        command += ["-m", str(max(1, messages // CLIENTS)), "-f", "sender@example.org", "-t", mail.recipient]
        command += [f"127.0.0.1:{setup.nodes[number % len(setup.nodes)].port}"]
        subprocess.run(command, check=True, timeout=PATIENCE_SECONDS)

    begin = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(one, range(CLIENTS)))
    return time.perf_counter() - begin


def messages_for(setup: Setup, mail: Mail, seconds: float, sessions: int) -> int:
    """So many take about that time; warms it up."""
    count = sessions
    while (took := send(setup, mail, count, sessions)) < min(WARM_UP_SECONDS, seconds):
        count *= 2
    return max(sessions, round(count * seconds / took))


def measure(setup: Setup, mail: Mail, messages: int, sessions: int) -> None:
    """One measurement."""
    before = sum(cpu_seconds(node.process) for node in setup.nodes)
    took = send(setup, mail, messages, sessions)
    used = sum(cpu_seconds(node.process) for node in setup.nodes) - before
    setup.rates.setdefault(mail, []).append(messages / took)
    setup.costs.setdefault(mail, []).append(used / messages * 1000)


def compare(setups: Sequence[Setup], turns: int, seconds: float, sessions: int) -> str:
    """All of them in turns; a table."""
    for mail in MAIL:
        say(str(mail))
        counts = [messages_for(setup, mail, seconds, sessions) for setup in setups]
        for _ in range(turns):
            for setup, count in zip(setups, counts, strict=True):
                measure(setup, mail, count, sessions)
    rows: list[list[object]] = []
    for mail in MAIL:
        first = statistics.median(setups[0].rates[mail])
        for setup in setups:
            rates = setup.rates[mail]
            rate, cost = statistics.median(rates), statistics.median(setup.costs[mail])
            shown = f"{rate:,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"
            rows.append([f"{mail}: {setup.name}", shown, f"{rate / first:.2f} x", f"{cost:.2f} ms"])
    return report.table(["1 KB", "messages/s", "against the first", "processor a message"], rows)


def main() -> None:
    """Read the options, start all, and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement, about")
    parser.add_argument("--sessions", type=int, default=20, help="at the same time, of all nodes together")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all that was started is ended
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        try:
            port = stack.enter_context(postgresql(folder / "postgresql"))
            upstream = stack.enter_context(sink()).port
        except MissingError as error:
            sys.exit(str(error))
        url = f"postgresql://gatepost@127.0.0.1:{port}"
        planned = {
            "2 workers, SQLite": [("sqlite", "sqlite:///bench.db", 2)],
            "2 workers, PostgreSQL": [("workers", f"{url}/workers", 2)],
            "2 nodes of 1 worker, PostgreSQL": [(name, f"{url}/nodes", 1) for name in ("mx1", "mx2")],
        }
        setups = [
            Setup(
                name,
                [stack.enter_context(gateway(folder / node, node, upstream, *how)) for node, *how in nodes],
            )
            for name, nodes in planned.items()
        ]
        table = compare(setups, options.turns, options.seconds, options.sessions)
    print(f"Measured on {report.machine()}.\n\n{table}")


if __name__ == "__main__":
    main()
