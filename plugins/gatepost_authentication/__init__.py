"""The filter ``authentication``: verifies the sender of a message with SPF, DKIM, ARC and DMARC.

    - name: authentication
      filter: authentication
      when: {authenticated: false}
      with:
        authserv_id: mx.example.com

Each message gets one field Authentication-Results (RFC 8601). Other fields with this server's name are
removed, so that filters and servers behind can trust the one that is left. If DMARC fails, the policy of the
author's domain is applied (see ``dmarc``).

SPF (RFC 7208) checks the reverse-path, DKIM (RFC 6376, RFC 8463) verifies at most ten signatures, ARC
(RFC 8617) validates the chain of the forwarders, and DMARC (RFC 9989) compares the verified domains with the
author's. A question that DNS does not answer in time leads to ``temperror``, never to ``fail``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

from gatepost import (
    Action,
    AddHeader,
    Edit,
    Match,
    Place,
    RemoveHeader,
    Reply,
    Resolver,
    Seconds,
    Transaction,
    Verdict,
    hookimpl,
)

from gatepost_authentication.arc import Chain
from gatepost_authentication.canonical import Field
from gatepost_authentication.dmarc import Judgement
from gatepost_authentication.evidence import Evidence, collect
from gatepost_authentication.results import authserv_id, claims_to_be, results_of, results_value
from gatepost_authentication.signed import aside, domain_key, is_within

__all__ = ["Authentication", "Dmarc"]

_FIELD = "Authentication-Results"
_CHARACTER_COST = 16
"""To read a character of such a field takes so many times as long as to hash one."""
_SPF = ("pass", "fail", "softfail", "neutral", "none", "temperror", "permerror")
_RESULTS = {
    "spf": _SPF,
    "dkim": ("pass", "fail", "policy", "none", "temperror", "permerror"),
    "arc": ("pass", "fail", "none", "temperror"),
    "dmarc": ("pass", "fail", "none", "temperror", "permerror"),
}
_ACTIONS = {
    "nothing": Action.TAG,
    "quarantine": Action.QUARANTINE,
    "defer": Action.DEFER,
    "reject": Action.REJECT,
    "discard": Action.DISCARD,
}
_REJECTED = {
    "spf": "550 5.7.23 Not accepted: SPF does not allow this client to send for the domain",
    "dkim": "550 5.7.20 Not accepted: no valid DKIM signature",
    "arc": "550 5.7.29 Not accepted: the ARC chain is broken",
    "dmarc": "550 5.7.26 Not accepted: the author's domain does not confirm this message (DMARC)",
}
"""With the codes of RFC 7372 and RFC 8617."""
Do = Literal["nothing", "quarantine", "defer", "reject", "discard"]
_DMARC_SECONDS = 1.0
"""How much longer than the deadline DMARC may take."""
_DEFERRED = "451 4.7.24 The sender cannot be verified now; try again later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dmarc:
    """What is done if DMARC fails."""

    honour: bool = True
    """Apply the policy of the author's domain: ``p=reject`` refuses, ``p=quarantine`` quarantines."""
    exceptions: list[str] = field(default_factory=list)
    """Author domains whose policy is not applied, and their subdomains."""
    trusted_sealers: list[str] = field(default_factory=list)
    """Domains of forwarders, and their subdomains. A failure here has no consequence if the ARC chain passes,
    its last seal is by one of them and states ``dmarc=pass``, and the latest signature covers From."""


class _ToDo(NamedTuple):
    action: Action
    reply: str = ""
    why: str = ""


@dataclass(kw_only=True, eq=False)
class Authentication:
    """Adds the field Authentication-Results, and applies the DMARC policy of the author's domain."""

    side_by_side: ClassVar[bool] = True
    """It only waits for the network, and changes nothing."""
    authserv_id: str
    """This server's name in the field, for example its host name. Servers behind trust fields with it."""
    resolver: Resolver
    """The resolver of the gateway."""
    place: Place
    """For the rule's ``timeout`` and the log."""
    dmarc: Dmarc = field(default_factory=Dmarc)
    """What is done if DMARC fails."""
    actions: dict[str, Do] = field(default_factory=dict)
    """What is done for results, for example ``spf=fail: reject`` or ``dmarc=temperror: defer``. The first
    that is true counts, before the policy of DMARC."""
    deadline: Seconds = 8.0
    """For all questions to DNS about a message; DMARC may take one second more. Shorter than the rule's
    ``timeout``."""

    def __post_init__(self) -> None:
        if authserv_id(self.authserv_id) != self.authserv_id.lower():
            raise ValueError(f"authserv_id: {self.authserv_id!r}, expected a name like mx.example.com")
        for key in self.actions:
            method, _, result = key.partition("=")
            if result not in _RESULTS.get(method, ()):
                known = "; ".join(f"{name}= {', '.join(results)}" for name, results in _RESULTS.items())
                raise ValueError(f"actions: {key!r}, expected one of {known}")
        if self.deadline + _DMARC_SECONDS >= self.place.timeout_seconds:
            self.place.logger.warning(
                "deadline: %g s, and %g s more for DMARC, expected less than the rule's timeout of %g s; "
                "else on_error decides about mail whose look-ups are slow, and not temperror",
                self.deadline,
                _DMARC_SECONDS,
                self.place.timeout_seconds,
            )
        self._exceptions = _domains("exceptions", self.dmarc.exceptions)
        self._trusted = _domains("trusted_sealers", self.dmarc.trusted_sealers)

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict:
        """Verify with all methods; each message has a verdict, since each gets the field."""
        evidence = await collect(transaction, self.resolver, server=self.authserv_id, seconds=self.deadline)
        results = evidence.results
        todo = self._to_do(evidence)
        return Verdict(
            reason=", ".join(f"{one.method}={one.result}" for one in results) + todo.why,
            action=todo.action,
            reply=Reply.parse(todo.reply) if todo.reply else None,
            edits=(
                *await self._forged(evidence.fields.get(_FIELD.lower(), ())),
                AddHeader(_FIELD, results_value(self.authserv_id, results)),
            ),
            matches=tuple(Match(where=one.method, text=str(one)) for one in results),
            auth=(
                *dict.fromkeys(f"{one.method}={one.result}" for one in results),
                *_wish(evidence.dmarc),
                *_signers(evidence),
            ),
        )

    async def _forged(self, fields: Sequence[Field]) -> list[Edit]:
        """Edits that remove each field with this server's name, or with a name that cannot be read."""
        texts = await aside(
            _CHARACTER_COST * sum(len(one.value) for one in fields),
            lambda: [one.text for one in fields if claims_to_be(one.text, self.authserv_id)],
        )
        return [RemoveHeader(_FIELD, value=text) for text in dict.fromkeys(texts)]

    def _to_do(self, evidence: Evidence) -> _ToDo:
        said = {f"{one.method}={one.result}" for one in evidence.results}
        for key, do in self.actions.items():
            if key in said:
                return _done(do, key.partition("=")[0], f"; {key}: {do}")
        failures = evidence.failures
        if not self.dmarc.honour or not failures:
            return _done("nothing", "dmarc", "")
        counted = [one for one in failures if not self._is_exception(one.domain)]
        if not counted:
            return _done("nothing", "dmarc", f"; {failures[0].domain} is an exception")
        if sealer := self._trusted_sealer(evidence.arc):
            if evidence.arc.result == "pass":
                return _done("nothing", "dmarc", f"; {sealer} says that it passed there")
            return _done("defer", "dmarc", f"; the seal of {sealer} cannot be verified now")
        worst = counted[0]
        policy = str(worst.disposition)
        why = f"{worst.policy_domain} asks for p={policy}" if worst.policy_domain else worst.reason
        return _done(policy, "dmarc", f"; {why}")

    def _is_exception(self, author: str) -> bool:
        return any(is_within(author, one) for one in self._exceptions)

    def _trusted_sealer(self, chain: Chain) -> str:
        """The trusted forwarder that states a pass for this author; empty if there is none.

        If the chain is ``temperror``, nobody knows now whether that is true.
        """
        if chain.result not in ("pass", "temperror") or not chain.signs_from:
            return ""
        if not any(is_within(chain.sealers[-1], one) for one in self._trusted):
            return ""
        return chain.sealers[-1] if ("dmarc", "pass") in results_of(chain.results[-1]) else ""


def _wish(dmarc: Judgement) -> tuple[str, ...]:
    """What the author's domain asks for, as a result for ``when``."""
    asked = dmarc.result == "fail" and dmarc.disposition in ("quarantine", "reject")
    return (f"dmarc={dmarc.disposition}",) if asked else ()


def _signers(evidence: Evidence) -> Iterable[str]:
    """The domains with valid signatures; to a body that ``l=`` leaves unsigned anybody may have added."""
    passed = [one.domain for one in evidence.dkim if one.result == "pass" and one.whole_body]
    return dict.fromkeys(f"signed_by={domain}" for domain in passed)


def _done(do: str, method: str, why: str) -> _ToDo:
    action = _ACTIONS[do]
    reply = _REJECTED[method] if action is Action.REJECT else _DEFERRED if action is Action.DEFER else ""
    return _ToDo(action, reply, why)


def _domains(name: str, domains: list[str]) -> list[str]:
    for domain in domains:
        if not domain_key(domain):
            raise ValueError(f"dmarc: {name}: {domain!r}, expected a domain like example.com")
    return [domain_key(domain) for domain in domains]
