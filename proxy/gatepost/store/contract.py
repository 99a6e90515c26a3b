"""The contract: what the gateway, the desk, the commands and the test kit ask of a store.

A backend implements these protocols and nothing else is asked of it. Several processes, and with some
backends several machines, have the same store open at the same time; what one has committed the others read.
All but the methods of `Store` block, may be called by several threads, and raise StoreError. A list goes on
with what is older than ``before``, also if that is not stored any more or never was; before text that is no
cursor there is nothing. Text that comes from mail is stored as `gatepost.store.text.storable` returns it.
tests/store/conformance holds every backend to these promises.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from gatepost.config.store import StoreSettings
from gatepost.model.record import Record
from gatepost.model.verdict import Reply
from gatepost.store.contents import Contents, Restored
from gatepost.store.conversation import Conversation, ConversationPart, SessionSummary
from gatepost.store.exchange import PassedBatch, Turn
from gatepost.store.facets import Facets
from gatepost.store.kept import (
    Arrivals,
    Claim,
    Counts,
    Kept,
    KeptMessage,
    KeptSummary,
    Page,
    Position,
    Removed,
)
from gatepost.store.node import RunningNode
from gatepost.store.query.criteria import JournalQuery, KeptQuery
from gatepost.store.query.messages import Query
from gatepost.store.statistics import Counted, Newest, Span, Timeline, Top

__all__ = [
    "Archive",
    "Backend",
    "Conversations",
    "DeskSessions",
    "Exchange",
    "Mailbox",
    "Reporting",
    "Statistics",
    "Store",
]


class Store(Protocol):
    """The gateway's side: it writes, and answers after the commit.

    For one event loop; opened after forking.
    """

    @property
    def archive(self) -> "Archive":
        """To look up, from worker threads."""

    @property
    def backlog(self) -> int:
        """Changes that are queued and not committed yet."""

    @property
    def overloaded(self) -> bool:
        """True: new mail is better deferred than accepted without a journal."""

    @property
    def lost(self) -> int:
        """Records that are not in the journal, and never will be.

        There was no room for them, they could not be written, or, as far as a backend can tell, another
        process was killed before it wrote them.
        """

    async def commit(self, record: Record, kept: Sequence[Kept] = ()) -> None:
        """Write a record and the messages to keep, all or nothing; returns after the commit.

        A record of the same id is replaced; a message of the same id is an error. Raises StoreFull,
        StoreUnavailable (also where the store cannot keep up or is closed) or StoreError, and then nothing
        of it is stored. A caller that is cancelled meanwhile does not know which.
        """

    def journal(self, record: Record) -> None:
        """Queue a record; never blocks, never raises.

        A record of the same id is replaced. It waits while the store cannot be written, and is lost where too
        many wait, or if this process is killed; the log and `lost` say so.
        """

    def converse(self, part: ConversationPart) -> bool:
        """Queue a part of a conversation, as `journal` does; False: there is no room, it is lost."""

    async def withdraw(self, kept_ids: Sequence[str]) -> None:
        """Remove messages as if they had never been kept; returns after the commit.

        Raises StoreError as `commit` does.
        """

    async def close(self) -> None:
        """Write what is queued and let go of the store."""


class _Reader(Protocol):
    """What is open until it is closed; as a context manager while the block lasts."""

    def close(self) -> None:
        """Close the connections."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Archive(_Reader, Protocol):
    """The journal and the kept messages by their fields; deletes and releases messages."""

    def check_writable(self) -> None:
        """Raise StoreError if nothing could be committed now, or the disk is full; stores nothing."""

    def statistics(self) -> "Statistics":
        """Counts over the journal, which remember what they have counted."""

    def records(self, query: JournalQuery, *, limit: int, before: str | None = None) -> list[Record]:
        """The newest that match, newest first; ``before`` is the id of the last one of the page before."""

    def record(self, transaction_id: str) -> Record | None:
        """One record; None where there is none."""

    def kept(self, query: KeptQuery, *, limit: int, before: str | None = None) -> list[KeptSummary]:
        """The newest that match, newest first; ``before`` is the id of the last one of the page before."""

    def kept_message(self, kept_id: str) -> KeptMessage | None:
        """A message with its content; None where there is none. A deleted one has no content."""

    def delete(self, kept_ids: Sequence[str], *, actor: str) -> list[str]:
        """Remove the content of messages; returns the ids of those that had any, in the order asked.

        One that is being released stays (`claim_release`), also for the moment after a crash.
        """

    def claim_release(self, message: KeptSummary, *, actor: str) -> Claim:
        """Reserve a message for one release: of all who ask, in all processes, one gets it.

        The message must still be as it was read (``state`` and ``changed_at``), not deleted, and without a
        claim of anybody else. Raises ConflictError, and then nothing was changed. The claim ends with
        `finish_release` or `abandon_release`, or else at `Claim.expires_at`, so that a crash neither loses
        the message nor blocks it permanently.
        """

    def renew_release(self, claim: Claim) -> None:
        """Let the claim expire later, as if it were made now; nothing happens where it has ended."""

    def finish_release(self, claim: Claim, *, to: Sequence[str], reply: Reply) -> bool:
        """Note that the message was sent, and end the claim; False where the message is gone or deleted.

        An expired claim makes no difference: the message has been sent.
        """

    def abandon_release(self, claim: Claim) -> None:
        """End the claim: the message was not sent, and stays as it is."""


class Mailbox(_Reader, Protocol):
    """Kept messages as people read them: listed, searched by text, opened, marked, deleted.

    A backend may read the text of a message some time after it was kept; until then no query that
    `Query.reads_text` finds it. How words match is described at `gatepost.store.query.Words`.
    """

    @property
    def archive(self) -> Archive:
        """The same store's; closed with the mailbox."""

    def page(self, query: Query, *, limit: int = 50, before: str | None = None) -> Page:
        """The newest that match, newest first; ``before`` is `Page.next` of the page before."""

    def arrivals(self, position: Position, *, limit: int) -> Arrivals:
        """The messages that were committed behind a position, without deleted ones; at most so many.

        A backend that reads texts later than it keeps a message returns no message before its text is read,
        and none before an earlier one. What was withdrawn meanwhile is left out.
        """

    def position_before(self, moment: datetime) -> Position:
        """The position for `arrivals` behind all messages that were received before that moment."""

    def count(self, query: Query) -> int:
        """How many match."""

    def counts(self) -> Counts:
        """How many messages there are in each box."""

    def facets(self, query: Query) -> Facets:
        """How the messages that match are spread over mailboxes and recipients.

        A backend may count a message only some time after it was kept, and until some time after it was
        deleted. Nothing is counted if the query asks for deleted messages.
        """

    def message(self, kept_id: str) -> KeptMessage | None:
        """A message with its content; None where there is none. A deleted one has no content."""

    def mark(self, kept_ids: Sequence[str], *, seen: bool) -> int:
        """Mark messages as seen or as unread; returns how many were not so before."""

    def delete(self, kept_ids: Sequence[str], *, actor: str) -> list[str]:
        """As `Archive.delete`; the words of the messages are soon not found any more."""

    def remove(self, kept_id: str, *, actor: str) -> Removed | None:
        """Delete one message, as `delete` does, and return it; None where nothing was deleted."""

    def put_back(self, removed: Removed) -> bool:
        """Undo that deletion: the message is again in its place, and is found and marked as it was.

        False, and nothing is changed, where it was put back already or the store has let go of its record.
        """

    def delete_matching(self, query: Query, *, actor: str) -> int:
        """Delete all that match and are there now; returns how many."""

    def changes(self) -> int:
        """A number that differs after each commit of any process; cheap enough to ask 30 times a second."""


class Conversations(_Reader, Protocol):
    """What was sent in sessions."""

    def sessions(
        self,
        *,
        client: str | None = None,
        address: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[SessionSummary]:
        """The newest, newest first.

        Args:
            client: an IP address.
            address: a reverse-path or forward-path of one of the session's transactions.
            limit: how many at most.
            before: the id of the last one of the page before.
        """

    def conversation(self, session_id: str) -> Conversation | None:
        """All that is stored of one session; None where there is nothing."""


class Exchange(Protocol):
    """Passes lines of live conversations between the desks of all nodes; blocks, for one thread."""

    def turn(self, *, watches: bool, sent: Sequence[PassedBatch], seen: Mapping[str, int]) -> Turn:
        """Pass lines on, and read those of others.

        Args:
            watches: somebody watches on this desk.
            sent: lines of this node, in order.
            seen: for each other desk, the number of its last batch that was read.

        Raises StoreError; the batches are lost then.
        """

    def close(self) -> None:
        """Let go of the store; the next turn opens it again."""


class Reporting(Protocol):
    """Which of the desks of all nodes reports new messages to the webhook; blocks, for one thread at a time.

    One at a time does, until it lets go or the store loses its connection. Raises StoreError.
    """

    def is_ours(self) -> bool:
        """True if this desk reports now: it takes the turn if no other desk has it."""

    def reached(self) -> int | None:
        """The `Position.number` that was noted last, by whichever desk; None: none ever was."""

    def reach(self, number: int) -> None:
        """Note the number to which new messages were looked at."""

    def close(self) -> None:
        """Let another desk take the turn; the next call opens the store again."""


class DeskSessions(Protocol):
    """Log-ins to the web desk that are valid on all nodes; blocks. Raises StoreError.

    Times are those of the store's clock. A session is over when it was unused for too long, or at its end.
    """

    def put(self, key: bytes, sealed: bytes, *, owner: bytes, lasts_seconds: float) -> None:
        """Store a session; forgets those that are over, and of too many those that were unused for longest.

        Too many of one owner come first, so that they end none of others.

        Args:
            key: the SHA-256 of its token, 32 bytes.
            sealed: what the desk remembers of it, which the store does not read.
            owner: a hash of the user, 16 bytes.
            lasts_seconds: the time to its end, also of one that is used; infinite: it has none.
        """

    def get(self, key: bytes, *, uses: bool) -> bytes | None:
        """What was put; None where there is no such session, or it is over.

        If ``uses`` this is a use of the session, which is noted at most once a minute.
        """

    def remove(self, key: bytes) -> None:
        """End a session; nothing happens where there is none."""

    def close(self) -> None:
        """Let go of the store; the next call opens it again."""


class Statistics(Protocol):
    """Counts over the journal."""

    def timeline(self, span: Span, now: datetime) -> Timeline:
        """What became of mail, in buckets that end with the one of ``now``, aligned to its time zone."""

    def top(
        self, of: Top, since: datetime, until: datetime | None = None, *, limit: int = 10
    ) -> tuple[Counted, ...]:
        """Those with most transactions since then and before ``until``; of as many, in order of the name."""

    def newest(self, since: datetime) -> Newest:
        """What the newest records since then say: the ten senders with most transactions, and the rules."""


class Backend(Protocol):
    """A kind of store; a module is one, or an object.

    A relative place in ``settings.url`` is relative to ``base``, the folder of rules.yaml. All raise
    StoreError with a text for the operator.
    """

    def check(self, settings: StoreSettings, *, asks: bool) -> None:
        """Look at the settings, without a file being opened, and with ``asks`` at the store on a server.

        A server that does not answer is no error; nothing is written.
        """

    def open_store(self, settings: StoreSettings, base: Path, *, node: RunningNode | None) -> Store:
        """To write; makes the store, or brings it to today's version, where that is needed.

        The log says so if another node of that name has it open; None: this is no node.
        """

    def open_archive(self, settings: StoreSettings, base: Path) -> Archive:
        """To look up in a store that exists and is of today's version; so are the next two."""

    def open_mailbox(self, settings: StoreSettings, base: Path) -> Mailbox:
        """To read and search messages; while it is open it may keep an index for that up to date."""

    def open_conversations(self, settings: StoreSettings, base: Path) -> Conversations:
        """To look conversations up."""

    def open_exchange(self, settings: StoreSettings, *, desk: str) -> Exchange | None:
        """To pass lines on as the desk of that name; None if no other node can have this store."""

    def open_reporting(self, settings: StoreSettings) -> Reporting | None:
        """For desks with a webhook; None if no other node can have this store."""

    def open_desk_sessions(self, settings: StoreSettings, *, unused_seconds: float) -> DeskSessions | None:
        """For sessions that end after that time without use; None if no other node can have this store."""

    def back_up(self, settings: StoreSettings, base: Path, file: Path, *, replace: bool) -> Contents:
        """Copy a store that exists to one new file, while others read and write it.

        All that was committed before the call is in the file, which only its owner can read. It is not there
        before it is complete. An existing file is replaced only if ``replace``.
        """

    def restore(self, settings: StoreSettings, base: Path, file: Path, *, replace: bool) -> Restored:
        """Make the store from a file that `back_up` wrote, of this version or an older one.

        Nothing may have the store open. A store that exists is set aside if ``replace``, else this is an
        error.
        """
