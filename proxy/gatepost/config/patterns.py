"""Patterns for addresses, names and networks, compiled when the settings are loaded."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

from pydantic_core import PydanticCustomError

from gatepost.config.problems import shown
from gatepost.model.addresses import LONGEST, Mailbox, domain_readings, local_readings, mailbox, mailbox_key

__all__ = [
    "AddressPatterns",
    "Glob",
    "Network",
    "Networks",
    "check_address_pattern",
    "client_address",
    "expected",
    "names_a_domain",
    "network",
    "unknown_key",
]

Network = IPv4Network | IPv6Network
_UNFIT = re.compile(r"[\x00-\x20\x7f]")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def expected(what: str) -> PydanticCustomError:
    """The error for a wrong value; pydantic adds its place."""
    return PydanticCustomError("expected", "{what}", {"what": what})


def unknown_key(known: Iterable[str]) -> PydanticCustomError:
    """The error for an unknown key."""
    return PydanticCustomError("unknown_key", "unknown key", {"known": tuple(known)})


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern in which ``*`` matches any characters and everything else itself, ignoring case.

    The time to match grows with the text's length only, whatever the pattern.
    """

    first: str
    middle: tuple[str, ...]
    last: str | None
    """None: there is no ``*``, the whole must be equal."""

    @classmethod
    def of(cls, pattern: str) -> "Glob":
        """Compile a pattern."""
        return cls.of_folded(pattern.lower())

    @classmethod
    def of_folded(cls, pattern: str) -> "Glob":
        """As `of`, for a pattern that is already case-folded."""
        first, *rest = pattern.split("*")
        return cls(first, tuple(piece for piece in rest[:-1] if piece), rest[-1] if rest else None)

    def matches(self, text: str) -> bool:
        """True if the pattern matches the whole text."""
        return self.matches_lower(text.lower())

    def matches_lower(self, text: str) -> bool:
        """As `matches`, for text that is already in lower case."""
        if self.last is None:
            return text == self.first
        position, end = len(self.first), len(text) - len(self.last)
        if position > end or not text.startswith(self.first) or not text.endswith(self.last):
            return False
        for piece in self.middle:
            found = text.find(piece, position, end)
            if found < 0:
                return False
            position = found + len(piece)
        return True


class AddressPatterns:
    """Patterns for whole addresses; exact addresses and whole domains cost one look-up, however many.

    All spellings of one mailbox or domain (`gatepost.model.addresses`) match the same.
    """

    __slots__ = ("_domains", "_exact", "_globs", "_parents")

    def __init__(self, patterns: Iterable[str]) -> None:
        exact: set[str] = set()
        domains: set[str] = set()
        parents: set[str] = set()
        globs: list[Glob] = []
        for pattern in patterns:
            if "*" not in pattern:
                exact.add("" if pattern == "<>" else mailbox_key(pattern))
                continue
            local, _, written = pattern.rpartition("@")
            domain = domain_readings(written)[0]
            if local == "*" and domain and "*" not in domain:
                domains.add(domain)
            elif local == "*" and domain.startswith("*.") and "*" not in domain[1:] and domain != "*.":
                parents.add(domain[1:])
            else:
                globs += map(Glob.of_folded, _readings(pattern))
        self._exact = frozenset(exact)
        self._domains = frozenset(domains)
        self._parents = frozenset(parents)
        self._globs = tuple(globs)

    def matches(self, address: str) -> bool:
        """True if a pattern matches the address; ``""`` is the null reverse-path."""
        return self.take(mailbox(address))

    def take(self, wanted: Mailbox) -> bool:
        """As `matches`, for an address that is already parsed."""
        if wanted.key in self._exact:
            return True
        domain = wanted.domain
        if domain in self._domains or (self._parents and self._under_a_parent(domain)):
            return True
        for glob in self._globs:
            for reading in wanted.readings:
                if glob.matches_lower(reading):
                    return True
        return False

    def _under_a_parent(self, domain: str) -> bool:
        dot = domain.find(".", 1)
        while dot > 0:
            if domain[dot:] in self._parents:
                return True
            dot = domain.find(".", dot + 1)
        return False


def _readings(pattern: str) -> tuple[str, ...]:
    """The readings of a pattern with ``*``, as those of `Mailbox.readings`.

    A quoted ``"*"`` stays quoted: it is meant for quoted local parts only.
    """
    local, at, domain = pattern.rpartition("@")
    if not at or len(pattern) > LONGEST:
        return (pattern.lower(),)
    locals_ = local_readings(local)
    if not locals_[0].strip("*"):
        locals_ = locals_[-1:]
    return tuple(f"{one}@{other}" for one in locals_ for other in domain_readings(domain))


def check_address_pattern(pattern: Any) -> str:
    """The pattern; raises an error for pydantic if it is malformed."""
    what = "an address or a pattern like *@example.com"
    if not isinstance(pattern, str):
        raise expected(what)
    if pattern == "*" or pattern.lower() == "postmaster":
        return pattern
    if _UNFIT.search(_QUOTED.sub("", pattern)) or not pattern:
        raise expected(what)
    local, at, domain = pattern.rpartition("@")
    if not at and _is_network(pattern):
        raise expected(f"{what} (networks belong under client or clients)")
    if not at:
        raise expected(f"{what} (did you mean '*@{pattern.lstrip('*.')}'?)" if "." in pattern else what)
    if not local or not domain:
        raise expected(what)
    return pattern


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def names_a_domain(pattern: str) -> bool:
    """True if the pattern is limited to a domain, False if it matches any domain.

    A domain with ``*`` counts as limited if at least two labels follow, as in ``*@*.example.com``.
    ``*@*.com`` and ``*@*example.com`` match domains that anybody may register.
    """
    _, at, domain = pattern.rpartition("@")
    if not at:
        return pattern.lower() == "postmaster"
    _, star, rest = domain_readings(domain)[0].rpartition("*")
    return not star or (rest.startswith(".") and "." in rest[1:].rstrip(".") and not rest.endswith("]"))


class Networks:
    """A set of networks; finding an address costs one look-up for each prefix length."""

    __slots__ = ("_by_length",)

    def __init__(self, networks: Iterable[Network]) -> None:
        by_length: dict[tuple[int, int], set[int]] = {}
        for one in networks:
            shift = one.max_prefixlen - one.prefixlen
            by_length.setdefault((one.version, shift), set()).add(int(one.network_address) >> shift)
        self._by_length = tuple(
            (version, shift, frozenset(found)) for (version, shift), found in by_length.items()
        )

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        if not self._by_length:
            return False
        client = client_address(address)
        version, number = client.version, int(client)
        for of, shift, found in self._by_length:  # noqa: SIM110 - a generator costs more than the look-up
            if of == version and number >> shift in found:
                return True
        return False


def client_address(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address itself, or the IPv4 address in ``::ffff:192.0.2.1`` (RFC 4291 section 2.5.5.2)."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def network(value: Any) -> Any:
    """A network from text like ``10.0.0.0/8`` or ``::1``; raises an error for pydantic."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    what = "an address or network like 192.0.2.1 or 10.0.0.0/8"
    if not isinstance(value, str) or "%" in value:
        raise expected(what)
    try:
        return ip_network(value)
    except ValueError as error:
        try:
            meant = ip_network(value, strict=False)
        except ValueError:
            raise expected(what) from error
        raise expected(f"{what} (did you mean {shown(str(meant))}?)") from error
