"""Domain-based Message Authentication, Reporting and Conformance (RFC 9989).

The policy and the organizational domain are found by walking up the tree of DNS names, with at most
`QUERIES_LIMIT` questions for a domain.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gatepost import DnsStatus, Resolver

from gatepost_authentication.signed import is_within

__all__ = ["Judgement", "Policy", "PolicyUnavailableError", "Tree", "judge", "parse_record"]

QUERIES_LIMIT = 8
"""RFC 9989 section 4.10: longer names jump to their last seven labels after the first question."""
_RECORD = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|$)")
_TAG = re.compile(r"[ \t]*([A-Za-z]+)[ \t]*=[ \t]*(.*?)[ \t]*", re.DOTALL)
_URI = re.compile(r"[ \t]*[a-z][a-z0-9+.-]*:[^\s,]")
_LOWER = {"reject": "quarantine", "quarantine": "none", "none": "none"}


class PolicyUnavailableError(Exception):
    """DNS does not answer now; the text is the question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One domain's record."""

    domain: str
    p: str
    """What the domain asks for: ``none``, ``quarantine`` or ``reject``."""
    sp: str
    """The same for its subdomains."""
    np: str
    """The same for subdomains that do not exist."""
    psd: str
    """``y``: it is a public suffix; ``n``: an organizational domain; ``u``: it does not say."""
    testing: bool
    """``t=y``: each policy counts as the one below it."""
    strict_dkim: bool
    strict_spf: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The result of DMARC for one author domain."""

    result: str
    """``pass``, ``fail``, ``none``, ``temperror`` or ``permerror`` (RFC 8601 and RFC 9989)."""
    domain: str
    """The author domain, in lower-case A-labels; empty if there is none."""
    policy_domain: str | None = None
    """The domain of the record that counts; None without one."""
    disposition: str | None = None
    """With ``fail`` the policy to be applied: none, quarantine or reject. None for other results."""
    aligned: tuple[str, ...] = ()
    """The identifiers that pass and are aligned: ``dkim=DOMAIN``, ``spf=DOMAIN``."""
    reason: str = ""
    """Why there is no other result, as text for a person; empty where the result says it."""


def parse_record(text: str, domain: str) -> Policy | None:
    """The policy of a TXT record; None if it is not a DMARC record, or not a valid one.

    A record that asks for a policy that there is not counts as ``p=none`` if it names an address for reports
    (section 4.10.1).
    """
    if not _RECORD.match(text):
        return None
    tags: dict[str, str] = {}
    for entry in text.split(";")[1:]:
        if found := _TAG.fullmatch(entry):
            tags.setdefault(found[1].lower(), found[2].lower())
    p = tags.get("p", "")
    sp = tags.get("sp", p)
    np = tags.get("np", sp)
    if not {p, sp, np} <= _LOWER.keys():
        if not any(_URI.match(one) for one in tags.get("rua", "").split(",")):
            return None
        p = sp = np = "none"
    return Policy(
        domain=domain,
        p=p,
        sp=sp,
        np=np,
        psd=tags.get("psd", "u"),
        testing=tags.get("t") == "y",
        strict_dkim=tags.get("adkim") == "s",
        strict_spf=tags.get("aspf") == "s",
    )


class Tree:
    """The records of one message's domains. Each answer is stored."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._records: dict[str, Policy | None] = {}

    async def walk(self, domain: str) -> list[Policy]:
        """The records from the domain upwards; raises `PolicyUnavailableError`."""
        found = []
        for name in _way_up(domain):
            policy = await self._record(name)
            if policy:
                found.append(policy)
                if policy.psd == "n" or (policy.psd == "y" and name != domain):
                    break
        return found

    async def organizational(self, domain: str) -> str:
        """The organizational domain; raises `PolicyUnavailableError`."""
        records = await self.walk(domain)
        for policy in records:
            if policy.psd == "n":
                return policy.domain
            if policy.psd == "y" and policy.domain != domain:
                labels = policy.domain.count(".") + 2
                return ".".join(domain.split(".")[-labels:])
        if not records:
            return domain
        return records[-1].domain

    async def exists(self, domain: str) -> bool:
        """True if the name exists in DNS, with any records or names below it."""
        for kind in ("A", "AAAA", "MX"):
            answer = await self._resolver.look_up(domain, kind)
            if answer.status.is_temporary:
                raise PolicyUnavailableError(f"{domain} {kind}: {answer.status}")
            if answer.status is DnsStatus.NO_NAME:
                return False
            if answer.records:
                return True
        return True

    async def _record(self, domain: str) -> Policy | None:
        if domain not in self._records:
            answer = await self._resolver.look_up(f"_dmarc.{domain}", "TXT")
            if answer.status.is_temporary:
                raise PolicyUnavailableError(f"_dmarc.{domain}: {answer.status}")
            texts = [octets.decode("utf-8", "replace") for octets in answer.records]
            texts = [text for text in texts if _RECORD.match(text)]
            # Several records count as no record (RFC 9989 section 4.10).
            self._records[domain] = parse_record(texts[0], domain) if len(texts) == 1 else None
        return self._records[domain]


def _way_up(domain: str) -> list[str]:
    labels = domain.split(".")
    names = [domain]
    if len(labels) > QUERIES_LIMIT:
        labels = labels[-QUERIES_LIMIT:]
    names += [".".join(labels[at:]) for at in range(1, len(labels))]
    return names


async def judge(domain: str, *, spf: str | None, dkim: Iterable[str], tree: Tree) -> Judgement:
    """Judge one author domain by the domains that passed SPF and DKIM.

    All domains in lower-case A-labels.
    """
    try:
        records = await tree.walk(domain)
        policy = await _policy_of(domain, records, tree)
        if policy is None:
            return Judgement(result="none", domain=domain)
        aligned, unknown = [], None
        identifiers = [("dkim", one, policy.strict_dkim) for one in dict.fromkeys(dkim)]
        identifiers += [("spf", spf, policy.strict_spf)] if spf else []
        for method, other, strict in identifiers:
            try:
                if await _aligned(domain, other, tree, strict=strict):
                    aligned.append(f"{method}={other}")
            except PolicyUnavailableError as error:
                unknown = error
        if unknown and not aligned:
            raise unknown
        if aligned:
            return Judgement(
                result="pass", domain=domain, policy_domain=policy.domain, aligned=tuple(aligned)
            )
        wish = policy.p
        if policy.domain != domain:
            wish = policy.sp
            if policy.np != policy.sp and not await tree.exists(domain):
                wish = policy.np
    except PolicyUnavailableError as error:
        return Judgement(result="temperror", domain=domain, reason=str(error))
    return Judgement(
        result="fail",
        domain=domain,
        policy_domain=policy.domain,
        disposition=_LOWER[wish] if policy.testing else wish,
    )


async def _policy_of(domain: str, records: list[Policy], tree: Tree) -> Policy | None:
    """The record of the author domain, else of its organizational domain, else of a public suffix above."""
    if not records:
        return None
    if records[0].domain == domain:
        return records[0]
    organizational = await tree.organizational(domain)
    above = [one for one in records if is_within(organizational, one.domain)]
    return above[0] if above else records[-1]


async def _aligned(author: str, other: str, tree: Tree, *, strict: bool) -> bool:
    if author == other:
        return True
    if strict:
        return False
    organization = await tree.organizational(author)
    # Only names of the author's organization are looked up: a stranger's may be silent on purpose.
    return is_within(other, organization) and await tree.organizational(other) == organization
