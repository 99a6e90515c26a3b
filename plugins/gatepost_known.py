"""The filter ``known``: trusts the correspondents of our users more."""

import asyncio
from dataclasses import dataclass

from gatepost import (
    Disposition,
    Passed,
    PerRecipient,
    Recipient,
    Record,
    Seconds,
    State,
    Transaction,
    Verdict,
    hookimpl,
    mailbox_key,
)

__all__ = ["Known"]

_SENT = (Disposition.RELAYED, Disposition.INBOX)
_LEARNT_LIMIT = 100
"""Recipients of one message that are remembered; a circular letter is no correspondence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Learns from what users send, and scores what their correspondents send to them.

    The author in From counts, and anybody can claim to be somebody: let the rule ask for a pass of DMARC.
    """

    state: State
    score: float = -3.0
    """What it counts that the recipient has written to the author before; less than 0."""
    remember: Seconds = 180.0 * 86400
    """How long a correspondent is known after the last message to it."""

    def __post_init__(self) -> None:
        if self.score >= 0:
            raise ValueError(f"score: {self.score:g}, expected less than 0")

    @hookimpl
    async def report_transaction(self, record: Record) -> None:
        """Remember the recipients of a message that an authenticated user has sent."""
        if record.authenticated is None or not record.mail_from:
            return
        sent = [one.address for one in record.recipients if one.disposition in _SENT]
        if len(sent) <= _LEARNT_LIMIT:
            keys = {_key(record.mail_from, address) for address in sent}
            await asyncio.gather(*(self.state.set(key, 1, seconds=self.remember) for key in keys))

    @hookimpl
    async def filter_message(
        self, transaction: Transaction, recipients: tuple[Recipient, ...]
    ) -> PerRecipient | Passed | None:
        """Look up the author, for each recipient by itself."""
        if transaction.session.authenticated:
            return Passed(asked=False)
        authors = transaction.message.view.addresses("From")
        if len(authors) != 1 or not authors[0].address:
            return Passed(reason="not one author", asked=False)
        author = authors[0].address
        addresses = [one.address for one in recipients]
        found = await asyncio.gather(*(self.state.get(_key(address, author)) for address in addresses))
        known = [address for address, value in zip(addresses, found, strict=True) if value is not None]
        if not known:
            return None
        verdict = Verdict(reason=f"has written to {author} before", score=self.score)
        return PerRecipient(verdicts=dict.fromkeys(known, verdict))


def _key(user: str, correspondent: str) -> str:
    return f"{mailbox_key(user)} {mailbox_key(correspondent)}"
