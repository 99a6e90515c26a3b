"""The grammar of everything that people write to find something: words, phrases and ``key:value`` terms.

    invoice "net 30" from:ann@example.com -subject:draft after:2d

Terms are separated by spaces. A value with spaces is in double quotes. ``-`` before a term negates it. The
case of a key does not matter. Which keys there are, and what a term means, is decided by each language.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from gatepost.store.query.moments import past_moment
from gatepost.values import value

__all__ = ["Grammar", "QueryError", "Written", "shown"]

_LENGTH_LIMIT = 2000
"""Characters of a query."""
_TERMS_LIMIT = 50
_SHOWN_LIMIT = 40
"""Characters of a term in an error."""
_PLAIN_KEY = re.compile(r"([A-Za-z]+):(?!//|:)(?=\S)")
"""What looks like a key; ``http://`` and ``Re:`` do not."""
_QUOTES = str.maketrans(dict.fromkeys("“”„‟", '"'))
"""Phones write these for the straight ones."""

Choice = TypeVar("Choice", bound=StrEnum)


class QueryError(ValueError):
    """A query that cannot be understood; the text is for the person who wrote it."""

    def __init__(self, text: str, position: int) -> None:
        super().__init__(text)
        self.position = position
        """Where in the query it went wrong, counted from 0."""


@value
class Written:
    """A term as it was written."""

    key: str
    """In lower case; empty for a word or a phrase alone."""
    text: str
    """Without the quotation marks; not empty behind a key."""
    is_phrase: bool
    """It was in quotation marks."""
    negated: bool
    position: int
    """In the query, counted from 0."""

    def wrong(self, expected: str) -> QueryError:
        """The error that says what was found and what was expected."""
        return QueryError(f"{self._shown} is not understood, expected {expected}", self.position)

    def refused(self, reason: str) -> QueryError:
        """The error for a term that is understood, but not possible."""
        return QueryError(f"{self._shown}: {reason}", self.position)

    @property
    def _shown(self) -> str:
        sign = "-" if self.negated else ""
        written = f"{sign}{self.key}:{self.text}" if self.key else f"{sign}{self.text}"
        return shown(written)

    def choice(self, kind: type[Choice]) -> Choice:
        """The text as one of an enumeration, in any case; raises QueryError."""
        try:
            return kind(self.text.lower())
        except ValueError:
            raise self.wrong(f"{self.key}: with one of {', '.join(kind)}") from None

    def moment(self, now: datetime | None) -> datetime:
        """The text as a moment in the past (see `past_moment`); raises QueryError."""
        try:
            return past_moment(self.text, now=now)
        except ValueError:
            raise self.wrong("a time like 2h, 7d, 2026-11-30 or 2026-11-30T08:00") from None


class Grammar:
    """Reads the terms of a language with these keys."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = tuple(keys)
        self._term = re.compile(
            rf"""(?P<minus>-?)
            (?:(?P<key>(?ai:{"|".join(self._keys)})):\s*+)?
            (?:"(?P<phrase>[^"]*+)(?P<end>"?) | (?P<word>\S*+))""",
            re.VERBOSE,
        )

    def read(self, text: str) -> Iterator[Written]:
        """The terms in the order in which they were written; raises QueryError and nothing else."""
        if len(text) > _LENGTH_LIMIT:
            raise QueryError(f"the query is longer than {_LENGTH_LIMIT} characters", _LENGTH_LIMIT)
        number = 0
        for found in self._term.finditer(text.translate(_QUOTES)):
            if found[0]:
                number += 1
                yield _written(found)
        if number > _TERMS_LIMIT:
            raise QueryError(f"the query has more than {_TERMS_LIMIT} terms", 0)

    def require_known_key(self, written: Written) -> None:
        """Raise QueryError for a word that looks as if it began with a key of another language."""
        unknown = None if written.key or written.is_phrase else _PLAIN_KEY.match(written.text)
        if unknown:
            known = ", ".join(f"{key}:" for key in self._keys)
            raise QueryError(
                f"there is no {unknown[1]}: to look for, expected one of {known};"
                " in quotation marks it is looked for as text",
                written.position,
            )


def _written(found: re.Match[str]) -> Written:
    phrase = found["phrase"]
    if phrase is not None and not found["end"]:
        raise QueryError('a quotation mark without a second one, expected "..."', found.start("phrase") - 1)
    written = Written(
        key=(found["key"] or "").lower(),
        text=found["word"] if phrase is None else phrase,
        is_phrase=phrase is not None,
        negated=bool(found["minus"]),
        position=found.start(),
    )
    if written.key and not written.text.strip():
        raise QueryError(f"there is nothing after {written.key}:", found.end())
    return written


def shown(text: str) -> str:
    """In quotation marks, and shortened, for an error."""
    return repr(text if len(text) <= _SHOWN_LIMIT else f"{text[:_SHOWN_LIMIT]}…")
