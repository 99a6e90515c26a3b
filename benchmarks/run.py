"""Gatepost beside other proxies, and its parts alone: tables, ratios and a chart.

python benchmarks/run.py [--only SECTION,...] [--turns 3] [--seconds 2] [--haraka FOLDER]
    [--before GATEPOST] [--write]

Sections: throughput, times, filters, store, start, idle, growth, complaints, large, scanners. All proxies
stand before smtp-sink on this machine and are measured in turns. Nothing is installed; what is missing is
said and left out. --write puts the tables into docs/benchmarks.md and the chart beside.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path

import parts
import proxies
import report
import scanning
from measure import Load, messages_for, reply_times, sampled_memory, say, send, turn
from report import KB, MB, Cell

DOCS = Path(__file__).parent.parent / "docs"
LOADS = [
    Load(KB, 20, reuse=False),
    Load(KB, 20, reuse=True),
    Load(KB, 100, reuse=False),
    Load(KB, 100, reuse=True),
    Load(KB, 1000, reuse=False),
    Load(KB, 1000, reuse=True),
    Load(30 * KB, 20, reuse=False),
    Load(30 * KB, 20, reuse=True),
    Load(MB, 20, reuse=False),
    Load(MB, 20, reuse=True),
    Load(25 * MB, 1, reuse=True),
    Load(25 * MB, 4, reuse=True),
    Load(25 * MB, 4, reuse=False),
]
TIMED = {
    Load(KB, 20, reuse=False): 3000,
    Load(KB, 20, reuse=True): 3000,
    Load(KB, 100, reuse=True): 3000,
    Load(30 * KB, 20, reuse=True): 2000,
    Load(MB, 20, reuse=True): 200,
}
"""Loads whose reply times are measured, and with how many messages."""
SECTIONS = [
    "throughput",
    "times",
    "filters",
    "store",
    "start",
    "idle",
    "growth",
    "complaints",
    "large",
    "scanners",
]


@contextlib.contextmanager
def all_proxies(haraka: Path | None, before: Path | None):
    """Name -> proxy, all of them running; what is missing is said."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        sink = stack.enter_context(proxies.sink())
        found = {sink.name: sink}

        def begin(name: str, make) -> None:
            place = Path(tempfile.mkdtemp(dir=folder))
            place.chmod(0o755)
            try:
                proxy = stack.enter_context(make(place))
            except (proxies.MissingError, RuntimeError) as error:
                say(f"left out: {name}: {error}")
            else:
                found[proxy.name] = proxy

        begin("Postfix", lambda place: proxies.postfix(sink.port, place, processes=1100))
        begin("Haraka", lambda place: proxies.haraka(sink.port, place, haraka, nodes=2))
        begin("stock", lambda _: proxies.stock(sink.port))
        builds = [(1, None), *([(2, before)] if before else []), (2, None)]
        for workers, build in builds:
            for rules in (proxies.PLAIN, proxies.FILTERS):
                begin(
                    "Gatepost",
                    lambda place, workers=workers, build=build, rules=rules: proxies.gatepost(
                        sink.port, place, workers=workers, rules=rules, before=build
                    ),
                )
        yield found


def throughput(running, loads, turns: int, seconds: float) -> dict[Load, dict[str, Cell]]:
    """Every load through every proxy, in turns; then once more for the memory."""
    results: dict[Load, dict[str, Cell]] = {}
    for load in loads:
        say(str(load))
        cells = results[load] = {name: Cell() for name in running}
        counts = {}
        for name, proxy in running.items():
            try:
                counts[name] = messages_for(proxy.port, load, seconds)
            except (RuntimeError, OSError) as error:
                cells[name].failed = str(error)
        for _ in range(turns):
            for name, count in counts.items():
                if not cells[name].failed:
                    try:
                        cells[name].runs.append(turn(running[name], load, count))
                    except (RuntimeError, OSError) as error:
                        cells[name].failed = str(error)
        for name, count in counts.items():
            if not cells[name].failed and name != "no proxy":
                with sampled_memory(running[name].process) as samples, contextlib.suppress(RuntimeError):
                    send(running[name].port, load, max(count // 2, load.sessions))
                cells[name].peak = max(samples)
    return results


def times(running) -> str:
    """Reply times of clients who wait for each reply, and send one message after the other."""
    found = {
        name: [reply_times(proxy.port, load, messages=count) for load, count in TIMED.items()]
        for name, proxy in running.items()
    }
    tables = []
    for key, what in (
        ("dots", "of the reply to the dot"),
        ("whole", "of a transaction, from the connection or from MAIL to the reply to the dot"),
    ):
        rows = [
            [name, *(f"{cell[f'{key} p50']:.1f} / {cell[f'{key} p99']:.1f}" for cell in cells)]
            for name, cells in found.items()
        ]
        heads = ["ms", *map(str, TIMED)]
        tables.append(f"**Reply times: p50 / p99 {what}**\n\n{report.table(heads, rows)}")
    return "\n\n".join(tables)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, divided by commas")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement, about")
    parser.add_argument("--quick", action="store_true", help="two loads, one short turn")
    parser.add_argument("--scanners", default=",".join(scanning.SCANNERS), help="those that are started")
    parser.add_argument("--rows", nargs="+", help="with scanners, only these rows, by their names")
    parser.add_argument("--haraka", type=Path, default=os.environ.get("HARAKA_DIR"), help="where npm put it")
    parser.add_argument("--before", type=Path, help="the command gatepost of another build, for comparison")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all that was started is ended
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))} (there are: {', '.join(SECTIONS)})")
    asked = options.scanners.split(",")
    if unknown := set(asked) - set(scanning.SCANNERS):
        parser.error(
            f"no such scanner: {', '.join(sorted(unknown))} (there are: {', '.join(scanning.SCANNERS)})"
        )
    try:
        for name in ("smtp-source", "smtp-sink"):
            proxies.program(name, "postfix")
    except proxies.MissingError as error:
        sys.exit(str(error))
    haraka = Path(options.haraka) if options.haraka else None
    loads = LOADS[:2] if options.quick else LOADS
    turns, seconds = (1, 0.5) if options.quick else (options.turns, options.seconds)
    measured_on = f"Measured on {report.machine(proxies.haraka_version(haraka))}."
    results, said = {}, [measured_on]
    if {"throughput", "times"} & set(wanted):
        with all_proxies(haraka, options.before) as running:
            if "throughput" in wanted:
                results = throughput(running, loads, turns, seconds)
                said += [report.throughput(results, load) for load in results]
            if "times" in wanted:
                say("times")
                said.append(times(running))
    figures: dict[str, float] = {}
    for section, make in (
        ("filters", parts.filters),
        ("store", parts.store),
        ("start", parts.start),
        ("idle", parts.idle),
        ("growth", lambda: parts.growth(seconds)),
        ("complaints", lambda: parts.complaints(seconds, turns)),
        ("large", lambda: parts.large(turns)),
    ):
        if section in wanted:
            say(section)
            for title, heads, rows in make():
                said.append(f"**{title}**\n\n{report.table(heads, rows)}")
                figures |= {f"{section}: {row[0]}": row[1] for row in rows}
    named = {
        "25 MB through one session": "large: MB/s",
        "25 MB, peak memory": "large: peak memory on top of the idle process, in messages",
        "complaints mode, stored durably, 1 KB reused": "complaints: stored durably",
        "an idle connection": "idle: after EHLO, of 2,000",
        "gatepost check": "start: gatepost check",
        "gatepost serve listens": "start: gatepost serve, 2 workers, until it listens",
    }
    text = ""
    if set(wanted) - {"scanners"}:
        aims = report.targets(results, {name: figures[key] for name, key in named.items() if key in figures})
        said.insert(1, f"**Aims**\n\n{aims}")
        text = "\n\n".join(said)
        print(text)
    if "scanners" in wanted:
        with_scanners = f"{measured_on}\n\n{scanning.scan(asked, options.rows, haraka, turns, seconds)}"
        print(with_scanners)
        if options.write:
            report.put_into_page("scanners", with_scanners)
    if options.write and results:
        report.put_into_page("figures", text)
        (DOCS / "images" / "throughput.svg").write_text(report.chart(results, loads[:2]))


if __name__ == "__main__":
    main()
