"""Whether a message meets a query: each term is asked of the message itself."""

from collections.abc import Mapping

from gatepost.model.record import Record
from gatepost.printable import storable
from gatepost.store.excerpt import searched_text
from gatepost.store.facets import recipients_of
from gatepost.store.folding import searched_for
from gatepost.store.kept import Box, State
from gatepost.store.memory.data import Entry, Snapshot
from gatepost.store.memory.journal import all_within, matches, rules_hit
from gatepost.store.query.messages import (
    After,
    Before,
    Fact,
    Has,
    Is,
    Larger,
    Later,
    Mark,
    Named,
    Query,
    Smaller,
    Term,
    Within,
    Words,
)
from gatepost.store.text import address_tags, ascii_lower

__all__ = ["search"]


def search(snapshot: Snapshot, query: Query) -> list[Entry]:
    """The messages that match, newest first."""
    return [entry for entry in reversed(snapshot.kept.values()) if _meets(entry, query, snapshot)]


def _meets(entry: Entry, query: Query, snapshot: Snapshot) -> bool:
    if entry.message.state is State.DELETED and (
        query.reads_text or Is(mark=Mark.DELETED) not in query.terms
    ):
        return False
    return all(_holds(term, entry, snapshot) != term.negated for term in query.terms)


def _holds(term: Term, entry: Entry, snapshot: Snapshot) -> bool:
    message = entry.message
    match term:
        case Words():
            return _has_words(entry, term)
        case Has():
            return entry.excerpt is not None and entry.excerpt.attachments > 0
        case Is(mark=mark):
            return _is(mark, entry)
        case Named(fact=fact, value=value):
            return _is_named(fact, storable(value), entry, snapshot.records)
        case Before(moment=moment):
            return message.created_at < moment
        case After(moment=moment):
            return message.created_at >= moment
        case Later(than=kept_id):
            last = snapshot.kept.get(kept_id)
            return last is not None and entry.number > last.number
        case Within(domains=domains):
            return all_within(message.recipients, domains)
        case Larger(octets=octets):
            return message.size > octets
        case Smaller(octets=octets):
            return message.size < octets
        case _:
            raise TypeError(f"no condition for {type(term).__name__}")


def _is(mark: Mark, entry: Entry) -> bool:
    message = entry.message
    match mark:
        case Mark.READ:
            return entry.seen
        case Mark.UNREAD:
            return not entry.seen
        case Mark.INBOX:
            return message.box is Box.INBOX
        case Mark.QUARANTINED:
            return message.box is Box.QUARANTINE and message.state is State.HELD
        case Mark.RELEASED:
            return message.state is State.RELEASED
        case Mark.DELETED:
            return message.state is State.DELETED


def _is_named(fact: Fact, value: str, entry: Entry, records: Mapping[str, Record]) -> bool:
    message = entry.message
    record = records.get(message.transaction_id)
    match fact:
        case Fact.RULE:
            return value == message.rule or (record is not None and value in rules_hit(record))
        case Fact.USER:
            user = record.authenticated if record else None
            return user is not None and ascii_lower(user) == ascii_lower(value)
        case Fact.NODE:
            return record is not None and record.node is not None and matches(record.node, value)
        case Fact.TAG:
            return value.lower() in address_tags(message.recipients)
        case Fact.RECIPIENT:
            return ascii_lower(value) in recipients_of(message.recipients)
        case Fact.MAILBOX:
            return any(_is_named(one, value, entry, records) for one in (Fact.TAG, Fact.USER))
        case Fact.CLIENT:
            return matches(message.client, value)
        case Fact.ID:
            own = (message.id, message.transaction_id, record.session_id if record else None)
            return value in own or message.message_id in (value, f"<{value}>")


def _has_words(entry: Entry, words: Words) -> bool:
    if entry.excerpt is None:
        return False
    message = entry.message
    texts = searched_text(entry.excerpt, mail_from=message.mail_from, recipients=message.recipients)
    wanted = searched_for(words)
    return bool(wanted) and any(wanted in text for text in texts.of(words.where))
