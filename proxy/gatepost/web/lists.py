"""Changes to the lists of the rules that somebody makes in the desk: what is asked, and what came of it."""

from collections.abc import Callable

from gatepost.config.list_changes import ListChange, Verb
from gatepost.config.list_entries import ListEntry
from gatepost.values import value

__all__ = ["ChangedList", "Choice", "ListRequest", "Lists", "NotReloadedError", "choices"]


@value
class ListRequest:
    """One entry to add to a list, or to remove from it."""

    verb: Verb
    entry: ListEntry
    list_name: str | None = None
    """None: the default list for such an entry."""
    remove: bool = False
    note: str = ""
    """A remark for the line."""
    actor: str
    """By whom; the line and the log have it."""


@value
class ChangedList:
    """What was done."""

    change: ListChange
    reloaded: bool
    """False: there was nothing to change, so nothing was reloaded."""


class NotReloadedError(Exception):
    """The rules were not reloaded; the text says why, and whether the file was changed."""


@value
class Lists:
    """The lists of a gateway's rules."""

    used: Callable[[], frozenset[str]]
    """The names of the default lists that rules use."""
    change: Callable[[ListRequest], ChangedList]
    """Change a list's file and have the gateway reload; blocks.

    Raises `ListError`, `NotReloadedError`, and OSError if the file cannot be written.
    """


@value
class Choice:
    """One entry that a page offers for a message."""

    entry: str
    label: str


def choices(used: frozenset[str], verb: Verb, mail_from: str, client: str) -> tuple[Choice, ...]:
    """What of a message can be added to a list: its sender, the sender's domain, its client."""
    found: list[Choice] = []
    if mail_from and f"{verb}ed-senders" in used:
        found.append(Choice(entry=mail_from, label="the sender"))
        domain = mail_from.rpartition("@")[2]
        if domain != mail_from:
            found.append(Choice(entry=f"*@{domain}", label="all senders of the domain"))
    if f"{verb}ed-clients" in used:
        found.append(Choice(entry=client, label="the client"))
    return tuple(found)
