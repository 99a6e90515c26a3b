"""What the memory of filters costs: a million greylisted pairs on disk, look-ups, counts.

python benchmarks/state.py --entries 1000000
"""

import argparse
import asyncio
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from gatepost.state import Amount, State
from gatepost.state.database import Database
from gatepost.state.sqlite import SqliteState

GROUP = 1000
"""Asked for at once while it is filled."""
SPACE = "greylist"
MONTH = 30 * 86400


def pair(number: int) -> str:
    """A client's network, a sender and a recipient, of 80 characters."""
    client = f"198.{number % 251}.{number * 7 % 256}.0/24"
    sender = f"person{number * 31 % 1000003:07d}@sender{number % 1009:04d}.example.org"
    return f"{client} {sender} user{number % 30011:05d}@company.example.com"


async def fill(state: State, entries: int) -> None:
    """In no order, as mail arrives."""
    order = list(range(entries))
    random.shuffle(order)
    for start in range(0, entries, GROUP):
        some = order[start : start + GROUP]
        await asyncio.gather(*(state.set(pair(number), number, seconds=MONTH) for number in some))


async def median(turns: int, ask: Callable[[], Awaitable[object]]) -> float:
    """In microseconds, of one after the other."""
    took = []
    for _ in range(turns):
        begin = time.perf_counter()
        await ask()
        took.append(time.perf_counter() - begin)
    return statistics.median(took) * 1e6


async def measure(entries: int, turns: int, folder: Path) -> None:
    """Print what each costs."""
    file = folder / "state"

    def opened() -> SqliteState:
        return SqliteState(file, max_entries=entries * 2)

    backend = opened()
    begin = time.perf_counter()
    await fill(State(backend, SPACE), entries)
    took = time.perf_counter() - begin
    await backend.close()
    print(f"{entries:,} pairs: {file.stat().st_size / 1e6:,.0f} MB on disk, made in {took:.0f} s")
    backend = opened()
    state = State(backend, SPACE)

    def known() -> str:
        return pair(random.randrange(entries))

    def count() -> Awaitable[object]:
        limits = ((3600, 10**6), (86400, 10**7))
        return state.add(
            *(Amount(key=f"client {known()}", amount=1, seconds=one, limit=limit) for one, limit in limits)
        )

    print(f"get, awaited: {await median(turns, lambda: state.get(known())):.0f} us at the median")
    print(f"set, awaited: {await median(turns, lambda: state.set(known(), 1, seconds=MONTH)):.0f} us")
    print(f"add to two windows, awaited: {await median(turns, count):.0f} us")
    await backend.close()
    database = Database(file, max_entries=entries * 2)

    async def look_up() -> None:
        database.get(SPACE, known())

    print(f"the look-up itself: {await median(turns, look_up):.0f} us")
    database.close()
    print(f"resident at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=1_000_000, help="pairs to remember")
    parser.add_argument("--turns", type=int, default=5000, help="of each operation")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(measure(options.entries, options.turns, Path(folder)))


if __name__ == "__main__":
    main()
