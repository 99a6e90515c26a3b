"""What is stored: values in dicts under one lock, which is held for the time of a change or of a copy."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from gatepost.model.record import RecipientRecord, Record
from gatepost.model.verdict import Reply
from gatepost.printable import storable
from gatepost.store import claims
from gatepost.store.conversation import ConversationPart, SessionSummary
from gatepost.store.errors import StoreError
from gatepost.store.excerpt import Excerpt, read_excerpt
from gatepost.store.kept import Claim, Kept, KeptMessage, KeptSummary, Removed, State
from gatepost.store.text import header_fields
from gatepost.traffic.events import Event, event_of
from gatepost.values import value

__all__ = ["Data", "Entry", "Snapshot", "summary_fields"]


@value
class Entry:
    """A kept message; changes replace it."""

    number: int
    """In the order in which messages were kept."""
    message: KeptMessage
    excerpt: Excerpt | None
    """None: the message was deleted."""
    seen: bool = False


@value
class Snapshot:
    """All records and messages as they were at one moment."""

    records: dict[str, Record]
    kept: dict[str, Entry]


class Data:
    """One store; all methods may be called by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, Record] = {}
        self._kept: dict[str, Entry] = {}
        self._claims: dict[str, claims.Held] = {}
        self._sessions: dict[str, SessionSummary] = {}
        self._parts: defaultdict[str, dict[int, ConversationPart]] = defaultdict(dict)
        self._numbers = 0
        self._changes = 0

    @property
    def changes(self) -> int:
        """How many changes there were."""
        return self._changes

    def snapshot(self) -> Snapshot:
        """All records and messages, in the order in which they were added."""
        with self._lock:
            return Snapshot(records=self._records.copy(), kept=self._kept.copy())

    def add(self, record: Record, kept: Sequence[Kept] = ()) -> None:
        """Add a record or replace it, and add messages; raises StoreError for a message that is there."""
        stored = _storable_record(record)
        messages = [(_message(one, record), read_excerpt(one.content, one.edits)) for one in kept]
        with self._lock:
            if taken := [message.id for message, _ in messages if message.id in self._kept]:
                raise StoreError(f"a message {taken[0]} is in the store already")
            self._changes += 1
            self._records[stored.id] = stored
            for message, excerpt in messages:
                self._numbers += 1
                self._kept[message.id] = Entry(number=self._numbers, message=message, excerpt=excerpt)

    def withdraw(self, kept_ids: Iterable[str]) -> None:
        """Remove messages as if they had never been kept."""
        with self._lock:
            self._changes += 1
            for kept_id in kept_ids:
                self._kept.pop(kept_id, None)
                self._claims.pop(kept_id, None)

    def delete(self, kept_ids: Iterable[str], *, actor: str) -> list[str]:
        """Remove the content of messages; returns the ids of those that had any."""
        return [removed.message.id for removed in self.remove(kept_ids, actor=actor)]

    def remove(self, kept_ids: Iterable[str], *, actor: str) -> list[Removed]:
        """Remove the content of messages that are not being released; returns those, as they were."""
        now = datetime.now(UTC)
        with self._lock:
            self._changes += 1
            present = self._present(one for one in kept_ids if not self._is_claimed(one))
            for entry in present:
                message = replace(
                    entry.message,
                    prepended=b"",
                    content=b"",
                    edits=(),
                    state=State.DELETED,
                    changed_by=storable(actor),
                    changed_at=now,
                )
                self._kept[message.id] = replace(entry, message=message, excerpt=None, seen=False)
        return [Removed(message=entry.message, seen=entry.seen, deleted_at=now) for entry in present]

    def put_back(self, removed: Removed) -> bool:
        """Undo a deletion; False where that is not the message's last change, or it is gone."""
        message = removed.message
        excerpt = read_excerpt(message.content, message.edits)
        with self._lock:
            entry = self._kept.get(message.id)
            if entry is None or entry.message.state is not State.DELETED:
                return False
            if entry.message.changed_at != removed.deleted_at:
                return False
            self._changes += 1
            self._kept[message.id] = replace(entry, message=message, excerpt=excerpt, seen=removed.seen)
        return True

    def mark(self, kept_ids: Iterable[str], *, seen: bool) -> int:
        """Mark messages as seen or as unread; returns how many were not so before."""
        with self._lock:
            self._changes += 1
            changed = [entry for entry in self._present(kept_ids) if entry.seen != seen]
            for entry in changed:
                self._kept[entry.message.id] = replace(entry, seen=seen)
        return len(changed)

    def _present(self, kept_ids: Iterable[str]) -> list[Entry]:
        """Those that are not deleted, each once."""
        entries = (self._kept.get(kept_id) for kept_id in dict.fromkeys(kept_ids))
        return [entry for entry in entries if entry and entry.message.state is not State.DELETED]

    def claim(self, message: KeptSummary, *, actor: str) -> Claim:
        """Reserve a message for one release; raises ConflictError."""
        with self._lock:
            entry = self._kept.get(message.id)
            last = claims.Change.of(entry.message) if entry else None
            claim, held = claims.new_claim(
                message,
                last=last,
                held=self._claims.get(message.id),
                actor=actor,
                now=datetime.now(UTC),
            )
            self._claims[message.id] = held
            self._changes += 1
        return claim

    def renew(self, claim: Claim) -> None:
        """Let the claim expire later, if it has not ended."""
        with self._lock:
            held = self._claims.get(claim.kept_id)
            if held and held.token == claim.token:
                self._claims[claim.kept_id] = replace(held, expires_at=claims.new_expiry(datetime.now(UTC)))

    def end(self, claim: Claim) -> None:
        """Remove the claim, but none that was made after it had expired."""
        with self._lock:
            self._end(claim)

    def _is_claimed(self, kept_id: str) -> bool:
        held = self._claims.get(kept_id)
        begin, end = claims.holding(datetime.now(UTC))
        return held is not None and begin < held.expires_at < end

    def _end(self, claim: Claim) -> None:
        held = self._claims.get(claim.kept_id)
        if held and held.token == claim.token:
            del self._claims[claim.kept_id]
        self._changes += 1

    def released(self, claim: Claim, *, to: Sequence[str], reply: Reply) -> bool:
        """Note that the message was sent, and end the claim; False where it is gone or deleted."""
        with self._lock:
            self._end(claim)
            present = self._present([claim.kept_id])
            for entry in present:
                message = replace(
                    entry.message,
                    state=State.RELEASED,
                    changed_by=storable(claim.actor),
                    changed_at=datetime.now(UTC),
                    note=storable(f"{', '.join(to)}: {reply}"),
                )
                self._kept[message.id] = replace(entry, message=message)
        return bool(present)

    def add_part(self, part: ConversationPart) -> None:
        """Add a part of a conversation or replace it, and replace the summary of its session."""
        session = part.session
        user = session.authenticated
        stored = replace(
            session,
            helo=storable(session.helo),
            authenticated=None if user is None else storable(user),
            last_reply=storable(session.last_reply),
        )
        with self._lock:
            self._changes += 1
            self._sessions[session.id] = stored
            self._parts[session.id][part.number] = part

    def sessions(self) -> list[SessionSummary]:
        """All, newest first: ids sort by time."""
        with self._lock:
            return sorted(self._sessions.values(), key=lambda session: session.id, reverse=True)

    def conversation(self, session_id: str) -> tuple[SessionSummary, tuple[Event, ...]] | None:
        """A session and its events; None where there is nothing."""
        with self._lock:
            session = self._sessions.get(session_id)
            parts = sorted(self._parts.get(session_id, {}).items())
        lines = (line for _, part in parts for line in part.lines)
        if session is None:
            return None
        return session, tuple(
            event_of(at=at, session_id=session_id, direction=direction, data=data)
            for at, direction, data in lines
        )


def _storable_record(record: Record) -> Record:
    recipients = tuple(replace(one, **_storable_texts(one)) for one in record.recipients)
    return replace(record, **_storable_texts(record), recipients=recipients)


def _storable_texts(value: Record | RecipientRecord) -> dict[str, Any]:
    """The fields of a record or its recipient that are text, storable."""
    given = {field.name: getattr(value, field.name) for field in fields(value)}
    return {name: storable(text) for name, text in given.items() if type(text) is str}


def _message(kept: Kept, record: Record) -> KeptMessage:
    prepended, *pieces = kept.pieces
    found = header_fields(pieces)
    return KeptMessage(
        id=kept.id,
        box=kept.box,
        state=State.HELD,
        transaction_id=record.id,
        created_at=record.received_at,
        client=record.client,
        mail_from=storable(kept.mail_from),
        recipients=tuple(map(storable, kept.recipients)),
        rule=kept.rule,
        reason=storable(kept.reason),
        size=len(prepended) + sum(map(len, pieces)),
        subject=found.get(b"subject", ""),
        header_from=found.get(b"from", ""),
        message_id=found.get(b"message-id", ""),
        prepended=kept.prepended,
        content=kept.content,
        edits=kept.edits,
    )


def summary_fields(message: KeptMessage) -> dict[str, Any]:
    """The fields of its `KeptSummary`."""
    return {field.name: getattr(message, field.name) for field in fields(KeptSummary)}
