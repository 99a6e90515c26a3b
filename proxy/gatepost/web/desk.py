"""State shared by pages and API: store, mode, release of messages, and notification of changes."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, ParamSpec, Self, TypeVar

from anyio import CapacityLimiter, to_thread

from gatepost.config.store import StoreSettings
from gatepost.holding import HeldSessions
from gatepost.model.addresses import mailbox as mailbox_of
from gatepost.model.learnt import Learnt
from gatepost.model.record import Disposition, Record
from gatepost.model.saved import SavedMessage
from gatepost.model.verdict import Reply
from gatepost.store import (
    Archive,
    Box,
    ConflictError,
    Conversation,
    Conversations,
    Found,
    KeptMessage,
    Mailbox,
    Query,
    Span,
    State,
    Statistics,
    StoreError,
    find,
    open_conversations,
    open_mailbox,
    release_once,
)
from gatepost.web.actions import Actions, Client
from gatepost.web.domains import DomainMailbox
from gatepost.web.events import Changes, OwnChanges
from gatepost.web.learning import Kind
from gatepost.web.lists import ChangedList, ListRequest
from gatepost.web.trash import Trash
from gatepost.web.view import MessageView, view_message
from gatepost.web.waiting import Waiting

__all__ = ["Desk", "Mode"]

Mode = Literal["gateway", "complaints"]

_THREADS = 4
"""Threads for the store and for parsing mail; the store has five connections."""
_RELEASES = 2
"""Releases at a time: each may take a minute and must not delay readers."""
_VIEWS = 8
"""Number of parsed messages in the cache, each at most some MiB."""

_NO_ACTIONS = Actions()

P = ParamSpec("P")
T = TypeVar("T")


class Desk:
    """What pages and the API need; one for each process, used from its event loop."""

    def __init__(
        self,
        *,
        mailbox: Mailbox,
        archive: Archive,
        conversations: Conversations | None,
        mode: Mode = "gateway",
        expected: frozenset[Disposition] = frozenset(Disposition),
        actions: Actions = _NO_ACTIONS,
        smtp: tuple[str, ...] = (),
        held: HeldSessions | None = None,
        store_required: bool = True,
    ) -> None:
        self.mailbox = mailbox
        self.archive = archive
        self.domains: frozenset[str] | None = None
        """The recipients' domains whose mail this desk has; None: all."""
        self._of_domains: dict[frozenset[str], Desk] = {}
        self.conversations = conversations
        self.mode: Mode = mode
        self.expected = expected
        """The dispositions that can be chosen although none was seen yet."""
        self.release = actions.release
        self.forward = actions.forward
        self.imports = actions.imports
        """None: this desk imports nothing."""
        self.lists = actions.lists
        """None: there are no rules whose lists could be changed."""
        self.learning = actions.learning
        """None: there are no rules that could learn."""
        self.smtp = smtp
        self.held = held
        """The sessions that are held; None: none can be."""
        self.store_required = store_required
        """Whether a gateway without its store is not ready."""
        self.acting: set[asyncio.Task[object]] = set()
        """The requests that do what must not be cut off when the desk stops, such as sending mail."""
        self._trash = Trash()
        self.changes: Changes | OwnChanges = Changes(
            lambda: (mailbox.changes(), held.number if held else 0),
            mailbox.counts,
            lambda: held.count if held else 0,
        )
        self.waiting = Waiting(mailbox.changes)
        self._limiter = CapacityLimiter(_THREADS)
        self._release_limiter = CapacityLimiter(_RELEASES)
        self._import_limiter = CapacityLimiter(1)
        self._list_limiter = CapacityLimiter(1)
        self._views: OrderedDict[tuple[str, bool], MessageView] = OrderedDict()

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        store: StoreSettings,
        base: Path,
        *,
        mode: Mode,
        expected: frozenset[Disposition] = frozenset(Disposition),
        actions: Actions = _NO_ACTIONS,
        smtp: tuple[str, ...] = (),
        held: HeldSessions | None = None,
    ) -> Iterator[Self]:
        """Open a desk over an existing store for the block; raises StoreError."""
        with contextlib.ExitStack() as opened:
            mailbox = open_mailbox(store, base)
            opened.callback(mailbox.close)
            conversations = open_conversations(store, base) if store.conversations else None
            if conversations:
                opened.callback(conversations.close)
            yield cls(
                mailbox=mailbox,
                archive=mailbox.archive,
                conversations=conversations,
                mode=mode,
                expected=expected,
                actions=actions,
                smtp=smtp,
                held=held,
                store_required=store.required,
            )

    @cached_property
    def statistics(self) -> Statistics:
        """Counts over the journal, of all domains."""
        return self.archive.statistics()

    def of(self, domains: frozenset[str]) -> "Desk":
        """The same desk for users who see only the mail to recipients in these domains.

        It has no sessions, lists, learning and imports: they concern the mail of all domains.
        """
        if domains not in self._of_domains:
            mailbox = DomainMailbox(self.mailbox, domains)
            desk = Desk(
                mailbox=mailbox,
                archive=mailbox.archive,
                conversations=None,
                mode=self.mode,
                actions=Actions(release=self.release, forward=self.forward),
                smtp=self.smtp,
            )
            desk.domains = domains
            if isinstance(self.changes, Changes):
                newest = partial(mailbox.page, Query(), limit=1)
                desk.changes = OwnChanges(self.changes, mailbox.counts, newest)
            desk._limiter, desk._release_limiter = self._limiter, self._release_limiter
            desk.acting = self.acting
            self._of_domains[domains] = desk
        return self._of_domains[domains]

    def not_own(self, recipients: Iterable[str]) -> str:
        """Why mail is not sent to these recipients from here; empty if it is."""
        if self.domains is None:
            return ""
        other = [one for one in recipients if mailbox_of(one).domain not in self.domains]
        return f"{other[0]} is not in {', '.join(sorted(self.domains))}" if other else ""

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in one of a few threads and return its result."""
        return await to_thread.run_sync(lambda: function(*args, **kwargs), limiter=self._limiter)

    async def find(self, some_id: str) -> Found:
        """What an identifier names: a session, a transaction or a kept message."""
        return await self.call(find, self.archive, some_id)

    async def kept_ids(self, some_ids: Sequence[str]) -> list[str]:
        """The messages that these identifiers name, each once; deleted ones only if there are no others."""
        return await self.call(_kept_ids, self.archive, some_ids)

    def dispositions(self) -> tuple[Disposition, ...]:
        """Those to choose from: what is expected, and what the journal has of the last month.

        Blocks; raises StoreError.
        """
        if len(self.expected) == len(Disposition):
            return tuple(Disposition)
        seen = self.statistics.timeline(Span.MONTH, datetime.now(UTC)).totals
        return tuple(one for one in Disposition if one in self.expected or seen.get(one))

    async def conversation(self, some_id: str) -> Conversation | None:
        """The conversation of a session, or of that with this transaction or kept message."""
        if self.conversations is None:
            return None
        conversation = await self.call(self.conversations.conversation, some_id)
        if conversation is None and (records := (await self.find(some_id)).records):
            conversation = await self.call(self.conversations.conversation, records[0].session_id)
        return conversation

    async def unwritable(self) -> str:
        """Empty if the store could be written now, else why not; not in the threads of the pages."""
        try:
            await asyncio.to_thread(self.archive.check_writable)
        except StoreError as error:
            return str(error)
        return ""

    async def send_on(self, message: KeptMessage, to: Sequence[str] | None, *, actor: str) -> Reply:
        """Release a message as it was read, and note that; returns the reply to the delivery.

        Raises ConflictError, and then nothing was sent: of all desks and commands one releases a message.
        """
        if self.release is None:
            raise ConflictError("this desk has no server to send messages to")
        if problem := self.not_own(to or message.recipients):
            raise ConflictError(problem)
        deliver = partial(
            release_once,
            self.archive,
            message,
            partial(self.release, message, to),
            to=to or message.recipients,
            actor=actor,
        )
        return await self._act(deliver)

    async def forward_on(self, message: KeptMessage, to: Sequence[str] | None, *, actor: str) -> Record:
        """Forward a message as it was read; returns the record of it, with a reply for each recipient.

        A message of the inbox is then noted as released. One that is held in quarantine stays held: this was
        a copy. Raises ConflictError, and then nothing was sent, as `send_on` does.
        """
        if self.forward is None:
            raise ConflictError("this desk has no server to forward messages to")
        if problem := self.not_own((*message.recipients, *(to or ()))):
            raise ConflictError(problem)
        forwarder, records = self.forward, list[Record]()

        def send() -> Reply:
            records.append(forwarder.send(message, to))
            return Reply.parse(records[0].reply)

        send_once = partial(
            release_once, self.archive, message, send, to=to or message.recipients, actor=actor
        )
        is_held = message.box is Box.QUARANTINE and message.state is State.HELD
        await self._act(send if is_held else send_once)
        return records[0]

    async def _act(self, function: Callable[[], T]) -> T:
        """Call a function that sends mail in a thread and return its result; the desk's end waits for it."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("no task is running")
        self.acting.add(task)
        try:
            return await to_thread.run_sync(function, limiter=self._release_limiter)
        finally:
            self.acting.discard(task)

    async def import_messages(
        self, messages: Iterable[SavedMessage], *, client: Client
    ) -> list[str | StoreError]:
        """Store saved messages, which are read in a thread; one import at a time.

        Returns for each message that was read its id, or why it is not stored; raises StoreError if none is.
        """
        if self.imports is None:
            raise ConflictError("this desk imports nothing")
        return await to_thread.run_sync(self.imports, messages, client, limiter=self._import_limiter)

    @property
    def learners(self) -> Sequence[str]:
        """The names of the rules that learn what people say about a message."""
        return self.learning.rules() if self.learning else ()

    async def learn(self, message: KeptMessage, kind: Kind, *, actor: str) -> Sequence[Learnt]:
        """Have these rules learn a message; raises ConfigError if one of them is wrong."""
        if self.learning is None:
            raise ConflictError("this desk has no rules that could learn")
        return await self._act(partial(self.learning.learn, message, kind, actor))

    async def change_list(self, wanted: ListRequest) -> ChangedList:
        """Change a list and reload, one after the other; raises as `Lists.change`."""
        if self.lists is None:
            raise ConflictError("this desk has no rules whose lists could be changed")
        return await to_thread.run_sync(self.lists.change, wanted, limiter=self._list_limiter)

    async def remove(self, kept_id: str, *, actor: str) -> KeptMessage | None:
        """Delete one message so that `put_back` can undo it; returns it, None where there is none."""
        removed = await self.call(self.mailbox.remove, kept_id, actor=actor)
        if removed is None:
            return None
        self._trash.put(removed)
        return removed.message

    async def put_back(self, kept_id: str) -> bool:
        """Undo that deletion; False if the time for it is over."""
        removed = self._trash.take(kept_id)
        if removed is None:
            return False
        try:
            return await self.call(self.mailbox.put_back, removed)
        except StoreError:
            self._trash.put(removed)  # to try again
            raise

    async def view(self, message: KeptMessage, *, remote_images: bool = False) -> MessageView:
        """The view of a stored message, parsed in a thread; recent ones are cached."""
        key = (message.id, remote_images)
        found = self._views.get(key)
        if found is None:
            found = await self.call(view_message, message.delivered_form, remote_images=remote_images)
        self._views[key] = found
        self._views.move_to_end(key)
        while len(self._views) > _VIEWS:
            self._views.popitem(last=False)
        return found


def _kept_ids(archive: Archive, some_ids: Sequence[str]) -> list[str]:
    ids: list[str] = []
    for some_id in some_ids:
        kept = find(archive, some_id).kept
        here = [one for one in kept if one.state is not State.DELETED]
        ids += [one.id for one in here or kept]
    return [*dict.fromkeys(ids)]
