"""The scanners that the proxies ask, each with a configuration of its own in a new folder."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proxies import free_port, program, started

START_SECONDS = 240
"""rspamd compiles its expressions at its first start."""
SPAMASSASSIN = "use_bayes 0"
"""For spamd and amavisd-new: what they learn from each message would be written into a user's home."""
CHILDREN = 8
"""Of spamd: as many as there are sessions, as amavisd has servers."""
EICAR = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-" + "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


@dataclass(frozen=True)
class Scanner:
    """One that runs."""

    name: str
    address: str
    """A port of loopback, or the path of a Unix socket."""
    process: int
    """The root of its process tree."""
    milter: int = 0
    """A port where it is a milter."""

    @property
    def setting(self) -> str:
        """The address as Gatepost's filters take it."""
        return f"unix:{self.address}" if self.address.startswith("/") else f"127.0.0.1:{self.address}"


CLAMD = """\
DatabaseDirectory {folder}/database
LocalSocket {folder}/clamd.sock
TCPSocket {port}
TCPAddr 127.0.0.1
Foreground yes
StreamMaxLength 100M
"""


@contextlib.contextmanager
def clamd(folder: Path) -> Iterator[Scanner]:
    """clamd on a Unix socket; it knows one virus."""
    (folder / "database").mkdir()
    (folder / "database/test.ndb").write_text(f"Eicar-Test:0:*:{EICAR.encode().hex()}\n")
    port, path = free_port(), folder / "clamd.sock"
    settings = folder / "clamd.conf"
    settings.write_text(CLAMD.format(folder=folder, port=port))
    command = [program("clamd", "clamav-daemon"), "-c", settings]
    with started(command, port, "clamd", log=folder / "log", seconds=START_SECONDS) as daemon:
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(path))
                break
            time.sleep(0.025)
        yield Scanner("clamd", str(path), daemon.process)


CLAMAV_MILTER = """\
MilterSocket inet:{port}@127.0.0.1
ClamdSocket unix:{clamd}
OnInfected Reject
Foreground yes
"""


@contextlib.contextmanager
def clamav_milter(clamd: Scanner, folder: Path) -> Iterator[Scanner]:
    """clamav-milter in front of a clamd."""
    port = free_port()
    settings = folder / "clamav-milter.conf"
    settings.write_text(CLAMAV_MILTER.format(port=port, clamd=clamd.address))
    command = [program("clamav-milter", "clamav-milter"), "-c", settings]
    with started(command, port, "clamav-milter", log=folder / "log") as daemon:
        yield Scanner("clamav-milter", "", daemon.process, milter=port)


@contextlib.contextmanager
def spamd(folder: Path) -> Iterator[Scanner]:
    """spamd with the rules that its package brings, without DNS and preferences of users."""
    port = free_port()
    command = [program("spamd", "spamd"), "-L", "-x", "-s", "stderr", "-i", "127.0.0.1", "-p", port]
    command += ["-m", CHILDREN, f"--min-children={CHILDREN}", f"--max-conn-per-child={10**6}"]
    command += [f"--cf={SPAMASSASSIN}"]
    command += ["-u", "nobody"] if os.getuid() == 0 else []
    with started(command, port, "spamd", log=folder / "log", seconds=START_SECONDS) as daemon:
        yield Scanner("spamd", str(port), daemon.process)


RSPAMD = """\
.include "$CONFDIR/common.conf"
options {{
  .include "$CONFDIR/options.inc"
  filters = "chartable,regexp";
  pidfile = "{folder}/pid";
  dns {{ nameserver = ["127.0.0.1:9:1"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "error"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 2; }}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{milter}"; milter = yes; timeout = 60s; count = 2;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
"""
RSPAMD_OFF = [
    "arc",
    "asn",
    "bimi",
    "dkim",
    "dkim_signing",
    "dmarc",
    "fuzzy_check",
    "greylist",
    "mx_check",
    "neural",
    "p0f",
    "phishing",
    "ratelimit",
    "rbl",
    "spf",
    "surbl",
]
"""Its modules that ask others: name servers, Redis."""


@contextlib.contextmanager
def rspamd(folder: Path) -> Iterator[Scanner]:
    """rspamd with the rules that its package brings, without those that ask others; also as a milter."""
    port, milter = free_port(), free_port()
    for name in ("override.d", "database"):
        (folder / name).mkdir()
    for name in RSPAMD_OFF:
        (folder / f"override.d/{name}.conf").write_text("enabled = false;\n")
    settings = folder / "rspamd.conf"
    settings.write_text(RSPAMD.format(folder=folder, port=port, milter=milter))
    command = [program("rspamd", "rspamd"), "-f", "-i", "-c", settings, f"--var=LOCAL_CONFDIR={folder}"]
    command += [f"--var=DBDIR={folder}/database", f"--var=RUNDIR={folder}"]
    with started(command, port, "rspamd", log=folder / "log", seconds=START_SECONDS) as daemon:
        yield Scanner("rspamd", str(port), daemon.process, milter=milter)
