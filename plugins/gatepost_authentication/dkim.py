"""DomainKeys Identified Mail (RFC 6376, RFC 8301, RFC 8463): signatures are verified."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gatepost import Resolver

from gatepost_authentication.canonical import Field, Fields
from gatepost_authentication.keys import Key, KeyUnavailableError, KeyUnusableError, fetch_key
from gatepost_authentication.signed import (
    Body,
    aside,
    canonicalization,
    covered_fields,
    domain_key,
    is_within,
    names_of,
    same_digest,
    sign_input,
    signs_from,
)
from gatepost_authentication.tags import TagListError, decode_base64, parse_tags, without_space

__all__ = [
    "LATE",
    "SIGNATURES_LIMIT",
    "Signature",
    "SignatureError",
    "parse_algorithm",
    "usable_key",
    "verify_all",
    "verify_headers",
]

SIGNATURES_LIMIT = 10
"""Further signatures of a message are ignored."""
LATE = "DNS did not answer in time"
"""The reason for ``temperror`` when the time is up."""
_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_SELECTOR = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]{1,76}", re.ASCII)


class SignatureError(Exception):
    """A signature that does not pass; the text tells a person why."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        """``fail``, ``policy``, ``temperror`` or ``permerror`` (RFC 8601 section 2.7.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The result for one signature."""

    result: str
    """``pass``, ``fail``, ``policy``, ``temperror`` or ``permerror`` (RFC 8601 section 2.7.1)."""
    reason: str = ""
    """Why it does not pass, or what limits a pass, as text for a person."""
    domain: str = ""
    """The signing domain in lower-case A-labels; empty if there is no valid one."""
    identity: str = ""
    """The agent or user identifier, the tag ``i``."""
    selector: str = ""
    algorithm: str = ""
    """For example ``rsa-sha256``."""
    value: str = ""
    """The first eight characters of the tag ``b``, by which signatures of a domain differ (RFC 6008)."""
    whole_body: bool = True
    """False if the tag ``l`` leaves a part of the body unsigned."""
    testing: bool = False
    """True if the key record has the flag ``t=y``: the domain is testing DKIM."""


async def verify_all(
    fields: Fields, body: Body, resolver: Resolver, *, now: float, seconds: float
) -> tuple[Signature, ...]:
    """Verify the signatures of a message, from the top, at most `SIGNATURES_LIMIT`.

    ``now`` in seconds since 1970. A signature that is not verified after ``seconds`` is ``temperror``; the
    others keep their results.
    """
    found = fields.get("dkim-signature", ())[:SIGNATURES_LIMIT]
    work = (_verify(field, fields, body, resolver, now, seconds) for field in found)
    return tuple(await asyncio.gather(*work))


async def _verify(
    own: Field, fields: Fields, body: Body, resolver: Resolver, now: float, seconds: float
) -> Signature:
    tags: Mapping[str, str] = {}
    facts: dict[str, object] = {}
    try:
        tags = parse_tags(own.text)
        facts = _facts(tags)
        _check(tags, facts, fields, now)
        async with asyncio.timeout(seconds):
            whole, key = await verify_headers(
                tags, own, fields, body, resolver, identity=str(facts["identity"])
            )
    except TimeoutError:
        return Signature(result="temperror", reason=LATE, **facts)  # type: ignore[arg-type]
    except SignatureError as error:
        return Signature(result=error.result, reason=str(error), **facts)  # type: ignore[arg-type]
    except TagListError as error:
        return Signature(result="permerror", reason=str(error), **facts)  # type: ignore[arg-type]
    return Signature(
        result="pass",
        reason="" if whole else "the end of the body is not signed",
        whole_body=whole,
        testing=key.testing,
        **facts,  # type: ignore[arg-type]
    )


def _facts(tags: Mapping[str, str]) -> dict[str, object]:
    domain = domain_key(tags.get("d", ""))
    return {
        "domain": domain,
        "identity": without_space(tags.get("i", "")) or (f"@{domain}" if domain else ""),
        "selector": without_space(tags.get("s", ""))[:253],
        "algorithm": without_space(tags.get("a", "")).lower()[:40],
        "value": without_space(tags.get("b", ""))[:8],
    }


def _check(tags: Mapping[str, str], facts: Mapping[str, object], fields: Fields, now: float) -> None:
    """Raise `TagListError` or `SignatureError` for what is wrong whatever the key is."""
    for name in ("v", "a", "b", "bh", "d", "h", "s"):
        if not tags.get(name):
            raise TagListError(f"it has no tag {name}")
    if tags["v"] != "1":
        raise TagListError("its version is not 1")
    if "dns/txt" not in without_space(tags.get("q", "dns/txt")).lower().split(":"):
        raise TagListError("its key is not in DNS")
    domain = domain_key(str(facts["identity"]).rpartition("@")[2])
    if not domain or not is_within(domain, str(facts["domain"])):
        raise TagListError("its identity is not of the signing domain")
    if "from" not in names_of(tags):
        raise TagListError("it does not sign the From field")
    if not signs_from(fields, names_of(tags)):
        raise SignatureError("policy", "it leaves a From field unsigned")
    times = [_number(tags, name) for name in ("t", "x")]
    if times[1] is not None and times[0] is not None and times[1] <= times[0]:
        raise TagListError("it expires before it was made")
    if times[1] is not None and times[1] < now:
        raise SignatureError("policy", "the signature has expired")


def _number(tags: Mapping[str, str], name: str) -> int | None:
    if name not in tags:
        return None
    if not _NUMBER.fullmatch(tags[name]):
        raise TagListError(f"its tag {name} is not a number")
    return int(tags[name])


def parse_algorithm(tags: Mapping[str, str]) -> str:
    """The type of key for the tag ``a``: rsa or ed25519; raises `TagListError` or `SignatureError`."""
    algorithm = without_space(tags["a"]).lower()
    if algorithm == "rsa-sha1":
        raise SignatureError("policy", "rsa-sha1 is not accepted (RFC 8301)")
    if algorithm not in ("rsa-sha256", "ed25519-sha256"):
        raise TagListError(f"unknown algorithm: {algorithm[:40]}")
    return algorithm.partition("-")[0]


async def verify_headers(
    tags: Mapping[str, str],
    own: Field,
    fields: Fields,
    body: Body,
    resolver: Resolver,
    *,
    identity: str = "",
    default: str = "simple/simple",
) -> tuple[bool, Key]:
    """Verify a signature over header fields and body; returns whether all of the body is signed, and the key.

    ``default`` is the canonicalization of a signature without the tag ``c``. Raises `SignatureError` or
    `TagListError`. The body is compared first, since that needs no question to DNS.
    """
    kind = parse_algorithm(tags)
    header, how = canonicalization(tags, default=default)
    signature = decode_base64(tags["b"])
    digest, whole = await body.digest(how, _number(tags, "l"))
    if not same_digest(tags, digest):
        raise SignatureError("fail", "the body was changed")
    key = await usable_key(tags, kind, resolver)
    if key.strict and identity and domain_key(identity.rpartition("@")[2]) != domain_key(tags["d"]):
        raise SignatureError("permerror", "the key is not for identities of subdomains")
    covered = covered_fields(fields, names_of(tags))
    size = sum(len(one.value) for one in covered)
    async with body.turn:
        verifies = await aside(size, lambda: key.verifies(signature, sign_input(covered, own, header)))
    if not verifies:
        raise SignatureError(
            "fail", "the header section was changed, or the signature was made with another key"
        )
    return whole, key


async def usable_key(tags: Mapping[str, str], kind: str, resolver: Resolver) -> Key:
    """The key of the tags ``d`` and ``s``, if it may be used; raises `SignatureError`."""
    domain, selector = domain_key(tags["d"]), without_space(tags["s"])
    if not domain or not _SELECTOR.fullmatch(selector):
        raise SignatureError("permerror", "its domain or selector is invalid")
    try:
        key = await fetch_key(resolver, selector.lower(), domain)
    except KeyUnavailableError as error:
        raise SignatureError("temperror", str(error)) from None
    except KeyUnusableError as error:
        raise SignatureError("policy" if error.policy else "permerror", str(error)) from None
    if key.algorithm != kind:
        raise SignatureError("permerror", f"the key is of another type: {key.algorithm}")
    if key.hashes and "sha256" not in key.hashes:
        raise SignatureError("permerror", "the key is not for SHA-256")
    return key
