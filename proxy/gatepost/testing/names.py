"""DNS for tests: a resolver that answers from a table."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from gatepost.dns import Answer, DnsStatus, Resolver
from gatepost.dns.resolver import Kind

__all__ = ["Records", "make_resolver"]

Records = Mapping[tuple[str, Kind], Iterable[Any] | DnsStatus]


def make_resolver(records: Records | None = None) -> Resolver:
    """A resolver that knows these records and asks nobody.

    For example ``{("example.com", "MX"): [(10, "mx.example.com")], ("a.example", "A"): DnsStatus.FAILED}``:
    for a name in lower case and a type the records as in `Answer.records`, or how the question ends. Text is
    taken for the bytes of TXT. Other names do not exist, and of these names there are no other records.
    """
    known = records or {}
    names = {name for name, _ in known}

    async def ask(name: str, kind: str) -> tuple[Answer, float]:
        found = known.get((name, cast("Kind", kind)))
        if isinstance(found, DnsStatus):
            return Answer(status=found), 0
        if found is None:
            exists = any(one == name or one.endswith(f".{name}") for one in names)
            return Answer(status=DnsStatus.NO_DATA if exists else DnsStatus.NO_NAME), 0
        data = tuple(one.encode() if kind == "TXT" and isinstance(one, str) else one for one in found)
        return Answer(status=DnsStatus.FOUND, records=data), 0

    return Resolver(ask=ask)
