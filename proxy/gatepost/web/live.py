"""Live conversation lines: from the feed of the SMTP processes to every browser that watches.

Everything here is bounded: the history, the sessions that are remembered, what waits for a slow browser and
the number of browsers. Lines that do not fit are dropped and counted.
"""

import asyncio
import json
import re
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import time_ns
from typing import Protocol

from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gatepost.traffic.events import ClientNamed, CommandLine, Direction, Event, SessionOpened, moment
from gatepost.traffic.transcript import Transcript
from gatepost.values import value
from gatepost.web.events import EventStream

__all__ = ["Batch", "Feed", "LiveHub", "LiveLine", "LiveSession", "Subscription", "live_events"]

_HISTORY_LINES = 2_000
"""That a page shows when it is opened."""
_NAMES = 100
"""Of one session, to find it by."""
_DATA_LINES = 20
"""Of one message."""
_WAITING_LINES = 2_000
"""For one browser."""
_EVENT_LINES = 500
"""In one event."""
_PAUSE_SECONDS = 0.1
"""Between two events, so that a browser draws ten times a second at most."""
_SUBSCRIBERS = 50
_QUERY_LIMIT = 200
"""Characters."""
_SEND_SECONDS = 30.0
"""A browser that reads nothing for this long is disconnected."""

_PATH = re.compile(rb"(?:MAIL FROM|RCPT TO):\s*<([^>]{1,300})>", re.IGNORECASE)
_HELO = re.compile(rb"(?:EHLO|HELO) (\S{1,255})", re.IGNORECASE)


class Feed(Protocol):
    """Where events come from, as `gatepost.traffic.feed.Receiver`."""

    @property
    def dropped(self) -> int:
        """Events that were lost on the way so far."""

    def batches(self) -> AsyncIterator[Sequence[Event]]:
        """Events as they come, until there will be no more."""


class Others(Protocol):
    """Where events of this node go too, as `gatepost.web.other_nodes.OtherNodes`."""

    def tap(self, events: Sequence[Event]) -> None:
        """Pass events on."""

    def miss(self, count: int) -> None:
        """Count lines that were lost."""


@value
class LiveLine:
    """One line to show; its text is printable."""

    number: int
    """Counts up from 1."""
    at: datetime
    session_id: str
    direction: Direction
    text: str


@dataclass(slots=True)
class LiveSession:
    """What is known of a session from its events."""

    transcript: Transcript
    client: str = ""
    helo: str = ""
    node: str = ""
    """The name of its node; empty if there is only one."""
    names: list[str] = field(default_factory=list)
    """What it is found by, in lower case: its id, node, client, HELO names and addresses."""

    def learn(self, event: Event) -> bool:
        """Take a name from an event; True if there was one."""
        if isinstance(event, SessionOpened):
            name = self.client = str(event.client)
        elif isinstance(event, ClientNamed):
            self.client, self.helo = str(event.client), event.helo or self.helo
            name = f"{event.client} {event.helo}"
        elif isinstance(event, CommandLine) and (found := _HELO.match(event.data)):
            name = self.helo = found[1].decode("utf-8", "replace")
        elif isinstance(event, CommandLine) and (found := _PATH.match(event.data)):
            name = found[1].decode("utf-8", "replace")
        else:
            return False
        if len(self.names) >= _NAMES:
            return False
        self.names.append(name.lower())
        return True


def _match(words: Sequence[str], names: Sequence[str]) -> bool:
    """True if each word is a part of a name."""
    return all(any(word in name for name in names) for word in words)


@value
class Batch:
    """What a browser gets at once."""

    lines: tuple[LiveLine, ...]
    missed: int
    """Lines before these that it does not get: it or the desk was too slow."""


class Subscription:
    """One browser's view: the lines that wait for it."""

    def __init__(self, words: str, *, limit: int = _WAITING_LINES) -> None:
        self._words = words.lower().split()
        self._waiting: deque[LiveLine] = deque()
        self._limit = limit
        self._missed = 0
        self._more = asyncio.Event()

    def wants(self, session: LiveSession) -> bool:
        """True if its id, client, HELO names and addresses have all the words."""
        return _match(self._words, session.names)

    def wants_only_now(self, session: LiveSession) -> bool:
        """True if it is the last name that makes the difference."""
        return self.wants(session) and not _match(self._words, session.names[:-1])

    def put(self, lines: Iterable[LiveLine]) -> None:
        """Add lines; the oldest go where there is no room."""
        self._waiting.extend(lines)
        while len(self._waiting) > self._limit:
            self._waiting.popleft()
            self._missed += 1
        if self._waiting:
            self._more.set()

    def miss(self, count: int) -> None:
        """Count lines that were lost before they came here."""
        self._missed += count
        self._more.set()

    async def batches(self, *, pause_seconds: float = _PAUSE_SECONDS) -> AsyncIterator[Batch]:
        """What waits, as soon as something does, with a pause after each."""
        while True:
            await self._more.wait()
            count = min(len(self._waiting), _EVENT_LINES)
            lines = tuple(self._waiting.popleft() for _ in range(count))
            missed, self._missed = self._missed, 0
            if not self._waiting:
                self._more.clear()
            yield Batch(lines=lines, missed=missed)
            await asyncio.sleep(pause_seconds)


class LiveHub:
    """The latest lines, and those who watch them; for one event loop."""

    def __init__(self, *, history: int = _HISTORY_LINES, subscribers: int = _SUBSCRIBERS) -> None:
        self.epoch = time_ns()
        """Distinguishes the line numbers of this hub from those of an earlier one."""
        self._numbers = 0
        self._history: deque[LiveLine] = deque(maxlen=history)
        self._sessions: OrderedDict[str, LiveSession] = OrderedDict()
        self._subscriptions: set[Subscription] = set()
        self._sessions_limit = history + 1
        """Of the sessions with the latest events: all of the history's lines are theirs."""
        self._limit = subscribers
        self._watched = asyncio.Event()

    async def follow(self, feed: Feed, *, node: str = "", others: "Others | None" = None) -> None:
        """Take events from the feed until it ends; ``node`` has sent them, and ``others`` get them too."""
        dropped = feed.dropped
        async for events in feed.batches():
            self.put(events, node=node)
            if others:
                others.tap(events)
            if lost := feed.dropped - dropped:
                dropped += lost
                self.miss(lost)
                if others:
                    others.miss(lost)

    def miss(self, count: int) -> None:
        """Count lines that were lost before they came here."""
        for subscription in self._subscriptions:
            subscription.miss(count)

    @property
    def is_watched(self) -> bool:
        """True if a browser watches."""
        return bool(self._subscriptions)

    async def wait_for_watcher(self, seconds: float) -> None:
        """Return when a browser begins to watch, at the latest after that time."""
        self._watched.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._watched.wait()

    def put(self, events: Iterable[Event], *, node: str = "") -> None:
        """Show events of a node to all subscribers."""
        for event in events:
            session = self._session(event.session_id, node)
            learned = session.learn(event)
            shown = self._shown(session, event)
            self._history.extend(shown)
            for subscription in self._subscriptions:
                if learned and subscription.wants_only_now(session):
                    subscription.put(self._of_session(event.session_id))
                elif shown and subscription.wants(session):
                    subscription.put(shown)

    def _of_session(self, session_id: str) -> Iterator[LiveLine]:
        return (line for line in self._history if line.session_id == session_id)

    @property
    def full(self) -> bool:
        """True if no more browsers should watch."""
        return len(self._subscriptions) >= self._limit

    def sessions(self, batch: Batch) -> dict[str, LiveSession]:
        """Those of the lines, as far as they are not forgotten."""
        ids = dict.fromkeys(line.session_id for line in batch.lines)
        return {key: session for key in ids if (session := self._sessions.get(key))}

    @contextmanager
    def subscribe(self, words: str = "", *, after: int = 0) -> Iterator[Subscription]:
        """Watch sessions whose id, client, HELO names or addresses have all these words.

        It begins with the history after that line's number.
        """
        subscription = Subscription(words)
        subscription.put(
            line
            for line in self._history
            if line.number > after
            and (session := self._sessions.get(line.session_id))
            and subscription.wants(session)
        )
        self._subscriptions.add(subscription)
        self._watched.set()
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def _session(self, session_id: str, node: str) -> LiveSession:
        session = self._sessions.get(session_id)
        if session is None:
            session = self._sessions[session_id] = LiveSession(
                transcript=Transcript(data_lines=_DATA_LINES, cut=True),
                node=node,
                names=[session_id.lower(), *([node.lower()] if node else [])],
            )
            while len(self._sessions) > self._sessions_limit:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(session_id)
        return session

    def _shown(self, session: LiveSession, event: Event) -> list[LiveLine]:
        shown = []
        at = moment(event.at)
        for direction, text in session.transcript.texts(event):
            self._numbers += 1
            shown.append(
                LiveLine(
                    number=self._numbers,
                    at=at,
                    session_id=event.session_id,
                    direction=direction,
                    text=text,
                )
            )
        return shown


async def live_events(hub: LiveHub, request: Request) -> Response:
    """Server-sent events ``lines``; ``q`` filters, and a browser that comes back continues where it was.

    It says where with the id of the last event: in the field that it sends by itself, or in ``after``.
    """
    told = request.headers.get("last-event-id") or request.query_params.get("after", "")
    epoch, _, number = told.partition("-")
    after = int(number) if epoch == str(hub.epoch) and number.isdecimal() else 0
    if hub.full:
        return PlainTextResponse("Too many pages watch the conversation.\n", 503)
    events = _events(hub, request.query_params.get("q", "")[:_QUERY_LIMIT], after)
    return EventStream(events, send_timeout=_SEND_SECONDS)


async def _events(hub: LiveHub, words: str, after: int) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(event="ready", data="")
    with hub.subscribe(words, after=after) as subscription:
        async for batch in subscription.batches():
            last = batch.lines[-1].number if batch.lines else after
            after = max(after, last)
            yield ServerSentEvent(event="lines", id=f"{hub.epoch}-{after}", data=_encode(hub, batch))


def _encode(hub: LiveHub, batch: Batch) -> str:
    return json.dumps(
        {
            "missed": batch.missed,
            "sessions": {key: [one.client, one.helo, one.node] for key, one in hub.sessions(batch).items()},
            "lines": [
                [line.session_id, int(line.at.timestamp() * 1000), line.direction, line.text]
                for line in batch.lines
            ],
        },
        separators=(",", ":"),
    )
