"""Text for people: without characters that hide something, and made of HTML where a mail has only that."""

import re
from dataclasses import dataclass
from html import unescape

__all__ = ["Anchor", "read_markup", "visible", "visible_line"]

_BIDI = "\u202a-\u202e\u2066-\u2069"
_UNSHOWABLE = re.compile(rf"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff{_BIDI}]")
_UNSHOWABLE_IN_LINE = re.compile(rf"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff{_BIDI}]")
_WINDOWS_1252 = {octet: bytes([octet]).decode("cp1252", "replace") for octet in range(0x80, 0xA0)}
"""What mail means that is labelled ISO 8859-1 and holds controls of it."""

# Of the sanitiser's own output: every attribute is in double quotes, no text holds a ``<``.
_TOKEN = re.compile(r'<(/?)([a-z0-9]+)((?:[^>"]|"[^"]*+")*+)>|[^<]+|<')
_ATTRIBUTE = re.compile(r' (href|alt)="([^"]*+)"')
_SPACE = re.compile(r"[ \t\r\n\f]+")
_EMPTY_LINES = re.compile(r"\n[ \n]*\n")
_BLOCKS = frozenset(
    """address article aside blockquote caption center dd details dir div dl dt figcaption figure footer h1 h2 h3
    h4 h5 h6 header hr li main menu nav ol p pre section summary table tr ul""".split()
)
_PARAGRAPHS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "blockquote", "table", "dl", "pre"})
_ANCHORS_LIMIT = 1000
_ANCHOR_TEXT_LIMIT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A link of HTML: what one reads, and where it leads."""

    text: str
    href: str


def visible(text: str) -> str:
    """The text with U+FFFD for controls (tab and line breaks stay), direction overrides and half characters."""
    return _UNSHOWABLE.sub("\ufffd", text.translate(_WINDOWS_1252))


def visible_line(text: str, limit: int = 2000) -> str:
    """One line of such text: at most that many characters, an ellipsis for what is left out."""
    line = text[: limit + 1].replace("\t", " ").translate(_WINDOWS_1252)
    line = _UNSHOWABLE_IN_LINE.sub("\ufffd", line)
    return line if len(line) <= limit else f"{line[:limit]}…"


def read_markup(markup: str) -> tuple[str, tuple[Anchor, ...]]:
    """The text that sanitised HTML shows, with line breaks where its blocks are, and its links in order."""
    pieces: list[str] = []
    anchors: list[Anchor] = []
    href, anchor_start, preformatted = "", 0, 0
    for token in _TOKEN.finditer(markup):
        closing, name = token[1], token[2]
        if name is None:
            text = unescape(token[0])
            pieces.append(text if preformatted else _SPACE.sub(" ", text))
            continue
        if name == "a":
            if href and len(anchors) < _ANCHORS_LIMIT:
                shown = _SPACE.sub(" ", "".join(pieces[anchor_start:])).strip()
                anchors.append(Anchor(text=visible_line(shown, _ANCHOR_TEXT_LIMIT), href=href))
            href, anchor_start = "" if closing else _attribute(token[3], "href"), len(pieces)
        elif name == "img":
            if alt := _attribute(token[3], "alt").strip():
                pieces.append(f"[{alt}]")
        elif name == "br":
            pieces.append("\n")
        elif name in ("td", "th"):
            pieces.append(" ")
        elif name in _BLOCKS:
            pieces.append("\n\n" if name in _PARAGRAPHS else "\n")
            if name == "li" and not closing:
                pieces.append("- ")
            if name == "pre":
                preformatted = max(preformatted + (-1 if closing else 1), 0)
    lines = (line.strip(" \t\r\f\xa0") for line in "".join(pieces).split("\n"))
    return visible(_EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip("\n")), tuple(anchors)


def _attribute(attributes: str, name: str) -> str:
    for found, value in _ATTRIBUTE.findall(attributes):
        if found == name:
            return visible_line(unescape(value), 4000)
    return ""
