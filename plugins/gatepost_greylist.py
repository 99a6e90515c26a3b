"""The filter ``greylist``: defers the first message of a client, sender and recipient that are new together.

    - name: greylist
      filter: greylist
      with: {delay: 5m}

A mail server tries again after some minutes (RFC 5321 section 4.5.4.1), and is let pass then. Many programs
that send unwanted mail do not. What has passed is remembered, and a client of which several have passed is
not asked again. All workers share what is remembered, and it outlives restarts.
"""

import asyncio
import ipaddress
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from gatepost import (
    Action,
    Amount,
    Envelope,
    Evaluation,
    Passed,
    Place,
    Recipient,
    Reply,
    Resolver,
    Seconds,
    Session,
    State,
    Verdict,
    hookimpl,
    mailbox_key,
    total_score,
)
from pydantic import Field

__all__ = ["Greylist"]

_DAY = 86400
_HOUR = 3600
_NAME_SECONDS = 2.0
"""For the name of a client; without it the client is known by its network alone."""
_NAMES_LIMIT = 3
"""Names of one address that are looked up."""
_SIGNED = re.compile(r"(?:prvs|btv1)=[^=/]*=+(.*)")
"""BATV: a tag before the sender's own local part."""
_REWRITTEN = re.compile(r"(?:srs0|srs1[=+-][^=]*=[^=]*=)[=+-][^=]*=[^=]*=(.*)")
"""SRS: hash and time before the domain and the local part of the sender, once or twice rewritten."""
_WORD = re.compile(r"[^\W_]+")
_MANY_DIGITS = 3

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(kw_only=True, eq=False)
class Greylist:
    """Defers the first message of a client, sender and recipient that are new together."""

    state: State
    resolver: Resolver
    place: Place
    delay: Seconds = 300.0
    """How soon after the first attempt another is let pass."""
    retry_within: Seconds = 2.0 * _DAY
    """How late it may come; after that it is a first one."""
    remember: Seconds = 35.0 * _DAY
    """How long what has passed is remembered after its last message."""
    known_after: Annotated[int, Field(ge=0)] = 5
    """A client passes whatever it sends after so many pairs of it have passed; 0: never."""
    ipv4_prefix: Annotated[int, Field(ge=8, le=32)] = 24
    """Clients of one IPv4 network of this size are one."""
    ipv6_prefix: Annotated[int, Field(ge=16, le=128)] = 64
    """The same for IPv6."""
    by_name: bool = True
    """Clients whose names are in one domain are one too, if DNS confirms the names."""
    from_score: float | None = None
    """Only what earlier rules have given at least this score by RCPT is greylisted; None: whatever it has."""

    def __post_init__(self) -> None:
        if not self.delay < self.retry_within:
            raise ValueError(f"retry_within is {self.retry_within:g} s, expected more than delay")

    @hookimpl
    async def filter_rcpt(
        self,
        session: Session,
        envelope: Envelope,
        recipient: Recipient,
        earlier: tuple[Evaluation, ...],
    ) -> Verdict | Passed | None:
        """Look up the client, and its sender and recipient."""
        if session.authenticated:
            return Passed(asked=False)
        if self.from_score is not None and total_score(earlier, recipient.address) < self.from_score:
            return Passed(asked=False)
        clients = await self._clients(session.client)
        pair = f"{_sender(envelope.mail_from)} {_without_detail(mailbox_key(recipient.address))}"
        known = [f"known {client}" for client in clients]
        passed = [f"passed {client} {pair}" for client in clients]
        waiting = [f"waiting {client} {pair}" for client in clients]
        found = await asyncio.gather(*map(self.state.get, (*known, *passed, *waiting)))
        count = len(clients)
        if days := [day for day in found[:count] if day is not None]:
            await self._remember(known, days)
            self.place.count("known client")
            return Passed(reason=f"the client is known: {clients[-1]}")
        if days := [day for day in found[count : 2 * count] if day is not None]:
            await self._remember(passed, days)
            self.place.count("known pair")
            return Passed(reason="client, sender and recipient are known")
        now = self.state.now()
        begun = [first for first in found[2 * count :] if isinstance(first, float) and first <= now]
        if not begun:
            await self._set(waiting, now, self.retry_within)
            self.place.count("first")
            return self._later(self.delay, f"first attempt of {clients[-1]}")
        waited = now - min(begun)
        if waited < self.delay:
            self.place.count("early")
            return self._later(self.delay - waited, f"tried again after {waited:.0f} s, which is too early")
        await self._remember(passed, ())
        await self._count_passed(clients)
        self.place.count("passed")
        return Passed(reason=f"tried again after {waited:.0f} s")

    def _later(self, seconds: float, reason: str) -> Verdict:
        text = f"Greylisted, please try again in {math.ceil(seconds)} seconds"
        reply = Reply(code=451, enhanced="4.7.1", text=text)
        return Verdict(reason=reason, action=Action.DEFER, reply=reply)

    async def _remember(self, keys: Sequence[str], days: Sequence[object]) -> None:
        """Remember these from today on; ``days`` are those of their last use."""
        today = int(self.state.now() // _DAY)
        if today not in days:
            await self._set(keys, today, self.remember)

    async def _set(self, keys: Sequence[str], value: float, seconds: float) -> None:
        await asyncio.gather(*(self.state.set(key, value, seconds=seconds) for key in keys))

    async def _count_passed(self, clients: Sequence[str]) -> None:
        """Count that something of a client has passed, once an hour: a message may have many recipients."""
        for client in clients if self.known_after else ():
            (counted,) = await self.state.add(
                Amount(key=f"counted {client}", amount=1, seconds=_HOUR, limit=1)
            )
            if counted.wait_seconds:
                continue
            before = await self.state.get(f"passes {client}")
            passes = before + 1 if isinstance(before, int) else 1
            await self.state.set(f"passes {client}", passes, seconds=self.remember)
            if passes >= self.known_after:
                await self._remember([f"known {client}"], ())

    async def _clients(self, client: _Address) -> list[str]:
        """What the client is known by: its network, and the domain of its name if that is confirmed."""
        prefix = self.ipv4_prefix if client.version == 4 else self.ipv6_prefix
        known_by = [str(ipaddress.ip_network((client, prefix), strict=False))]
        if self.by_name:
            try:
                async with asyncio.timeout(_NAME_SECONDS):
                    name = await self._name(client)
            except TimeoutError:
                name = ""
            if name:
                known_by.append(_domain_of_host(name))
        return known_by

    async def _name(self, client: _Address) -> str:
        """A name of the client that has its address; empty without one, or if it is made of the address."""
        names = await self.resolver.look_up(client.reverse_pointer, "PTR")
        for name in names.records[:_NAMES_LIMIT]:
            addresses = await self.resolver.look_up(name, "A" if client.version == 4 else "AAAA")
            if client in map(ipaddress.ip_address, addresses.records):
                return "" if _is_made_of(name, client) else name.lower()
        return ""


def _is_made_of(name: str, client: _Address) -> bool:
    """True for names like ``198-51-100-7.dsl.example.net``: a provider's whole pool has the same domain."""
    if isinstance(client, ipaddress.IPv6Address):
        return client.exploded[-4:] in name.lower().replace("-", "").replace(".", "")
    third, fourth = client.packed[2:]
    numbers = {int(number) for number in re.findall(r"\d{1,3}", name)}
    return {third, fourth} <= numbers or f"{third:02x}{fourth:02x}" in name.lower()


def _domain_of_host(name: str) -> str:
    """The name without its first label; never what may be a public suffix, such as ``com`` or ``co.uk``."""
    labels = name.split(".")
    is_two_part_suffix = len(labels[-1]) == 2 and len(labels[-2]) <= 3  # or a short name, which does no harm
    fewest = 3 if is_two_part_suffix else 2
    return ".".join(labels[1:]) if len(labels) > fewest else name


def _sender(address: str) -> str:
    """The sender, without what a sender that means the same changes for each message.

    That is a tag of BATV, hash and time of SRS, what follows a ``+``, and numbers: VERP numbers messages and
    subscribers.
    """
    local, at, domain = mailbox_key(address).rpartition("@")
    if not at:
        return "<>"
    for pattern in (_SIGNED, _REWRITTEN):
        if found := pattern.fullmatch(local):
            local = found[1]
    return f"{_WORD.sub(_number, local.partition('+')[0])}@{domain}"


def _number(word: re.Match[str]) -> str:
    digits = sum(character.isdigit() for character in word[0])
    return "#" if digits >= _MANY_DIGITS or digits == len(word[0]) else word[0]


def _without_detail(address: str) -> str:
    """An address without what follows a ``+`` in its local part."""
    local, at, domain = address.rpartition("@")
    return f"{local.partition('+')[0]}{at}{domain}"
