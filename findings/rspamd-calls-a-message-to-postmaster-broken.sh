#!/bin/sh
# rspamd 3.4-1 (Debian 12), POST /checkv2.
# A client says in HTTP headers from whom and to whom a message goes. "<postmaster>" without a domain is an address that
# every server must take (RFC 5321 section 4.5.1), one beyond ASCII is an address with SMTPUTF8 (RFC 6531 section 3.3).
# rspamd drops both, and marks the message with the flag "broken_headers", for which its own rule of that name counts 10
# points, as if the fields of the message itself were malformed.
# Output: Rcpt bob@example.com: bob@example.com / Rcpt "a b"@example.com: a b@example.com /
#  Rcpt postmaster: no recipient, broken_headers / Rcpt jörg@example.com: no recipient, broken_headers
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
apt-get -q download rspamd=3.4-1 libhyperscan5 libluajit-5.1-2 libluajit-5.1-common libsodium23 libicu72 \
  libunwind8 libpcre2-8-0 libglib2.0-0 libsqlite3-0 >/dev/null 2>&1
for package in ./*.deb; do dpkg -x "$package" unpacked; done
echo com >tld.dat
cat >test.lua <<'LUA'
rspamd_config:register_symbol({name = 'TEST', score = 0.1, callback = function(task)
  local found = {}
  for _, one in ipairs(task:get_recipients('smtp') or {}) do table.insert(found, one.addr) end
  if #found == 0 then table.insert(found, 'no recipient') end
  for _, flag in ipairs(task:get_flags()) do table.insert(found, flag) end
  return true, 1.0, table.concat(found, ', ')
end})
LUA
cat >server.py <<'PY'
import http.client
import json
import os
import socket
import subprocess
import time

here = os.getcwd()
ASKED = (
    ("Rcpt", "bob@example.com"),
    ("Rcpt", '"a b"@example.com'),
    ("Rcpt", "postmaster"),
    ("Rcpt", "jörg@example.com"),
)
MESSAGE = b"From: ann@example.org\r\nTo: bob@example.com\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n\r\nHello\r\n"
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
with open("rspamd.conf", "w") as file:
    file.write(f'''options {{ filters = ""; url_tld = "{here}/tld.dat"; tempdir = "{here}"; hs_cache_dir = "{here}";
cache_file = "{here}/cache"; pidfile = "{here}/pid"; dns {{ nameserver = ["127.0.0.1:9:1"]; }} }}
logging {{ type = "console"; level = "error"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
actions {{ reject = 15; }}
lua = "{here}/test.lua";
''')
share = f"{here}/unpacked/usr/share/rspamd"
folders = {"SHAREDIR": share, "LUALIBDIR": f"{share}/lualib", "RULESDIR": f"{share}/rules"}
folders |= {"PLUGINSDIR": f"{share}/plugins", "CONFDIR": f"{here}/unpacked/etc/rspamd"}
command = ["unpacked/usr/bin/rspamd", "-f", "-i", "-c", f"{here}/rspamd.conf"]
command += [f"--var={name}={value}" for name, value in folders.items()]


def ask(name, value):
    asked = http.client.HTTPConnection("127.0.0.1", port)
    asked.request("POST", "/checkv2", MESSAGE, {name: value.encode()})
    return json.loads(asked.getresponse().read())["symbols"]["TEST"]["options"][0]


with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
    try:
        for _ in range(600):
            try:
                ask(*ASKED[0])
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        for name, value in ASKED:
            print(f"{name} {value}: {ask(name, value)}")
    finally:
        process.terminate()
PY
libraries=$(echo unpacked/usr/lib/*-linux-gnu)
seen=$(PYTHONUTF8=1 LD_LIBRARY_PATH="$here/$libraries:$here/unpacked/usr/lib/rspamd" python3 server.py)
echo "$seen"
[ "$seen" = 'Rcpt bob@example.com: bob@example.com
Rcpt "a b"@example.com: a b@example.com
Rcpt postmaster: no recipient, broken_headers
Rcpt jörg@example.com: no recipient, broken_headers' ]
