#!/bin/sh
# redis (redis-py) 8.1.0, Redis 7.0.15 (Debian's redis-server), Python 3.11.2.
# Unless told otherwise, the client repeats a command up to three times after a lost connection or a time-out, whatever the
# command is. That the answer is late does not say that nothing was done: a server that pauses for longer than
# socket_timeout takes the first INCR from its queue, though the client has gone, and then the repeated one. The caller
# gets 2 for his one call and hears of no trouble. A script (EVAL) is repeated as well: a rate limit counts a message
# twice, a queue has an entry twice. The client for asyncio does the same. With retry=Retry(NoBackoff(), 0) the caller gets
# an error, and the count is 1.
# Output: INCR returned 2, count 2 / EVAL, asyncio: returned 2, count 2 / without retries: TimeoutError, count 1
set -eu
here=$(mktemp -d)
server=
trap 'test -z "$server" || { kill -CONT "$server"; kill "$server"; }; rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q redis==8.1.0 2>/dev/null
redis-server --port 0 --unixsocket "$here/socket" --dir "$here" --save "" --appendonly no >/dev/null &
server=$!
until [ "$(redis-cli -s "$here/socket" --raw PING 2>/dev/null)" = PONG ]; do sleep 0.1; done
cat >"$here/count.py" <<'PY'
import asyncio
import os
import signal
import sys
import threading
import time

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

path, server = sys.argv[1], int(sys.argv[2])
plain = redis.Redis(unix_socket_path=path)


def pause():
    """Let the server do nothing for a little longer than a client waits."""
    os.kill(server, signal.SIGSTOP)
    threading.Timer(1.2, os.kill, (server, signal.SIGCONT)).start()


def count(name):
    time.sleep(1.5)
    return f"count {plain.get(name).decode()}"


client = redis.Redis(unix_socket_path=path, socket_timeout=1)
client.ping()
pause()
print("INCR returned", str(client.incr("a")) + ",", count("a"))


async def evaluate():
    client = redis.asyncio.Redis(unix_socket_path=path, socket_timeout=1)
    await client.ping()
    pause()
    result = await client.eval("return redis.call('INCR', KEYS[1])", 1, "b")
    await client.aclose()
    return result


print("EVAL, asyncio: returned", str(asyncio.run(evaluate())) + ",", count("b"))

client = redis.Redis(unix_socket_path=path, socket_timeout=1, retry=Retry(NoBackoff(), 0))
client.ping()
pause()
try:
    print("without retries:", client.incr("c"))
except redis.exceptions.TimeoutError as error:
    print("without retries:", type(error).__name__ + ",", count("c"))
PY
seen=$("$here/venv/bin/python" "$here/count.py" "$here/socket" "$server" | paste -sd/ | sed 's,/, / ,g')
echo "$seen"
[ "$seen" = "INCR returned 2, count 2 / EVAL, asyncio: returned 2, count 2 / without retries: TimeoutError, count 1" ]
