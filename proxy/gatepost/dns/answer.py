"""What DNS answers to one question."""

from enum import StrEnum
from typing import Any

from gatepost.values import value

__all__ = ["Answer", "DnsStatus"]


class DnsStatus(StrEnum):
    """How a question to DNS ended."""

    FOUND = "found"
    """There are records."""
    NO_DATA = "no data"
    """The name exists, and has no records of that type."""
    NO_NAME = "no such name"
    """The name does not exist (NXDOMAIN, RFC 8020)."""
    FAILED = "failed"
    """The server says that it cannot answer (SERVFAIL, REFUSED), or its answer cannot be read."""
    TIMED_OUT = "timed out"
    """There was no answer within the resolver's time."""

    @property
    def is_temporary(self) -> bool:
        """True if nobody knows what the answer is: another time there may be one."""
        return self is DnsStatus.FAILED or self is DnsStatus.TIMED_OUT


@value
class Answer:
    """The answer to one question."""

    status: DnsStatus
    """How the question ended."""
    records: tuple[Any, ...] = ()
    """In the server's order; empty unless the status is `FOUND`. Of A and AAAA the address as text, of MX
    pairs of preference and name, of PTR names without the last dot, of TXT the bytes of all its strings,
    joined."""
