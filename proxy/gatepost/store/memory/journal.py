"""Whether a record or a kept message has the fields that are asked for."""

from collections.abc import Sequence
from datetime import datetime

from gatepost.model.addresses import spellings
from gatepost.model.record import Record
from gatepost.model.verdict import Result
from gatepost.printable import storable
from gatepost.store.kept import KeptSummary
from gatepost.store.query.criteria import JournalQuery, KeptQuery
from gatepost.store.text import ascii_lower, domain_ends

__all__ = ["all_within", "is_address", "is_kept", "is_recorded", "matches", "rules_hit"]


def is_recorded(record: Record, query: JournalQuery, *, of_kept: str | None) -> bool:
    """True if the record matches; ``of_kept`` is the transaction of the message whose id is `query.id`."""
    addresses = [recipient.address for recipient in record.recipients]
    return (
        _is_between(record.received_at, query.since, query.until)
        and (query.id is None or query.id in (record.id, record.session_id) or record.id == of_kept)
        and (query.client is None or matches(record.client, query.client, folded=False))
        and (query.mail_from is None or is_address(record.mail_from, query.mail_from))
        and (query.recipient is None or any(is_address(one, query.recipient) for one in addresses))
        and (
            query.address is None
            or any(is_address(one, query.address) for one in (record.mail_from, *addresses))
        )
        and (query.domains is None or all_within(addresses, query.domains))
        and query.session_id in (None, record.session_id)
        and (
            query.user is None
            or _is_name(record.authenticated, query.user)
            or _is_name(record.failed_user, query.user)
        )
        and (query.node is None or _is_name(record.node, query.node))
        and (query.message_id is None or matches(record.message_id, query.message_id, folded=False))
        and (query.rule is None or query.rule in _rules(record))
        and (query.disposition is None or query.disposition in record.dispositions)
    )


def is_kept(message: KeptSummary, query: KeptQuery, *, session_id: str | None) -> bool:
    """True if the message matches; ``session_id`` is its session's, if the journal has its transaction."""
    return (
        _is_between(message.created_at, query.since, query.until)
        and (query.id is None or query.id in (message.id, message.transaction_id, session_id))
        and query.box in (None, message.box)
        and query.state in (None, message.state)
        and (query.domains is None or all_within(message.recipients, query.domains))
        and query.transaction_id in (None, message.transaction_id)
        and query.rule in (None, message.rule)
        and (query.mail_from is None or is_address(message.mail_from, query.mail_from))
        and (query.recipient is None or any(is_address(one, query.recipient) for one in message.recipients))
        and (query.subject is None or matches(message.subject, query.subject))
        and (query.message_id is None or matches(message.message_id, query.message_id, folded=False))
    )


def _is_name(name: str | None, pattern: str) -> bool:
    return name is not None and matches(name, pattern)


def rules_hit(record: Record) -> set[str]:
    """The rules that hit, also those that were only observed."""
    return {evaluation.rule for evaluation in record.evaluations if evaluation.result is Result.HIT}


def _rules(record: Record) -> set[str]:
    return {*rules_hit(record), *record.rules}


def _is_between(moment: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or moment >= since) and (until is None or moment < until)


def matches(text: str, pattern: str, *, folded: bool = True) -> bool:
    """``*`` matches any characters; the case of ASCII letters does not matter.

    Without a ``*`` it does matter if not ``folded``.
    """
    pattern = storable(pattern)
    if "*" not in pattern and not folded:
        return text == pattern
    text, pattern = ascii_lower(text), ascii_lower(pattern)
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if not (text.startswith(first) and text.endswith(last)):
        return False
    start, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, start, end)
        if found < 0:
            return False
        start = found + len(part)
    return start <= end


def all_within(addresses: Sequence[str], domains: Sequence[str]) -> bool:
    """True if there are addresses, and all are in these domains."""
    ends = domain_ends(domains)
    return bool(addresses) and all(ascii_lower(one).endswith(ends) for one in addresses)


def is_address(address: str | None, pattern: str) -> bool:
    """As `matches`, also for other spellings of the same mailbox (`gatepost.model.addresses.spellings`)."""
    if address is None:
        return False
    if "*" in pattern:
        return matches(address, pattern)
    return ascii_lower(address) in {ascii_lower(storable(one)) for one in spellings(pattern)}
