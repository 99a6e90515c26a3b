"""Ask the rules about a complete transaction stage by stage, in the order in which a session would."""

from collections.abc import AsyncGenerator
from dataclasses import replace

from gatepost.model.mail import Recipient, Stage, Transaction
from gatepost.model.verdict import Evaluation, Outcome
from gatepost.pipeline.changed_envelope import CanCarryOut, anything
from gatepost.pipeline.early import Early
from gatepost.pipeline.engine import Pipeline
from gatepost.pipeline.screening import Screening
from gatepost.values import value

__all__ = ["Step", "rehearse"]


@value
class Step:
    """One stage of the rehearsal; RCPT has one step for each recipient."""

    stage: Stage
    evaluations: tuple[Evaluation, ...]
    """One for each rule that was asked, in that order."""
    decided: tuple[tuple[Recipient, Outcome], ...] = ()
    """The recipients that were decided at this step, with their outcomes."""


async def rehearse(
    pipeline: Pipeline, transaction: Transaction, can_carry_out: CanCarryOut = anything
) -> AsyncGenerator[Step, None]:
    """Ask the rules stage by stage; ends at the stage at which a session would be refused.

    The client is not authenticated before MAIL. Every recipient that no rule refuses is accepted.
    """
    session, everybody = transaction.session, transaction.envelope.recipients
    greeted = replace(session, authenticated=None)
    screening = Screening(pipeline)

    def step(stage: Stage, early: Early, *recipients: Recipient) -> Step:
        refusal = early.refusal
        decided = tuple((recipient, refusal) for recipient in recipients) if refusal else ()
        return Step(stage=stage, evaluations=early.evaluations, decided=decided)

    early = await screening.connect(replace(greeted, helo="", extended=False))
    yield step(Stage.CONNECT, early, *everybody)
    if early.refusal:
        return
    early = await screening.helo(greeted)
    yield step(Stage.HELO, early, *everybody)
    if early.refusal:
        return
    envelope = replace(transaction.envelope, recipients=())
    early, of_transaction = await screening.mail(session, envelope, transaction.id)
    yield step(Stage.MAIL, early, *everybody)
    if early.refusal:
        return
    for recipient in everybody:
        early = await of_transaction.rcpt(session, envelope, recipient)
        yield step(Stage.RCPT, early, recipient)
        if not early.refusal:
            envelope = replace(envelope, recipients=(*envelope.recipients, recipient))
    if envelope.recipients:
        decision = await of_transaction.decide(replace(transaction, envelope=envelope), can_carry_out)
        decided = tuple(zip(envelope.recipients, decision.outcomes, strict=True))
        yield Step(stage=Stage.MESSAGE, evaluations=decision.evaluations, decided=decided)
