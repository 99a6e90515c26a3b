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
_TOKEN = re.compile(r'<(/?)([a-z0-9]+)((?:[^>"]|"[^"]*+")*)>|[^<]+|<')
_ATTRIBUTE = re.compile(r' (href|alt)="([^"]*+)"')
_SPACE = re.compile(r"[ \t\r\n\f]+")
_EMPTY_LINES = re.compile(r"\n[ \n]*\n")
_BLOCKS = frozenset(
    """
    address article aside blockquote caption center dd details dir div dl dt figcaption figure footer h1
    h2 h3 h4 h5 h6 header hr li main menu nav ol p pre section summary table tr ul
    """.split()  # noqa: SIM905 # one a line fills pages
)
_PARAGRAPHS = frozenset(
    {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "blockquote", "table", "dl", "pre"}
)
_ANCHORS_LIMIT = 1000
_ANCHOR_TEXT_LIMIT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A link of HTML: what one reads, and where it leads."""

    text: str
    href: str


def visible(text: str) -> str:
    """The text with U+FFFD for controls (not tab and line breaks), direction overrides and surrogates."""
    return _UNSHOWABLE.sub("\ufffd", text.translate(_WINDOWS_1252))


def visible_line(text: str, limit: int = 2000) -> str:
    """One line of such text: at most that many characters, an ellipsis for what is left out."""
    line = text[: limit + 1].replace("\t", " ").translate(_WINDOWS_1252)
    line = _UNSHOWABLE_IN_LINE.sub("\ufffd", line)
    return line if len(line) <= limit else f"{line[:limit]}…"


def read_markup(markup: str) -> tuple[str, tuple[Anchor, ...]]:
    """The text that sanitised HTML shows, with line breaks where its blocks are, and its links in order."""
    reader = _Reader()
    for token in _TOKEN.finditer(markup):
        if token[2] is None:
            reader.characters(unescape(token[0]))
        elif token[1]:
            reader.close(token[2])
        else:
            reader.open(token[2], token[3])
    lines = (line.strip(" \t\r\f\xa0") for line in "".join(reader.pieces).split("\n"))
    return visible(_EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip("\n")), tuple(reader.anchors)


class _Reader:
    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.anchors: list[Anchor] = []
        self._breaks = 0
        """Line breaks before the next characters."""
        self._preformatted = 0
        self._href = ""
        self._anchor_start = 0

    def characters(self, text: str) -> None:
        if not self._preformatted:
            text = _SPACE.sub(" ", text)
            if self._breaks or (self.pieces and self.pieces[-1].endswith(" ")):
                text = text.lstrip(" ")
            if not text:
                return
        self.pieces.append("\n" * self._breaks + text)
        self._breaks = 0

    def open(self, name: str, attributes: str) -> None:
        if name == "a":
            self._end_anchor()
            self._href, self._anchor_start = _attribute(attributes, "href"), len(self.pieces)
        elif name == "br":
            self._breaks = min(self._breaks + 1, 2)
        elif name == "img":
            if alt := _attribute(attributes, "alt").strip():
                self.characters(f" [{alt}] ")
        elif name in ("td", "th"):
            self.characters(" ")
        else:
            self._block(name)
            self._preformatted += name == "pre"
            if name == "li":
                self.characters("- ")

    def close(self, name: str) -> None:
        if name == "a":
            self._end_anchor()
        else:
            self._block(name)
            self._preformatted -= name == "pre" and self._preformatted > 0

    def _block(self, name: str) -> None:
        if name in _BLOCKS:
            self._breaks = max(self._breaks, 2 if name in _PARAGRAPHS else 1)

    def _end_anchor(self) -> None:
        if self._href and len(self.anchors) < _ANCHORS_LIMIT:
            text = " ".join("".join(self.pieces[self._anchor_start :]).split())
            self.anchors.append(Anchor(text=visible_line(text, _ANCHOR_TEXT_LIMIT), href=self._href))
        self._href = ""


def _attribute(attributes: str, name: str) -> str:
    for found, value in _ATTRIBUTE.findall(attributes):
        if found == name:
            return visible_line(unescape(value), 4000)
    return ""
