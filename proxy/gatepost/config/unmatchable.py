"""Warnings about address patterns that are well-formed but cannot match any address."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from gatepost.config.document import Document, Location
from gatepost.config.problems import Problem, shown
from gatepost.model.addresses import domain_readings

__all__ = ["never_matches", "unmatchable"]

_LONGEST_PATH: Final = 254
"""Bytes between the angle brackets (RFC 5321 section 4.5.3.1.3)."""
_LONGEST_DOMAIN: Final = 255
"""Bytes (section 4.5.3.1.2)."""
_USUAL = re.compile(r"[\w.+*-]{1,64}@(?:\*\.)?[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*", re.ASCII)
"""A pattern that nearly every entry of long lists matches: nothing to warn about."""
_QUOTED_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NEEDS_QUOTES = re.compile(r'[\x00-\x20"(),:;<>@\[-\]\x7f]')
_NOT_IN_A_DOMAIN = re.compile(r"[\x00-,/:-@\[-^`{-\x7f]")


def unmatchable(document: Document) -> Iterator[Problem]:
    """A warning for each pattern of the settings that matches no address."""
    data = document.data
    for number, route in enumerate(_list(data.get("relay"))):
        place: Location = ("relay", number, "recipients")
        if isinstance(route, dict):
            yield from _of_patterns(document, place, route.get("recipients"), is_sender=False)
    for number, rule in enumerate(_list(data.get("rules"))):
        if isinstance(rule, dict):
            yield from _of_conditions(document, ("rules", number, "when"), rule.get("when"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _of_conditions(document: Document, place: Location, when: Any) -> Iterator[Problem]:
    for key, value in when.items() if isinstance(when, dict) else ():
        inside = (*place, key)
        if key in ("sender", "recipient"):
            yield from _of_patterns(document, inside, value, is_sender=key == "sender")
        elif key == "not":
            yield from _of_conditions(document, inside, value)
        elif key in ("any", "all"):
            for number, one in enumerate(_list(value)):
                yield from _of_conditions(document, (*inside, number), one)


def _of_patterns(document: Document, place: Location, value: Any, *, is_sender: bool) -> Iterator[Problem]:
    for number, one in enumerate(value if isinstance(value, list) else [value]):
        if isinstance(one, str) and (why := never_matches(one, is_sender=is_sender)):
            where = (*place, number) if isinstance(value, list) else place
            yield document.problem(where, f"{shown(one)} never matches: {why}")


def never_matches(pattern: str, *, is_sender: bool) -> str:
    """Why no address can match a pattern; empty if one may.

    Only certain cases count: in a domain with ``*`` only the part after the last one is checked, since the
    rest may also match a quoted local part.
    """
    if len(pattern) <= _LONGEST_PATH and _USUAL.fullmatch(pattern):
        return ""
    local, at, domain = pattern.rpartition("@")
    if not at:
        is_postmaster = pattern.lower() == "postmaster"
        return "without a domain it can only be a recipient" if is_sender and is_postmaster else ""
    if "*" not in pattern and len(pattern.encode(errors="replace")) > _LONGEST_PATH:
        return f"an address has at most {_LONGEST_PATH} bytes"
    if "*" not in local and not _QUOTED_STRING.fullmatch(local) and (bad := _NEEDS_QUOTES.search(local)):
        return f"{shown(bad[0])} before the last @ needs quotes around the local part"
    return _why_no_domain(domain)


def _why_no_domain(domain: str) -> str:
    if domain.startswith("[") and "*" not in domain:
        return "" if _is_literal(domain) else "an address literal is like [192.0.2.1] or [IPv6:2001:db8::1]"
    _, star, end = domain_readings(domain)[0].rpartition("*")
    if star and "]" in end:
        return ""
    if bad := _NOT_IN_A_DOMAIN.search(end):
        return f"no domain has the character {shown(bad[0])}"
    if len(end.encode(errors="replace")) > _LONGEST_DOMAIN:
        return f"a domain has at most {_LONGEST_DOMAIN} bytes"
    first, *labels = end.split(".")
    whole = labels if star else [first, *labels]
    if "" in whole and not (star and whole == [""]):
        return "a label of its domain is empty"
    if any(label.startswith("-") or label.endswith("-") for label in whole):
        return "no label of a domain begins or ends with a hyphen"
    return ""


def _is_literal(domain: str) -> bool:
    inside = domain[1:-1] if domain.endswith("]") else ""
    version = IPv6Address if inside[:5].lower() == "ipv6:" else IPv4Address
    try:
        version(inside[5:] if version is IPv6Address else inside)
    except ValueError:
        return False
    return True
