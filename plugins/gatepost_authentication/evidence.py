"""The results of all methods for one message, each within its time."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gatepost import Resolver, Transaction

from gatepost_authentication.arc import Chain, validate
from gatepost_authentication.canonical import Fields
from gatepost_authentication.dkim import LATE, Signature, verify_all
from gatepost_authentication.dmarc import Judgement, Tree, judge
from gatepost_authentication.results import MethodResult
from gatepost_authentication.signed import aside, author_domains, domain_key, parts_of
from gatepost_authentication.spf import Spf, check_host

__all__ = ["Evidence", "collect"]

T = TypeVar("T")
_AUTHORS_LIMIT = 10
_ADDRESS_COST = 16
"""To read a byte of addresses takes so many times as long as to hash one."""
_BADNESS = ("pass", "none", "temperror", "permerror", "fail")
"""Of several authors the worst result counts."""
_POLICIES = (None, "none", "quarantine", "reject")
_LEAST_SECONDS = 1.0
"""For DMARC, if the other methods have used up the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The results of all methods for one message."""

    spf: Spf
    dkim: tuple[Signature, ...]
    arc: Chain
    authors: tuple[Judgement, ...]
    """One for each domain in From; at least one."""
    fields: Fields
    """The header fields of the message."""

    @property
    def dmarc(self) -> Judgement:
        """The worst result of the author domains, and of these the one with the strictest policy."""
        return max(self.authors, key=_badness)

    @property
    def failures(self) -> tuple[Judgement, ...]:
        """The author domains that fail with a policy other than none, the strictest first."""
        asking = [one for one in self.authors if one.result == "fail" and one.disposition != "none"]
        return tuple(sorted(asking, key=_badness, reverse=True))

    @property
    def results(self) -> tuple[MethodResult, ...]:
        """As they are written into Authentication-Results, one for each signature."""
        dmarc = self.dmarc
        return (
            MethodResult(
                method="spf",
                result=self.spf.result,
                comment=self.spf.reason,
                properties={"smtp.mailfrom": self.spf.domain},
            ),
            *map(_dkim_result, self.dkim or (Signature(result="none"),)),
            MethodResult(method="arc", result=self.arc.result, comment=self.arc.reason),
            MethodResult(
                method="dmarc",
                result=dmarc.result,
                comment=dmarc.reason or (f"p={dmarc.disposition}" if dmarc.disposition else ""),
                properties={"header.from": dmarc.domain},
            ),
        )


def _badness(one: Judgement) -> tuple[int, int]:
    return _BADNESS.index(one.result), _POLICIES.index(one.disposition)


def _dkim_result(one: Signature) -> MethodResult:
    return MethodResult(
        method="dkim",
        result=one.result,
        comment=one.reason,
        properties={
            "header.d": one.domain,
            "header.s": one.selector,
            "header.a": one.algorithm,
            "header.b": one.value,
        },
    )


async def collect(transaction: Transaction, resolver: Resolver, *, server: str, seconds: float) -> Evidence:
    """Verify with all methods, within ``seconds`` and one more; what is not known then is ``temperror``.

    ``server`` is this server's name, for explanations of SPF. Raises `HeaderSectionError`.
    """
    clock = asyncio.get_running_loop().time
    give_up = clock() + seconds
    message = transaction.message
    size = len(message.content)
    fields, body = await aside(size, lambda: parts_of(message))
    size += _ADDRESS_COST * sum(len(one.value) for one in fields.get("from", ()))
    authors = await aside(size, lambda: author_domains(message))
    domain = _spf_domain(transaction)
    tree = Tree(resolver)
    spf, dkim, arc, _ = await asyncio.gather(
        _within(
            seconds,
            _spf(transaction, resolver, domain, server),
            Spf(result="temperror", domain=domain, reason=LATE),
        ),
        verify_all(fields, body, resolver, now=time.time(), seconds=seconds),
        validate(fields, body, resolver, seconds=seconds),
        _within(seconds, _look_up_policies(authors, tree), None),
    )
    left = max(_LEAST_SECONDS, give_up - clock())
    judged = await _judge_all(authors, spf, dkim, tree, left)
    return Evidence(spf=spf, dkim=dkim, arc=arc, authors=judged, fields=fields)


async def _within(seconds: float, work: Coroutine[Any, Any, T], late: T) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        return late


def _spf_domain(transaction: Transaction) -> str:
    """The domain of the reverse-path; of the null reverse-path the HELO name (RFC 7208 section 2.4)."""
    mail_from = transaction.envelope.mail_from
    name = mail_from.rpartition("@")[2] if mail_from else transaction.session.helo
    return domain_key(name) or name


async def _spf(transaction: Transaction, resolver: Resolver, domain: str, server: str) -> Spf:
    session = transaction.session
    sender = transaction.envelope.mail_from or f"postmaster@{domain}"
    return await check_host(resolver, session.client, domain, sender, session.helo, receiver=server)


async def _look_up_policies(authors: Sequence[str], tree: Tree) -> None:
    """Fill the tree while the other methods wait for DNS, since they may use up the time."""
    if len(authors) <= _AUTHORS_LIMIT:
        await asyncio.gather(*(tree.walk(one) for one in authors if one), return_exceptions=True)


async def _judge_all(
    authors: Sequence[str], spf: Spf, dkim: Sequence[Signature], tree: Tree, seconds: float
) -> tuple[Judgement, ...]:
    if not authors:
        return (Judgement(result="permerror", domain="", reason="there is no author"),)
    if len(authors) > _AUTHORS_LIMIT:
        reason = f"more than {_AUTHORS_LIMIT} author domains"
        return (Judgement(result="fail", domain="", disposition="reject", reason=reason),)
    return tuple(
        await asyncio.gather(
            *(
                _within(
                    seconds,
                    _judge(author, spf, dkim, tree),
                    Judgement(result="temperror", domain=author, reason=LATE),
                )
                for author in authors
            )
        )
    )


async def _judge(author: str, spf: Spf, dkim: Sequence[Signature], tree: Tree) -> Judgement:
    if not author:
        return Judgement(result="permerror", domain="", reason="an author has no domain")
    judged = await _judge_by(("pass",), author, spf, dkim, tree)
    return await _unless_unknown(judged, spf, dkim, tree) if judged.result == "fail" else judged


async def _unless_unknown(failed: Judgement, spf: Spf, dkim: Sequence[Signature], tree: Tree) -> Judgement:
    """The failure; or ``temperror``, if what DNS did not answer could make it a pass."""
    best = await _judge_by(("pass", "temperror"), failed.domain, spf, dkim, tree)
    if best.result == "fail":
        return failed
    reason = best.reason or f"not known now: {', '.join(best.aligned)}"
    return replace(failed, result="temperror", disposition=None, reason=reason)


async def _judge_by(
    believed: Sequence[str], author: str, spf: Spf, dkim: Sequence[Signature], tree: Tree
) -> Judgement:
    """Judge by the methods with these results."""
    sender = spf.domain if spf.result in believed else None
    signers = [one.domain for one in dkim if one.result in believed and one.whole_body and one.domain]
    return await judge(author, spf=sender, dkim=signers, tree=tree)
