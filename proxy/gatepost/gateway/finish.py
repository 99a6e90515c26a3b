"""The plan for a message after the rules that finish it have put their fields before it."""

import time
from dataclasses import replace

from gatepost.model import replies
from gatepost.model.edits import Edit, apply
from gatepost.model.mail import Transaction
from gatepost.model.plan import Local, Parcel, Plan, RecipientOutcome, Refused
from gatepost.model.verdict import Action, Evaluation, Outcome
from gatepost.pipeline import Finished, Pipeline, finish
from gatepost.values import value

__all__ = ["FinishedPlan", "finish_plan"]


@value
class FinishedPlan:
    """A plan whose parcels have all their fields."""

    plan: Plan
    evaluations: tuple[Evaluation, ...]
    """One for each time a rule was asked."""


async def finish_plan(
    plan: Plan, pipeline: Pipeline, transaction: Transaction, *, seconds: float
) -> FinishedPlan:
    """Ask the rules that finish messages, once for each form that leaves or is kept.

    ``seconds`` is for all of them together: what the other rules of the message have left.

    If one of them fails, its ``on_error`` decides: the whole message is deferred, or that form of it stays in
    quarantine as it would have left without these fields.
    """
    deadline = time.perf_counter() + seconds
    finished: dict[tuple[Edit, ...], Finished] = {}
    evaluations: list[Evaluation] = []
    parcels: list[Parcel] = []
    for parcel in plan.parcels:
        if isinstance(parcel.destination, Refused) or parcel.destination is Local.DISCARD:
            parcels.append(parcel)
            continue
        found = finished.get(parcel.edits)
        if found is None:
            content = b"".join(apply(transaction.message.content, parcel.edits))
            found = finished[parcel.edits] = await finish(pipeline, transaction, content, deadline=deadline)
            evaluations += found.evaluations
        if found.failed is None:
            parcels.append(replace(parcel, fields=found.fields))
        elif found.failed.action is Action.QUARANTINE:
            parcels.append(_quarantined(parcel, found.failed))
        else:
            plan = _deferred(plan, found.failed)
            return FinishedPlan(plan=plan, evaluations=tuple(evaluations))
    return FinishedPlan(plan=replace(plan, parcels=tuple(parcels)), evaluations=tuple(evaluations))


def _quarantined(parcel: Parcel, failed: Evaluation) -> Parcel:
    if parcel.destination is Local.QUARANTINE:
        return parcel
    outcomes = tuple(
        replace(
            one,
            outcome=replace(
                one.outcome, action=Action.QUARANTINE, rule=failed.rule, reason=failed.reason, reply=None
            ),
        )
        for one in parcel.outcomes
    )
    return replace(
        parcel, destination=Local.QUARANTINE, outcomes=outcomes, rule=failed.rule, reason=failed.reason
    )


def _deferred(plan: Plan, failed: Evaluation) -> Plan:
    reply = replies.TEMPORARY_FAILURE
    outcome = Outcome(action=Action.DEFER, rule=failed.rule, reason=failed.reason, reply=reply)
    parcel = Parcel(
        destination=Refused(reply=reply),
        mail_from=plan.parcels[0].mail_from,
        outcomes=tuple(RecipientOutcome(recipient=one, outcome=outcome) for one in plan.recipients),
    )
    return replace(plan, parcels=(parcel,))
