"""The filter ``dnsbl``: lists of addresses and domains in DNS (RFC 5782)."""

import asyncio
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import unescape
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from typing import ClassVar, Literal
from urllib.parse import unquote

from gatepost import (
    Answer,
    DnsStatus,
    Envelope,
    Match,
    Passed,
    Place,
    Resolver,
    Session,
    Transaction,
    Verdict,
    hookimpl,
    mailbox_key,
    visible_text,
)

__all__ = ["Code", "DnsList", "Dnsbl"]

Of = Literal["client", "helo", "sender", "urls"]
_LISTED = IPv4Network("127.0.0.0/8")
"""A list answers with an address from here (RFC 5782 section 2.1); anything else is no answer of a list."""
_REFUSED = IPv4Network("127.255.255.0/24")
"""Lists answer so to those who may not ask: a public resolver, or too many questions."""
_LOCAL = tuple(
    ip_network(one)
    for one in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1",
        "fc00::/7",
        "fe80::/10",
    )
)
_BEFORE_HOST = r"(?:https?:[/\\]*|[/\\]{2}|\bwww\.)"
"""Browsers take any number of slashes in either direction."""
_AUTHORITIES = tuple(
    re.compile(rf"{_BEFORE_HOST}([^\s/\\?#{quotes}]+)", re.IGNORECASE) for quotes in ("<>\"'", "")
)
"""User's name, host and port of a URL: in text, where a quotation mark ends it, and in an attribute, where
browsers go on."""
_AFTER_NAME = re.compile(r"[^\w.%\u00ad\u200b-\u200d\u2060\u3002\ufeff\uff0e\uff61-]")
"""Ends a URL in a sentence, for example a bracket or a comma."""
_IGNORED = str.maketrans("", "", "\t\r\n")
"""Browsers remove these from an address before they read it (URL Standard, section 4.4)."""
_IPV4_PARTS = 4
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_DOMAIN = re.compile(
    r"(?=.{4,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)


class ListError(OSError):
    """No list has given an answer that can be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What one answer of a list means."""

    reason: str = ""
    """For the journal, for example ``open proxy``."""
    score: float | None = None
    """What it counts; None: as its list says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsList:
    """One list."""

    zone: str
    """Its zone in DNS, for example ``bl.example.net``."""
    of: Of = "client"
    """What is looked up in it: the client's address, the name in EHLO, the sender's domain, or the hosts of
    URLs in the message."""
    score: float = 1.0
    """What a listing counts; negative for a list of those who are trusted."""
    codes: dict[str, Code] = field(default_factory=dict)
    """The answers that count, as address or network; default: all of 127.0.0.0/8."""


@dataclass(kw_only=True, eq=False)
class Dnsbl:
    """Scores what is listed in DNS: client, EHLO name, sender domain, and hosts of URLs."""

    side_by_side: ClassVar[bool] = True
    """It only waits for the network, and changes nothing."""
    resolver: Resolver
    """The gateway's own."""
    place: Place
    """For log and counters."""
    lists: list[DnsList]
    """Lists that are asked at the same time; each counts by itself."""
    urls_limit: int = 20
    """Different hosts of URLs in one message that are looked up."""

    def __post_init__(self) -> None:
        if not self.lists:
            raise ValueError("lists: no list, expected at least one")
        if self.urls_limit < 1:
            raise ValueError(f"urls_limit: {self.urls_limit}, expected at least 1")
        self._lists = [_Asked(one, self.resolver) for one in self.lists]
        self._silent: set[str] = set()

    async def open(self) -> None:
        """Ask each list for its test entries, and warn of one that does not have them."""
        for one, problem in zip(
            self._lists, await asyncio.gather(*(one.test() for one in self._lists)), strict=True
        ):
            if problem:
                self._failed(one.settings.zone, problem)

    @hookimpl
    async def filter_connect(self, session: Session) -> Verdict | Passed | None:
        """Look the client's address up."""
        if any(session.client in network for network in _LOCAL):
            return Passed(asked=False)
        return await self._ask("client", [_reversed(session.client)], str(session.client))

    @hookimpl
    async def filter_helo(self, session: Session) -> Verdict | Passed | None:
        """Look the name of EHLO up."""
        return await self._ask("helo", _domains([session.helo]), session.helo)

    @hookimpl
    async def filter_mail(self, envelope: Envelope) -> Verdict | Passed | None:
        """Look the sender's domain up."""
        domain = envelope.mail_from.rpartition("@")[2]
        return await self._ask("sender", _domains([domain]), domain)

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | Passed | None:
        """Look the hosts of the URLs up."""
        if not any(one.settings.of == "urls" for one in self._lists):
            return Passed(asked=False)
        hosts = await asyncio.to_thread(_hosts_of, transaction, self.urls_limit)
        return await self._ask("urls", hosts, "a URL")

    async def _ask(self, of: Of, names: list[str], what: str) -> Verdict | Passed | None:
        """The verdict for these names, each without the zone; raises ListError."""
        asked = [(one, name) for one in self._lists if one.settings.of == of for name in names]
        if not asked:
            return Passed(asked=False)
        answers = await asyncio.gather(*(one.look_up(name) for one, name in asked))
        found: dict[str, _Listing] = {}
        failed = 0
        for (one, _), answer in zip(asked, answers, strict=True):
            zone = one.settings.zone
            if isinstance(answer, str):
                failed += 1
                self._failed(zone, answer)
                continue
            self._silent.discard(zone)
            if answer and (zone not in found or answer.score > found[zone].score):
                found[zone] = answer
        if failed == len(asked):
            raise ListError(f"no list has answered: {answers[0]}")
        if not found:
            return None
        self.place.count("listed")
        return Verdict(
            reason=f"{what} is listed: {'; '.join(f'{zone}: {one.why}' for zone, one in found.items())}",
            score=max(-1000.0, min(1000.0, round(sum(one.score for one in found.values()), 3))),
            matches=tuple(Match(where=zone, text=f"{one.name} {one.why}") for zone, one in found.items()),
        )

    def _failed(self, zone: str, problem: str) -> None:
        """Log a list that cannot be used, once until it answers again."""
        self.place.count("failed")
        if zone not in self._silent:
            self._silent.add(zone)
            self.place.logger.warning("list %s is not used: %s", zone, problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """One listing that counts."""

    name: str
    why: str
    score: float


class _Asked:
    """One list, ready to be asked."""

    def __init__(self, settings: DnsList, resolver: Resolver) -> None:
        self.settings = settings
        self._resolver = resolver
        if not _DOMAIN.fullmatch(settings.zone.lower().rstrip(".")):
            raise ValueError(f"zone: {settings.zone!r}, expected a domain like bl.example.net")
        self._zone = settings.zone.lower().rstrip(".")
        self._codes = [(_network(code), meaning) for code, meaning in settings.codes.items()]
        by_address = settings.of == "client"
        self._listed, self._never = ("2.0.0.127", "1.0.0.127") if by_address else ("test", "invalid")

    async def test(self) -> str:
        """What is wrong with the list's test entries (RFC 5782 section 5); empty if nothing is."""
        answer = await self._answer(self._listed)
        if problem := _problem(answer) or await self._wildcard():
            return problem
        if not answer.records:
            return f"it does not have its test entry {self._listed}.{self._zone} (RFC 5782 section 5)"
        return ""

    async def look_up(self, name: str) -> _Listing | str | None:
        """The listing of a name, None if there is none; text if the answer cannot be used."""
        answer = await self._answer(name)
        if problem := _problem(answer):
            return problem
        found = [one for one in map(ip_address, answer.records) if isinstance(one, IPv4Address)]
        listings = [listing for one in found if (listing := self._listing(name, one))]
        if not listings:
            return None
        if problem := await self._wildcard():
            return problem
        return max(listings, key=lambda one: one.score)

    def _listing(self, name: str, address: IPv4Address) -> _Listing | None:
        if not self._codes:
            return _Listing(name=name, why=str(address), score=self.settings.score)
        for network, code in self._codes:
            if address in network:
                score = self.settings.score if code.score is None else code.score
                return _Listing(name=name, why=code.reason or str(address), score=score)
        return None

    async def _answer(self, name: str) -> Answer:
        return await self._resolver.look_up(f"{name}.{self._zone}", "A")

    async def _wildcard(self) -> str:
        """What is wrong if the list has what no list may have: it answers everything, as a dead zone may."""
        answer = await self._answer(self._never)
        if answer.status is DnsStatus.FOUND:
            return f"it has {self._never}.{self._zone}, which no list may have (RFC 5782 section 5)"
        return _problem(answer)


def _problem(answer: Answer) -> str:
    """Why an answer is neither a listing nor none; empty if it is one of them."""
    if answer.status.is_temporary:
        return f"DNS: {answer.status}"
    for one in map(ip_address, answer.records):
        if one not in _LISTED:
            return f"it answers {one}, which is no code of a list"
        if one in _REFUSED:
            return f"it answers {one}: this resolver may not ask it"
    return ""


def _network(code: str) -> IPv4Network:
    try:
        network = IPv4Network(code)
    except ValueError:
        raise ValueError(f"codes: {code!r}, expected an address or network like 127.0.0.2") from None
    if not network.subnet_of(_LISTED) or network.overlaps(_REFUSED):
        raise ValueError(f"codes: {code!r}, expected a part of 127.0.0.0/8 without 127.255.255.0/24")
    return network


def _reversed(address: IPv4Address | IPv6Address) -> str:
    """The address as lists have it (RFC 5782 sections 2.1 and 2.4), for example ``1.2.0.192``."""
    return address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


def _domains(names: Iterable[str]) -> list[str]:
    """The names that are domain names, and domains above them that may be the registered ones."""
    found: dict[str, None] = {}
    for name in names:
        domain = mailbox_key(f"x@{name}").partition("@")[2]
        if not _DOMAIN.fullmatch(domain):
            continue
        labels = domain.split(".")
        for count in range(2, min(len(labels), 4) + 1):
            found[".".join(labels[-count:])] = None
        found[domain] = None
    return list(found)


def _hosts_of(transaction: Transaction, limit: int) -> list[str]:
    """The names to look up for the first hosts of URLs in the message."""
    hosts: dict[str, list[str]] = {}
    for text in transaction.message.view.texts:
        for host in _hosts_in_html(text.text) if text.content_type == "text/html" else _hosts(text.text):
            if host not in hosts and (names := _names_of(host)):
                hosts[host] = names
                if len(hosts) == limit:
                    break
    return list(dict.fromkeys(name for names in list(hosts.values())[:limit] for name in names))


def _hosts_in_html(html: str) -> Iterator[str]:
    """First the hosts of links; then those of forms, images and all else."""
    for text in (visible_text(html), unescape(html)):
        yield from _hosts(text)
        yield from _hosts(text.translate(_IGNORED))


def _hosts(text: str) -> Iterator[str]:
    """The hosts of URLs as browsers and mail programs find them: in every reading, so some are no names."""
    for pattern in _AUTHORITIES:
        for found in pattern.finditer(text):
            host = found[1].rpartition("@")[2]
            host = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
            host = unquote(host).rstrip(".").lower()
            yield host
            if ended := _AFTER_NAME.search(host):
                yield host[: ended.start()].rstrip(".")


def _names_of(host: str) -> list[str]:
    """What lists may have of a host: its domains, or its address as `_reversed` writes it."""
    if address := _address(mailbox_key(f"x@{host}").partition("@")[2]):
        return [] if any(address in network for network in _LOCAL) else [_reversed(address)]
    return _domains([host])


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is; of IPv4 in any form that browsers take (URL Standard, section 3.5)."""
    if host.startswith("["):
        try:
            address = IPv6Address(host.strip("[]").removeprefix("ipv6:"))
        except ValueError:
            return None
        return address.ipv4_mapped or address
    parts = host.split(".")
    if len(parts) > _IPV4_PARTS or not all(map(_NUMBER.fullmatch, parts)):
        return None
    try:
        *first, last = [_number(part) for part in parts]
        if any(one > 0xFF for one in first):
            return None
        rest = last.to_bytes(_IPV4_PARTS - len(first))
    except (ValueError, OverflowError):
        return None
    return IPv4Address(bytes(first) + rest)


def _number(part: str) -> int:
    """A number of an address: hexadecimal after ``0x``, octal after ``0``; raises ValueError."""
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8 if part.startswith("0") else 10)
