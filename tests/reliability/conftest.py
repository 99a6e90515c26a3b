"""A gateway to talk to; and docs/reliability.md: what the tests with a case's number saw in this run."""

import smtplib
import socket
import time
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from gatepost.testing import FakeUpstream, running_gateway

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reliability.md"
BEGIN = "<!-- cases: begin, written by: pytest --update-reliability -->\n"
END = "<!-- cases: end -->\n"


class Cases:
    """Collects results while the tests run; compares or writes the page at the end."""

    def __init__(self, config) -> None:
        self.groups = yaml.safe_load((HERE / "cases.yaml").read_text(encoding="utf-8"))
        self.known = {number for cases in self.groups.values() for number in cases}
        self.outcomes: dict[int, dict[str, str]] = defaultdict(dict)
        self.update = config.getoption("--update-reliability")
        self.chosen = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
        """Not all tests run."""
        self.deselected = False
        self.complaint = ""

    def pytest_collection_modifyitems(self, items):
        for item in items:
            numbers = tuple(n for marker in item.iter_markers("case") for n in marker.args)
            if unknown := set(numbers) - self.known:
                raise pytest.UsageError(f"{item.nodeid}: no such case: {sorted(unknown)}")
            item.user_properties += [("case", number) for number in numbers]

    def pytest_deselected(self):
        self.chosen = self.deselected = True

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        """With pytest-xdist the tests are collected where they run."""
        self.chosen |= getattr(node, "workeroutput", {}).get("deselected", False)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            for name, number in report.user_properties:
                if name == "case":
                    self.outcomes[number][report.nodeid] = report.outcome

    def table(self) -> str:
        return "\n".join(self._lines()) + "\n"

    def _lines(self):
        for group, cases in self.groups.items():
            yield from (
                f"\n**{group}**\n",
                "| case | what happens | expected | result |",
                "|---:|---|---|---|",
            )
            for number, (what, expected, *why) in cases.items():
                seen = f"does not apply: {why[0]}" if why else self._seen(number)
                yield f"| {number} | {_cell(what)} | {_cell(expected)} | {seen} |"

    def _seen(self, number: int) -> str:
        outcomes = list(self.outcomes[number].values())
        passed = outcomes.count("passed")
        if not outcomes:
            return "**no test**"
        return "as expected" if passed == len(outcomes) else f"**{len(outcomes) - passed} failed or skipped**"

    def pytest_sessionfinish(self, session, exitstatus):
        """A run of everything must see what the page says; a run of a part says nothing of the page.

        Where a program is not installed, what needs it is skipped, and that is a part too.
        """
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["deselected"] = self.deselected
            return
        skipped = any("skipped" in outcomes.values() for outcomes in self.outcomes.values())
        if exitstatus != 0 or session.config.option.collectonly:
            return
        if self.chosen or skipped:
            if self.update:
                self._complain(session, "stays as it is: only a run of all tests, none skipped, writes it")
            return
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        wanted = before + BEGIN + self.table() + END + rest.partition(END)[2]
        if self.update:
            PAGE.write_text(wanted, encoding="utf-8")
        elif wanted != text:
            self._complain(session, "is not what this run saw: --update-reliability writes it")

    def _complain(self, session, what):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self.complaint = f"docs/reliability.md {what}"

    def pytest_terminal_summary(self, terminalreporter):
        if self.complaint:
            terminalreporter.write_line(self.complaint, red=True)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def pytest_configure(config):
    config.pluginmanager.register(Cases(config), "reliability-cases")


@pytest.fixture(autouse=True, scope="session")
def _the_journal_is_written_at_once():
    """Else each look at the journal waits a tenth of a second for records that might follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gatepost.store.sql.writer._GATHER_SECONDS", 0.001)
        yield


@pytest.fixture(scope="module")
def upstream():
    with FakeUpstream() as server:
        yield server


def until_greeted(gateway):
    """Until the connection that the gateway opens by itself, to an upstream with DSN, waits to be used."""
    for _ in range(400):
        with smtplib.SMTP(gateway.host, gateway.port, timeout=60) as client:
            client.ehlo()
            if client.has_extn("DSN"):
                return
        time.sleep(0.01)
    pytest.fail("upstream was never greeted")


@pytest.fixture(name="until_greeted")
def until_greeted_fixture():
    """Wait until a gateway knows what its upstream offers."""
    return until_greeted


@pytest.fixture(scope="module")
def gateway(upstream):
    with running_gateway({}, upstream=upstream) as running:
        until_greeted(running)
        yield running


@pytest.fixture
def talk(gateway):
    """Say these pieces, each once the one before was answered, and QUIT; the replies to them."""

    def say(*pieces, pause=0.0, to=gateway):
        with (
            socket.create_connection((to.host, to.port), 60) as client,
            client.makefile("rb") as lines,
        ):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            replies = [read_reply(lines)]
            for piece in pieces:
                for packet in piece if isinstance(piece, tuple) else (piece,):
                    client.sendall(packet)
                    time.sleep(pause)
                replies.append(read_reply(lines))
            client.sendall(b"QUIT\r\n")
            while one := read_reply(lines):
                replies.append(one)
        assert replies.pop().startswith("221")
        return replies[1:]

    return say


def read_reply(lines):
    """One reply; empty where the connection has ended."""
    said = []
    while line := lines.readline():
        said.append(line.decode().rstrip())
        if line[3:4] == b" ":
            break
    return "\n".join(said)


@pytest.fixture(name="reply")
def reply_fixture():
    """Read one reply; empty where the connection has ended."""
    return read_reply


@pytest.fixture
def wait_until():
    """Wait for a condition, with patience."""

    def wait(condition, what):
        give_up = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < give_up, what
            time.sleep(0.01)

    return wait
