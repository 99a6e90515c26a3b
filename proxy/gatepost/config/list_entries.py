"""One entry for a list file: what a person typed, checked by where the list is used."""

from collections.abc import Collection, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal

from pydantic_core import PydanticCustomError

from gatepost.config.lists import entries_of
from gatepost.config.patterns import AddressPatterns, check_address_pattern, network
from gatepost.config.problems import shown
from gatepost.config.unmatchable import never_matches
from gatepost.model.addresses import domain_readings, mailbox_key
from gatepost.values import value

__all__ = ["ListEntry", "covered_by", "entry_for", "expected_by", "same_entry"]

_CLIENTS = frozenset({"client", "clients"})
"""Keys of conditions and routes whose values are networks."""
_ADDRESSES = frozenset({"sender", "recipient", "recipients"})
"""Those whose values are address patterns."""
_EVERYBODY = "matches all mail; if that is meant, write it into the list's file"


@value
class ListEntry:
    """One entry, as it is written into the file."""

    kind: Literal["clients", "senders"]
    """Networks or address patterns."""
    text: str


def entry_for(typed: str) -> ListEntry:
    """Read an address, a domain, a pattern, or a client's address or network; raises ValueError.

    A domain is a pattern for all its addresses; one that begins with a dot or ``*.``, for its subdomains.
    """
    text = typed.strip()
    if not text.isprintable():
        raise ValueError(f"{shown(typed)}, expected an address, a domain, or a client's address")
    if text.startswith("<") and text.endswith(">") and text != "<>":  # as logs and the journal show it
        text = text[1:-1]
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        pass
    else:
        if not found.prefixlen:
            raise ValueError(f"{shown(typed)} {_EVERYBODY}")
        return ListEntry(kind="clients", text=_network(text, found))
    if "@" not in text and "." in text:
        domain = text.removeprefix("*.").removeprefix(".")
        text = f"*@{domain}" if domain == text else f"*@*.{domain}"
    elif text.startswith("@"):
        text = f"*{text}"
    try:
        pattern = text if text == "<>" else check_address_pattern(text)
    except PydanticCustomError as error:
        raise ValueError(f"{shown(typed)}, expected {error}, a domain, or a client's address") from None
    if not pattern.strip("*@."):
        raise ValueError(f"{shown(typed)} {_EVERYBODY}")
    if why := never_matches(pattern, is_sender=True):
        raise ValueError(f"{shown(typed)} never matches: {why}")
    if [*entries_of([f"{pattern}  # "])] != [(1, pattern)]:
        raise ValueError(f"{shown(typed)}: a list cannot hold an entry with # at its start or after a space")
    return ListEntry(kind="senders", text=pattern)


def _network(text: str, found: IPv4Network | IPv6Network) -> str:
    try:
        network(text)
    except PydanticCustomError as error:
        raise ValueError(f"{shown(text)}, expected {error}") from None
    return str(found.network_address) if found.prefixlen == found.max_prefixlen else str(found)


def expected_by(keys: Collection[str], entry: ListEntry) -> str:
    """What a list that is used under these keys has instead of such an entry; empty if it fits."""
    takes_clients, takes_addresses = not _CLIENTS.isdisjoint(keys), not _ADDRESSES.isdisjoint(keys)
    if entry.kind == "clients" and not takes_clients and takes_addresses:
        return "an address or a pattern like *@example.com"
    if entry.kind == "senders" and takes_clients:
        return "an address or network like 192.0.2.1 or 10.0.0.0/8"
    return ""


def covered_by(entry: ListEntry, lines: Iterable[str]) -> tuple[int, str] | None:
    """The first line of a list, by number and entry, that matches all that the new entry does."""
    entries = [*entries_of(lines)]
    if entry.kind == "clients":
        wanted = ip_network(entry.text)
        return next((one for one in entries if _is_within(wanted, one[1])), None)
    if "*" in entry.text:
        return next((one for one in entries if _pattern_key(one[1]) == _pattern_key(entry.text)), None)
    address = "" if entry.text == "<>" else entry.text
    if not AddressPatterns(text for _, text in entries).matches(address):
        return None
    return next(one for one in entries if AddressPatterns([one[1]]).matches(address))


def same_entry(entry: ListEntry, text: str) -> bool:
    """True if a line's entry is this entry, perhaps in another spelling."""
    if entry.kind == "clients":
        try:
            return ip_network(entry.text) == ip_network(text, strict=False)
        except ValueError:  # "authenticated"
            return False
    if "*" in entry.text or "*" in text or "<>" in (entry.text, text):
        return _pattern_key(text) == _pattern_key(entry.text)
    return mailbox_key(text) == mailbox_key(entry.text)


def _is_within(wanted: IPv4Network | IPv6Network, text: str) -> bool:
    try:
        listed = ip_network(text)
    except ValueError:  # "authenticated"
        return False
    if isinstance(wanted, IPv4Network):
        return isinstance(listed, IPv4Network) and wanted.subnet_of(listed)
    return isinstance(listed, IPv6Network) and wanted.subnet_of(listed)


def _pattern_key(pattern: str) -> tuple[str, str]:
    local, _, domain = pattern.rpartition("@")
    return local.casefold(), domain_readings(domain)[0]
