"""How a process that lives long keeps its memory, and gives it back."""

import asyncio
import ctypes
import gc
from typing import Any

__all__ = ["give_memory_back", "settle_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3), as malloc.h has them."""
_LARGE_OCTETS = 4 << 20
"""A piece of memory from here on goes back to the system as soon as it is freed."""
_KEPT_OCTETS = 8 << 20
"""So much that is free may stay at the end of the heap, to be used again."""
_PAUSE_SECONDS = 5.0
"""Between two looks for what else is free."""


def settle_memory() -> None:
    """For when all is loaded: large pieces go back at once, and garbage is looked for less often."""
    # By itself glibc takes pieces of up to 32 MiB from its heap, once one was freed, and there whatever
    # small thing comes behind them keeps them. A message of 25 MB costs 10 ms more of fresh pages.
    if mallopt := _of_glibc("mallopt"):
        mallopt(_M_MMAP_THRESHOLD, _LARGE_OCTETS)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_OCTETS)
    # Hardly anything here is cyclic; with the default thresholds it takes a tenth of the time of a message.
    # What the imports left behind stays too: to collect those 200 KB would take 30 ms of the start.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


async def give_memory_back() -> None:
    """Have free pages in the midst of the heap go back to the system every few seconds, for ever.

    What many clients send at once leaves some tens of MiB of them.
    """
    trim = _of_glibc("malloc_trim")
    while trim:
        await asyncio.sleep(_PAUSE_SECONDS)
        trim(ctypes.c_size_t(_KEPT_OCTETS))


def _of_glibc(name: str) -> Any:
    """That function; None where the C library is another one, which has no such thing."""
    return getattr(ctypes.CDLL(None), name, None)
