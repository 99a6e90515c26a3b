"""EXPLAIN: what each rule says of a message, without sending or keeping anything."""

import asyncio
from dataclasses import dataclass, replace

from gatepost.config import LoadedConfig
from gatepost.loader import load_rules
from gatepost.mail import Envelope, Recipient, Stage, Transaction
from gatepost.mime import MimeView
from gatepost.pipeline import Carried, Pipeline, Threads
from gatepost.verdict import Evaluation, Outcome

__all__ = ["Explanation", "PartRead", "RecipientExplanation", "explain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientExplanation:
    """What becomes of one recipient."""

    address: str
    route: str
    """``inbox``, ``discard``, the servers, or empty where no route takes it."""
    outcome: Outcome
    stage: Stage
    """When it is decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRead:
    """One reading of a part of the message, as filters see it."""

    kind: str
    """``text`` or ``attachment``."""
    names: tuple[str, ...]
    """Of an attachment all that some reader may show, the likeliest first."""
    content_type: str
    size: int
    """Of a text characters, of an attachment bytes."""
    how: tuple[str, ...]
    """How it was read where that is not plain, for example ``filename from RFC 2231``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What the rules say."""

    recipients: tuple[RecipientExplanation, ...]
    evaluations: tuple[Evaluation, ...]
    """In the order in which the rules were asked."""
    not_asked: tuple[str, ...]
    """Rules whose ``when`` does not hold, or that stand behind the one that decided."""
    read: tuple[PartRead, ...]
    """What was read of the message: its texts, then its attachments."""
    warnings: tuple[str, ...]
    """What could not be parsed in the message."""


def explain(loaded: LoadedConfig, transaction: Transaction) -> Explanation:
    """Ask the rules at every stage, as a session would; raises ConfigError."""
    threads = Threads()
    rules = load_rules(loaded)
    pipeline = Pipeline(rules, filter_seconds=loaded.config.limits.filter_time, threads=threads)
    try:
        return asyncio.run(_ask(loaded, pipeline, transaction))
    finally:
        threads.close()


async def _ask(loaded: LoadedConfig, pipeline: Pipeline, transaction: Transaction) -> Explanation:
    session, envelope = transaction.session, replace(transaction.envelope, recipients=())
    carried: list[Carried] = []
    evaluations: list[Evaluation] = []
    ends: dict[Recipient, tuple[Stage, Outcome]] = {}

    async def early(
        stage: Stage, envelope: Envelope | None, recipient: Recipient | None = None
    ) -> Outcome | None:
        answer = await pipeline.early(stage, carried, session, envelope, recipient)
        carried.extend(answer.carried)
        evaluations.extend(answer.evaluations)
        return answer.refusal

    everybody = transaction.envelope.recipients
    for stage in (Stage.CONNECT, Stage.HELO, Stage.MAIL):
        refusal = await early(stage, envelope if stage is Stage.MAIL else None)
        if refusal:
            ends = dict.fromkeys(everybody, (stage, refusal))
            break
    else:
        for recipient in everybody:
            refusal = await early(Stage.RCPT, envelope, recipient)
            if refusal:
                ends[recipient] = (Stage.RCPT, refusal)
            else:
                envelope = replace(envelope, recipients=(*envelope.recipients, recipient))
    if envelope.recipients and len(ends) < len(everybody):
        decision = await pipeline.decide(replace(transaction, envelope=envelope), carried)
        evaluations += decision.evaluations
        for recipient, outcome in zip(envelope.recipients, decision.outcomes, strict=True):
            ends[recipient] = (Stage.MESSAGE, outcome)
    asked = {evaluation.rule for evaluation in evaluations}
    return Explanation(
        recipients=tuple(
            RecipientExplanation(
                address=recipient.address,
                route=_route(loaded, transaction, recipient),
                stage=ends[recipient][0],
                outcome=ends[recipient][1],
            )
            for recipient in everybody
        ),
        evaluations=tuple(evaluations),
        not_asked=tuple(rule.name for rule in pipeline.rules if rule.name not in asked),
        read=_read(transaction.message.view),
        warnings=transaction.message.view.warnings,
    )


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
    return route.to if isinstance(route.to, str) else ", ".join(str(server) for server in route.to)
