"""Messages a second through nothing, a stock proxy and Gatepost, in turns in one run; medians and ratios.

python benchmarks/throughput.py [--messages 4000] [--octets 1024] [--sessions 20] [--turns 3]

Needs smtp-source and smtp-sink (Debian's postfix) and the project installed; installs nothing itself.
"""

import argparse
import contextlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
RULES = """\
hostname: bench.example
listen: ["127.0.0.1:{port}"]
workers: {workers}
relay: [{{recipients: "*", clients: 127.0.0.0/8, to: "smtp://127.0.0.1:{upstream}"}}]
store: {{url: "sqlite:///bench.db"}}
{rules}
"""
FILTERS = """\
rules:
  - {{name: words, filter: keywords, with: {{words: [{words}]}}, action: reject}}
  - {{name: files, filter: attachments, with: {{extensions: [exe, scr]}}, action: reject}}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command, port, **settings):
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **settings
    ) as process:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            else:
                sys.exit(f"{command[0]} does not listen")
            yield process
        finally:
            process.terminate()
            process.wait()


def gatepost(folder, upstream, workers, rules=""):
    port = free_port()
    folder.mkdir()
    (folder / "rules.yaml").write_text(
        RULES.format(port=port, upstream=upstream, workers=workers, rules=rules)
    )
    program = Path(sys.executable).parent / "gatepost"
    return port, running([program, "serve", "-q", "-c", folder / "rules.yaml"], port)


def measure(port, options, *, reuse):
    command = [shutil.which("smtp-source", path="/usr/sbin:/usr/bin"), *(["-d"] if reuse else [])]
    command += ["-s", str(options.sessions), "-l", str(options.octets), "-m", str(options.messages)]
    command += ["-f", "sender@example.org", "-t", "recipient@example.com", f"127.0.0.1:{port}"]
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    return options.messages / (time.perf_counter() - begin)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("messages", 4000), ("octets", 1024), ("sessions", 20), ("turns", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    missing = [
        name for name in ("smtp-source", "smtp-sink") if not shutil.which(name, path="/usr/sbin:/usr/bin")
    ]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)} (Debian: apt install postfix)")
    upstream, stock = free_port(), free_port()
    sink = [
        shutil.which("smtp-sink", path="/usr/sbin:/usr/bin"),
        "-u",
        "nobody",
        f"127.0.0.1:{upstream}",
        "1000",
    ]
    words = ", ".join(f"unlikely{number}" for number in range(1000))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.enter_context(running(sink, upstream))
        stack.enter_context(
            running([sys.executable, HERE / "stock_proxy.py", str(stock), str(upstream)], stock)
        )
        ports = {"no proxy": upstream, "stock": stock}
        for workers in (1, 2):
            for name, rules in (("", ""), (" + filters", FILTERS.format(words=words))):
                port, running_gatepost = gatepost(Path(folder, f"{workers}{name}"), upstream, workers, rules)
                stack.enter_context(running_gatepost)
                ports[f"gatepost, {workers} worker{name}"] = port
        print(
            f"{options.messages} messages of {options.octets} octets, {options.sessions} sessions, messages/s"
        )
        for reuse in (False, True):
            results = {name: [] for name in ports}
            for _ in range(options.turns):
                for name, port in ports.items():
                    results[name].append(measure(port, options, reuse=reuse))
            print("connections reused:" if reuse else "a connection each:")
            base = statistics.median(results["stock"])
            for name, rates in results.items():
                rate = statistics.median(rates)
                print(f"  {name:30} {rate:8.0f}   {rate / base:5.1f} x stock")


if __name__ == "__main__":
    main()
