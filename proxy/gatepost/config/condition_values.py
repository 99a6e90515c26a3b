"""The values of ``when``, key by key: text to patterns, comparisons and results.

What a wrong value raises is an error for pydantic, which adds its place.
"""

import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from math import isfinite, nan
from typing import Any

from gatepost.config.patterns import Glob, check_address_pattern, expected
from gatepost.model.addresses import domain_readings
from gatepost.units import number_of_bytes

__all__ = [
    "AUTH_KEYS",
    "AUTH_RESULTS",
    "auth_result",
    "fits",
    "fits_name",
    "glob",
    "name_globs",
    "rule_name",
    "score_test",
    "sender_pattern",
    "signer",
    "signers",
    "size_test",
]

_COMPARISON = re.compile(r"(>=|<=|>|<)\s*(.+)")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
AUTH_RESULTS: Mapping[str, tuple[str, ...]] = {
    "spf": ("pass", "fail", "softfail", "neutral", "none", "temperror", "permerror"),
    "dkim": ("pass", "fail", "policy", "none", "temperror", "permerror"),
    "arc": ("pass", "fail", "none", "temperror"),
    "dmarc": ("pass", "fail", "none", "temperror", "permerror", "quarantine", "reject"),
}
"""By method, those of RFC 8601 section 2.7; after DMARC has failed also what the author's domain asks for."""

AUTH_KEYS = (*AUTH_RESULTS, "signed_by")
"""The keys of ``auth``."""
_DOMAIN = re.compile(r"[\w-]+(?:\.[\w-]+)+")
_SIGNED_BY = "signed_by="


def sender_pattern(value: Any) -> str:
    """A pattern for reverse-paths; the null one is empty."""
    return "" if value in ("", "<>") else check_address_pattern(value)


def glob(value: Any) -> Glob:
    """Text with ``*`` for any characters."""
    if not isinstance(value, str):
        raise expected("text with * for any characters")
    return Glob.of(value)


def name_globs(value: Any) -> list[Glob]:
    """A pattern over domain names, in each of its readings."""
    if not isinstance(value, str):
        raise expected("text with * for any characters")
    return [Glob.of_folded(reading) for reading in domain_readings(value)]


def fits_name(globs: list[Glob], name: str) -> bool:
    """True if a pattern matches a domain name in one of its readings."""
    readings = domain_readings(name)
    return any(one.matches_lower(reading) for one in globs for reading in readings)


def fits(globs: list[Glob], text: str) -> bool:
    """True if a pattern matches the text."""
    lower = text.lower()
    return any(one.matches_lower(lower) for one in globs)


def size_test(value: Any) -> Callable[[int], bool]:
    """A comparison with a size."""
    found = _COMPARISON.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise expected("a comparison like '>10MiB' or '<1KB'")
    compare = _COMPARE[found[1]]
    bound = number_of_bytes(found[2])
    return lambda size: compare(size, bound)


def score_test(value: Any) -> Callable[[float], bool]:
    """A comparison with a score."""
    found = _COMPARISON.fullmatch(value) if isinstance(value, str) else None
    try:
        bound = float(found[2]) if found else nan
    except ValueError:
        bound = nan
    if not found or not isfinite(bound):
        raise expected("a comparison like '>=6' or '<0.5'")
    compare = _COMPARE[found[1]]
    return lambda score: compare(score, bound)


def rule_name(value: Any) -> str:
    """The name of a rule."""
    if not isinstance(value, str):
        raise expected("the name of a rule")
    return value


def auth_result(method: str, value: Any) -> str:
    """A result as ``Verdict.auth`` has it."""
    if value not in AUTH_RESULTS[method]:
        raise expected(f"one of {', '.join(AUTH_RESULTS[method])}")
    return f"{method}={value}"


def signer(value: Any) -> str:
    """A domain that signs, in lower-case A-labels."""
    domain = domain_readings(value)[0] if isinstance(value, str) else ""
    if not _DOMAIN.fullmatch(domain):
        raise expected("a domain like lists.example.org, whose subdomains are included")
    return domain


def signers(domains: Collection[str], results: Iterable[str]) -> list[str]:
    """Those of the results that state a signature by one of the domains or a subdomain."""
    return [
        one
        for one in results
        if one.startswith(_SIGNED_BY)
        and any(f".{one.removeprefix(_SIGNED_BY)}".endswith(f".{domain}") for domain in domains)
    ]
