"""The rules of a claim to release a kept message, for every backend to apply in one exclusive transaction."""

from datetime import datetime, timedelta
from typing import Self

from gatepost.model.mail import new_id
from gatepost.printable import storable
from gatepost.store.errors import ConflictError
from gatepost.store.kept import CLAIM_TIME, Claim, KeptSummary, State
from gatepost.values import value

__all__ = ["Change", "Held", "holding", "new_claim", "new_expiry"]


_CLOCK_ERROR = timedelta(hours=1)
"""A claim that expires later than this from now was made before the clock was set back, and does not hold."""


@value
class Change:
    """What was last done with a message."""

    state: State
    at: datetime | None
    """None: nothing was done with it yet; so is ``by``."""
    by: str | None

    @classmethod
    def of(cls, message: KeptSummary) -> Self:
        """Of a message as it is in the store."""
        return cls(state=message.state, at=message.changed_at, by=message.changed_by)


@value
class Held:
    """A claim as a store holds it."""

    token: str
    actor: str
    claimed_at: datetime
    expires_at: datetime


def holding(now: datetime) -> tuple[datetime, datetime]:
    """A claim holds if it expires between these two."""
    return now, now + _CLOCK_ERROR


def new_claim(
    message: KeptSummary, *, last: Change | None, held: Held | None, actor: str, now: datetime
) -> tuple[Claim, Held]:
    """The claim of an actor, and what the store holds of it in place of ``held``; raises ConflictError.

    Args:
        message: as the actor read it.
        last: as the store has it now; None: it has no such message.
        held: the claim that the store holds of this message, expired or not.
        actor: the person or program that releases it.
        now: by the clock that all processes with this store go by.
    """
    if last is None:
        raise ConflictError(f"the message {message.id} is not in the store any more")
    if last.state is State.DELETED or (last.state, last.at) != (message.state, message.changed_at):
        raise ConflictError(f"the message {message.id} was {last.state} by {last.by} meanwhile")
    begin, end = holding(now)
    if held is not None and begin < held.expires_at < end:
        since, until = held.claimed_at.astimezone(), held.expires_at.astimezone()
        raise ConflictError(
            f"{held.actor} has been releasing the message {message.id} since {since:%H:%M:%S};"
            f" if that was interrupted, it can be released after {until:%H:%M:%S}"
        )
    claim = Claim(kept_id=message.id, token=new_id(), actor=actor, expires_at=now + CLAIM_TIME)
    return claim, Held(token=claim.token, actor=storable(actor), claimed_at=now, expires_at=claim.expires_at)


def new_expiry(now: datetime) -> datetime:
    """When a claim expires that is renewed now."""
    return now + CLAIM_TIME
