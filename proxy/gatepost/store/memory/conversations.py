"""Conversations of sessions."""

from itertools import islice
from typing import Self

from gatepost.store.conversation import Conversation, SessionSummary
from gatepost.store.memory.data import Data
from gatepost.store.memory.journal import is_address
from gatepost.store.query.criteria import cursor_id

__all__ = ["MemoryConversations"]


class MemoryConversations:
    """A `gatepost.store.contract.Conversations` in memory."""

    def __init__(self, data: Data) -> None:
        self._data = data

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sessions(
        self,
        *,
        client: str | None = None,
        address: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[SessionSummary]:
        """The newest, newest first; see `gatepost.store.contract.Conversations`."""
        of_address = self._of_address(address) if address is not None else set()
        found = (
            session
            for session in self._data.sessions()
            if client in (None, session.client)
            and (address is None or session.id in of_address)
            and (before is None or session.id < cursor_id(before))
        )
        return list(islice(found, limit))

    def conversation(self, session_id: str) -> Conversation | None:
        """All that is stored of one session; None where there is nothing."""
        found = self._data.conversation(session_id)
        return Conversation(session=found[0], lines=found[1]) if found else None

    def _of_address(self, address: str) -> set[str]:
        """The sessions with a transaction from or to an address."""
        return {
            record.session_id
            for record in self._data.snapshot().records.values()
            for one in (record.mail_from, *(recipient.address for recipient in record.recipients))
            if is_address(one, address)
        }
