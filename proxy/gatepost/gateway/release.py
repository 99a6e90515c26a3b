"""Release a message from quarantine, or forward any stored one: deliver it without asking the rules again."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from gatepost.config import Config
from gatepost.gateway.execute import PlanExecutor
from gatepost.gateway.header import HeaderFacts
from gatepost.gateway.plan import RouteTarget, route_destination
from gatepost.gateway.records import make_record
from gatepost.gateway.result import MessageResult, disposition_of
from gatepost.model import replies
from gatepost.model.edits import apply
from gatepost.model.mail import Envelope, Recipient, Session, new_id
from gatepost.model.plan import Destination, Parcel, Plan, RecipientOutcome, RecipientResult, Refused
from gatepost.model.record import Disposition, Record
from gatepost.model.verdict import Action, Outcome, Reply
from gatepost.relay import Delivered, Delivery, DeliveryState, Relay, has_internationalised_header
from gatepost.server.paths import is_mailbox
from gatepost.store import KeptMessage, Store, StoreError, open_store
from gatepost.values import value

__all__ = ["forward", "release"]

_JOURNAL_SECONDS = 30.0
"""As long as `gatepost.store.release_once` tries to note that a message was sent."""
_LOOK_SECONDS = 0.1
_BARE_NEWLINE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")


@value
class _Sending:
    """A stored message that is sent on."""

    kept: KeptMessage
    session: Session
    target: RouteTarget
    mail_from: str
    recipients: tuple[Recipient, ...]
    reason: str
    """Why, for the journal."""
    node: str
    """The name of this node, for the journal."""

    @property
    def envelope(self) -> Envelope:
        """The envelope for upstream.

        The client's MAIL and RCPT parameters are not stored; those that the message needs are found anew.
        """
        pieces = (self.kept.prepended, *apply(self.kept.content, self.kept.edits))
        addresses = [self.mail_from, *[recipient.address for recipient in self.recipients]]
        parameters = []
        if not all(map(bytes.isascii, pieces)):
            parameters.append("BODY=8BITMIME")  # RFC 6152
        if not all(map(str.isascii, addresses)) or has_internationalised_header(pieces):
            parameters.append("SMTPUTF8")  # RFC 6531 section 3.4
        return Envelope(mail_from=self.mail_from, parameters=tuple(parameters))

    def plan(self, destination: Destination) -> Plan:
        """A plan with one parcel: all recipients get the stored message with its edits."""
        outcome = Outcome(action=Action.ACCEPT, reason=self.reason)
        parcel = Parcel(
            destination=destination,
            mail_from=self.mail_from,
            outcomes=tuple(
                RecipientOutcome(recipient=recipient, outcome=outcome) for recipient in self.recipients
            ),
            edits=self.kept.edits,
            rule=self.kept.rule,
            reason=self.kept.reason,
        )
        return Plan(recipients=self.recipients, parcels=(parcel,))

    def record(self, result: MessageResult) -> Record:
        """For the journal."""
        kept = self.kept
        return make_record(
            transaction_id=new_id(),
            node=self.node,
            session=self.session,
            received_at=datetime.now(UTC),
            mail_from=self.mail_from,
            result=result,
            evaluations=(),
            size=kept.size,
            header=HeaderFacts(message_id=kept.message_id, subject=kept.subject),
        )


def release(config: Config, base: Path, kept: KeptMessage, to: Sequence[str] | None) -> Reply:
    """Deliver a quarantined message to its route's destination, and journal that.

    Args:
        config: the settings.
        base: the folder of rules.yaml.
        kept: the message.
        to: recipients instead of its own.

    Returns:
        The destination's reply; if positive, it has the message for all recipients.

    Raises:
        StoreError: the store cannot be opened or written.
    """
    recipients = tuple(Recipient(address=address) for address in to or kept.recipients)
    session = _local_session("quarantine release")
    routes = [config.route(session, recipient) for recipient in recipients]
    route = routes[0]
    if route is None or any(other is None or other.to != route.to for other in routes):
        return replies.NO_COMMON_ROUTE
    sending = _Sending(
        kept=kept,
        session=session,
        target=route.to,
        mail_from=kept.mail_from,
        recipients=recipients,
        reason=f"released from quarantine: {kept.id}",
        node=config.node,
    )

    async def deliver(store: Store, relay: Relay) -> MessageResult:
        delivery, refusal = None, None
        if isinstance(sending.target, tuple):
            delivery = relay.begin(sending.target, sending.envelope)
            refusal = await _first_refusal(delivery, recipients)
        result = await _execute(config, sending, store, delivery, refusal)
        if delivery is None or refusal is None:
            return result
        return replace(result, upstream=_not_sent(refusal, recipients, failure=delivery.failure))

    record = _journalled(config, base, sending, deliver)
    return Reply.parse(record.reply) if record.reply else replies.TEMPORARY_FAILURE


def forward(config: Config, base: Path, kept: KeptMessage, to: Sequence[str] | None) -> Record:
    """Send any stored message to the server of ``web.forward``, and journal that.

    Every recipient is asked; the message is sent only if the server accepts all of them, with the bytes of
    the delivered form. A message that no server may be sent (a bare CR or LF, a malformed address) is refused
    here. Whether a recipient is allowed is the caller's to check (`ForwardSettings.allows`).

    Args:
        config: the settings, with ``web.forward``.
        base: the folder of rules.yaml.
        kept: the message.
        to: recipients instead of its own.

    Returns:
        The record that was written. Its reply is positive if the server has the message for all recipients.
        Else each recipient has its own reply; one that is ABANDONED was accepted, but nothing was sent.

    Raises:
        StoreError: the store cannot be opened or written.
        ValueError: the settings have no server to forward to.
    """
    settings = config.web.forward if config.web else None
    if settings is None:
        raise ValueError("there is no web.forward in the settings")
    sending = _Sending(
        kept=kept,
        session=_local_session("forward"),
        target=settings.to,
        mail_from=kept.mail_from if settings.sender is None else settings.sender,
        recipients=tuple(Recipient(address=address) for address in to or kept.recipients),
        reason=f"forwarded: {kept.id}",
        node=config.node,
    )

    async def deliver(store: Store, relay: Relay) -> MessageResult:
        if refusals := _unsendable(sending):
            return _refused(sending, refusals)
        delivery = relay.begin(settings.to, sending.envelope)
        answers, failure = [], ""
        for recipient in sending.recipients:
            answers.append(await delivery.rcpt(recipient))
            failure = failure or delivery.failure
        refusal = next((answer for answer in answers if not answer.positive), None)
        if refusal is None:
            return await _execute(config, sending, store, delivery, None)
        await delivery.abandon()
        upstream = _not_sent(refusal, sending.recipients, server=delivery.server, failure=failure)
        return replace(_refused(sending, answers), upstream=upstream)

    return _journalled(config, base, sending, deliver)


def _journalled(
    config: Config,
    base: Path,
    sending: _Sending,
    deliver: Callable[[Store, Relay], Awaitable[MessageResult]],
) -> Record:
    """Deliver with a store and a relay that are open meanwhile; returns the record that was committed."""

    async def run() -> Record:
        async with AsyncExitStack() as open_ones:
            store = open_store(config.store, base)
            open_ones.push_async_callback(store.close)
            relay = Relay(hostname=config.hostname, limits=config.limits)
            open_ones.push_async_callback(relay.close)
            result = await deliver(store, relay)
            record = sending.record(result)
            try:
                await store.commit(record, result.kept)
            except StoreError:
                if result.kept:
                    raise
                # What was sent must not be taken for not sent: it would be sent again.
                store.journal(record)
                await _journal_written(store)
            return record

    return asyncio.run(run())


async def _journal_written(store: Store) -> None:
    """Wait until the store is back and has what is queued, or for 30 seconds: what is left then is lost."""
    until = time.monotonic() + _JOURNAL_SECONDS
    while store.backlog and time.monotonic() < until:  # noqa: ASYNC110 - a store tells nobody
        await asyncio.sleep(_LOOK_SECONDS)


async def _execute(
    config: Config, sending: _Sending, store: Store, delivery: Delivery | None, refusal: Reply | None
) -> MessageResult:
    """Carry out the plan for a message."""
    kept, target = sending.kept, sending.target

    async def commit(result: MessageResult) -> None:
        await store.commit(sending.record(result), result.kept)

    executor = PlanExecutor(
        plan=sending.plan(Refused(reply=refusal) if refusal else route_destination(target)),
        trace=lambda: kept.prepended,
        content=kept.content,
        ok_text="Discarded" if target == "discard" else "Put into the inbox",
        delivery=delivery,
        upstream_seconds=config.limits.upstream_time,
        store=store,
        commit_first=commit,
    )
    return await executor.run()


def _unsendable(sending: _Sending) -> Sequence[Reply]:
    """A reply for each recipient if no server may be sent the message, else nothing.

    Complaints mode stores what other servers refuse: bare newlines would let the next server see the end of
    the message, and commands, where there are none.
    """
    if _BARE_NEWLINE.search(sending.kept.content):
        return [replies.BARE_NEWLINE] * len(sending.recipients)
    if sending.mail_from and not is_mailbox(sending.mail_from):
        return [replies.BAD_MAIL_FROM] * len(sending.recipients)
    valid = [_is_path(recipient.address) for recipient in sending.recipients]
    return [] if all(valid) else [replies.RECIPIENT_OK if one else replies.BAD_RECIPIENT for one in valid]


def _is_path(address: str) -> bool:
    """As `gatepost.server` reads RCPT."""
    return is_mailbox(address) or address.lower() == "postmaster"


def _refused(sending: _Sending, answers: Sequence[Reply]) -> MessageResult:
    """The result if some recipients were refused, each with its own reply; nothing is sent to the others."""
    outcome = Outcome(action=Action.ACCEPT, reason=sending.reason)
    refusal = next(answer for answer in answers if not answer.positive)
    return MessageResult(
        reply=refusal,
        recipients=tuple(
            RecipientResult(
                recipient=recipient,
                outcome=outcome,
                disposition=Disposition.ABANDONED if answer.positive else disposition_of(answer),
                reply=None if answer.positive else answer,
            )
            for recipient, answer in zip(sending.recipients, answers, strict=True)
        ),
    )


async def _first_refusal(delivery: Delivery, recipients: tuple[Recipient, ...]) -> Reply | None:
    """Upstream's reply to the first recipient that it refuses; None if it accepts all."""
    for recipient in recipients:
        reply = await delivery.rcpt(recipient)
        if not reply.positive:
            return reply
    return None


def _not_sent(
    refusal: Reply, recipients: tuple[Recipient, ...], *, server: str | None = None, failure: str = ""
) -> Delivered:
    """The upstream part of the record if a recipient was refused before the message was sent.

    ``failure`` is why the connection failed.
    """
    return Delivered(
        state=DeliveryState.REFUSED,
        replies=(refusal,) * len(recipients),
        server=server,
        upstream_reply=failure or str(refusal),
    )


def _local_session(listener: str) -> Session:
    """A loopback session, since an operator may use every route that this machine may use."""
    return Session(
        id=new_id(),
        client=ip_address("127.0.0.1"),
        client_port=0,
        listener=listener,
        connected_at=datetime.now(UTC),
    )
