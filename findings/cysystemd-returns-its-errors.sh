#!/bin/sh
# cysystemd 2.0.5 (PyPI).
# cysystemd.daemon.notify() returns the exception when systemd could not be notified, instead of raising it: its parameter
# return_exceptions is True unless it is given. A service that ignores the result looks as if it had become ready, and
# systemd ends it after its time. With return_exceptions=False it raises.
# Output: returned ValueError / raised ValueError
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q "cysystemd==2.0.5" 2>/dev/null
seen=$(NOTIFY_SOCKET="$here/nobody-listens" "$here/venv/bin/python" - 2>/dev/null <<'PY'
from cysystemd.daemon import Notification, notify

print("returned", type(notify(Notification.READY)).__name__)
try:
    notify(Notification.READY, return_exceptions=False)
except Exception as error:
    print("raised", type(error).__name__)
PY
)
echo "$seen"
[ "$seen" = "returned ValueError
raised ValueError" ]
