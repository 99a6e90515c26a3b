"""Templates, and how values are shown in them. Whatever comes from mail is escaped by Jinja2."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parseaddr
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from gatepost.mime.words import decode_words
from gatepost.web.desk import Desk
from gatepost.web.view.text import visible_line

__all__ = ["STATIC", "desk_of", "is_fragment", "render", "templates"]

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
_HIDDEN = re.compile("[\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""Characters without a width of their own, and those that turn the direction of what follows."""


def desk_of(request: Request) -> Desk:
    """The desk of the application that a request is for."""
    return cast("Desk", request.app.state.desk)


def is_fragment(request: Request) -> bool:
    """True where a page asks for a part of itself."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


def shown(text: str | None) -> str:
    """Text from mail on one line; what is invisible or turns directions becomes U+FFFD."""
    return _HIDDEN.sub("\ufffd", visible_line(text or ""))


def decoded(field: str | None) -> str:
    """A header field's value as the store has it, with its encoded-words (RFC 2047) decoded, for one line."""
    return shown(decode_words(field or ""))


def author(field: str | None, mail_from: str | None) -> str:
    """Of a From field the name, or else its address, or else the reverse-path."""
    name, address = parseaddr(decoded(field))
    return name or address or shown(mail_from) or "<>"


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
    """For the ``datetime`` attribute of ``time``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def absolute(moment: datetime) -> str:
    """In UTC; the page's script shows it in the reader's own time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def milliseconds(seconds: float) -> str:
    """``0.4 ms``, ``12 ms``, ``1.3 s``."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def plural(number: int, singular: str, several: str | None = None) -> str:
    """``1 message``, ``1,204 messages``."""
    return f"{number:,} {singular if number == 1 else several or singular + 's'}"


def _version() -> str:
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


_VERSION = _version()


def static(name: str) -> str:
    """The URL of a static file; it changes when any of them does."""
    return f"/static/{name}?{_VERSION}"


def templates() -> Environment:
    """The environment of all pages."""
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
        "ago": ago,
        "author": author,
        "decoded": decoded,
        "iso": iso,
        "milliseconds": milliseconds,
        "octets": octets,
        "plural": plural,
        "shown": shown,
    }
    environment.globals["static"] = static
    return environment


def render(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """A page; every template also gets ``desk``, ``path``, ``theme`` and ``may_log_out``."""
    theme = request.cookies.get("gatepost-theme", "")
    context = {
        "desk": desk_of(request),
        "path": request.url.path,
        "theme": theme if theme in ("light", "dark") else "",
        "may_log_out": request.scope["gatepost.guard"].sessions is not None,
        **context,
    }
    environment: Environment = request.app.state.templates
    return HTMLResponse(environment.get_template(template).render(context), status, headers)
