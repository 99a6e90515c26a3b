"""The language in which people look for transactions in the journal.

All terms must match, and each field may be named once::

    from:ADDRESS to:ADDRESS address:ADDRESS client:IP user:NAME rule:NAME is:DISPOSITION
    id:TRANSACTION|SESSION|KEPTID|<MESSAGE-ID> session:ID node:NAME after:TIME before:TIME

``*`` matches any characters. ``from:<>`` is the null reverse-path. A TIME is how long ago (``90m``, ``2h``,
``7d``) or a date, with or without a time. A word alone is taken for what it looks like: the address of a
client, a Message-ID, an identifier, else a part of any address.
"""

from datetime import datetime
from ipaddress import ip_address
from typing import Any

from gatepost.model.mail import is_id
from gatepost.model.record import Disposition
from gatepost.store.query.criteria import JournalQuery
from gatepost.store.query.grammar import Grammar, Written

__all__ = ["parse_journal_query"]

_FIELDS = {
    "from": "mail_from",
    "to": "recipient",
    "address": "address",
    "client": "client",
    "user": "user",
    "rule": "rule",
    "is": "disposition",
    "session": "session_id",
    "node": "node",
    "after": "since",
    "before": "until",
}
_GRAMMAR = Grammar((*_FIELDS, "id"))


def parse_journal_query(text: str, *, now: datetime | None = None) -> JournalQuery:
    """What a person wrote; an empty text matches everything. Raises QueryError and nothing else.

    ``now`` is as in `parse_query`.
    """
    fields: dict[str, Any] = {}
    for written in _GRAMMAR.read(text):
        if written.negated:
            raise written.refused("the journal cannot be searched for what must not match")
        field, value = _field(written, now)
        if field in fields:
            raise written.refused("only one of its kind can be looked for at a time")
        fields[field] = value
    return JournalQuery(**fields)


def _field(written: Written, now: datetime | None) -> tuple[str, Any]:
    """The field of `JournalQuery` and its value."""
    value = written.text
    match written.key:
        case "":
            return _word(written)
        case "id":
            return ("message_id", value) if value.startswith("<") else ("id", value.lower())
        case "is":
            return "disposition", written.choice(Disposition)
        case "after" | "before" as key:
            return _FIELDS[key], written.moment(now)
        case "from" | "to" | "address" as key:
            return _FIELDS[key], _address(value)
        case key:
            return _FIELDS[key], value


def _word(written: Written) -> tuple[str, str]:
    word = written.text
    try:
        return "client", str(ip_address(word))
    except ValueError:
        _GRAMMAR.require_known_key(written)
    if word.startswith("<") and word.endswith(">") and "@" in word:
        return "message_id", word
    return ("id", word.lower()) if is_id(word) else ("address", _address(word))


def _address(value: str) -> str:
    """A whole address as it is, a part of one with ``*`` on both sides; ``<>`` is the null reverse-path."""
    if value == "<>":
        return ""
    value = value.removeprefix("<").removesuffix(">")
    local_part, at, domain = value.rpartition("@")
    return value if "*" in value or (at and local_part and domain) else f"*{value}*"
