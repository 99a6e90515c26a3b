"""The figures as tables, as a chart, and held against what is aimed at."""

import os
import platform
import sqlite3
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from xml.sax.saxutils import escape

from measure import Load, Run

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
POSTFIX, HARAKA, STOCK = "Postfix smtpd_proxy_filter", "Haraka smtp_forward", "stock"
PLAIN, FILTERED = "Gatepost, 2 workers", "Gatepost, 2 workers + filters"
PLAIN_BEFORE, FILTERED_BEFORE = (name.replace("Gatepost", "Gatepost before") for name in (PLAIN, FILTERED))
KB, MB = 1 << 10, 1 << 20
BESIDE_BEFORE = (
    (Load(KB, 20, reuse=True), PLAIN, PLAIN_BEFORE, 1.5),
    (Load(KB, 20, reuse=False), PLAIN, PLAIN_BEFORE, 1.35),
    (Load(KB, 20, reuse=True), FILTERED, FILTERED_BEFORE, 1.7),
    (Load(KB, 20, reuse=False), FILTERED, FILTERED_BEFORE, 1.5),
    (Load(KB, 20, reuse=True), FILTERED, PLAIN, 0.85),
    (Load(KB, 20, reuse=False), FILTERED, PLAIN, 0.85),
    (Load(25 * MB, 4, reuse=True), FILTERED, FILTERED_BEFORE, 1.5),
    (Load(25 * MB, 1, reuse=True), FILTERED, FILTERED_BEFORE, 1.5),
)
"""What the build of commit 5b96cfd was to be surpassed by, and what filters were to leave of the speed."""


@dataclass
class Cell:
    """One proxy under one load."""

    runs: list[Run] = field(default_factory=list)
    peak: int = 0
    """Octets of memory, of the whole process tree."""
    failed: str = ""

    @property
    def rate(self) -> float:
        return 0.0 if self.failed else statistics.median(run.rate for run in self.runs)

    @property
    def cpu(self) -> float:
        return statistics.median(run.cpu for run in self.runs)


Results = Mapping[Load, Mapping[str, Cell]]


def ratio(results: Results, load: Load, name: str, base: str) -> float | None:
    """How many times as fast; None where one of them was not measured."""
    cells = results.get(load, {})
    if name not in cells or base not in cells or not cells[base].rate or not cells[name].rate:
        return None
    return cells[name].rate / cells[base].rate


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """In Markdown; all columns but the first are figures."""
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    lines += ["| " + " | ".join(figure(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def figure(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def throughput(results: Results, load: Load) -> str:
    """One load's table: rate with its spread, against Postfix, CPU and memory."""
    rows = []
    for name, cell in results[load].items():
        if cell.failed:
            rows.append([name, f"failed: {cell.failed}", "", "", ""])
            continue
        rates = [run.rate for run in cell.runs]
        scale = load.octets / MB if load.octets >= MB else 1
        against = ratio(results, load, name, POSTFIX)
        rows.append(
            [
                name,
                f"{round(cell.rate * scale):,} ({round(min(rates) * scale):,}-{round(max(rates) * scale):,})",
                f"{against:.2f}" if against else "",
                f"{cell.cpu:.2f}" if cell.cpu else "",
                f"{cell.peak / MB:,.0f}" if cell.peak else "",
            ]
        )
    unit = "MB/s" if load.octets >= MB else "messages/s"
    return f"**{load}**\n\n" + table(
        ["", f"{unit} (least-most)", "x Postfix", "CPU ms a message", "peak memory, MB"], rows
    )


def targets(results: Results, figures: Mapping[str, float]) -> str:
    """What is aimed at, what was measured, and whether that is met."""
    rows = []
    for reuse, postfix, haraka in ((False, 1.5, 4.0), (True, 2.5, 6.0)):
        load = Load(KB, 20, reuse)
        for base, wanted in ((POSTFIX, postfix), (HARAKA, haraka)):
            for name, part in ((PLAIN, 1.0), (FILTERED, 0.85)):
                found = ratio(results, load, name, base)
                rows.append(target(f"{load}: {name} against {base}", found, wanted * part, "x"))
    rows.append(target(f"{load}: {PLAIN} against {STOCK}", ratio(results, load, PLAIN, STOCK), 5.0, "x"))
    one = Load(MB, 20, reuse=True)
    for name, wanted in ((PLAIN, 1.0), (FILTERED, 1.15)):
        rows.append(
            target(f"{one}: {name} against {POSTFIX}", ratio(results, one, name, POSTFIX), wanted, "x")
        )
    if any(PLAIN_BEFORE in cells for cells in results.values()):
        for load, name, base, wanted in BESIDE_BEFORE:
            rows.append(
                target(f"{load}: {name} against {base}", ratio(results, load, name, base), wanted, "x")
            )
    for what, wanted, unit, at_most in (
        ("25 MB through one session", 200, "MB/s", False),
        ("25 MB, peak memory", 2.5, "messages", True),
        ("complaints mode, stored durably, 1 KB reused", 3000, "messages/s", False),
        ("an idle connection", 40, "KB", True),
        ("gatepost check", 300, "ms", True),
        ("gatepost serve listens", 600, "ms", True),
    ):
        rows.append(target(what, figures.get(what), wanted, unit, at_most=at_most))
    return table(["aim", "wanted", "measured", ""], rows)


def target(
    what: str, found: float | None, wanted: float, unit: str, *, at_most: bool = False
) -> list[object]:
    """A row of the table of aims."""
    bound = f"{'at most' if at_most else 'at least'} {wanted:g} {unit}"
    if found is None:
        return [what, bound, "not measured", ""]
    met = found <= wanted if at_most else found >= wanted
    shown = f"{found:,.2f}" if found < 100 else f"{found:,.0f}"
    return [what, bound, f"{shown} {unit}", "met" if met else "**missed**"]


def put_into_page(name: str, text: str, page: Path = PAGE) -> None:
    """Replace what is between the marks of that name in docs/benchmarks.md."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found_begin, rest = page.read_text().partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{page} has no place for {name}: expected {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def machine(haraka: str = "") -> str:
    """What it was measured on and with; Haraka's version is empty where it is not there."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    total = int(Path("/proc/meminfo").read_text().split()[1]) >> 20
    names = [
        "gatepost",
        "uvloop",
        "aiosmtpd",
        "aiosmtplib",
        "ahocorasick-rs",
        "sqlalchemy",
    ]
    parts = [f"{name} {version(name)}" for name in names]
    parts.insert(1, f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    for command in (["/usr/sbin/postconf", "-dh", "mail_version"], ["node", "--version"]):
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            continue
        parts.append(f"{'Postfix' if 'postconf' in command[0] else 'Node'} {said.lstrip('v')}")
    parts += [f"Haraka {haraka}"] if haraka else []
    cores = len(os.sched_getaffinity(0))
    kernel = platform.release().partition("-")[0]
    return f"{model}, {cores} cores, {total} GB, Linux {kernel}; {', '.join(parts)}"


WIDTH, LABEL, BAR, GAP = 760, 220, 16, 6


def chart(results: Results, loads: Sequence[Load]) -> str:
    """Bars of messages a second as an SVG that is readable on light and on dark ground."""
    parts, y = [], 24
    for load in loads:
        cells = {name: cell for name, cell in results[load].items() if cell.rate and name != "no proxy"}
        parts.append(f'<text x="0" y="{y}" class="head">{escape(str(load))}: messages a second</text>')
        y += 12
        top = max(cell.rate for cell in cells.values())
        for name, cell in cells.items():
            width = (WIDTH - LABEL - 80) * cell.rate / top
            kind = "ours" if name.startswith("Gatepost") else "other"
            middle = y + BAR - 4
            parts.append(f'<text x="{LABEL - 8}" y="{middle}" class="name">{escape(name)}</text>')
            parts.append(
                f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" class="{kind}"/>'
            )
            parts.append(
                f'<text x="{LABEL + width + 6:.1f}" y="{middle}" class="figure">{cell.rate:,.0f}</text>'
            )
            y += BAR + GAP
        y += 26
    style = (
        "text{font:12px system-ui,sans-serif;fill:#1f2328}.head{font-weight:600;font-size:13px}"
        ".name{text-anchor:end}.ours{fill:#1f6feb}.other{fill:#afb8c1}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ours{fill:#4493f8}.other{fill:#656c76}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - 16}" role="img" '
        f'aria-label="Messages a second">\n<style>{style}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )
