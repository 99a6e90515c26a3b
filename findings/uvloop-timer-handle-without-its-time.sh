#!/bin/sh
# uvloop 0.23.0 (PyPI), CPython 3.11.2, Linux.
# Under asyncio call_later and call_at return an object with when(), however near the time is (as the
# documentation of asyncio says: a TimerHandle). Under uvloop a time less than 0.5 ms ahead, or past, gives a plain
# Handle, which has no when(): a program that asks its timer for its time works for months, and raises AttributeError in
# the one call whose time is almost there. Such a call also runs before its time, by up to 0.5 ms.
# Output: asyncio: 0.4 ms when, 0.6 ms when; uvloop: 0.4 ms no when, 0.6 ms when; uvloop ran 0.4 ms in the same pass: True
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install -q --disable-pip-version-check uvloop==0.23.0 2>/dev/null
cat >"$here/ask.py" <<'PY'
import asyncio

import uvloop


async def ask():
    loop = asyncio.get_running_loop()
    asked = []
    for delay in (0.0004, 0.0006):
        has = hasattr(loop.call_at(loop.time() + delay, id, 0), "when")
        asked.append(f"{delay * 1000:.1f} ms {'when' if has else 'no when'}")
    return ", ".join(asked)


async def order():
    """Whether what is due in 0.4 ms runs before what is asked for after it, at once."""
    loop = asyncio.get_running_loop()
    ran = []
    loop.call_later(0.0004, ran.append, "later")
    loop.call_soon(ran.append, "soon")
    await asyncio.sleep(0.01)
    return ran == ["later", "soon"]


print(f"asyncio: {asyncio.run(ask())}; uvloop: {uvloop.run(ask())}; "
      f"uvloop ran 0.4 ms in the same pass: {uvloop.run(order())}")
PY
seen=$("$here/venv/bin/python" "$here/ask.py")
echo "$seen"
[ "$seen" = "asyncio: 0.4 ms when, 0.6 ms when; uvloop: 0.4 ms no when, 0.6 ms when; \
uvloop ran 0.4 ms in the same pass: True" ]
