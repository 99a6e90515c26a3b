"""Images that HTML shows in their places (RFC 2392): they are no attachments to a reader."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import unescape
from itertools import islice
from urllib.parse import unquote

from gatepost.mime.html import tokens

__all__ = ["bare_content_id", "raster_type", "shown_in_html"]

_HTML_LIMIT = 2 << 20
"""Characters of one text in which references are looked for."""
_TAGS_LIMIT = 12_000
"""And comments, of all texts together: what is behind them no reader of the desk sees."""
_WHITE_SPACE = re.compile(r"[\x00-\x20]+")
_IN_ATTRIBUTES = re.compile(
    r"""(?<![\w-])(?:src|background)\s*+=\s*+(?:"\s*+cid:([^"]*+)|'\s*+cid:([^']*+)|cid:([^\s>]++))""",
    re.IGNORECASE,
)
_IN_STYLES = re.compile(r"""\burl\(\s*+["']?\s*+cid:([^"')]*+)""", re.IGNORECASE)


def bare_content_id(text: str) -> str:
    """A Content-ID as it is compared: in lower case, without the angle brackets and white space around it."""
    return _WHITE_SPACE.sub("", text).removeprefix("<").removesuffix(">").lower()


def raster_type(octets: bytes) -> str | None:
    """The type of an image that browsers only paint, by its first bytes; None for all else."""
    if octets.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if octets.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if octets.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if octets.startswith(b"RIFF") and octets[8:12] == b"WEBP":
        return "image/webp"
    return None


def shown_in_html(parts: Sequence[tuple[str, Callable[[], bytes]]], htmls: Iterable[str]) -> list[bool]:
    """For each part whether it is a raster image to which HTML of the same message refers.

    What a part declares, such as ``Content-Disposition: inline``, does not count: without a reference a
    reader would never see it. Of parts with the same Content-ID only the first is shown, and those with the
    same bytes.

    Args:
        parts: the Content-ID of each part, empty if it has none, and what returns its decoded bytes.
        htmls: the HTML texts; not read if no part has a Content-ID.
    """
    keys = [bare_content_id(content_id) for content_id, _ in parts]
    referred = set(_references(htmls)) if any(keys) else set()
    first: dict[str, bytes] = {}
    shown = []
    for key, (_, read) in zip(keys, parts, strict=True):
        octets = read() if key and key in referred else b""
        is_same = first.setdefault(key, octets) == octets
        shown.append(is_same and raster_type(octets) is not None)
    return shown


def _references(htmls: Iterable[str]) -> Iterator[str]:
    texts = (html[:_HTML_LIMIT] for html in htmls)
    markup = (token for text in texts if "cid:" in text.lower() for token in tokens(text))
    for token in islice(markup, _TAGS_LIMIT):
        if token.name == "style" and token.content:
            found = _IN_STYLES.findall(token.content)
        elif not token.closing and ("cid:" in token.attributes.lower() or "&" in token.attributes):
            attributes = unescape(token.attributes)
            found = ["".join(groups) for groups in _IN_ATTRIBUTES.findall(attributes)]
            found += _IN_STYLES.findall(attributes)
        else:
            continue
        yield from (bare_content_id(unquote(content_id)) for content_id in found)
