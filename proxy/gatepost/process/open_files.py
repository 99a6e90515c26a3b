"""The limit of open files and sockets of a process."""

import logging
import resource

__all__ = ["allow_open_files"]

log = logging.getLogger("gatepost")

_FOR_A_CONNECTION = 3
"""The client's, its upstream's, and one of a filter."""
_FOR_ALL = 200
"""Listeners, store, desk, libraries."""


def allow_open_files(connections: int) -> None:
    """Raise this process's limit, usually 1,024, to what this many clients need; warn if that fails.

    Without a free descriptor a client's connection is dropped without a reply; a 421 is better.
    """
    needed = connections * _FOR_A_CONNECTION + _FOR_ALL
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        log.warning(
            "limits.connections needs %d open files, but only %d are allowed: "
            "raise LimitNOFILE or ulimit -n, or lower limits.connections",
            needed,
            allowed,
        )
