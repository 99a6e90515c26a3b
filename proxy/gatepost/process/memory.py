"""Return free memory to the system, for long-running processes."""

import asyncio
import ctypes
import gc
from typing import Any

__all__ = ["give_memory_back", "settle_memory", "share_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), from malloc.h."""
_LARGE_OCTETS = 4 << 20
"""Blocks of this size and larger are returned to the system as soon as they are freed."""
_KEPT_OCTETS = 8 << 20
"""Free memory at the end of the heap that is not returned, to be used again."""
_PAUSE_SECONDS = 5.0
"""Time between two trims of the heap."""
_OBJECTS = 100_000
"""New objects of a child that may wait for the garbage collector: those that it imports."""


def share_memory() -> None:
    """Keep the memory that child processes share with this one shared; call it before the first fork.

    The garbage collector writes into each object that it looks at, and every page written to is copied.
    """
    gc.freeze()
    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])
    if trim := _of_glibc("malloc_trim"):  # what children take from free pages between others is copied too
        trim(ctypes.c_size_t(0))


def settle_memory() -> None:
    """Return large blocks at once and collect garbage less often; call it when everything is loaded."""
    # By default glibc allocates blocks of up to 32 MiB from its heap once one was freed. There, any small
    # block behind a large one prevents its return. The price: 10 ms of fresh pages for a message of 25 MB.
    if mallopt := _of_glibc("mallopt"):
        mallopt(_M_MMAP_THRESHOLD, _LARGE_OCTETS)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_OCTETS)
    # There is hardly any cyclic garbage; with the default thresholds collecting takes a tenth of the time of
    # a message. The 200 KB of garbage from the imports stay: collecting them would delay the start by 30 ms.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


async def give_memory_back() -> None:
    """Return free pages inside the heap to the system every few seconds; never returns.

    A crowd of clients leaves some tens of MiB of such pages.
    """
    trim = _of_glibc("malloc_trim")
    while trim:
        await asyncio.sleep(_PAUSE_SECONDS)
        trim(ctypes.c_size_t(_KEPT_OCTETS))


def _of_glibc(name: str) -> Any:
    """A function of glibc; None if the C library has none of that name."""
    return getattr(ctypes.CDLL(None), name, None)
