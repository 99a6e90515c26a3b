"""Gatepost's complaints mode beside MailDev: installed size, and memory while nothing happens.

python benchmarks/trap.py [--maildev 3.0.0] [--turns 3] [--write]

Installs both from their registries into a temporary folder: needs pip and npm. --write puts the table into
docs/benchmarks.md.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import memory
from proxies import free_port, started, wait_for
from report import machine, put_into_page, table

ROOT = Path(__file__).parent.parent
MAILDEV = "3.0.0"
SETTLED_SECONDS = 5
"""Time from the start until the memory is measured."""


def megabytes(folder):
    """What du counts: whole blocks."""
    said = subprocess.run(["du", "-sk", folder], check=True, capture_output=True, text=True).stdout
    return round(int(said.split()[0]) / 1024, 1)


def install_gatepost(folder):
    """The wheel and what it requires in a virtual environment without pip; the command."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder / "wheel", ROOT], check=True)
    (wheel,) = (folder / "wheel").glob("gatepost-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    subprocess.run([*pip, "--python", folder / "venv/bin/python", "install", wheel], check=True)
    return folder / "venv/bin/gatepost"


def install_maildev(folder, version):
    """The package of npm and what it requires; the command."""
    made = folder / "maildev"
    made.mkdir()
    command = [
        "npm",
        "install",
        "--prefix",
        made,
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        f"maildev@{version}",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return made / "node_modules/.bin/maildev"


def idle_megabytes(command, turns):
    """Of a program of this name with --smtp and --web, which take ports or addresses."""
    found = []
    for _ in range(turns):
        smtp, web = free_port(), free_port()
        given = [part.format(smtp=smtp, web=web) for part in map(str, command)]
        with started(given, smtp, str(command[0])) as running:
            wait_for(web, "its page")
            time.sleep(SETTLED_SECONDS)
            found.append(memory(running.process) / (1 << 20))
    return round(statistics.median(found), 1)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maildev", default=MAILDEV, metavar="VERSION")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    if not shutil.which("npm"):
        sys.exit("npm is not installed (Debian: apt install npm)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gatepost = install_gatepost(folder)
        maildev = install_maildev(folder, options.maildev)
        listens = "127.0.0.1:{smtp}", "--web", "127.0.0.1:{web}"
        commands = {
            "gatepost complaints": [gatepost, "complaints", "-q", "--smtp", *listens],
            f"MailDev {options.maildev}": [
                *(maildev, "--ip", "127.0.0.1", "--web-ip", "127.0.0.1", "--smtp", "{smtp}", "--web", "{web}")
            ],
        }
        sizes = [megabytes(folder / "venv"), megabytes(folder / "maildev" / "node_modules")]
        rows = [
            [what, size, idle_megabytes(command, options.turns)]
            for (what, command), size in zip(commands.items(), sizes, strict=True)
        ]
    text = f"Measured on {machine()}, {time.strftime('%d %B %Y', time.gmtime())}.\n\n"
    text += table(["", "installed, MiB", "memory when idle, MiB"], rows)
    print(text)
    if options.write:
        put_into_page("trap", text)


if __name__ == "__main__":
    main()
