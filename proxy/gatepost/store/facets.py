"""Which recipients and mailboxes the messages of a search have, and how many of each."""

from collections import Counter
from collections.abc import Iterable
from heapq import nsmallest
from itertools import chain

from gatepost.printable import storable
from gatepost.store.text import address_tags, ascii_lower
from gatepost.values import value

__all__ = ["FACETS_LIMIT", "Facet", "Facets", "lines", "mailboxes_of", "most_frequent", "recipients_of"]

FACETS_LIMIT = 50
"""Values of each kind that are counted out."""


@value
class Facet:
    """One value, and the number of messages that have it."""

    value: str
    messages: int


@value
class Facets:
    """What the messages that match have in common: the most frequent values, at most `FACETS_LIMIT` each."""

    messages: int
    """How many match."""
    unread: int
    attachments: int
    """How many have an attachment."""
    mailboxes: tuple[Facet, ...]
    """Values for ``mailbox:``, that is tags (``user+tag``) and names of AUTH."""
    recipients: tuple[Facet, ...]
    """Values for ``recipient:``, forward-paths in lower case."""


def recipients_of(addresses: Iterable[str]) -> list[str]:
    """The values for ``recipient:`` of a message to these forward-paths, each once."""
    return [*dict.fromkeys(ascii_lower(storable(address)) for address in addresses)]


def mailboxes_of(addresses: Iterable[str], user: str | None) -> list[str]:
    """The values for ``mailbox:`` of a message to these forward-paths, sent by this AUTH user; each once."""
    tags = map(storable, address_tags(addresses))
    return [*dict.fromkeys(chain(tags, [ascii_lower(storable(user))] if user else ()))]


def lines(values: Iterable[str]) -> str:
    """The values, each once and with a line end before and after it; empty for none."""
    written = "".join(f"\n{value}" for value in dict.fromkeys(values))
    return f"{written}\n" if written else ""


def most_frequent(values: Iterable[str]) -> tuple[Facet, ...]:
    """Each value with its number, the most frequent first; of as many, in order of the value."""
    counted = nsmallest(FACETS_LIMIT, Counter(values).items(), key=lambda one: (-one[1], one[0]))
    return tuple(Facet(value=value, messages=number) for value, number in counted)
