"""What a list can be narrowed to with one click: unread ones, mailboxes, recipients; each with its number."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from gatepost.model.user import Need
from gatepost.store import Facet, Facets, QueryError
from gatepost.store.query import has_term, toggled
from gatepost.values import value
from gatepost.web.access import Guarded
from gatepost.web.pages.folders import Place
from gatepost.web.rendering import desk_of, render

__all__ = ["routes"]

_AT_ONCE = 8
"""Values of a group that are shown at once; the others on request."""


@value
class Choice:
    """One value that can be clicked."""

    label: str
    term: str
    """``key:value``, which is the same after each count."""
    search: str
    """The search with the value; without it if it is chosen."""
    href: str
    """The list with that search."""
    messages: int
    chosen: bool


@value
class Group:
    """Values of one kind."""

    title: str
    name: str
    first: tuple[Choice, ...]
    more: tuple[Choice, ...] = ()


async def _facets(request: Request) -> Response:
    """The choices for a list; nothing where the search cannot be understood."""
    desk = desk_of(request)
    place = Place.of(request.query_params)
    try:
        counted = await desk.call(desk.mailbox.facets, place.query())
        groups = [group for group in _groups(counted, place) if group.first]
    except QueryError:
        groups = []
    return render(request, "facets.html", groups=groups)


def _groups(counted: Facets, place: Place) -> Iterator[Group]:
    marks = [
        _choice(place, "is", "unread", counted.unread, "Unread"),
        _choice(place, "has", "attachment", counted.attachments, "With attachments"),
    ]
    yield Group(title="", name="marks", first=tuple(one for one in marks if one.messages or one.chosen))
    yield _group("Mailboxes", "mailbox", counted.mailboxes, place)
    yield _group("Recipients", "recipient", counted.recipients, place)


def _group(title: str, key: str, values: Sequence[Facet], place: Place) -> Group:
    choices = []
    for one in values:
        try:
            choices.append(_choice(place, key, one.value, one.messages, one.value))
        except QueryError:
            continue  # a value that no query can hold
    return Group(title=title, name=key, first=tuple(choices[:_AT_ONCE]), more=tuple(choices[_AT_ONCE:]))


def _choice(place: Place, key: str, value: str, messages: int, label: str) -> Choice:
    search = toggled(place.search, key, value)
    return Choice(
        label=label,
        term=f"{key}:{value}",
        search=search,
        href=place.folder.path + (f"?{urlencode({'q': search})}" if search else ""),
        messages=messages,
        chosen=has_term(place.search, key, value),
    )


routes = [Guarded("/messages/facets", _facets, needs=Need.READ)]
