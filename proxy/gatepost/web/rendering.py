"""Templates and the formatting of values. Jinja2 escapes everything that comes from mail."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parseaddr
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from gatepost.mime.words import decode_words
from gatepost.model.saved import IMPORTED
from gatepost.model.user import Need
from gatepost.web.access import user_of
from gatepost.web.base_path import under
from gatepost.web.desk import Desk
from gatepost.web.view.removed import Removed
from gatepost.web.view.text import joins, visible_line

__all__ = ["STATIC", "decoded", "desk_of", "is_fragment", "milliseconds", "plural", "render", "templates"]

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
_ADDRESS = re.compile(r"""[^\s<>,;:"'()\[\]\\@]{1,64}@[^\s<>,;:"'()\[\]\\@]{1,255}""")
_ADDRESSES = 200
"""Links in one header field."""
_HIDDEN = re.compile("[\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""Characters without width, and characters that change the direction of text."""


def desk_of(request: Request) -> Desk:
    """The desk of the request's application, as its user sees it."""
    desk, user = cast("Desk", request.app.state.desk), user_of(request)
    return desk if user is None or user.domains is None else desk.of(user.domains)


def is_fragment(request: Request) -> bool:
    """True if a page requests a part of itself."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


def shown(text: str | None) -> str:
    """Text from mail on one line; invisible and direction-changing characters become U+FFFD.

    U+200C and U+200D stay where a script or an emoji needs them.
    """
    return _HIDDEN.sub(_marked, visible_line(text or ""))


def _marked(found: re.Match[str]) -> str:
    return found[0] if joins(found.string, found.start()) else "\ufffd"


def decoded(field: str | None) -> str:
    """A stored header field's value with its encoded-words (RFC 2047) decoded, on one line."""
    return shown(decode_words(field or ""))


def author(field: str | None, mail_from: str | None) -> str:
    """The name in a From field, or else its address, or else the reverse-path."""
    name, address = parseaddr(decoded(field))
    return name or address or shown(mail_from) or "<>"


def address_pieces(text: str) -> list[tuple[str, bool]]:
    """The text in pieces, each with whether it is an address; after many addresses the rest is one piece."""
    pieces: list[tuple[str, bool]] = []
    end = 0
    for found in islice(_ADDRESS.finditer(text), _ADDRESSES):
        pieces += [(text[end : found.start()], False), (found[0], True)]
        end = found.end()
    return [piece for piece in (*pieces, (text[end:], False)) if piece[0]]


def octets(number: int) -> str:
    """``512 B``, ``1.4 kB``, ``12 MB``."""
    size = float(number)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def ago(moment: datetime, now: datetime | None = None) -> str:
    """``now``, ``5 min``, ``3 h``, ``2 d``, or the date."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < 45:
        return "now"
    if seconds < 3600:
        return f"{max(1, round(seconds / 60))} min"
    if seconds < 86400:
        return f"{round(seconds / 3600)} h"
    if seconds < 7 * 86400:
        return f"{round(seconds / 86400)} d"
    return moment.strftime("%-d %b %Y")


def iso(moment: datetime) -> str:
    """The value of the ``datetime`` attribute of ``time``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def absolute(moment: datetime) -> str:
    """The time in UTC; the page's script converts it to local time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def milliseconds(seconds: float) -> str:
    """``0.4 ms``, ``12 ms``, ``1.3 s``."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def plural(number: int, singular: str, several: str | None = None) -> str:
    """``1 message``, ``1,204 messages``."""
    return f"{number:,} {singular if number == 1 else several or singular + 's'}"


_REMOVED = {
    "form": "form",
    "field": "form field",
    "svg": "SVG image",
    "video": "video",
    "audio": "sound",
    "object": "embedded object",
    "frame": "frame",
    "canvas": "drawing",
    "math": "formula",
    "script": "script",
}


def removed_words(removed: Iterable[Removed]) -> str:
    """``1 form, 2 SVG images``."""
    return ", ".join([plural(one.count, _REMOVED[one.element]) for one in removed])


def _version() -> str:
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


_VERSION = _version()


def static(name: str) -> str:
    """The URL of a static file; it changes when any of them does."""
    return f"/static/{name}?{_VERSION}"


@cache
def templates() -> Environment:
    """The environment of all pages; what it has compiled is there for each desk of the process."""
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "absolute": absolute,
        "address_pieces": address_pieces,
        "ago": ago,
        "author": author,
        "decoded": decoded,
        "iso": iso,
        "milliseconds": milliseconds,
        "octets": octets,
        "plural": plural,
        "removed_words": removed_words,
        "shown": shown,
    }
    environment.globals |= {"imported": IMPORTED, "static": static}
    return environment


def render(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """Render a page; every template also gets ``desk``, ``base``, ``path``, ``theme`` and ``user``.

    And ``may_log_out``, and ``may``, which tells whether the user has what a `Need` of that name asks for.

    Addresses in templates are paths of this desk; the base path is put before them here.
    """
    theme, user = request.cookies.get("gatepost-theme", ""), user_of(request)
    base: str = request.app.state.base_path
    context = {
        "base": base,
        "desk": desk_of(request),
        "path": request.url.path,
        "theme": theme if theme in ("light", "dark") else "",
        "may_log_out": not request.scope["gatepost.guard"].accounts.are_open,
        "may": lambda need: user is not None and user.may(Need[need]),
        "user": user,
        **context,
    }
    return HTMLResponse(under(base, templates().get_template(template).render(context)), status, headers)
