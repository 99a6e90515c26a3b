"""Text for people: without characters that hide something, and made of HTML where a mail has only that."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from gatepost.values import value

__all__ = ["Anchor", "Reading", "joins", "read_markup", "visible", "visible_line"]

_BIDI = "\u202a-\u202e\u2066-\u2069"
_UNSHOWABLE = re.compile(rf"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff{_BIDI}]")
_UNSHOWABLE_IN_LINE = re.compile(rf"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff{_BIDI}]")
_JOINING = (
    "\u0600-\u109f\u1700-\u18af\u1900-\u1cff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefc"
    "\U00010a00-\U00011fff\U0001e900-\U0001e95f"
)
"""Scripts in which U+200C and U+200D decide how letters are written: from Arabic to Javanese."""
_VIRAMA = (
    "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d3b\u0d3c\u0d4d\u0dca\u0f84\u1039\u103a\u17d2"
    "\u1a60\u1b44\u1baa\u1bab\ua806\ua8c4\ua953\ua9c0\uabed"
)
_PICTURE = (
    "\u203c\u2049\u2122\u2139\u2190-\u2bff\u3030-\u3299\ufe0f\U0001f000-\U0001faff\U000e0020-\U000e007f"
)
_JOINER = re.compile(
    rf"(?<=[{_VIRAMA}])[\u200c\u200d]"
    rf"|(?<=[{_JOINING}])\u200c(?=\w|[{_JOINING}])|(?<=\w)\u200c(?=[{_JOINING}])"
    rf"|(?<=[{_JOINING}])\u200d|(?<=[{_PICTURE}])\u200d(?=[{_PICTURE}])"
)
"""Where they belong: after a virama, at a letter of such a script, in an emoji (RFC 5892 appendix A.1)."""
_WINDOWS_1252 = {octet: bytes([octet]).decode("cp1252", "replace") for octet in range(0x80, 0xA0)}
"""What mail means that is labelled ISO 8859-1 and holds controls of it."""
_CONTROLS_1 = re.compile("[\x80-\x9f]")

_TAG = re.compile(r"""<(/?)([a-z][a-z0-9]*+)((?:[ ][^\s=>"]++="[^"]*+")*+)>""")
_ATTRIBUTE = re.compile(r' (href|alt|style|hidden|class|bgcolor)="([^"]*+)"')
"""As the sanitiser writes them: names in lower case, every attribute is in double quotes."""
_REFERENCES = {"&nbsp;": "\xa0", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'", "&amp;": "&"}
"""All character references that are in sanitised HTML, and in text that was escaped; the ampersand last."""
_SPACE = re.compile(r"[ \t\r\n\f]{2,}|[\t\r\n\f]")
"""But for the single blanks between words."""
_ALTERNATIVES = re.compile(r"\[[^\[\]]*+\]")
"""How images are read."""
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
_VOID = frozenset({"area", "br", "col", "hr", "img", "wbr"})
_HIDING = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|opacity\s*:\s*0?\.?0*\s*(?:;|!|$)"
    r"|(?:font-size|max-height|max-width|height|width)\s*:\s*0(?:\.0*)?[a-z%]*\s*(?:;|!|$))",
    re.IGNORECASE,
)
"""Declarations of an element whose text nobody sees."""
_FILLED = re.compile(
    r"(?:^|;)\s*(?:background(?:-color)?\s*:\s*(?!none|transparent|inherit|initial|white\b|#fff(?:fff)?\b|rgba?\(\s*255"
    r"\s*,\s*255\s*,\s*255)|border(?:-(?:top|bottom|color|style|width))?\s*:\s*(?!0|none))",
    re.IGNORECASE,
)
"""Declarations that make a link look like a button: a fill or a border."""
_WHITE = re.compile(r"\s*(?:#?fff(?:fff)?|white|transparent)?\s*", re.IGNORECASE)
_BUTTON_CLASS = re.compile(r"(?:^|[\s_-])(?:btn|button|cta)(?:$|[\s_-])", re.IGNORECASE)
_ATTRIBUTE_LIMIT = 4000
_BEFORE_LIMIT = 160
_ANCHORS_LIMIT = 1000
_ANCHOR_TEXT_LIMIT = 200


@value
class Anchor:
    """A link of HTML: what one reads, and where it leads."""

    text: str
    href: str
    before: str = ""
    """The end of the text before it."""
    is_button: bool = False
    """True if it looks like a button: by its fill or border, those of its cell, or the name of its class."""
    is_image: bool = False
    """True if there is nothing in it but images; the text is their alternative text."""
    is_hidden: bool = False
    """True if the mail's styles hide it."""


@value
class Reading:
    """What sanitised HTML says, with line breaks where its blocks are."""

    text: str
    shown: str
    """The text without what the mail's styles hide."""
    hidden: str
    """What they hide."""
    anchors: tuple[Anchor, ...]
    """In order."""


def joins(text: str, position: int) -> bool:
    """True for a U+200C or U+200D that a script or an emoji needs; elsewhere it only hides a difference."""
    return _JOINER.match(text, position) is not None


def visible(text: str) -> str:
    """The text with U+FFFD for controls (not tab and line breaks), direction overrides and surrogates."""
    if not text.isascii() and _CONTROLS_1.search(
        text
    ):  # looked for first: to translate takes ten times as long
        text = text.translate(_WINDOWS_1252)
    return _UNSHOWABLE.sub("\ufffd", text)


def visible_line(text: str, limit: int = 2000) -> str:
    """One line of such text: at most that many characters, an ellipsis for what is left out."""
    line = text[: limit + 1].replace("\t", " ").translate(_WINDOWS_1252)
    line = _UNSHOWABLE_IN_LINE.sub("\ufffd", line)
    return line if len(line) <= limit else f"{line[:limit]}…"


def read_markup(markup: str) -> Reading:
    """Read sanitised HTML, in which every element that has content is closed."""
    reader = _Reader()
    position = 0
    for tag in _TAG.finditer(markup):
        start, end = tag.span()
        reader.characters(_unescaped(markup[position:start]))
        position = end
        closing, name, attributes = tag.groups()
        if closing:
            reader.close(name)
        else:
            reader.open(name, attributes)
    reader.characters(_unescaped(markup[position:]))
    pieces = reader.pieces
    text = _joined(pieces)
    if not any(reader.hidden):
        return Reading(text=text, shown=text, hidden="", anchors=tuple(reader.anchors))
    return Reading(
        text=text,
        shown=_joined([piece for piece, hidden in zip(pieces, reader.hidden, strict=True) if not hidden]),
        hidden=_joined([piece for piece, hidden in zip(pieces, reader.hidden, strict=True) if hidden]),
        anchors=tuple(reader.anchors),
    )


def _joined(pieces: Iterable[str]) -> str:
    lines = (line.strip(" \t\r\f\xa0") for line in "".join(pieces).split("\n"))
    return visible(_EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip("\n"))


class _Reader:
    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.hidden: list[bool] = []
        """Of each piece."""
        self._depth = 0
        """How many open elements there are from the first that is hidden on."""
        self.anchors: list[Anchor] = []
        self._breaks = 0
        """Line breaks before the next characters."""
        self._preformatted = 0
        self._anchor: Anchor | None = None
        self._anchor_start = 0
        self._has_image = False
        self._cells: list[tuple[bool, int, int]] = []
        """Of each open cell: whether it looks like a button; how many pieces and anchors are before it."""

    def characters(self, text: str) -> None:
        if not text:
            return
        if not self._preformatted:
            text = _SPACE.sub(" ", text)
            if self._breaks or (self.pieces and self.pieces[-1].endswith(" ")):
                text = text.lstrip(" ")
            if not text:
                return
        self.pieces.append("\n" * self._breaks + text)
        self.hidden.append(self._depth > 0)
        self._breaks = 0

    def open(self, name: str, attributes: str) -> None:
        values = dict(_ATTRIBUTE.findall(attributes)) if attributes else {}
        if name not in _VOID and (self._depth or _is_hidden(values)):
            self._depth += 1
        if name == "a":
            self._end_anchor()
            self._begin_anchor(values)
        elif name == "br":
            self._breaks = min(self._breaks + 1, 2)
        elif name == "img":
            self._has_image = True
            if alt := visible_line(_attribute(values, "alt"), _ATTRIBUTE_LIMIT).strip():
                self.characters(f" [{alt}] ")
        elif name in ("td", "th"):
            self.characters(" ")
            self._cells.append((_is_button(values), len(self.pieces), len(self.anchors)))
        else:
            self._block(name)
            self._preformatted += name == "pre"
            if name == "li":
                self.characters("- ")

    def close(self, name: str) -> None:
        self._depth -= self._depth > 0
        if name == "a":
            self._end_anchor()
        elif name in ("td", "th"):
            self._end_cell()
        else:
            self._block(name)
            self._preformatted -= name == "pre" and self._preformatted > 0

    def _block(self, name: str) -> None:
        if name in _BLOCKS:
            self._breaks = max(self._breaks, 2 if name in _PARAGRAPHS else 1)

    def _begin_anchor(self, values: Mapping[str, str]) -> None:
        href = visible_line(_attribute(values, "href"), _ATTRIBUTE_LIMIT)
        if not href or href.startswith("#") or len(self.anchors) >= _ANCHORS_LIMIT:
            return
        self._anchor_start, self._has_image = len(self.pieces), False
        self._anchor = Anchor(
            text="",
            href=href,
            before=_line("".join([piece[-_BEFORE_LIMIT:] for piece in self.pieces[-20:]])[-_BEFORE_LIMIT:]),
            is_button=_is_button(values),
            is_hidden=self._depth > 0,
        )

    def _end_anchor(self) -> None:
        if self._anchor is None:
            return
        text = _line("".join(self.pieces[self._anchor_start :]))
        is_image = self._has_image and not _ALTERNATIVES.sub("", text).strip()
        anchor = replace(self._anchor, text=visible_line(text, _ANCHOR_TEXT_LIMIT), is_image=is_image)
        self.anchors.append(anchor)
        self._anchor = None

    def _end_cell(self) -> None:
        """A link that is alone in a cell which looks like a button is one."""
        if not self._cells:
            return
        is_button, piece, number = self._cells.pop()
        if is_button and len(self.anchors) == number + 1:
            anchor = self.anchors[number]
            text = _line("".join([one[: 2 * _ANCHOR_TEXT_LIMIT] for one in self.pieces[piece : piece + 20]]))
            if visible_line(text, _ANCHOR_TEXT_LIMIT) == anchor.text:
                self.anchors[number] = replace(anchor, is_button=True)


def _unescaped(text: str) -> str:
    if "&" in text:
        for reference, character in _REFERENCES.items():
            text = text.replace(reference, character)
    return text


def _line(text: str) -> str:
    return " ".join(text.split())


def _is_button(values: Mapping[str, str]) -> bool:
    return bool(
        _FILLED.search(_attribute(values, "style"))
        or _BUTTON_CLASS.search(_attribute(values, "class"))
        or not _WHITE.fullmatch(_attribute(values, "bgcolor"))
    )


def _is_hidden(values: Mapping[str, str]) -> bool:
    return "hidden" in values or bool(_HIDING.search(_attribute(values, "style")))


def _attribute(values: Mapping[str, str], name: str) -> str:
    return _unescaped(values.get(name, ""))[:_ATTRIBUTE_LIMIT]
