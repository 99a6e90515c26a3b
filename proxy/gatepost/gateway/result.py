"""What became of a message, for the client's reply and for the journal."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from gatepost.model import replies
from gatepost.model.mail import Recipient
from gatepost.model.plan import RecipientResult
from gatepost.model.record import Disposition
from gatepost.model.verdict import Action, Outcome, Reply
from gatepost.relay import Delivered
from gatepost.store import Kept, StoreError, StoreFull, StoreUnavailable
from gatepost.throttle import Throttle, and_more
from gatepost.values import value

__all__ = [
    "MessageResult",
    "Owner",
    "all_abandoned",
    "all_refused",
    "disposition_of",
    "reply_to_failure",
    "with_reply",
]

log = logging.getLogger(__name__)


class Owner(Enum):
    """Which side is responsible for the message when the reply is sent."""

    CLIENT = "client"
    """It was refused."""
    UPSTREAM = "upstream"
    STORE = "store"
    """Record and copies must be committed before the reply."""


@value
class MessageResult:
    """What became of a message: its reply, and one result for each recipient."""

    reply: Reply | None
    """None: the client left before there was one."""
    recipients: tuple[RecipientResult, ...]
    """In the client's order."""
    upstream: Delivered | None = None
    """How sending it upstream ended; None if it was not sent upstream."""
    kept: tuple[Kept, ...] = ()
    """Copies to be committed together with the record."""
    owner: Owner = Owner.CLIENT


def all_refused(
    recipients: Sequence[Recipient], reply: Reply, disposition: Disposition | None = None
) -> MessageResult:
    """The result if all recipients get this reply, regardless of their outcomes.

    Args:
        recipients: those of the transaction.
        reply: 4xx or 5xx.
        disposition: the same for each of them; default: refused or deferred, according to the reply.
    """
    outcome = Outcome(action=Action.REJECT if reply.permanent else Action.DEFER, reply=reply)
    return _same_for_all(recipients, outcome, disposition or disposition_of(reply), reply)


def all_abandoned(recipients: Sequence[Recipient]) -> MessageResult:
    """The result if the client left before its message was complete."""
    return _same_for_all(recipients, Outcome(action=Action.ACCEPT), Disposition.ABANDONED, None)


def disposition_of(reply: Reply) -> Disposition:
    """The disposition that a negative reply means: refused or deferred."""
    return Disposition.REFUSED if reply.permanent else Disposition.DEFERRED


def with_reply(result: MessageResult, chosen: Reply) -> MessageResult:
    """The result with another positive reply; one that refuses stays: the client keeps its message."""
    reply = result.reply
    if reply is None or not reply.positive:
        return result
    chosen = chosen.with_timing(reply.timing)
    recipients = tuple(
        replace(one, reply=chosen) if one.reply is not None else one for one in result.recipients
    )
    return replace(result, reply=chosen, recipients=recipients)


def _same_for_all(
    recipients: Sequence[Recipient], outcome: Outcome, disposition: Disposition, reply: Reply | None
) -> MessageResult:
    results = [
        RecipientResult(recipient=recipient, outcome=outcome, disposition=disposition, reply=reply)
        for recipient in recipients
    ]
    return MessageResult(reply=reply, recipients=tuple(results))


def reply_to_failure(error: Exception, transaction_id: str, *, outages: Throttle) -> Reply:
    """The 4xx for a message that could not be handled, whatever went wrong.

    It is logged; that the store is out of service once a minute, with the number of those left out.
    """
    if isinstance(error, StoreError):
        may_end = isinstance(error, StoreUnavailable | StoreFull)
        left_out = outages.admit(type(error).__name__) if may_end else 0
        if left_out is not None:
            more = and_more(left_out)
            log.error("transaction %s deferred, the store failed: %s%s", transaction_id, error, more)
        return replies.STORE_FULL if isinstance(error, StoreFull) else replies.TEMPORARY_FAILURE
    log.error("transaction %s failed", transaction_id, exc_info=error)
    return replies.TEMPORARY_FAILURE
