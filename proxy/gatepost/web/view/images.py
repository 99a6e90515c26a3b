"""Where the images of an HTML mail come from: its own parts, and remote servers only if that is asked for."""

import base64
import re
from collections.abc import Iterable
from urllib.parse import unquote

from gatepost.mime.entity import Entity
from gatepost.mime.inline import bare_content_id, raster_type

__all__ = ["Images"]

_IMAGE_LIMIT = 8 << 20
"""Bytes of one image."""
_BUDGET = 16 << 20
"""Characters that all images may add to the page: one part may be shown many times."""
_BLOCKED_LIMIT = 1000
_REMOTE = re.compile(r"(?:https?:)?//[^\s/]", re.IGNORECASE)
_DATA = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,[A-Za-z0-9+/]+={0,2}", re.IGNORECASE)
_WHITE_SPACE = re.compile(r"[\x00-\x20]+")


class Images:
    """Returns for each image URL of a message the one to load instead, and counts the blocked ones."""

    def __init__(self, parts: Iterable[Entity], *, remote: bool) -> None:
        """``parts``: of the message; with ``remote`` http and https images are let through."""
        self._parts: dict[str, Entity] = {}
        for part in parts:
            if content_id := bare_content_id(part.content_id):
                self._parts.setdefault(content_id, part)
        self.remote = remote
        self._inlined: dict[str, str | None] = {}
        self._left = _BUDGET
        self._blocked: set[str] = set()

    @property
    def blocked(self) -> int:
        """How many different remote images are not loaded."""
        return len(self._blocked)

    def source(self, url: str) -> str | None:
        """The URL to load; None where nothing is loaded."""
        url = _WHITE_SPACE.sub("", url)
        scheme = url[:5].lower()
        if scheme == "data:":
            return url if _DATA.fullmatch(url) else None
        if scheme.startswith("cid:"):
            return self._own(bare_content_id(unquote(url[4:])))
        if not _REMOTE.match(url):
            return None
        if self.remote:
            return f"https:{url}" if url.startswith("//") else url
        if len(self._blocked) < _BLOCKED_LIMIT:
            self._blocked.add(url)
        return None

    def _own(self, content_id: str) -> str | None:
        if content_id not in self._inlined:
            self._inlined[content_id] = self._inline(content_id)
        url = self._inlined[content_id]
        if url is None or len(url) > self._left:
            return None
        self._left -= len(url)
        return url

    def _inline(self, content_id: str) -> str | None:
        part = self._parts.get(content_id)
        if part is None or part.end - part.start > 2 * _IMAGE_LIMIT:
            return None
        octets = part.read()
        content_type = raster_type(octets)
        if content_type is None or len(octets) > _IMAGE_LIMIT:
            return None
        return f"data:{content_type};base64,{base64.b64encode(octets).decode('ascii')}"
