"""The language in which people look for kept messages.

    invoice "net 30" from:ann@example.com -subject:draft has:attachment after:2d larger:1MB is:unread

All terms must match, and no negated one. Words and phrases are looked for in all texts of the message, from
three letters on within words too; ``word*`` matches only where a word begins so.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from gatepost.store.query.grammar import Grammar, QueryError, Written, shown
from gatepost.values import value

__all__ = [
    "After",
    "Before",
    "Fact",
    "Has",
    "Is",
    "Larger",
    "Later",
    "Mark",
    "Named",
    "Query",
    "Smaller",
    "Term",
    "Where",
    "Within",
    "Words",
    "has_term",
    "parse_query",
    "toggled",
]

_PREFIX_LENGTH = 2
"""Shorter ones are in nearly every message."""
_OCTETS = re.compile(r"([0-9]{1,9})(b|kb?|mb?|gb?|kib|mib|gib)?", re.IGNORECASE)
_OCTETS_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class Where(StrEnum):
    """The part of a message that words are looked for in."""

    FROM = "from"
    """The From field and the reverse-path."""
    TO = "to"
    """The To and Cc fields and the forward-paths."""
    SUBJECT = "subject"
    CC = "cc"
    BCC = "bcc"
    """The forward-paths that neither To nor Cc names."""
    REPLY_TO = "reply-to"
    MESSAGE_ID = "message-id"
    HEADER = "header"
    """Any header field, with its name: ``header:"x-campaign: spring"``."""


class Mark(StrEnum):
    """What ``is:`` asks for."""

    UNREAD = "unread"
    READ = "read"
    INBOX = "inbox"
    QUARANTINED = "quarantined"
    """Held in quarantine, neither released nor deleted."""
    RELEASED = "released"
    DELETED = "deleted"
    """The actor that deleted it is still known, its content is not. Other queries never find these."""


class Fact(StrEnum):
    """What is known of a message besides its text."""

    RULE = "rule"
    """A rule that decided, or hit and was only observed."""
    USER = "user"
    """The name that AUTH established."""
    CLIENT = "client"
    """The client's address; ``*`` matches any characters."""
    NODE = "node"
    """The node that received it, while the journal has its transaction; ``*`` matches any characters."""
    TAG = "tag"
    """The part after ``+`` in the local part of a forward-path."""
    RECIPIENT = "recipient"
    """A forward-path, whole."""
    MAILBOX = "mailbox"
    """The tag or the user: what belongs to one test of a test suite."""
    ID = "id"
    """Its own, its transaction's, its session's, or its Message-ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One condition that must hold, or if ``negated`` must not."""

    negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Words(Term):
    """Letters and digits, found where they follow one another within one of the message's texts.

    The texts are those of `gatepost.store.excerpt.SearchedText`. What is looked for may begin and end within
    a word, if it has more than two letters or digits; `gatepost.store.folding` says how texts are compared.
    ``ann@example.com`` is a phrase of three words. Nothing is ranked: the newest is the first.
    """

    text: str
    where: Where | None = None
    """None: anywhere in the message."""
    prefix: bool = False
    """It begins where a word begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Is(Term):
    """What was done with the message."""

    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Has(Term):
    """At least one attachment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Term):
    """A fact of that value; the case of ASCII letters does not matter but for a rule and an id."""

    fact: Fact
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Within(Term):
    """All forward-paths are in these domains; not in the language."""

    domains: tuple[str, ...]
    """In lower-case A-labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before(Term):
    """Received earlier than that."""

    moment: datetime
    """Aware, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class After(Term):
    """Received then or later."""

    moment: datetime
    """Aware, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Later(Term):
    """Kept after that message, which may be deleted; not in the language. None is, if it does not exist."""

    than: str
    """Its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Larger(Term):
    """Of more bytes."""

    octets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Smaller(Term):
    """Of fewer bytes."""

    octets: int


@value
class Query:
    """The terms that must hold; without any it matches every message that is not deleted.

    Deleted messages match only with ``Is(mark=Mark.DELETED)``, and with that none does if `reads_text`.
    """

    terms: tuple[Term, ...] = ()

    @property
    def reads_text(self) -> bool:
        """True if it can only be answered of messages whose text was read."""
        return any(isinstance(term, (Words, Has)) for term in self.terms)


def parse_query(text: str, *, now: datetime | None = None) -> Query:
    """What a person wrote; raises QueryError and nothing else.

    ``now`` is what times like ``2h`` count back from, and its zone is that of dates which name none;
    default: the local time.
    """
    terms = tuple(_terms(text, now))
    if text.strip() and not terms:
        raise QueryError(f"{shown(text.strip())} has no letter or digit to look for", 0)
    return Query(terms=terms)


def toggled(text: str, key: str, value: str) -> str:
    """What a person wrote, without ``key:value`` if it has that.

    If it has not, with it, in place of other values of the key. Raises QueryError, also for a value that no
    query can hold: one that begins with a quotation mark.
    """
    written = f'{key}:"{value}"' if re.search(r"\s", value) else f"{key}:{value}"
    found = list(_GRAMMAR.read(written))
    if len(found) != 1 or found[0].text != value:
        raise QueryError(f"{shown(value)} cannot be looked for", 0)
    terms = list(_GRAMMAR.read(text))
    ends = [*(term.position for term in terms[1:]), len(text)]
    kept = [
        text[term.position : end].strip()
        for term, end in zip(terms, ends, strict=False)
        if term.key != key or term.negated
    ]
    return " ".join(kept if has_term(text, key, value) else [*kept, written])


def has_term(text: str, key: str, value: str) -> bool:
    """True if it is among the terms that a person wrote, not negated; raises QueryError."""
    return any(
        term.key == key and not term.negated and term.text.lower() == value.lower()
        for term in _GRAMMAR.read(text)
    )


def _terms(text: str, now: datetime | None) -> Iterator[Term]:
    for written in _GRAMMAR.read(text):
        if not (written.key or written.is_phrase or _searchable(written.text)):
            continue  # a dash between words
        term = _term(written, now)
        yield replace(term, negated=True) if written.negated else term


def _term(written: Written, now: datetime | None) -> Term:
    match written.key:
        case "":
            _GRAMMAR.require_known_key(written)
            return _words(written, None)
        case "has":
            return _has(written)
        case "is":
            return Is(mark=written.choice(Mark))
        case "before":
            return Before(moment=written.moment(now))
        case "after":
            return After(moment=written.moment(now))
        case "larger":
            return Larger(octets=_octets(written))
        case "smaller":
            return Smaller(octets=_octets(written))
        case key if key in _WHERE:
            return _words(written, Where(key))
        case key:
            return Named(fact=Fact(key), value=written.text)


def _searchable(text: str) -> bool:
    """True if there is a letter or digit: the index holds nothing else."""
    return any(character.isalnum() for character in text)


def _words(written: Written, where: Where | None) -> Term:
    if not _searchable(written.text):
        raise written.wrong("letters or digits to look for")
    prefix = written.text.endswith("*")
    if prefix and written.text.isascii() and sum(map(str.isalnum, written.text)) < _PREFIX_LENGTH:
        raise written.wrong(f"at least {_PREFIX_LENGTH} letters or digits before *")
    return Words(text=written.text, where=where, prefix=prefix)


def _has(written: Written) -> Term:
    if written.text.lower() not in ("attachment", "attachments"):
        raise written.wrong("has:attachment")
    return Has()


def _octets(written: Written) -> int:
    found = _OCTETS.fullmatch(written.text)
    if not found:
        raise written.wrong("a size like 500KB or 1MB")
    return int(found[1]) * _OCTETS_UNITS[(found[2] or "").lower().removesuffix("b")]


_WHERE = frozenset(Where)
_GRAMMAR = Grammar((*Where, "has", "is", "before", "after", "larger", "smaller", *Fact))
