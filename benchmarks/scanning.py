"""Proxies that ask scanners, beside the scanners alone: what each does in a second, and what is aimed at."""

import contextlib
import smtplib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import proxies
import report
import scanners
from amavis import amavisd
from measure import Load, cpu_seconds, reply_times, say, scan_times
from scanners import Scanner

KB = 1 << 10
SESSIONS = 8
LOADS = [Load(KB, SESSIONS, reuse=True), Load(100 * KB, SESSIONS, reuse=True)]
ONE_BY_ONE = [Load(load.octets, 1, reuse=True) for load in LOADS]
SCANNERS = {"clamd": scanners.clamd, "spamd": scanners.spamd, "rspamd": scanners.rspamd}
DRAIN_SECONDS = 120

RULES = {
    "clamav": 'filter: clamav, with: {{address: "{clamd}"}}, action: reject',
    "rspamd": 'filter: rspamd, with: {{address: "{rspamd}"}}',
    "spamassassin": 'filter: spamassassin, with: {{address: "{spamd}"}}, timeout: 60s',
    "attachments": proxies.FILTERS["files"].replace("{", "{{").replace("}", "}}"),
    "keywords": proxies.FILTERS["words"].replace("{", "{{").replace("}", "}}"),
}
ASKED = {"clamav": "clamd", "rspamd": "rspamd", "spamassassin": "spamd"}
"""Filter -> its scanner."""
PLAIN, CLAMAV, RSPAMD, BOTH = "Gatepost", "clamav", "rspamd", "clamav, rspamd"
ALL = "clamav, attachments, keywords, rspamd"
FILTERS = [CLAMAV, "attachments, clamav", RSPAMD, BOTH, ALL, "spamassassin", "clamav, spamassassin"]
POSTFIX_CLAMAV = "Postfix with clamav-milter"
POSTFIX_BOTH = "Postfix with clamav-milter and rspamd"
AMAVIS, AMAVIS_SPAM = "amavisd-new with clamd", "amavisd-new with clamd and SpamAssassin"
HARAKA = "Haraka with attachment and clamd"


def gatepost(filters: str) -> str:
    """Name of its row."""
    return f"Gatepost with {filters}"


def alone(scanner: str) -> str:
    """Name of its row."""
    return f"{scanner} alone"


@dataclass(frozen=True)
class Row:
    """One that is measured."""

    name: str
    send: Callable[[Load, int], dict[str, float]]
    process: int
    asked: tuple[int, ...] = ()
    """The processes of the scanners that it asks."""
    queue: Path | None = None


@dataclass
class Cell:
    """One row under one load, a figure for each turn."""

    figures: list[dict[str, float]] = field(default_factory=list)
    failed: str = ""

    def median(self, name: str) -> float | None:
        found = [one[name] for one in self.figures if name in one]
        return statistics.median(found) if found and not self.failed else None


Results = Mapping[Load, Mapping[str, Cell]]


@contextlib.contextmanager
def running(wanted: Sequence[str], only: Sequence[str] | None, haraka: Path | None) -> Iterator[list[Row]]:
    """All of them, or only those with these names; what is missing is said."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        rows: list[Row] = []

        def begin(name: str, make):
            place = Path(tempfile.mkdtemp(dir=folder))
            place.chmod(0o755)
            try:
                return stack.enter_context(make(place))
            except (proxies.MissingError, RuntimeError) as error:
                say(f"left out: {name}: {error}")
                return None

        found: dict[str, Scanner] = {}
        for name in wanted:
            if one := begin(name, SCANNERS[name]):
                found[name] = one
                if not only or alone(name) in only:
                    rows.append(Row(alone(name), scan_times(name, one.address), one.process))
        sink = stack.enter_context(proxies.sink())

        def add(name: str, make, *asked: Scanner) -> None:
            if (not only or name in only) and (one := begin(name, make)):
                processes = tuple(scanner.process for scanner in asked)
                if any(scanner.name == "clamd" for scanner in asked) and not _refuses_virus(one.port):
                    say(f"left out: {name}: it lets a virus pass")
                    return
                rows.append(Row(name, _through(one.port), one.process, processes, one.queue))

        settings = {name: one.setting for name, one in found.items()}
        for filters in ["", *FILTERS]:
            names = filters.split(", ") if filters else []
            needed = [ASKED[name] for name in names if name in ASKED]
            if set(needed) <= set(found):
                rules = {name: RULES[name].format(**settings) for name in names}
                add(
                    gatepost(filters) if filters else PLAIN,
                    lambda place, rules=rules: proxies.gatepost(sink.port, place, workers=2, rules=rules),
                    *map(found.__getitem__, needed),
                )
        clamd, rspamd = found.get("clamd"), found.get("rspamd")
        milters: dict[str, Scanner] = {}
        if clamd and (one := begin("clamav-milter", lambda place: scanners.clamav_milter(clamd, place))):
            milters["clamav-milter"] = one
        if rspamd:
            milters["rspamd"] = rspamd
        for names in {tuple(milters), *((name,) for name in milters)} - {()}:
            ports = {name: milters[name].milter for name in names}
            asked = [milters[name] for name in names] + [clamd] * ("clamav-milter" in names)
            add(
                f"Postfix with {' and '.join(names)}",
                lambda place, ports=ports: proxies.postfix(sink.port, place, processes=100, milters=ports),
                *asked,
            )
        if clamd:
            for spam in (False, True):
                add(
                    AMAVIS_SPAM if spam else AMAVIS,
                    lambda place, spam=spam: amavisd(
                        sink.port, place, clamd, servers=SESSIONS, spamassassin=spam
                    ),
                    clamd,
                )
            plugins = {"attachment": "", "clamd": f"clamd_socket={clamd.address}\n"}
            add(
                HARAKA,
                lambda place: proxies.haraka(sink.port, place, haraka, nodes=2, plugins=plugins),
                clamd,
            )
        yield rows


def _through(port: int) -> Callable[[Load, int], dict[str, float]]:
    return lambda load, messages: reply_times(port, load, messages=messages)


def _refuses_virus(port: int) -> bool:
    """True if it scans what it is measured with."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        try:
            client.sendmail(
                "sender@example.org", ["recipient@example.com"], f"Subject: x\n\n{scanners.EICAR}\n"
            )
        except smtplib.SMTPDataError as error:
            return 550 <= error.smtp_code <= 554
        except (smtplib.SMTPException, OSError) as error:
            say(f"the message with a virus: {error}")
    return False


def measured(rows: Sequence[Row], loads: Sequence[Load], turns: int, seconds: float) -> Results:
    """Every load through every row, in turns."""
    results: dict[Load, dict[str, Cell]] = {}
    for load in loads:
        say(f"scanners: {load}")
        cells = results[load] = {row.name: Cell() for row in rows}
        counts: dict[str, int] = {}
        for turn in range(turns + 1):
            for row in rows:
                cell = cells[row.name]
                if cell.failed:
                    continue
                try:
                    if turn:
                        cell.figures.append(_figures(row, load, counts[row.name]))
                    else:  # the first one warms up, and shows how many take that time
                        rate = _figures(row, load, 4 * load.sessions)["rate"]
                        counts[row.name] = max(round(rate * seconds), 2 * load.sessions)
                except RuntimeError as error:
                    cell.failed = str(error)
    return results


def _figures(row: Row, load: Load, messages: int) -> dict[str, float]:
    processes = (row.process, *row.asked)
    before = [cpu_seconds(process) for process in processes]
    found = row.send(load, messages)
    _drain(row)
    own, *asked = (
        (cpu_seconds(process) - begin) / messages * 1000
        for process, begin in zip(processes, before, strict=True)
    )
    return {**found, "cpu": own, "asked cpu": sum(asked)}


def _drain(row: Row) -> None:
    """Wait until the queue is empty: delivery belongs to this row, and shall not slow the next one down."""
    until = time.monotonic() + DRAIN_SECONDS
    while row.queue and any(
        path.is_file()
        for part in ("incoming", "active", "deferred")
        for path in (row.queue / part).rglob("*")
    ):
        if time.monotonic() > until:
            raise RuntimeError(f"messages are in the queue after {DRAIN_SECONDS} s")
        time.sleep(0.02)


def table(results: Results, load: Load) -> tuple[str, list[str], list[list[object]]]:
    """Title, heads and rows of one load."""
    rows: list[list[object]] = []
    for name, cell in results[load].items():
        if cell.failed:
            rows.append([name, f"failed: {cell.failed}", "", "", ""])
            continue
        rates = [one["rate"] for one in cell.figures]
        reply = "dots" if cell.median("dots p50") is not None else "whole"
        rows.append(
            [
                name,
                f"{cell.median('rate'):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})",
                f"{cell.median(f'{reply} p50'):.1f} / {cell.median(f'{reply} p99'):.1f}",
                f"{cell.median('cpu'):.2f}",
                f"{cell.median('asked cpu'):.2f}" if cell.median("asked cpu") else "",
            ]
        )
    heads = ["", "a second (least-most)", "p50 / p99 of the answer, ms", "CPU ms", "CPU ms of its scanners"]
    return f"With scanners: {load}", heads, rows


def aims(results: Results) -> str:
    """What is aimed at, what was measured, and whether that is met."""
    rows = [row for load in LOADS if load in results for row in _aims(results[load], load)]
    for load in ONE_BY_ONE:
        cells = results.get(load, {})
        slower = _most(_figure(cells, gatepost(name), "dots p50") for name in (CLAMAV, RSPAMD))
        found = _divided(_figure(cells, gatepost(BOTH), "dots p50"), slower)
        what = f"{load}: clamav and rspamd side by side, p50 against the slower one's"
        rows.append(report.target(what, found, 1.1, "x", at_most=True))
        rows.append(_p99(cells, load))
    return report.table(["aim", "wanted", "measured", ""], rows)


def _aims(cells: Mapping[str, Cell], load: Load) -> Iterator[list[object]]:
    def rate(name: str) -> float | None:
        return _figure(cells, name, "rate")

    def against(ours: str, what: str, base: float | None, wanted: float) -> list[object]:
        name = f"{load}: {gatepost(ours)} against {what}"
        return report.target(name, _divided(rate(gatepost(ours)), base), wanted, "x")

    clamd, plain = rate(alone("clamd")), rate(PLAIN)
    if load.octets > KB:
        limit, what = clamd, "clamd alone"
    else:
        limit, what = clamd and plain and 1 / (1 / clamd + 1 / plain), "Gatepost and clamd together"
    for ours in (CLAMAV, "attachments, clamav"):
        yield against(ours, what, limit, 0.95)
        yield against(ours, POSTFIX_CLAMAV, rate(POSTFIX_CLAMAV), 1)
    if load.octets == KB:
        yield against(CLAMAV, AMAVIS, rate(AMAVIS), 9)
    yield against("attachments, clamav", HARAKA, rate(HARAKA), 2)
    limits = [rate(name) for name in (alone("clamd"), alone("rspamd"), PLAIN)]
    yield against(
        ALL, "the slowest of clamd, rspamd and Gatepost", None if None in limits else min(limits), 0.85
    )
    yield against(ALL, POSTFIX_BOTH, rate(POSTFIX_BOTH), 1)
    for ours in (ALL, "clamav, spamassassin"):
        yield against(ours, AMAVIS_SPAM, rate(AMAVIS_SPAM), 5)
    yield _p99(cells, load)


def _p99(cells: Mapping[str, Cell], load: Load) -> list[object]:
    slowest = _most(_figure(cells, alone(name), "whole p99") for name in ("clamd", "rspamd"))
    own = _figure(cells, gatepost(ALL), "dots p99")
    more = None if own is None or slowest is None else own - slowest
    what = f"{load}: {gatepost(ALL)}, p99 beyond the slowest scanner's own"
    return report.target(what, more, 5, "ms", at_most=True)


def _figure(cells: Mapping[str, Cell], row: str, name: str) -> float | None:
    return cells[row].median(name) if row in cells else None


def _divided(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _most(figures: Iterator[float | None]) -> float | None:
    """None where one of them was not measured."""
    found = list(figures)
    return None if None in found else max(found)


def scan(
    wanted: Sequence[str], only: Sequence[str] | None, haraka: Path | None, turns: int, seconds: float
) -> str:
    """Aims and tables, in Markdown."""
    with running(wanted, only, haraka) as rows:
        results = dict(measured(rows, LOADS, turns, seconds))
        names = {alone("clamd"), alone("rspamd"), *map(gatepost, (CLAMAV, RSPAMD, BOTH, ALL))}
        few = [row for row in rows if row.name in names]
        results |= measured(few, ONE_BY_ONE, turns, seconds)
    said = [f"**Aims with scanners**\n\n{aims(results)}"]
    for load in results:
        title, heads, lines = table(results, load)
        said.append(f"**{title}**\n\n{report.table(heads, lines)}")
    return "\n\n".join(said)
