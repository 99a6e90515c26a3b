"""The filter ``helo``: is the name of EHLO or HELO one that the client can have?"""

import asyncio
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import ClassVar, Literal

from gatepost import DnsStatus, Passed, Resolver, Session, Verdict, hookimpl, mailbox_key

__all__ = ["Helo"]

Fact = Literal["ours", "invalid", "bare", "literal", "wrong literal", "unknown", "other"]
_SCORES: dict[Fact, float] = {
    "ours": 5.0,
    "invalid": 2.0,
    "bare": 2.0,
    "literal": 1.0,
    "wrong literal": 3.0,
    "unknown": 1.5,
    "other": 0.0,
}
_NAME = re.compile(
    r"(?=.{1,255}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*(?!\d+$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_LITERAL = re.compile(r"\[(?:IPv6:)?([0-9a-f.:]+)\]", re.IGNORECASE)


class NameServerError(OSError):
    """DNS has not answered."""


@dataclass(kw_only=True, eq=False)
class Helo:
    """Scores clients by the name that they give in EHLO or HELO (RFC 5321 section 4.1.1.1)."""

    side_by_side: ClassVar[bool] = True
    """It only waits for the network, and changes nothing."""
    resolver: Resolver
    """The gateway's own."""
    ours: list[str] = field(default_factory=list)
    """Names that only our own servers have, for example ``mx.example.com``, and addresses in brackets."""
    scores: dict[Fact, float] = field(default_factory=dict)
    """Other scores than the usual: ``ours`` (5), ``invalid`` (2: no domain name), ``bare`` (2: a name without
    a dot), ``literal`` (1: the client's address in brackets), ``wrong literal`` (3: another address),
    ``unknown`` (1.5: the name has no address), ``other`` (0: the name has other addresses only)."""

    def __post_init__(self) -> None:
        self._scores = _SCORES | self.scores
        self._ours = {_key(name) for name in self.ours}

    @hookimpl
    async def filter_helo(self, session: Session) -> Verdict | Passed | None:
        """Look at the name, then ask DNS for its addresses."""
        name = session.helo
        if _key(name) in self._ours:
            return self._scored("ours", f"{name!r} is our own name")
        if literal := _LITERAL.fullmatch(name):
            return self._of_literal(literal[1], session.client)
        key = _key(name)
        if not _NAME.fullmatch(key):
            return self._scored("invalid", f"{name!r} is no domain name")
        if "." not in key:
            return self._scored("bare", f"{name!r} has no dot")
        if not (self._scores["unknown"] or self._scores["other"]):
            return Passed(asked=False)
        return await self._of_addresses(name, key, session.client)

    def _of_literal(self, text: str, client: IPv4Address | IPv6Address) -> Verdict | None:
        try:
            address = ip_address(text)
        except ValueError:
            return self._scored("invalid", f"[{text}] is no address")
        if address == client:
            return self._scored("literal", f"[{text}] is the client's address, and no name")
        return self._scored("wrong literal", f"[{text}] is not the client's address")

    async def _of_addresses(self, name: str, key: str, client: IPv4Address | IPv6Address) -> Verdict | None:
        answers = await asyncio.gather(*(self.resolver.look_up(key, kind) for kind in ("A", "AAAA")))
        addresses = [ip_address(one) for answer in answers for one in answer.records]
        if client in addresses:
            return None
        for answer in answers:
            if answer.status.is_temporary:
                raise NameServerError(f"DNS: {key}: {answer.status}")
        if addresses:
            return self._scored("other", f"{name!r} does not have the address {client}")
        missing = all(answer.status is DnsStatus.NO_NAME for answer in answers)
        return self._scored("unknown", f"{name!r} {'does not exist' if missing else 'has no address'}")

    def _scored(self, fact: Fact, reason: str) -> Verdict | None:
        score = self._scores[fact]
        return Verdict(reason=reason, score=score) if score else None


def _key(name: str) -> str:
    """The name as names are compared: in A-labels and lower case; an address literal as it is."""
    return mailbox_key(f"x@{name}").partition("@")[2]
