"""Carry out a plan: the reply is positive only after upstream or the store has the message.

The order of the steps is what keeps mail from being lost:

1. Copies for the store are committed before anything is sent upstream. So is the record if the message is
   discarded for some recipients.
2. The copies are withdrawn if upstream does not accept its part.
3. If nothing is sent upstream, the caller commits the copies together with the journal record before it
   replies.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, assert_never

from gatepost.gateway.result import MessageResult, Owner, disposition_of
from gatepost.model import replies
from gatepost.model.edits import apply
from gatepost.model.plan import Local, Parcel, Plan, RecipientResult, Refused
from gatepost.model.record import Disposition
from gatepost.model.verdict import Reply
from gatepost.relay import Delivered, Delivery, DeliveryState
from gatepost.store import Box, Kept, Store, StoreError
from gatepost.values import value

if TYPE_CHECKING:
    from gatepost.model.mail import Recipient

__all__ = ["PlanExecutor"]

log = logging.getLogger(__name__)

_NOT_TAKEN = {
    DeliveryState.IN_DOUBT: Disposition.IN_DOUBT,
    DeliveryState.UNSENT: Disposition.DEFERRED,
}
"""What became of a message that upstream neither accepted nor refused."""


@value
class PlanExecutor:
    """Carries out one plan and decides nothing itself."""

    plan: Plan
    trace: Callable[[], bytes]
    """Returns the fields that this server puts before the message: Received."""
    content: bytes
    """The message as received."""
    ok_text: str
    """The text of the 250 reply if nothing is sent upstream."""
    delivery: Delivery | None
    """The upstream transaction; may be None if no parcel goes to servers."""
    upstream_seconds: float
    """How long one parcel may take upstream."""
    store: Store
    commit_first: Callable[[MessageResult], Awaitable[None]]
    """Commits a result and its copies before anything goes upstream; may raise StoreError."""

    async def run(self) -> MessageResult:
        """Carry out the plan. If it raises StoreError, nothing was done."""
        upstream: list[Parcel] = []
        local: list[tuple[Parcel, Local]] = []
        kept: list[Kept] = []
        for parcel in self.plan.parcels:
            match parcel.destination:
                case tuple():
                    upstream.append(parcel)
                case Local() as place:
                    local.append((parcel, place))
                    if place is not Local.DISCARD:
                        kept.append(self._copy(Box.INBOX if place is Local.INBOX else Box.QUARANTINE, parcel))
                case Refused(reply=refusal):
                    return await self._refuse(parcel, refusal.with_timing(self.plan.timing))
                case _:
                    assert_never(parcel.destination)
        if upstream:
            if self.delivery is None:
                raise RuntimeError("a parcel to servers has no delivery")
            return await self._relay(self.delivery, upstream, local, kept)
        await self._abandon()
        reply = replies.stored(self.ok_text, self.plan.timing)
        results: list[RecipientResult] = []
        for parcel, place in local:
            results += _results(parcel, place.disposition, reply)
        return MessageResult(
            reply=reply, recipients=self._in_order(results), kept=tuple(kept), owner=Owner.STORE
        )

    async def _refuse(self, parcel: Parcel, reply: Reply) -> MessageResult:
        await self._abandon()
        results = _results(parcel, disposition_of(reply), reply)
        return MessageResult(reply=reply, recipients=tuple(results))

    async def _relay(
        self,
        delivery: Delivery,
        parcels: list[Parcel],
        local: list[tuple[Parcel, Local]],
        kept: list[Kept],
    ) -> MessageResult:
        """Send the parcels; the reply to the first one is the client's.

        A later parcel that upstream does not accept stays in quarantine: after the first one was accepted,
        the message can no longer be refused. Its copy is committed first, so that a crash cannot lose it.
        """
        first, *later = parcels
        spare = [(parcel, self._copy(Box.QUARANTINE, parcel)) for parcel in later]
        kept += [copy for _, copy in spare]
        if self.plan.parcels[1:]:
            await self.commit_first(self._in_doubt(kept))
        delivered = await self._send(delivery, first)
        replies = self._timed(delivered.replies)
        reply = replies[0]
        if delivered.state is not DeliveryState.ACCEPTED:
            await self._withdraw(kept)
            end = _NOT_TAKEN.get(delivered.state) or disposition_of(reply)
            results = [result for parcel in self.plan.parcels for result in _results(parcel, end, reply)]
            return MessageResult(reply=reply, recipients=self._in_order(results), upstream=delivered)
        results = [
            RecipientResult(
                recipient=one.recipient,
                outcome=one.outcome,
                disposition=Disposition.RELAYED,
                reply=its_reply,
            )
            for one, its_reply in zip(first.outcomes, replies, strict=True)
        ]
        for parcel, copy in spare:
            if (await self._send(delivery, parcel)).state is DeliveryState.ACCEPTED:
                await self._withdraw((copy,))
                results += _results(parcel, Disposition.RELAYED, reply)
            else:
                results += _results(parcel, Disposition.QUARANTINED, reply)
        for parcel, place in local:
            results += _results(parcel, place.disposition, reply)
        return MessageResult(
            reply=reply, recipients=self._in_order(results), upstream=delivered, owner=Owner.UPSTREAM
        )

    async def _send(self, delivery: Delivery, parcel: Parcel) -> Delivered:
        deadline = asyncio.get_running_loop().time() + self.upstream_seconds
        pieces = (self.trace() + parcel.fields, *apply(self.content, parcel.edits))
        return await delivery.send(parcel.recipients, pieces, deadline=deadline, mail_from=parcel.mail_from)

    def _copy(self, box: Box, parcel: Parcel) -> Kept:
        return Kept(
            box=box,
            mail_from=parcel.mail_from,
            recipients=tuple(recipient.address for recipient in parcel.recipients),
            prepended=self.trace() + parcel.fields,
            content=self.content,
            edits=parcel.edits,
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
            # An extra copy in quarantine loses no mail.
            log.exception("could not withdraw %s from quarantine", [copy.id for copy in kept])

    # Results

    def _timed(self, replies: tuple[Reply, ...]) -> tuple[Reply, ...]:
        timing = self.plan.timing
        return tuple(reply.with_timing(timing) for reply in replies) if timing else replies

    def _in_doubt(self, kept: Sequence[Kept]) -> MessageResult:
        """The result to record before upstream has answered: in doubt, except where it is discarded."""
        results: list[RecipientResult] = []
        for parcel in self.plan.parcels:
            discarded = parcel.destination is Local.DISCARD
            end = Disposition.DISCARDED if discarded else Disposition.IN_DOUBT
            results += _results(parcel, end, None)
        return MessageResult(reply=None, recipients=self._in_order(results), kept=tuple(kept))

    def _in_order(self, results: list[RecipientResult]) -> tuple[RecipientResult, ...]:
        """Sort results into the order of the client's recipients.

        A client may name a recipient more than once; then it has a result each time.
        """
        if not self.plan.parcels[1:]:
            return tuple(results)
        results_of: defaultdict[Recipient, list[RecipientResult]] = defaultdict(list)
        for result in reversed(results):
            results_of[result.recipient].append(result)
        return tuple(results_of[recipient].pop() for recipient in self.plan.recipients)


def _results(parcel: Parcel, disposition: Disposition, reply: Reply | None) -> list[RecipientResult]:
    """The same result for each recipient of a parcel."""
    return [
        RecipientResult(recipient=one.recipient, outcome=one.outcome, disposition=disposition, reply=reply)
        for one in parcel.outcomes
    ]
