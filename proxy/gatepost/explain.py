"""What each rule decides about a message, without sending or storing anything."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gatepost.config import LoadedConfig
from gatepost.config.dns import DnsSettings
from gatepost.config.rules import RuleSettings
from gatepost.dns import Answer, Resolver
from gatepost.dns.resolver import Kind
from gatepost.gateway.addressing import Addressing
from gatepost.gateway.readdressing import readdressed
from gatepost.leaving import Leaving, leaving
from gatepost.mime import MimeView
from gatepost.mime.signatures import BrokenSignature, broken_signatures
from gatepost.model.mail import Recipient, Stage, Transaction
from gatepost.model.plan import RecipientOutcome
from gatepost.model.verdict import Evaluation, Outcome, total_score
from gatepost.pipeline import Pipeline, Threads, rehearse
from gatepost.pipeline.closing import close_filters
from gatepost.pipeline.loader import load_rules
from gatepost.pipeline.provided import Provided
from gatepost.values import value

__all__ = ["Explanation", "LookUp", "PartRead", "RecipientExplanation", "explain"]


@value
class RecipientExplanation:
    """What would happen to the message for one recipient."""

    address: str
    route: str
    """``inbox``, ``discard``, the servers, or empty without a route."""
    route_for_others: bool
    """There is no route for this client, but one for other clients."""
    outcome: Outcome
    stage: Stage
    """When it is decided."""
    score: float
    """The sum of the scores that rules gave it."""


@value
class PartRead:
    """One reading of a part of the message, as filters see it."""

    kind: str
    """``text`` or ``attachment``."""
    names: tuple[str, ...]
    """The names of an attachment that mail programs may show, the likeliest first."""
    content_type: str
    size: int
    """Characters of a text, bytes of an attachment."""
    how: tuple[str, ...]
    """How it was read, if that is not obvious, for example ``filename from RFC 2231``."""


@value
class LookUp:
    """One question to DNS."""

    name: str
    type: str
    """The type of the records, for example ``TXT``."""
    status: str
    """How it ended, for example ``found``."""
    seconds: float


@value
class Explanation:
    """What the rules decide."""

    recipients: tuple[RecipientExplanation, ...]
    """Those that the client names, then those that rules add."""
    evaluations: tuple[Evaluation, ...]
    """In the order in which the rules were asked."""
    not_asked: tuple[str, ...]
    """Rules that were not asked: ``when`` does not hold, or an earlier rule decided."""
    look_ups: tuple[LookUp, ...]
    """What filters have asked DNS, each question once, in the order of the answers."""
    read: tuple[PartRead, ...]
    """What was read of the message: its texts, then its attachments."""
    warnings: tuple[str, ...]
    """What could not be parsed in the message."""
    broken_signatures: tuple[str, ...]
    """DKIM signatures that cover what the edits change, in words, unless they are invalid anyhow."""
    leaving: tuple[Leaving, ...]
    """The messages that would go to servers or into the inbox."""


class _NotedResolver(Resolver):
    """Notes what it is asked, and for how long."""

    def __init__(self, settings: DnsSettings) -> None:
        super().__init__(servers=settings.servers, timeout_seconds=settings.timeout)
        self.look_ups: dict[tuple[str, Kind], LookUp] = {}

    async def look_up(self, name: str, kind: Kind) -> Answer:
        """Ask; see `Resolver.look_up`."""
        begin = time.perf_counter()
        answer = await super().look_up(name, kind)
        seconds = time.perf_counter() - begin
        noted = LookUp(name=name, type=kind, status=answer.status, seconds=seconds)
        self.look_ups.setdefault((name, kind), noted)
        return answer


def explain(loaded: LoadedConfig, transaction: Transaction) -> Explanation:
    """Ask the rules at every stage, as in a session; raises ConfigError."""
    threads = Threads()
    resolver = _NotedResolver(loaded.config.dns)
    provided = replace(Provided.of(loaded, keeps_state=False), resolver=resolver)
    rules = load_rules(loaded, provided)
    pipeline = Pipeline(rules, filter_seconds=loaded.config.limits.filter_time, threads=threads)

    async def ask_and_close() -> Explanation:
        try:
            explanation = await _asked(loaded, pipeline, transaction)
            broken = await _broken(loaded, provided, threads, transaction, explanation)
            look_ups = tuple(resolver.look_ups.values())
            return replace(explanation, broken_signatures=broken, look_ups=look_ups)
        finally:
            await close_filters(rules, threads)
            await provided.close()

    try:
        return asyncio.run(ask_and_close())
    finally:
        threads.close()


async def _asked(loaded: LoadedConfig, pipeline: Pipeline, transaction: Transaction) -> Explanation:
    evaluations: list[Evaluation] = []
    ends: dict[Recipient, tuple[Stage, Outcome]] = {}
    async for step in rehearse(pipeline, transaction, Addressing(config=loaded.config).of_edits):
        evaluations += step.evaluations
        ends |= {recipient: (step.stage, outcome) for recipient, outcome in step.decided}
    decided = {recipient: outcome for recipient, (stage, outcome) in ends.items() if stage is Stage.MESSAGE}
    left = await leaving(loaded, pipeline, transaction, decided)
    evaluations += left.evaluations
    asked = {evaluation.rule for evaluation in evaluations}
    named = transaction.envelope.recipients
    paired = readdressed(
        [RecipientOutcome(recipient=one, outcome=outcome) for one, outcome in decided.items()]
    )
    ends |= {one.recipient: (Stage.MESSAGE, one.outcome) for one in paired}
    return Explanation(
        recipients=tuple(
            RecipientExplanation(
                address=recipient.address,
                route=_route(loaded, transaction, recipient),
                route_for_others=_only_for_others(loaded, transaction, recipient),
                stage=ends[recipient][0],
                outcome=ends[recipient][1],
                score=total_score(evaluations, recipient.address),
            )
            for recipient in (*named, *(one for one in ends if one not in named))
        ),
        evaluations=tuple(evaluations),
        look_ups=(),
        not_asked=tuple(rule.name for rule in pipeline.rules if rule.name not in asked),
        read=_read(transaction.message.view),
        warnings=transaction.message.view.warnings,
        broken_signatures=(),
        leaving=left.messages,
    )


async def _broken(
    loaded: LoadedConfig,
    provided: Provided,
    threads: Threads,
    transaction: Transaction,
    explanation: Explanation,
) -> tuple[str, ...]:
    """The signatures that at least one of the messages has lost, unless they were invalid before."""
    content = transaction.message.content
    lost = dict.fromkeys(
        one for message in explanation.leaving for one in broken_signatures(content, message.content)
    )
    results = _dkim_results(explanation.evaluations) if lost else []
    if lost and not results:
        results = _dkim_results(await _verified(loaded, provided, threads, transaction))
    return tuple(words for one in lost if (words := _warning(one, results)))


async def _verified(
    loaded: LoadedConfig, provided: Provided, threads: Threads, transaction: Transaction
) -> list[Evaluation]:
    """Ask the filter `authentication`, which no rule has asked."""
    settings = RuleSettings.model_validate(
        {"name": "explain", "filter": "authentication", "with": {"authserv_id": "explain"}}
    )
    config = loaded.config.model_copy(update={"rules": (settings,)})
    rules = load_rules(replace(loaded, config=config), provided)
    pipeline = Pipeline(rules, filter_seconds=config.limits.filter_time, threads=threads)
    try:
        return [one async for step in rehearse(pipeline, transaction) for one in step.evaluations]
    finally:
        await close_filters(rules, threads)


def _dkim_results(evaluations: Iterable[Evaluation]) -> list[str]:
    """What the filter `authentication` says of each signature: ``dkim=pass header.d=... header.b=...``."""
    return [one.text for evaluation in evaluations for one in evaluation.matches if one.where == "dkim"]


def _warning(lost: BrokenSignature, results: Sequence[str]) -> str:
    """For a person; empty if the signature was invalid before."""
    changed = ", ".join(lost.changed)
    own = [text for text in results if text.replace('"', "").endswith(f" header.b={lost.value}")]
    if any(text.startswith("dkim=pass ") for text in own):
        return f"the edits break a valid {lost}, which covers: {changed}"
    if own and not any(text.startswith("dkim=temperror ") for text in own):
        return ""
    return f"the {lost} covers what is changed: {changed}; whether it was valid could not be checked"


def _read(view: MimeView) -> tuple[PartRead, ...]:
    texts = [
        PartRead(
            kind="text",
            names=(text.filename,) if text.filename else (),
            content_type=text.content_type,
            size=len(text.text),
            how=text.how,
        )
        for text in view.texts
    ]
    attachments = [
        PartRead(
            kind="attachment",
            names=attachment.filenames,
            content_type=attachment.content_type,
            size=len(attachment.read()),
            how=attachment.how,
        )
        for attachment in view.attachments
    ]
    return (*texts, *attachments)


def _route(loaded: LoadedConfig, transaction: Transaction, recipient: Recipient) -> str:
    route = loaded.config.route(transaction.session, recipient)
    if route is None:
        return ""
    return route.to if isinstance(route.to, str) else ", ".join(map(str, route.to))


def _only_for_others(loaded: LoadedConfig, transaction: Transaction, recipient: Recipient) -> bool:
    if loaded.config.route(transaction.session, recipient) is not None:
        return False
    return any(route.takes_from_some_client(recipient) for route in loaded.config.relay)
