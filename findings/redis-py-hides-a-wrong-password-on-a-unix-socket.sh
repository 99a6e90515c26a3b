#!/bin/sh
# redis (redis-py) 8.1.0, Redis 7.0.15 (Debian's redis-server), Python 3.11.2.
# The asyncio client raises AuthenticationError for a wrong password over TCP, as the other client does. On a Unix socket it
# raises a plain ConnectionError with the same text: UnixDomainSocketConnection._connect itself sends HELLO or AUTH, within
# the part of connect_check_health that turns every exception into ConnectionError; only __cause__ tells. A caller
# that repeats after a ConnectionError repeats a wrong password, and one that tells the operator what is wrong says that the
# server cannot be reached. With a right password, HELLO and what follows it are sent twice for each connection.
# Output: tcp AuthenticationError, unix ConnectionError caused by AuthenticationError, HELLO twice
set -eu
here=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q redis==8.1.0 2>/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
redis-server --bind 127.0.0.1 --port "$port" --unixsocket "$here/socket" --dir "$here" --requirepass right \
  --save "" --appendonly no >/dev/null &
server=$!
cat >"$here/ask.py" <<'PY'
import asyncio
import sys
import time

import redis
import redis.asyncio

tcp, unix = sys.argv[1:]


async def error(url):
    client = redis.asyncio.Redis.from_url(url, password="wrong")
    try:
        await client.get("key")
    except redis.RedisError as raised:
        return raised
    finally:
        await client.aclose()


with redis.Redis.from_url(unix, password="right") as client:
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.1)
    over_tcp, over_unix = asyncio.run(error(tcp)), asyncio.run(error(unix))
    client.config_resetstat()

    async def ping():
        async with redis.asyncio.Redis.from_url(unix, password="right") as one:
            await one.ping()

    asyncio.run(ping())
    hello = client.info("commandstats")["cmdstat_hello"]["calls"]
print(
    f"tcp {type(over_tcp).__name__}, unix {type(over_unix).__name__}"
    f" caused by {type(over_unix.__cause__).__name__}, HELLO {'twice' if hello == 2 else f'{hello} times'}"
)
PY
seen=$("$here/venv/bin/python" "$here/ask.py" "redis://127.0.0.1:$port" "unix://$here/socket")
echo "$seen"
[ "$seen" = "tcp AuthenticationError, unix ConnectionError caused by AuthenticationError, HELLO twice" ]
