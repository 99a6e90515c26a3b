"""How questions reach the name servers: c-ares, through aiodns."""

from collections.abc import Callable, Sequence
from typing import Any

import aiodns
import pycares

from gatepost.dns.answer import Answer, DnsStatus

__all__ = ["Cares"]

_FIRST_SECONDS = 1.0
"""Until a question is sent again, and to the next server, as long as no server is known to be faster."""
_TRIES = 6
"""More than fit into the time of a question, whose end the resolver decides.

c-ares shortens the time of a try to 250 ms once a server was fast, however long the next name may take: with
few tries a name whose own servers are slow would seem dead.
"""
_NEGATIVE_SECONDS = 60.0
"""c-ares does not say how long a negative answer holds."""
_FAILURE_SECONDS = 2.0
_STATUS = {
    pycares.errno.ARES_ENODATA: DnsStatus.NO_DATA,
    pycares.errno.ARES_ENOTFOUND: DnsStatus.NO_NAME,
    pycares.errno.ARES_EBADNAME: DnsStatus.NO_NAME,
    pycares.errno.ARES_ETIMEOUT: DnsStatus.TIMED_OUT,
}
_RECORDS: dict[str, Callable[[Any], Any]] = {
    "A": lambda data: data.addr,
    "AAAA": lambda data: data.addr,
    "MX": lambda data: (data.priority, data.exchange.removesuffix(".")),
    "PTR": lambda data: data.dname.removesuffix("."),
    "TXT": lambda data: data.data,
}
_TYPES: dict[str, int] = {kind: getattr(pycares, f"QUERY_TYPE_{kind}") for kind in _RECORDS}


class Cares:
    """A channel of c-ares; needs a running event loop when it is made."""

    def __init__(self, servers: Sequence[str]) -> None:
        """``servers`` as ``address:port``; none: those of the system."""
        self._asking = aiodns.DNSResolver(
            nameservers=servers or None,
            timeout=_FIRST_SECONDS,
            tries=_TRIES,
            flags=pycares.ARES_FLAG_NOSEARCH | pycares.ARES_FLAG_NOALIASES,
        )

    async def ask(self, name: str, kind: str) -> tuple[Answer, float]:
        """The answer, and for how many seconds it holds."""
        try:
            found = await self._asking.query_dns(name, kind)
        except aiodns.error.DNSError as error:
            status = _STATUS.get(error.args[0], DnsStatus.FAILED)
            return Answer(status=status), _FAILURE_SECONDS if status.is_temporary else _NEGATIVE_SECONDS
        owners = _aliases(name, found.answer)
        of_name = [record for record in found.answer if record.name.lower() in owners]
        records = [record for record in of_name if record.type == _TYPES[kind]]
        if found.answer and not of_name:
            return Answer(status=DnsStatus.FAILED), _FAILURE_SECONDS
        if not records:
            return Answer(status=DnsStatus.NO_DATA), _NEGATIVE_SECONDS
        seconds = min(record.ttl for record in of_name)
        data = tuple(_RECORDS[kind](record.data) for record in records)
        return Answer(status=DnsStatus.FOUND, records=data), seconds

    async def close(self) -> None:
        """End all questions."""
        await self._asking.close()


def _aliases(name: str, records: Sequence[Any]) -> set[str]:
    """The name and those that its CNAME records lead to. Records of any other name are no answer."""
    targets = {
        record.name.lower(): record.data.cname.lower()
        for record in records
        if record.type == pycares.QUERY_TYPE_CNAME
    }
    owners = {name}
    while (target := targets.pop(name, None)) is not None:
        name = target.removesuffix(".")
        owners.add(name)
    return owners
