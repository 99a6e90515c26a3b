"""Where the images of an HTML mail come from: its own parts, and remote servers only if that is asked for."""

import base64
import re
from collections.abc import Mapping
from urllib.parse import unquote

from gatepost.mime.entity import Entity

__all__ = ["Images", "raster_type"]

_IMAGE_LIMIT = 8 << 20
"""Octets of one image."""
_BUDGET = 16 << 20
"""Characters that all images may add to the page: one part may be shown many times."""
_BLOCKED_LIMIT = 1000
_REMOTE = re.compile(r"(?:https?:)?//[^\s/]", re.IGNORECASE)
_DATA = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,[A-Za-z0-9+/]+={0,2}", re.IGNORECASE)
_WHITE_SPACE = re.compile(r"[\x00-\x20]+")


def raster_type(octets: bytes) -> str | None:
    """The type of an image that browsers only paint, by its first octets; None for all else."""
    if octets.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if octets.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if octets.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if octets.startswith(b"RIFF") and octets[8:12] == b"WEBP":
        return "image/webp"
    return None


class Images:
    """Gives for each image URL of a message the one that is loaded instead, and counts the blocked ones."""

    def __init__(self, parts: Mapping[str, Entity], *, remote: bool) -> None:
        """``parts`` by their Content-ID; with ``remote`` http and https images are let through."""
        self._parts = parts
        self.remote = remote
        self._inlined: dict[str, str | None] = {}
        self._left = _BUDGET
        self._blocked: set[str] = set()
        self.shown: set[str] = set()
        """The Content-IDs of the parts that are shown."""

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
            return self._own(unquote(url[4:]))
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
        self.shown.add(content_id)
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
