"""The filter ``reverse_dns``: does the client have a name that leads back to its address?"""

import asyncio
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import ClassVar

from gatepost import Answer, DnsStatus, Resolver, Session, Verdict, hookimpl

__all__ = ["ReverseDns"]

_NAMES_LIMIT = 5
"""Reverse names that are looked up; an address may have hundreds."""


class NameServerError(OSError):
    """DNS has not answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseDns:
    """Scores clients without a confirmed reverse name (RFC 1912 section 2.1)."""

    side_by_side: ClassVar[bool] = True
    """It only waits for the network, and changes nothing."""
    resolver: Resolver
    """The gateway's own."""
    missing: float = 2.0
    """The score of an address without a reverse name."""
    unconfirmed: float = 1.5
    """The score if none of its names has this address."""
    generic: float = 1.0
    """The score of a confirmed name that is made of the address, as dial-up lines have it."""

    @hookimpl
    async def filter_connect(self, session: Session) -> Verdict | None:
        """Look up the names of the client's address, then the addresses of these names."""
        client = session.client
        answer = await self.resolver.look_up(client.reverse_pointer, "PTR")
        if answer.status.is_temporary:
            raise NameServerError(f"DNS: {client.reverse_pointer}: {answer.status}")
        names = answer.records[:_NAMES_LIMIT]
        if not names:
            return _scored(f"{client} has no reverse name", self.missing)
        kind = "A" if client.version == 4 else "AAAA"
        answers = await asyncio.gather(*(self.resolver.look_up(name, kind) for name in names))
        confirmed = [name for name, found in zip(names, answers, strict=True) if _has(found, client)]
        if confirmed:
            return self._of_name(confirmed, client)
        for name, found in zip(names, answers, strict=True):
            if found.status.is_temporary:
                raise NameServerError(f"DNS: {name}: {found.status}")
        return _scored(f"{client} is called {names[0]}, which does not have this address", self.unconfirmed)

    def _of_name(self, confirmed: list[str], client: IPv4Address | IPv6Address) -> Verdict | None:
        if all(_is_made_of(name, client) for name in confirmed):
            return _scored(
                f"{client} has the name {confirmed[0]}, which is made of the address", self.generic
            )
        return None


def _scored(reason: str, score: float) -> Verdict | None:
    return Verdict(reason=reason, score=score) if score else None


def _has(answer: Answer, client: IPv4Address | IPv6Address) -> bool:
    return answer.status is DnsStatus.FOUND and client in map(ip_address, answer.records)


def _is_made_of(name: str, client: IPv4Address | IPv6Address) -> bool:
    """True if the name has the last two parts of the address, in either order, with or without zeros."""
    name = name.lower()
    if isinstance(client, IPv4Address):
        parts = [int(part) for part in str(client).split(".")]
        numbers = [int(number) for number in re.findall(r"\d{1,3}", name)]
        joined = "".join(f"{part:03}" for part in parts)
        pairs = [tuple(numbers[at : at + 2]) for at in range(len(numbers) - 1)]
        last = (parts[2], parts[3])
        return last in pairs or last[::-1] in pairs or joined in name or client.packed.hex() in name
    exploded = client.exploded.replace(":", "")
    digits = re.sub(r"[^0-9a-f]", "", name.partition(".")[0])
    return exploded[16:] in digits or exploded in digits
