"""The message as it would leave: the bytes that each destination would get, without sending them."""

from collections.abc import Mapping
from dataclasses import replace

from gatepost.config import LoadedConfig
from gatepost.gateway.finish import finish_plan
from gatepost.gateway.plan import RouteTarget, make_plan
from gatepost.gateway.trace import received_field
from gatepost.model.edits import apply
from gatepost.model.mail import Recipient, Transaction
from gatepost.model.plan import Local
from gatepost.model.verdict import Evaluation, Outcome
from gatepost.pipeline import Pipeline
from gatepost.values import value

__all__ = ["Leaving", "LeavingMessages", "leaving"]


@value
class Leaving:
    """One message that would leave, and who would get it."""

    recipients: tuple[str, ...]
    content: bytes
    """With its Received field and all edits, without transparency dots."""


@value
class LeavingMessages:
    """All that would leave."""

    messages: tuple[Leaving, ...]
    """Those that would go to servers or into the inbox, one for each parcel of the gateway's plans."""
    evaluations: tuple[Evaluation, ...]
    """Of the rules that finish messages, one for each time one of them was asked."""


async def leaving(
    loaded: LoadedConfig, pipeline: Pipeline, transaction: Transaction, outcomes: Mapping[Recipient, Outcome]
) -> LeavingMessages:
    """What would leave of a message; ``outcomes`` are those of the recipients that were decided with it.

    Recipients of different routes need a transaction each, as in a session, so each of them has a plan.
    """
    config = loaded.config
    messages: list[Leaving] = []
    evaluations: list[Evaluation] = []
    for target, recipients in _by_route(loaded, transaction, outcomes):
        part = replace(transaction, envelope=replace(transaction.envelope, recipients=tuple(recipients)))
        of_part = [outcomes[recipient] for recipient in recipients]
        plan = make_plan(part.envelope, of_part, target, config.mixed_recipients)
        finished = await finish_plan(plan, pipeline, part, seconds=config.limits.filter_time)
        evaluations += finished.evaluations
        received = received_field(part, config.hostname, config.shown_node)
        messages += [
            Leaving(
                recipients=tuple(recipient.address for recipient in parcel.recipients),
                content=b"".join((received, parcel.fields, *apply(part.message.content, parcel.edits))),
            )
            for parcel in finished.plan.parcels
            if isinstance(parcel.destination, tuple) or parcel.destination is Local.INBOX
        ]
    return LeavingMessages(messages=tuple(messages), evaluations=tuple(evaluations))


def _by_route(
    loaded: LoadedConfig, transaction: Transaction, outcomes: Mapping[Recipient, Outcome]
) -> list[tuple[RouteTarget, list[Recipient]]]:
    """The recipients that are decided with the message, by the ``to`` of their route."""
    found: list[tuple[RouteTarget, list[Recipient]]] = []
    for recipient in transaction.envelope.recipients:
        route = loaded.config.route(transaction.session, recipient)
        if route is None or recipient not in outcomes:
            continue
        same = next((recipients for target, recipients in found if target == route.to), None)
        if same is None:
            same = []
            found.append((route.to, same))
        same.append(recipient)
    return found
