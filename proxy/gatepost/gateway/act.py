"""What is done with one message: the reply is positive only when somebody durable owns it.

Order is everything here. What goes into the store, if only the word that some recipients' message is
discarded, is committed before anything goes upstream, and withdrawn if upstream does not take its part. Where
nothing goes upstream, what is kept is committed together with the journal's record, before the reply.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Literal

from gatepost.config.settings import Config, UpstreamServer
from gatepost.edits import Edit, apply
from gatepost.mail import Recipient, Transaction
from gatepost.record import Disposition
from gatepost.relay import Delivered, Delivery, DeliveryState
from gatepost.store import Box, Kept, Store, StoreError
from gatepost.trace import received_field
from gatepost.values import value
from gatepost.verdict import TEMPORARY_FAILURE, Action, Outcome, Reply

__all__ = ["Act", "Destination", "Ended", "Owner", "settle"]

log = logging.getLogger(__name__)

Destination = Literal["inbox", "discard"] | tuple[UpstreamServer, ...]

KeepFirst = Callable[[Sequence[Kept]], Awaitable[None]]

_DIFFERENT_ANSWERS = Reply(
    code=451, enhanced="4.5.3", text="Recipients need different answers, send one by one"
)
_STATES = {
    DeliveryState.ACCEPTED: Disposition.RELAYED,
    DeliveryState.IN_DOUBT: Disposition.IN_DOUBT,
    DeliveryState.UNSENT: Disposition.DEFERRED,
}


class Owner(Enum):
    """Who has the message when its reply is given."""

    CLIENT = "client"
    """It was refused."""
    UPSTREAM = "upstream"
    STORE = "store"
    """So record and copies are committed before the reply."""


@value
class Ended:
    """What became of a message: its reply, and for each recipient an outcome and its end."""

    reply: Reply | None
    """None: the client left before there was one."""
    outcomes: tuple[Outcome, ...]
    dispositions: tuple[Disposition, ...]
    upstream: Delivered | None = None
    kept: tuple[Kept, ...] = ()
    """To be committed with the record."""
    owner: Owner = Owner.CLIENT


@value
class _Parcel:
    """Recipients who get the same octets."""

    recipients: tuple[Recipient, ...]
    edits: tuple[Edit, ...]
    rule: str | None
    reason: str


def settle(
    outcomes: Sequence[Outcome], mixed: Literal["quarantine", "defer", "reject"]
) -> tuple[Outcome, ...]:
    """Outcomes that one reply can tell: either every one refuses, or none does."""
    refusing = [outcome for outcome in outcomes if outcome.action.refuses]
    if not refusing or len(refusing) == len(outcomes):
        return tuple(outcomes)
    match mixed:
        case "quarantine":
            return tuple(
                replace(o, action=Action.QUARANTINE, reply=None, edits=()) if o.action.refuses else o
                for o in outcomes
            )
        case "defer":
            deferred = replace(refusing[0], action=Action.DEFER, reply=_DIFFERENT_ANSWERS)
            return tuple(deferred for _ in outcomes)
        case "reject":
            return tuple(refusing[0] for _ in outcomes)


@value
class Act:
    """What is to be done with one message, and with what."""

    transaction: Transaction
    outcomes: tuple[Outcome, ...]
    """Settled."""
    config: Config
    destination: Destination
    delivery: Delivery | None
    """Upstream's transaction, where the destination is a list of servers."""
    store: Store
    keep_first: KeepFirst
    """Commits messages that are kept, and who is discarded, beside what goes upstream, before that goes."""

    async def run(self) -> Ended:
        """Do it; raises StoreError, and then nothing was done."""
        if self.outcomes[0].action.refuses:
            await self._abandon()
            return _refuse(self.outcomes)
        trace = received_field(self.transaction, self.config.hostname)
        parcels = _parcels(self.transaction, self.outcomes)
        accepted = parcels.get(Action.ACCEPT, [])
        kept = [self._copy(Box.QUARANTINE, parcel, trace) for parcel in parcels.get(Action.QUARANTINE, ())]
        if accepted and isinstance(self.destination, tuple):
            if self.delivery is None:
                raise RuntimeError("a route to servers has no delivery")
            return await self._relay(self.delivery, accepted, kept, trace, discards=Action.DISCARD in parcels)
        await self._abandon()
        if self.destination == "inbox":
            kept += [self._copy(Box.INBOX, parcel, trace) for parcel in accepted]
        return Ended(
            reply=Reply(code=250, enhanced="2.0.0", text=f"Ok: {self.transaction.id}"),
            outcomes=self.outcomes,
            dispositions=tuple(_local(outcome.action, self.destination) for outcome in self.outcomes),
            kept=tuple(kept),
            owner=Owner.STORE,
        )

    async def _relay(
        self, delivery: Delivery, parcels: list[_Parcel], kept: list[Kept], trace: bytes, *, discards: bool
    ) -> Ended:
        """Send the parcels; the first one's reply is the client's.

        What cannot follow it any more stays in quarantine: after the first parcel was taken, the
        client can no longer be told no. Its copy is there before, so that no crash comes between.
        """
        first, *others = parcels
        spare = [self._copy(Box.QUARANTINE, parcel, trace) for parcel in others]
        if kept or spare or discards:
            await self.keep_first((*kept, *spare))
        delivered = await self._send(delivery, first, trace)
        if delivered.state is not DeliveryState.ACCEPTED:
            await self._withdraw((*kept, *spare))
            refused = Disposition.REFUSED if delivered.reply.permanent else Disposition.DEFERRED
            end = _STATES.get(delivered.state, refused)
            return Ended(
                reply=delivered.reply,
                outcomes=self.outcomes,
                dispositions=(end,) * len(self.outcomes),
                upstream=delivered,
            )
        stayed: set[Recipient] = set()
        for parcel, copy in zip(others, spare, strict=True):
            if (await self._send(delivery, parcel, trace)).state is DeliveryState.ACCEPTED:
                await self._withdraw((copy,))
            else:
                stayed.update(parcel.recipients)
        return Ended(
            reply=delivered.reply,
            outcomes=self.outcomes,
            dispositions=tuple(
                Disposition.QUARANTINED if recipient in stayed else _local(outcome.action, "relay")
                for recipient, outcome in zip(
                    self.transaction.envelope.recipients, self.outcomes, strict=True
                )
            ),
            upstream=delivered,
            owner=Owner.UPSTREAM,
        )

    async def _send(self, delivery: Delivery, parcel: _Parcel, trace: bytes) -> Delivered:
        pieces = (trace, *apply(self.transaction.message.content, parcel.edits))
        deadline = asyncio.get_running_loop().time() + self.config.limits.upstream_time
        return await delivery.send(parcel.recipients, pieces, deadline=deadline)

    def _copy(self, box: Box, parcel: _Parcel, trace: bytes) -> Kept:
        *added, body = apply(self.transaction.message.content, parcel.edits)
        return Kept(
            box=box,
            mail_from=self.transaction.envelope.mail_from,
            recipients=tuple(recipient.address for recipient in parcel.recipients),
            prepended=b"".join((trace, *added)),
            content=body,
            rule=parcel.rule,
            reason=parcel.reason,
        )

    async def _abandon(self) -> None:
        if self.delivery:
            await self.delivery.abandon()

    async def _withdraw(self, kept: Sequence[Kept]) -> None:
        if not kept:
            return
        try:
            await self.store.withdraw(tuple(copy.id for copy in kept))
        except StoreError:
            # A copy too many in quarantine is not lost mail.
            log.exception("could not withdraw %s from quarantine", [copy.id for copy in kept])


def _refuse(outcomes: tuple[Outcome, ...]) -> Ended:
    """All are refused: for now if one is only deferred, so that none is lost for good by haste."""
    chosen = next((o for o in outcomes if o.action is Action.DEFER), outcomes[0])
    reply = chosen.reply or TEMPORARY_FAILURE
    end = Disposition.REFUSED if reply.permanent else Disposition.DEFERRED
    return Ended(reply=reply, outcomes=outcomes, dispositions=(end,) * len(outcomes))


def _local(action: Action, destination: Destination | Literal["relay"]) -> Disposition:
    if action is Action.QUARANTINE:
        return Disposition.QUARANTINED
    if action is Action.DISCARD or destination == "discard":
        return Disposition.DISCARDED
    return Disposition.INBOX if destination == "inbox" else Disposition.RELAYED


def _parcels(transaction: Transaction, outcomes: tuple[Outcome, ...]) -> dict[Action, list[_Parcel]]:
    """The recipients by action, those together who get the same octets for the same reason."""
    if len(outcomes) == 1:
        (outcome,), recipients = outcomes, transaction.envelope.recipients
        return {outcome.action: [_parcel(recipients, outcome.edits, *_why(outcome))]}
    groups: dict[tuple[Action, tuple[Edit, ...], str | None, str], list[Recipient]] = {}
    for recipient, outcome in zip(transaction.envelope.recipients, outcomes, strict=True):
        groups.setdefault((outcome.action, outcome.edits, *_why(outcome)), []).append(recipient)
    parcels: dict[Action, list[_Parcel]] = {}
    for (action, edits, rule, reason), together in groups.items():
        parcels.setdefault(action, []).append(_parcel(tuple(together), edits, rule, reason))
    return parcels


def _why(outcome: Outcome) -> tuple[str | None, str]:
    """What is written on a copy in quarantine; of others it does not matter."""
    return (outcome.rule, outcome.reason) if outcome.action is Action.QUARANTINE else (None, "")


def _parcel(
    recipients: tuple[Recipient, ...], edits: tuple[Edit, ...], rule: str | None, reason: str
) -> _Parcel:
    return _Parcel(recipients=recipients, edits=edits, rule=rule, reason=reason)
