"""Lists of messages (folders), and the values for one page of a list."""

from collections.abc import Sequence
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from gatepost.store import Box, KeptQuery, KeptSummary, Listed, Query, QueryError, State, parse_query
from gatepost.values import value
from gatepost.web.desk import Desk

__all__ = [
    "DELETED",
    "HELD",
    "MESSAGES",
    "RELEASED",
    "Folder",
    "Listing",
    "Place",
    "list_messages",
]

_PAGE = 50
_QUERY_LIMIT = 1000


@value
class Folder:
    """One list of messages."""

    name: str
    place: str
    """Its id in the navigation."""
    title: str
    label: str
    """Its order among its siblings."""
    path: str
    terms: str = ""
    """The query that every message in it matches."""
    deleted: bool = False
    """True for deleted messages, which cannot be searched."""


MESSAGES = Folder(name="messages", place="messages", title="Messages", label="Messages", path="/")
HELD = Folder(
    name="held",
    place="quarantine",
    title="Quarantine",
    label="Held",
    path="/quarantine",
    terms="is:quarantined",
)
RELEASED = Folder(
    name="released",
    place="quarantine",
    title="Quarantine: released",
    label="Released",
    path="/quarantine/released",
    terms="is:released",
)
DELETED = Folder(
    name="deleted",
    place="quarantine",
    title="Quarantine: deleted",
    label="Deleted",
    path="/quarantine/deleted",
    deleted=True,
)
_FOLDERS = {folder.name: folder for folder in (MESSAGES, HELD, RELEASED, DELETED)}


@value
class Place:
    """A position: the folder, the search in it, and the page."""

    folder: Folder
    search: str
    before: str | None = None

    @classmethod
    def of(cls, parameters: QueryParams, folder: Folder | None = None) -> "Place":
        """Read it from ``q``, ``before`` and, unless the folder is known, ``in``."""
        return cls(
            folder=folder or _FOLDERS.get(parameters.get("in", ""), MESSAGES),
            search=parameters.get("q", "")[:_QUERY_LIMIT].strip(),
            before=parameters.get("before") or None,
        )

    @property
    def path(self) -> str:
        """The address of the first page of this list."""
        return self.folder.path + (f"?{urlencode({'q': self.search})}" if self.search else "")

    @property
    def parameters(self) -> str:
        """The query string that leads back here, for links to a message; empty or beginning with ``?``."""
        named = {"in": self.folder.name} if self.folder is not MESSAGES else {}
        pairs = named | ({"q": self.search} if self.search else {})
        return f"?{urlencode(pairs)}" if pairs else ""

    def rows(self, before: str | None = None) -> str:
        """The address of the rows of this list, or of those before a message."""
        pairs = {"in": self.folder.name, "q": self.search, "before": before}
        return f"/messages/list?{urlencode({key: value for key, value in pairs.items() if value})}"

    def older(self, before: str) -> str:
        """The address of the page with the messages before that one."""
        return f"{self.path}{'&' if '?' in self.path else '?'}{urlencode({'before': before})}"

    def query(self) -> Query:
        """The query; raises QueryError."""
        return parse_query(f"{self.folder.terms} {self.search}".strip())


@value
class Listing:
    """One page of a list."""

    place: Place
    messages: Sequence[Listed | KeptSummary] = ()
    next: str | None = None
    """The id for the next page; None: there is none."""
    total: int | None = None
    """The number of messages, on the first page."""
    problem: str = ""
    """The error in the query."""


def list_messages(desk: Desk, place: Place) -> Listing:
    """Blocks; raises StoreError."""
    if place.folder.deleted:
        return _list_deleted(desk, place)
    try:
        query = place.query()
    except QueryError as error:
        return Listing(place=place, problem=str(error))
    page = desk.mailbox.page(query, limit=_PAGE, before=place.before)
    total = None
    if place.before is None:
        total = len(page.messages) if page.next is None else desk.mailbox.count(query)
    return Listing(place=place, messages=page.messages, next=page.next, total=total)


def _list_deleted(desk: Desk, place: Place) -> Listing:
    query = KeptQuery(box=Box.QUARANTINE, state=State.DELETED)
    found = desk.archive.kept(query, limit=_PAGE + 1, before=place.before)
    more = len(found) > _PAGE
    return Listing(place=place, messages=found[:_PAGE], next=found[_PAGE - 1].id if more else None)
