"""Several processes use one file at the same time, and some are killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import asyncio, sys
    from pathlib import Path

    from gatepost.state import Amount, State
    from gatepost.state.sqlite import SqliteState


    async def use(state, number, times):
        for one in range(times):
            await state.add(Amount(key="all", amount=1, seconds=86400, limit=10**9))
            await state.set(f"{sys.argv[2]} {number} {one}", one, seconds=1000)
            if one == 3:
                print("goes on", flush=True)


    async def main():
        backend = SqliteState(Path(sys.argv[1]), max_entries=100)
        await asyncio.gather(*(use(State(backend, "x"), number, int(sys.argv[3])) for number in range(5)))
        await backend.close()


    asyncio.run(main())
"""


@pytest.mark.long
def test_what_they_count_adds_up_and_the_file_stays_whole(tmp_path):
    def start(name, times):
        command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path / "state"), name, str(times)]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    lasting = [start(f"lasting {number}", 100) for number in range(2)]
    for number in range(3):
        victim = start(f"victim {number}", 10**6)
        with victim:
            assert victim.stdout.readline() == b"goes on\n"
            os.kill(victim.pid, signal.SIGKILL)
    for one in lasting:
        one.communicate(timeout=60)
        assert one.returncode == 0
    with sqlite3.connect(tmp_path / "state") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM entries").fetchall() == [(100,)]
        assert connection.execute("SELECT sum(entries) FROM spaces").fetchall() == [(100,)]
        ((counted,),) = connection.execute(
            "SELECT sum(json_each.value) FROM entries, json_each(entries.value) WHERE entries.key = 'all'"
        )
    connection.close()
    assert counted >= 2 * 5 * 100 + 3 * 4
