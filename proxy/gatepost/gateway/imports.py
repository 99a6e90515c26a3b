"""Import saved messages into the inbox of a store."""

import asyncio
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from gatepost.config.store import StoreSettings
from gatepost.gateway.header import HeaderFacts
from gatepost.gateway.records import make_record
from gatepost.gateway.result import MessageResult
from gatepost.mime.fields import header_section_end
from gatepost.model.mail import Recipient, Session, new_id
from gatepost.model.plan import RecipientResult
from gatepost.model.record import Disposition
from gatepost.model.saved import IMPORTED, SavedMessage
from gatepost.model.verdict import Action, Outcome
from gatepost.store import Box, Kept, Store, StoreError, open_store

__all__ = ["import_messages"]

_AT_ONCE = 100
_AT_ONCE_OCTETS = 16 << 20
"""Messages that are committed together: so many, or one more than has so many bytes."""
_OUTCOME = Outcome(action=Action.ACCEPT, reason=IMPORTED)


def import_messages(
    settings: StoreSettings,
    base: Path,
    messages: Iterable[SavedMessage],
    *,
    client: IPv4Address | IPv6Address,
    node: str | None = None,
) -> list[str | StoreError]:
    """Store messages in their order, each with a record in the journal; blocks.

    The messages are read from the iterable as they are stored, so that few of them are in memory at a time.
    Each is stored as a whole or not at all. After an error no more are read.

    Args:
        settings: of the store, which is made if it does not exist.
        base: the folder of rules.yaml.
        messages: what was read from files.
        client: the address of the client that imports them, for the journal.
        node: the name of this node, likewise.

    Returns:
        For each message that was read its id in the store, or why it is not there.

    Raises:
        StoreError: the store cannot be opened.
    """
    session = Session(
        id=new_id(), client=client, client_port=0, listener="import", connected_at=datetime.now(UTC)
    )

    async def run() -> list[str | StoreError]:
        store = open_store(settings, base)
        try:
            results: list[str | StoreError] = []
            for group in _groups(messages):
                committing = (_commit(store, session, message, node) for message in group)
                results += await asyncio.gather(*committing)
                if any(isinstance(result, StoreError) for result in results[-len(group) :]):
                    break
            return results
        finally:
            await store.close()

    return asyncio.run(run())


def _groups(messages: Iterable[SavedMessage]) -> Iterator[list[SavedMessage]]:
    group: list[SavedMessage] = []
    octets = 0
    for message in messages:
        group.append(message)
        octets += len(message.content)
        if len(group) >= _AT_ONCE or octets >= _AT_ONCE_OCTETS:
            yield group
            group, octets = [], 0
    if group:
        yield group


async def _commit(
    store: Store, session: Session, message: SavedMessage, node: str | None
) -> str | StoreError:
    """Returns the id of the stored message, or why it is not stored."""
    kept = Kept(
        box=Box.INBOX,
        mail_from=message.mail_from,
        recipients=message.recipients,
        prepended=b"",
        content=message.content,
        rule=None,
        reason=IMPORTED,
    )
    recipients = [
        RecipientResult(
            recipient=Recipient(address=address),
            outcome=_OUTCOME,
            disposition=Disposition.INBOX,
            reply=None,
        )
        for address in message.recipients
    ]
    record = make_record(
        transaction_id=new_id(),
        node=node,
        session=session,
        received_at=datetime.now(UTC),
        mail_from=message.mail_from,
        result=MessageResult(reply=None, recipients=tuple(recipients), kept=(kept,)),
        evaluations=(),
        size=len(message.content),
        header=HeaderFacts.of(message.content[: header_section_end(message.content)]),
    )
    try:
        await store.commit(record, (kept,))
    except StoreError as error:
        return error
    return kept.id
