"""Make the plan for one message from its outcomes and its route; nothing is carried out here."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from gatepost.config.relay import UpstreamServer
from gatepost.gateway.readdressing import readdressed
from gatepost.model import replies
from gatepost.model.mail import Envelope
from gatepost.model.plan import Destination, Local, Parcel, Plan, RecipientOutcome, Refused
from gatepost.model.verdict import Action, Outcome, ReplyTiming

__all__ = ["MixedRecipients", "RouteTarget", "make_plan", "route_destination"]

RouteTarget = Literal["inbox", "discard"] | tuple[UpstreamServer, ...]
"""A route's ``to``."""

MixedRecipients = Literal["quarantine", "defer", "reject"]
"""The setting ``mixed_recipients``."""


def make_plan(
    envelope: Envelope,
    outcomes: Sequence[Outcome],
    target: RouteTarget,
    mixed_recipients: MixedRecipients,
) -> Plan:
    """Plan what will be done with a message.

    Args:
        envelope: as received from the client.
        outcomes: one for each of its recipients, in their order.
        target: the ``to`` of the recipients' route.
        mixed_recipients: what to do if some recipients are refused and others are not.
    """
    mail_from, recipients = envelope.mail_from, envelope.recipients
    match outcomes:
        case (outcome,) if outcome.changes is None:  # the usual case: nothing to reconcile or to group
            (recipient,) = recipients
            alone = RecipientOutcome(recipient=recipient, outcome=outcome)
            parcel = _parcel(mail_from, (alone,), outcome, target)
            return Plan(recipients=recipients, parcels=(parcel,), timing=outcome.timing)
    outcomes = _settle(outcomes, mixed_recipients)
    paired = [
        RecipientOutcome(recipient=recipient, outcome=outcome)
        for recipient, outcome in zip(recipients, outcomes, strict=True)
    ]
    if any(outcome.changes for outcome in outcomes):
        paired = readdressed(paired)
        recipients = tuple(one.recipient for one in paired)
    if outcomes[0].action.refuses:
        # A temporary reply if one outcome only defers: mail that could still be delivered must not bounce.
        chosen = next((outcome for outcome in outcomes if outcome.action is Action.DEFER), outcomes[0])
        parcels = [_parcel(mail_from, paired, chosen, target)]
    else:
        groups = _groups(paired)
        parcels = [_parcel(mail_from, group, group[0].outcome, target) for group in groups]
    timing = ReplyTiming.joined(outcome.timing for outcome in outcomes)
    return Plan(recipients=recipients, parcels=tuple(parcels), timing=timing)


def route_destination(target: RouteTarget) -> tuple[UpstreamServer, ...] | Local:
    """The destination that a route leads to."""
    match target:
        case "inbox":
            return Local.INBOX
        case "discard":
            return Local.DISCARD
        case servers:
            return servers


def _settle(outcomes: Sequence[Outcome], mixed_recipients: MixedRecipients) -> Sequence[Outcome]:
    """Outcomes that fit one reply: either all of them refuse, or none does."""
    refusing = [outcome for outcome in outcomes if outcome.action.refuses]
    if not refusing or len(refusing) == len(outcomes):
        return outcomes
    match mixed_recipients:
        case "quarantine":
            return [
                replace(outcome, action=Action.QUARANTINE, reply=None) if outcome.action.refuses else outcome
                for outcome in outcomes
            ]
        case "defer":
            return [replace(refusing[0], action=Action.DEFER, reply=replies.DIFFERENT_ANSWERS)] * len(
                outcomes
            )
        case "reject":
            return [refusing[0]] * len(outcomes)


def _groups(paired: Sequence[RecipientOutcome]) -> Iterable[list[RecipientOutcome]]:
    """Group the recipients that get the same bytes at the same destination.

    Recipients in quarantine are also grouped by rule and reason, since a copy names both.
    """
    groups: dict[object, list[RecipientOutcome]] = {}
    for one in paired:
        outcome = one.outcome
        sender = outcome.changes.mail_from if outcome.changes else None
        groups.setdefault((outcome.action, outcome.edits, sender, *_why(outcome)), []).append(one)
    return groups.values()


def _parcel(
    mail_from: str, outcomes: Sequence[RecipientOutcome], shared: Outcome, target: RouteTarget
) -> Parcel:
    """A parcel for these recipients, which share an outcome."""
    rule, reason = _why(shared)
    changed = shared.changes
    return Parcel(
        destination=_destination(shared, target),
        mail_from=changed.mail_from if changed and changed.mail_from is not None else mail_from,
        outcomes=tuple(outcomes),
        edits=shared.edits,
        rule=rule,
        reason=reason,
    )


def _why(outcome: Outcome) -> tuple[str | None, str]:
    """The rule and the reason to store with a copy in quarantine; None and empty for other actions."""
    return (outcome.rule, outcome.reason) if outcome.action is Action.QUARANTINE else (None, "")


def _destination(outcome: Outcome, target: RouteTarget) -> Destination:
    match outcome.action:
        case Action.ACCEPT:
            return route_destination(target)
        case Action.QUARANTINE:
            return Local.QUARANTINE
        case Action.DISCARD:
            return Local.DISCARD
        case Action.REJECT | Action.DEFER:
            return Refused(reply=outcome.reply or replies.TEMPORARY_FAILURE)
        case Action.TAG | Action.SCORE | Action.HOLD:
            raise ValueError(f"{outcome.action} is no outcome: such a message is accepted or answered for")
