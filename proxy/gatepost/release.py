"""RELEASE: a message from quarantine goes on its way after all; the rules are not asked again."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from gatepost.config import Config
from gatepost.config.settings import UpstreamServer
from gatepost.gateway.act import Destination
from gatepost.mail import Envelope, Recipient, Session, new_id
from gatepost.record import Disposition, RecipientRecord, Record
from gatepost.relay import Delivered, DeliveryState, Relay
from gatepost.store import Box, Kept, KeptMessage, Store
from gatepost.verdict import Action, Reply

__all__ = ["release"]

_NO_ROUTE = Reply(code=550, enhanced="5.7.1", text="No route takes all of these recipients together")
_INTO_INBOX = Reply(code=250, enhanced="2.0.0", text="Put into the inbox")


def release(config: Config, base: Path, kept: KeptMessage, to: Sequence[str] | None) -> Reply:
    """Deliver a kept message over the routes or into the inbox, and journal that.

    Args:
        config: the settings.
        base: the folder of rules.yaml.
        kept: the message.
        to: recipients instead of its own.

    Returns:
        What the destination said; positive: it has the message for all recipients.

    Raises:
        StoreError: the store cannot be opened or written.
    """
    recipients = tuple(Recipient(address=address) for address in to or kept.recipients)
    session = _local_session()
    routes = [config.route(session, recipient) for recipient in recipients]
    route = routes[0]
    if route is None or any(other is None or other.to != route.to for other in routes):
        return _NO_ROUTE

    async def deliver() -> Reply:
        store = Store.open(config.store, base)
        try:
            return await _deliver(config, store, session, route.to, kept, recipients)
        finally:
            await store.close()

    return asyncio.run(deliver())


async def _deliver(
    config: Config,
    store: Store,
    session: Session,
    destination: Destination,
    kept: KeptMessage,
    recipients: tuple[Recipient, ...],
) -> Reply:
    if isinstance(destination, tuple):
        delivered = await _relay(config, destination, kept, recipients)
        await store.commit(_record(session, kept, recipients, delivered.reply, delivered))
        return delivered.reply
    copy = Kept(
        box=Box.INBOX,
        mail_from=kept.mail_from,
        recipients=tuple(recipient.address for recipient in recipients),
        prepended=kept.prepended,
        content=kept.content,
        rule=kept.rule,
        reason=kept.reason,
    )
    record = _record(session, kept, recipients, _INTO_INBOX, None)
    await store.commit(record, (copy,) if destination == "inbox" else ())
    return _INTO_INBOX


async def _relay(
    config: Config, servers: tuple[UpstreamServer, ...], kept: KeptMessage, recipients: tuple[Recipient, ...]
) -> Delivered:
    relay = Relay(hostname=config.hostname, limits=config.limits)
    addresses = [kept.mail_from, *[recipient.address for recipient in recipients]]
    parameters = () if all(map(str.isascii, addresses)) else ("SMTPUTF8",)
    delivery = relay.begin(servers, Envelope(mail_from=kept.mail_from, parameters=parameters))
    try:
        for recipient in recipients:
            reply = await delivery.rcpt(recipient)
            if not reply.positive:
                await delivery.abandon()
                return Delivered(
                    state=DeliveryState.REFUSED, reply=reply, server=None, upstream_reply=str(reply)
                )
        deadline = asyncio.get_running_loop().time() + config.limits.upstream_time
        return await delivery.send(recipients, (kept.prepended, kept.content), deadline=deadline)
    finally:
        await relay.close()


def _local_session() -> Session:
    """Whoever may run the command may send from this machine."""
    return Session(
        id=new_id(),
        client=ip_address("127.0.0.1"),
        client_port=0,
        listener="quarantine release",
        connected_at=datetime.now(UTC),
    )


def _record(
    session: Session,
    kept: KeptMessage,
    recipients: tuple[Recipient, ...],
    reply: Reply,
    delivered: Delivered | None,
) -> Record:
    if delivered and delivered.state is DeliveryState.IN_DOUBT:
        end = Disposition.IN_DOUBT
    elif not reply.positive:
        end = Disposition.REFUSED if reply.permanent else Disposition.DEFERRED
    else:
        end = Disposition.RELAYED if delivered else Disposition.INBOX
    return Record(
        id=new_id(),
        session_id=session.id,
        received_at=datetime.now(UTC),
        client=str(session.client),
        helo="",
        tls=None,
        authenticated=None,
        mail_from=kept.mail_from,
        recipients=tuple(
            RecipientRecord(
                address=recipient.address,
                disposition=end,
                action=Action.ACCEPT,
                reason=f"released from quarantine: {kept.id}",
                reply=str(reply),
            )
            for recipient in recipients
        ),
        size=kept.size,
        message_id=kept.message_id,
        subject=kept.subject,
        evaluations=(),
        reply=str(reply),
        upstream=delivered.server if delivered else None,
        upstream_reply=delivered.upstream_reply if delivered else None,
    )
