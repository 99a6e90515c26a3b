"""The words people look for kept messages with, as values; what a database makes of them is not known here.

    invoice "net 30" from:ann@example.com -subject:draft has:attachment after:2d larger:1MB is:unread

Every term must hold. Words and phrases are looked for in the whole message, ``word*`` stands for all words
that begin so, ``-`` before a term says that it must not hold.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial

from gatepost.store.moments import past_moment

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
    "QueryError",
    "Smaller",
    "Term",
    "Where",
    "Words",
    "parse_query",
]

_LENGTH_LIMIT = 2000
"""Characters of a query."""
_TERMS_LIMIT = 50
_PREFIX_LENGTH = 3
"""Shorter ones are in nearly every message and take long to find."""
_PLAIN_KEY = re.compile(r"([A-Za-z]+):(?!//|:)(?=\S)")
"""What looks like a key; ``http://`` and ``Re:`` do not."""
_QUOTES = str.maketrans(dict.fromkeys("“”„‟", '"'))
"""Phones write these for the straight ones."""
_OCTETS = re.compile(r"([0-9]{1,9})(b|kb?|mb?|gb?|kib|mib|gib)?", re.IGNORECASE)
_OCTETS_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class QueryError(ValueError):
    """A query that cannot be understood; the text is for who wrote it."""

    def __init__(self, text: str, position: int) -> None:
        super().__init__(text)
        self.position = position
        """Where in the query it went wrong, counted from 0."""


class Where(StrEnum):
    """The part of a message that words are looked for in."""

    FROM = "from"
    """The From field and the reverse-path."""
    TO = "to"
    """The To and Cc fields and the forward-paths."""
    SUBJECT = "subject"


class Mark(StrEnum):
    """What ``is:`` asks for."""

    UNREAD = "unread"
    READ = "read"
    INBOX = "inbox"
    QUARANTINED = "quarantined"
    """Held in quarantine, neither released nor deleted."""
    RELEASED = "released"
    DELETED = "deleted"
    """Who deleted it is still known, what it said is not. Other queries never find these."""


class Fact(StrEnum):
    """What is known of a message beside its text."""

    RULE = "rule"
    """A rule that decided, or hit and was only observed."""
    USER = "user"
    """The name that AUTH established."""
    CLIENT = "client"
    """The client's address; ``*`` stands for any characters."""
    TAG = "tag"
    """What stands after ``+`` in the local part of a forward-path."""
    MAILBOX = "mailbox"
    """The tag or the user: what belongs to one test of a test suite."""
    ID = "id"
    """Its own, its transaction's, or its Message-ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One thing that must hold, or if ``negated`` must not."""

    negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Words(Term):
    """A word or a phrase; neither case nor accents matter."""

    text: str
    where: Where | None = None
    """None: anywhere in the message."""
    prefix: bool = False
    """The last word may go on."""


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
    """Kept after that message, which may be deleted; not in the language. None is if there is no such one."""

    than: str
    """Its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Larger(Term):
    """Of more octets."""

    octets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Smaller(Term):
    """Of fewer octets."""

    octets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The terms that must hold; without any it matches every message that is not deleted."""

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
    if len(text) > _LENGTH_LIMIT:
        raise QueryError(f"the query is longer than {_LENGTH_LIMIT} characters", _LENGTH_LIMIT)
    terms = tuple(_terms(text.translate(_QUOTES), now))
    if len(terms) > _TERMS_LIMIT:
        raise QueryError(f"the query has more than {_TERMS_LIMIT} terms", 0)
    if text.strip() and not terms:
        raise QueryError(f"{_short(text.strip())} has no letter or digit to look for", 0)
    return Query(terms=terms)


@dataclass(frozen=True, slots=True)
class _Value:
    """What is to be looked for, and what it is called in an error."""

    key: str
    text: str
    phrase: bool
    position: int
    now: datetime | None

    def wrong(self, expected: str) -> QueryError:
        written = f"{self.key}:{self.text}" if self.key else self.text
        return QueryError(f"{_short(written)} is not understood, expected {expected}", self.position)


def _terms(text: str, now: datetime | None) -> Iterator[Term]:
    for found in _TERM.finditer(text):
        phrase = found["phrase"]
        if phrase is not None and not found["end"]:
            raise QueryError(
                'a quotation mark without a second one, expected "..."', found.start("phrase") - 1
            )
        key = (found["key"] or "").lower()
        value = _Value(
            key, found["word"] if phrase is None else phrase, phrase is not None, found.start(), now
        )
        if key and not value.text.strip():
            raise QueryError(f"nothing stands after {key}:", found.end())
        if not key and not value.phrase and not _searchable(value.text):
            continue  # a dash between words
        term = _KEYS[key](value)
        yield replace(term, negated=True) if found["minus"] else term


def _searchable(text: str) -> bool:
    """True if there is a letter or digit: the index holds nothing else."""
    return any(character.isalnum() for character in text)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _anywhere(value: _Value) -> Term:
    unknown = None if value.phrase else _PLAIN_KEY.match(value.text)
    if unknown:
        known = ", ".join(f"{key}:" for key in _KEYS if key)
        raise QueryError(
            f"there is no {unknown[1]}: to look for, expected one of {known};"
            " in quotation marks it is looked for as text",
            value.position,
        )
    return _words(value, None)


def _words(value: _Value, where: Where | None) -> Term:
    if not _searchable(value.text):
        raise value.wrong("letters or digits to look for")
    prefix = value.text.endswith("*")
    if prefix and value.text.isascii() and sum(map(str.isalnum, value.text)) < _PREFIX_LENGTH:
        raise value.wrong(f"at least {_PREFIX_LENGTH} letters or digits before *")
    return Words(text=value.text, where=where, prefix=prefix)


def _named(value: _Value, fact: Fact) -> Term:
    return Named(fact=fact, value=value.text)


def _is(value: _Value) -> Term:
    try:
        return Is(mark=Mark(value.text.lower()))
    except ValueError:
        raise value.wrong("is: with one of " + ", ".join(Mark)) from None


def _has(value: _Value) -> Term:
    if value.text.lower() not in ("attachment", "attachments"):
        raise value.wrong("has:attachment")
    return Has()


def _moment(value: _Value) -> datetime:
    try:
        return past_moment(value.text, now=value.now)
    except ValueError:
        raise value.wrong("a time like 2h, 7d, 2026-11-30 or 2026-11-30T08:00") from None


def _octets(value: _Value) -> int:
    found = _OCTETS.fullmatch(value.text)
    if not found:
        raise value.wrong("a size like 500KB or 1MB")
    return int(found[1]) * _OCTETS_UNITS[(found[2] or "").lower().removesuffix("b")]


_KEYS: dict[str, Callable[[_Value], Term]] = {
    "": _anywhere,
    **{where: partial(_words, where=where) for where in Where},
    "has": _has,
    "is": _is,
    "before": lambda value: Before(moment=_moment(value)),
    "after": lambda value: After(moment=_moment(value)),
    "larger": lambda value: Larger(octets=_octets(value)),
    "smaller": lambda value: Smaller(octets=_octets(value)),
    **{fact: partial(_named, fact=fact) for fact in Fact},
}

_TERM = re.compile(
    rf"""(?P<minus>-?)
    (?:(?P<key>(?ai:{"|".join(filter(None, _KEYS))})):\s*+)?
    (?:"(?P<phrase>[^"]*+)(?P<end>"?) | (?P<word>\S*+))""",
    re.VERBOSE,
)
