"""Claims to release a kept message: of all processes, one at a time sends it on."""

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Select, delete, insert, select, update

from gatepost.store.claims import Change, Held, holding, new_claim, new_expiry
from gatepost.store.kept import Claim, KeptSummary, State
from gatepost.store.sql import rows
from gatepost.store.sql.schema import kept, kept_releases

__all__ = ["claim", "claimed_ids", "end", "renew"]


def claim(connection: Connection, message: KeptSummary, *, actor: str, now: datetime) -> Claim:
    """Reserve the message, within a transaction that excludes all other writers; raises ConflictError."""
    claimed, held = new_claim(
        message,
        last=_last_change(connection, message.id),
        held=_held(connection, message.id),
        actor=actor,
        now=now,
    )
    connection.execute(delete(kept_releases).where(kept_releases.c.kept_id == message.id))
    connection.execute(
        insert(kept_releases).values(
            kept_id=message.id,
            token=held.token,
            actor=held.actor,
            claimed_at=rows.microseconds(held.claimed_at),
            expires_at=rows.microseconds(held.expires_at),
        )
    )
    return claimed


def _last_change(connection: Connection, kept_id: str) -> Change | None:
    state = (kept.c.state, kept.c.changed_at, kept.c.changed_by)
    found = connection.execute(select(*state).where(kept.c.id == kept_id)).one_or_none()
    if found is None:
        return None
    at = None if found.changed_at is None else rows.moment(found.changed_at)
    return Change(state=State(found.state), at=at, by=found.changed_by)


def _held(connection: Connection, kept_id: str) -> Held | None:
    found = connection.execute(select(kept_releases).where(kept_releases.c.kept_id == kept_id)).one_or_none()
    if found is None:
        return None
    return Held(
        token=found.token,
        actor=found.actor,
        claimed_at=rows.moment(found.claimed_at),
        expires_at=rows.moment(found.expires_at),
    )


def claimed_ids(now: datetime) -> Select[tuple[str]]:
    """The messages that are being released."""
    begin, end = map(rows.microseconds, holding(now))
    expires_at = kept_releases.c.expires_at
    return select(kept_releases.c.kept_id).where(expires_at > begin, expires_at < end)


def renew(connection: Connection, claimed: Claim, *, now: datetime) -> None:
    """Let it expire later."""
    expires_at = rows.microseconds(new_expiry(now))
    connection.execute(update(kept_releases).where(*_same(claimed)).values(expires_at=expires_at))


def end(connection: Connection, claimed: Claim) -> None:
    """Remove the claim, but none that was made after it had expired."""
    connection.execute(delete(kept_releases).where(*_same(claimed)))


def _same(claimed: Claim) -> tuple[ColumnElement[bool], ...]:
    return kept_releases.c.kept_id == claimed.kept_id, kept_releases.c.token == claimed.token
