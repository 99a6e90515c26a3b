"""What pages and API share: the store, the mode, how a message is released, and what has changed."""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, ParamSpec, Self, TypeVar

from anyio import CapacityLimiter, to_thread

from gatepost.config.settings import StoreSettings
from gatepost.store import Archive, Conversations, KeptMessage, Mailbox
from gatepost.verdict import Reply
from gatepost.web.events import Changes
from gatepost.web.view import MessageView, view_message
from gatepost.web.waiting import Waiting

__all__ = ["Desk", "MeanwhileError", "Mode", "Release"]

Mode = Literal["gateway", "complaints"]
Release = Callable[[KeptMessage, Sequence[str] | None], Reply]
"""Deliver a kept message, to these recipients instead of its own; blocks. Raises StoreError."""

_THREADS = 4
"""For the store and for hostile mail; the store has five connections."""
_RELEASES = 2
"""At a time: each may take a minute and shall not keep readers waiting."""
_VIEWS = 8
"""Of the messages that were looked at last, each at most some MiB."""

P = ParamSpec("P")
T = TypeVar("T")


class MeanwhileError(Exception):
    """Somebody has released or deleted the message since it was looked at, or is just releasing it."""


class Desk:
    """Everything that a page or the API needs; one for a process, used from its event loop."""

    def __init__(
        self,
        *,
        mailbox: Mailbox,
        archive: Archive,
        conversations: Conversations | None,
        mode: Mode = "gateway",
        release: Release | None = None,
        smtp: tuple[str, ...] = (),
    ) -> None:
        self.mailbox = mailbox
        self.archive = archive
        self.statistics = archive.statistics()
        self.conversations = conversations
        self.mode: Mode = mode
        self.release = release
        self.smtp = smtp
        self.changes = Changes(mailbox.changes, mailbox.counts)
        self.waiting = Waiting(mailbox.changes)
        self._limiter = CapacityLimiter(_THREADS)
        self._release_limiter = CapacityLimiter(_RELEASES)
        self._releasing: set[str] = set()
        self._views: OrderedDict[tuple[str, bool], MessageView] = OrderedDict()

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        store: StoreSettings,
        base: Path,
        *,
        mode: Mode,
        release: Release | None = None,
        smtp: tuple[str, ...] = (),
    ) -> Iterator[Self]:
        """A desk over a store that exists, while the block lasts; raises StoreError."""
        with contextlib.ExitStack() as opened:
            mailbox = Mailbox.open(store, base)
            opened.callback(mailbox.close)
            conversations = Conversations.open(store, base) if store.conversations else None
            if conversations:
                opened.callback(conversations.close)
            yield cls(
                mailbox=mailbox,
                archive=mailbox.archive,
                conversations=conversations,
                mode=mode,
                release=release,
                smtp=smtp,
            )

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a blocking function gives, called in one of a few threads."""
        return await to_thread.run_sync(lambda: function(*args, **kwargs), limiter=self._limiter)

    async def send_on(self, message: KeptMessage, to: Sequence[str] | None, *, who: str) -> Reply:
        """Release a message as it was looked at, and note that; gives what the server said.

        Raises MeanwhileError, and then nothing was sent: nobody gets a message twice because two have asked.
        """
        if self.release is None or message.id in self._releasing:
            raise MeanwhileError
        self._releasing.add(message.id)
        try:
            now = await self.call(self.mailbox.message, message.id)
            if now is None or (now.state, now.changed_at) != (message.state, message.changed_at):
                raise MeanwhileError
            reply = await to_thread.run_sync(self.release, message, to, limiter=self._release_limiter)
            if reply.positive:
                recipients = to or message.recipients
                await self.call(self.archive.mark_released, message.id, who=who, to=recipients, reply=reply)
            return reply
        finally:
            self._releasing.discard(message.id)

    async def view(self, message: KeptMessage, *, remote_images: bool = False) -> MessageView:
        """The view of a kept message, made in a thread; those looked at last are remembered."""
        key = (message.id, remote_images)
        found = self._views.get(key)
        if found is None:
            found = await self.call(view_message, message.delivered_form, remote_images=remote_images)
        self._views[key] = found
        self._views.move_to_end(key)
        while len(self._views) > _VIEWS:
            self._views.popitem(last=False)
        return found
