"""Debian's scanners and milters, each started with a small configuration of its own."""

import contextlib
import os
import pwd
import socket
import struct
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ports import free_port
from scanner_servers import CLAMD_BYTES, EICAR, Daemon, ask_tcp, running

SPAMD_RULES = """
loadplugin Mail::SpamAssassin::Plugin::Check
loadplugin Mail::SpamAssassin::Plugin::Bayes
loadplugin Sleeper {home}/Sleeper.pm
util_rb_tld com net org example
required_score 5
time_limit 1
bayes_path {home}/bayes/db
bayes_auto_learn 0
bayes_min_ham_num 1
bayes_min_spam_num 1
body BAYES_SPAM eval:check_bayes('0.80', '1.00')
tflags BAYES_SPAM learn
score BAYES_SPAM 1.5
body GTUBE /XJS\\*C4JDBQADN1\\.NSBN3\\*2IDNEN\\*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL\\*C\\.34X/
score GTUBE 1000
body PILLS /cheap pills/i
score PILLS 3.5
header FRIEND From =~ /friend@/
score FRIEND -2
header SLEEPS eval:sleeps()
"""
SLEEPER = """
package Sleeper;
use Mail::SpamAssassin::Plugin;
our @ISA = ('Mail::SpamAssassin::Plugin');
sub new {
  my ($class, $main) = @_;
  my $self = $class->SUPER::new($main);
  bless($self, $class);
  $self->register_eval_rule('sleeps');
  return $self;
}
sub sleeps {
  my ($self, $pms) = @_;
  sleep 60 if $pms->get('X-Sleep');
  return 0;
}
1;
"""

RSPAMD_SETTINGS = """
options {
  filters = "";
  gtube_patterns = "all";
  task_timeout = 3s;
  max_message = LARGEST;
  url_tld = "HOME/tld.dat";
  tempdir = "HOME"; hs_cache_dir = "HOME"; cache_file = "HOME/symbols.cache"; stats_file = "HOME/stats.ucl";
  pidfile = "HOME/pid"; control_socket = "HOME/control.sock mode=0600";
  dns { nameserver = ["127.0.0.1:9:1"]; timeout = 0.1s; retransmits = 1; }
}
logging { type = "console"; level = "warning"; }
worker "normal" { bind_socket = ["127.0.0.1:PORT", "HOME/rspamd.sock mode=0666"]; count = 1; }
worker "rspamd_proxy" {
  bind_socket = "127.0.0.1:PROXY"; milter = yes; timeout = 30s; count = 1;
  upstream "local" { default = yes; self_scan = yes; }
}
worker "controller" { bind_socket = "127.0.0.1:CONTROLLER"; count = 1; password = "secret"; secure_ip = []; }
actions {
  reject = 15; "add header" = 6; "rewrite subject" = 5; greylist = 4; subject = "*** SPAM *** %s";
  quarantine = { flags = ["no_threshold"]; }
  discard = { flags = ["no_threshold"]; }
  invented = { flags = ["no_threshold"]; }
}
classifier "bayes" {
  tokenizer { name = "osb"; }
  backend = "sqlite3"; min_tokens = 1; min_learns = 1; languages_enabled = false;
  cache { path = "HOME/learned.sqlite"; }
  statfile { symbol = "BAYES_HAM"; path = "HOME/ham.sqlite"; spam = false; class = "ham"; }
  statfile { symbol = "BAYES_SPAM"; path = "HOME/spam.sqlite"; spam = true; class = "spam"; }
}
lua = "HOME/test.lua";
"""
RSPAMD_RULES = """
local rspamd_http = require 'rspamd_http'
rspamd_config:register_symbol({name='TEST', type='prefilter', callback=function(task)
  local action = task:get_header('X-Action')
  if action then task:set_pre_result(action, 'as the test wants') end
  local copied, instead = task:get_header_raw('X-Copy'), task:get_header('X-Instead')
  if copied then task:set_milter_reply({add_headers = {['X-Copied'] = copied}}) end
  if instead then task:set_milter_reply({reject = instead}) end
  if task:get_header('X-Order') then
    task:set_milter_reply({add_headers = {
      ['X-Above'] = {value = 'Received', order = 0}, ['X-Below'] = {value = 'Received', order = 1},
      ['X-Next'] = {value = 'field', order = 3}
    }})
  end
  if task:get_header('X-Milter') then
    task:set_milter_reply({
      add_headers = {
        ['X-Last'] = 'one', ['X-Both'] = {'three', 'four'},
        ['X-First'] = {value = 'two\\r\\n\\tfolded', order = 0}
      },
      remove_headers = {['X-Old'] = 0, ['X-Two'] = 2},
      change_from = 'other@example.org', add_rcpt = {'more@example.com'}, del_rcpt = {'<less@example.com>'}
    })
  end
end})
rspamd_config:register_symbol({name='PILLS', score=3.5, callback=function(task)
  if task:get_header('X-Pills') then return true, 1.0, 'cheap', 'blue' end
end})
rspamd_config:register_symbol({name='SLOW', score=0.1, callback=function(task)
  if task:get_header('X-Slow') then
    rspamd_http.request({task = task, url = 'SILENT', timeout = 60.0, callback = function() end})
  end
end})
rspamd_config:register_symbol({name='SEEN', score=0.1, callback=function(task)
  if not task:get_header('X-Seen') then return false end
  local to = {}
  for _, one in ipairs(task:get_recipients('smtp') or {}) do to[#to + 1] = one.addr end
  local from = task:get_from('smtp')
  return true, 1.0, 'ip=' .. tostring(task:get_from_ip()), 'helo=' .. (task:get_helo() or ''),
    'from=' .. (from and from[1] and from[1].addr or ''),
    'to=' .. table.concat(to, ' '):sub(1, 40), '#' .. #to,
    'user=' .. (task:get_user() or ''), 'id=' .. (task:get_queue_id() or ''),
    'broken=' .. tostring(task:has_flag('broken_headers'))
end})
"""

OPENDKIM = """\
Socket inet:{port}@127.0.0.1
Domain example.com
Selector sel
KeyFile {home}/sel.private
TestPublicKeys {home}/keys
Canonicalization {canonicalization}
InternalHosts {home}/{hosts}
OversignHeaders From
AlwaysAddARHeader yes
RequireSafeKeys false
Syslog false
"""
CLAMAV_MILTER = """\
MilterSocket inet:{port}@127.0.0.1
ClamdSocket {clamd}
OnInfected Reject
RejectMsg infected by %v
AddHeader Replace
Foreground yes
"""


@contextlib.contextmanager
def spamd(home: Path) -> Iterator[Daemon]:
    """A spamd with a few rules, and a plugin that sleeps."""
    user = pwd.getpwuid(os.getuid()).pw_name
    if user != "root":
        with _spamd(home, user) as daemon:
            yield daemon
        return
    # It scans as another user. Each start of a pytest closes the folder around all of its folders for others.
    with (
        tempfile.TemporaryDirectory(prefix="spamd-", dir="/tmp") as folder,
        _spamd(Path(folder), "nobody") as daemon,
    ):
        yield daemon


@contextlib.contextmanager
def _spamd(home: Path, user: str) -> Iterator[Daemon]:
    for folder in ("site", "bayes", "users"):
        (home / folder).mkdir(parents=True)
    (home / "rules").mkdir()
    (home / "rules/all.cf").write_text(SPAMD_RULES.format(home=home))
    (home / "Sleeper.pm").write_text(SLEEPER)
    if user == "nobody":
        for path in (home, *home.rglob("*")):
            path.chmod(0o777)
    port = free_port()
    command = ["/usr/sbin/spamd", "-L", "-x", "-s", "stderr", "--allow-tell", "-u", user]
    command += ["-i", "127.0.0.1", "-p", str(port), "--socketpath", f"{home}/spamd.sock"]
    command += ["-C", f"{home}/rules", f"--siteconfigpath={home}/site"]
    command += [f"--virtual-config-dir={home}/users/%u"]
    command += ["-m", "3", "--min-children=2", "--min-spare=1", "--max-spare=2"]

    def answers() -> bool:
        return b"PONG" in ask_tcp(port, b"PING SPAMC/1.5\r\n\r\n")

    with running(home, command, answers) as daemon:
        daemon.addresses = {"tcp": f"127.0.0.1:{port}", "unix": f"unix:{home}/spamd.sock"}
        yield daemon


@contextlib.contextmanager
def rspamd(home: Path, max_message: str = "1Mb") -> Iterator[Daemon]:
    """An rspamd that does what header fields of the message say, without its rules, lists and DNS."""
    port, controller, proxy = free_port(), free_port(), free_port()
    (home / "tld.dat").write_text("com\nnet\norg\nexample\n")
    settings = RSPAMD_SETTINGS.replace("HOME", str(home)).replace("LARGEST", max_message)
    for name, number in {"PORT": port, "CONTROLLER": controller, "PROXY": proxy}.items():
        settings = settings.replace(name, str(number))
    (home / "rspamd.conf").write_text(settings)

    def answers() -> bool:
        return all(b"pong" in ask_tcp(one, b"GET /ping HTTP/1.0\r\n\r\n") for one in (port, controller))

    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        rules = RSPAMD_RULES.replace("SILENT", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        (home / "test.lua").write_text(rules)
        command = ["/usr/bin/rspamd", "-f", "-i", "-c", f"{home}/rspamd.conf"]
        daemon = stack.enter_context(running(home, command, answers))
        daemon.addresses = {
            "tcp": f"127.0.0.1:{port}",
            "unix": f"unix:{home}/rspamd.sock",
            "controller": f"127.0.0.1:{controller}",
            "milter": f"127.0.0.1:{proxy}",
        }
        yield daemon


@contextlib.contextmanager
def clamd(home: Path, stream_bytes: int = CLAMD_BYTES) -> Iterator[Daemon]:
    """A clamd that knows EICAR alone, and reports what it cannot look into or not to the end."""
    (home / "database").mkdir()
    (home / "database/test.ndb").write_text(f"Eicar-Test:0:*:{EICAR.hex()}\n")
    port = free_port()
    (home / "clamd.conf").write_text(
        f"DatabaseDirectory {home}/database\nForeground yes\nLocalSocket {home}/clamd.sock\n"
        f"TCPSocket {port}\nTCPAddr 127.0.0.1\nStreamMaxLength {stream_bytes}\nMaxThreads 2\n"
        f"AlertExceedsMax yes\nAlertEncrypted yes\nMaxFileSize 300K\n"
    )

    def answers() -> bool:
        return ask_tcp(port, b"zPING\0") == b"PONG\0"

    with running(home, ["/usr/sbin/clamd", "-c", f"{home}/clamd.conf"], answers) as daemon:
        daemon.addresses = {"tcp": f"127.0.0.1:{port}", "unix": f"unix:{home}/clamd.sock"}
        yield daemon


@contextlib.contextmanager
def milter(home: Path, port: int, command: list[str]) -> Iterator[Daemon]:
    """A milter that listens on this port."""
    with running(home, command, partial(negotiates, port)) as daemon:
        daemon.addresses = {"tcp": f"127.0.0.1:{port}"}
        yield daemon


def negotiates(port: int) -> bool:
    """Whether a milter answers there."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
    ):
        connection.sendall(struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF))
        return bool(connection.recv(1))
    return False
