#!/bin/sh
# rspamd 3.4-1 (Debian 12), POST /checkv2.
# The answer is JSON, but need not be UTF-8, as RFC 8259 section 8.1 demands: what a rule copies from a message into a
# field that it adds, or into the text of a rejection, comes with its bytes as they are. A client that decodes the
# answer strictly fails for such messages, which anybody can send. In the options of symbols, unlike here, rspamd
# replaces what is not UTF-8.
# Output: added: b'Gr\xfc\xdfe', rejected: b'Gr\xfc\xdfe', option: b'Gr\xef\xbf\xbd\xef\xbf\xbde'
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
  local copied = task:get_header_raw('X-Copy')
  task:set_milter_reply({add_headers = {['X-Copied'] = copied}})
  task:set_pre_result('reject', copied)
  return true, 1.0, copied
end})
LUA
cat >server.py <<'PY'
import http.client
import os
import re
import socket
import subprocess
import time

here = os.getcwd()
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
message = b"From: a@example.com\r\nX-Copy: Gr\xfc\xdfe\r\n\r\n"
with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
    try:
        for _ in range(600):
            try:
                asked = http.client.HTTPConnection("127.0.0.1", port)
                asked.request("POST", "/checkv2", message)
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        answer = asked.getresponse().read()
    finally:
        process.terminate()
places = (rb'"X-Copied":', rb'"smtp_message":', rb'"options":\[')
found = [re.search(place + rb'"([^"]*)"', answer)[1] for place in places]
print("added: {}, rejected: {}, option: {}".format(*found))
PY
libraries=$(echo unpacked/usr/lib/*-linux-gnu)
seen=$(LD_LIBRARY_PATH="$here/$libraries:$here/unpacked/usr/lib/rspamd" python3 server.py)
echo "$seen"
[ "$seen" = "added: b'Gr\\xfc\\xdfe', rejected: b'Gr\\xfc\\xdfe', option: b'Gr\\xef\\xbf\\xbd\\xef\\xbf\\xbde'" ]
