"""amavisd-new as a proxy: it asks clamd, and SpamAssassin in its own processes."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from proxies import MissingError, Proxy, free_port, program, started
from scanners import SPAMASSASSIN, START_SECONDS, Scanner

USER = "amavis"
SETTINGS = """\
use strict;
$MYHOME = '{folder}/home';
$TEMPBASE = "$MYHOME/tmp";
$QUARANTINEDIR = "$MYHOME/quarantine";
$db_home = "$MYHOME/db";
$pid_file = "$MYHOME/pid";
$lock_file = "$MYHOME/lock";
$daemon_user = '{user}';
$daemon_group = '{user}';
$mydomain = 'bench.example';
$myhostname = 'bench.example';
$max_servers = {servers};
$max_requests = 1000;
$inet_socket_bind = '127.0.0.1';
$inet_socket_port = {port};
$forward_method = 'smtp:[127.0.0.1]:{upstream}';
$notify_method = $forward_method;
$DO_SYSLOG = 0;
$LOGFILE = "$MYHOME/log";
$log_level = 0;
$enable_db = 0;
$enable_dkim_verification = 0;
$sa_local_tests_only = 1;
$sa_userprefs_file = '{folder}/user_prefs';
@bypass_spam_checks_maps = ({bypass_spam});
@av_scanners = (['ClamAV-clamd', \\&ask_daemon, ["CONTSCAN {{}}\\n", '{clamd}'],
  qr/\\bOK$/m, qr/\\bFOUND$/m, qr/^.*?: (?!Infected Archive)(.*) FOUND$/m]);
@av_scanners_backup = ();
$final_virus_destiny = D_REJECT;
$final_banned_destiny = D_REJECT;
$final_spam_destiny = D_PASS;
$final_bad_header_destiny = D_PASS;
1;
"""


@contextlib.contextmanager
def amavisd(
    upstream: int, folder: Path, clamd: Scanner, *, servers: int, spamassassin: bool
) -> Iterator[Proxy]:
    """With one server for each session, as its manual says."""
    command = program("amavisd", "amavisd-new")
    if os.getuid() != 0:
        raise MissingError("amavisd can be started by root alone")
    port = free_port()
    settings = folder / "amavisd.conf"
    settings.write_text(
        SETTINGS.format(
            folder=folder,
            user=USER,
            servers=servers,
            port=port,
            upstream=upstream,
            bypass_spam=int(not spamassassin),
            clamd=clamd.address,
        )
    )
    (folder / "user_prefs").write_text(f"{SPAMASSASSIN}\n")
    for name in ("home", "home/tmp", "home/quarantine", "home/db"):
        (folder / name).mkdir()
        shutil.chown(folder / name, USER, USER)
    name = f"amavisd-new with clamd{' and SpamAssassin' * spamassassin}"
    with started(
        [command, "-c", settings, "foreground"], port, name, log=folder / "log", seconds=START_SECONDS
    ) as proxy:
        yield proxy
