"""HTML of a hostile mail as a document that looks like it and can do nothing.

Three walls: the sanitiser lets in tags, attributes and URLs by name; the document's own
Content-Security-Policy forbids scripts, forms and remote loads; and the page shows it in a sandboxed
frame without scripts and of no origin.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import islice
from typing import Literal

import nh3

from gatepost.mime.html import Token, tokens
from gatepost.values import value
from gatepost.web.view.css import STYLESHEET_LIMIT, clean_declarations, clean_media, clean_stylesheet
from gatepost.web.view.images import Images
from gatepost.web.view.nesting import Nesting
from gatepost.web.view.removed import ELEMENTS, MARKED, STYLE, Removed, marker, removed_element

__all__ = ["Colors", "Document", "in_colors", "make_document"]

Colors = Literal["light", "dark"]
"""The colour scheme that a mail program prefers (the media feature ``prefers-color-scheme``)."""

_HTML_LIMIT = 1 << 20
"""Characters of the source that are shown, of all parts together."""
_TAGS_LIMIT = 12_000
"""And comments; of all parts together."""
_SPECIAL = re.compile("[&<\xa0]")
_SPECIAL_LIMIT = 40_000
"""What the sanitiser writes as character references; in one text its time grows with their square."""
_ATTRIBUTES_LIMIT = 200
"""Of one tag; the parser's time grows with their square. One with more is left out."""

_LEFT_OUT = frozenset({"html", "head", "meta", "link", "base"})
_MEDIA = re.compile(r"""\bmedia\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.IGNORECASE)
_BODY = re.compile(r"<div([^<]*)></div>")

_TAGS = frozenset(
    """
    a abbr acronym address area article aside b bdi bdo big blockquote br caption center cite code col
    colgroup dd del details dfn dir div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header
    hr i img ins kbd li main map mark menu nav nobr ol p pre q rp rt ruby s samp section small span
    strike strong sub summary sup table tbody td tfoot th thead time tr tt u ul var wbr
    """.split()  # noqa: SIM905 # one a line fills pages
)
_HIDDEN_TAGS = frozenset(
    """
    applet audio canvas embed frame frameset iframe math noembed noframes object script select style svg
    template textarea title video xmp
    """.split()  # noqa: SIM905 # one a line fills pages
)
"""Left out with all that is in them."""
_KNOWN_TAGS = _TAGS | _HIDDEN_TAGS
_EMPTY_TAGS = frozenset({"embed", "frame"})
"""Those of them that have no end tag."""
_SIZES = {"align", "valign", "bgcolor", "background", "width", "height", "border"}
_CELL = _SIZES | {"colspan", "rowspan", "nowrap", "scope", "headers", "abbr", "axis"}
_ATTRIBUTES = {
    "*": {"style", "class", "id", "dir", "lang", "title", "align", "role", "hidden"},
    "a": {"href", "name"},
    "area": {"href", "alt", "shape", "coords"},
    "img": {"src", "alt", "width", "height", "border", "hspace", "vspace", "usemap"},
    "map": {"name"},
    "font": {"color", "face", "size"},
    "table": _SIZES | {"cellpadding", "cellspacing", "bordercolor", "frame", "rules", "summary"},
    "tbody": _SIZES,
    "thead": _SIZES,
    "tfoot": _SIZES,
    "tr": _SIZES | {"bordercolor"},
    "td": _CELL | {"bordercolor"},
    "th": _CELL | {"bordercolor"},
    "col": {"span", "width", "valign"},
    "colgroup": {"span", "width", "valign"},
    "div": {"bgcolor", "background", "text", "link", "vlink", "alink"},  # for body too
    "hr": {"color", "noshade", "size", "width"},
    "ol": {"start", "type", "reversed"},
    "ul": {"type"},
    "li": {"type", "value"},
    "details": {"open"},
    "br": {"clear"},
    "pre": {"width"},
}
_LINK = re.compile(r"https?://|mailto:|tel:|#", re.IGNORECASE)
_LANGUAGE = re.compile(r' (?:dir|lang)="[^"<>]*"')
_PLACE_IN_PAGE = re.compile(r'(<(?:a|area)\b[^<>]* href="#[^"]*"[^<>]*?) target="_blank"')
"""As the sanitiser writes it."""

_META_NAME = re.compile(r"""\bname\s*=\s*["']?(?:color-scheme|supported-color-schemes)\b""", re.IGNORECASE)
_META_DARK = re.compile(r"""\bcontent\s*=\s*(?:"[^"]*\bdark\b|'[^']*\bdark\b|dark\b)""", re.IGNORECASE)
_CSS_DARK = re.compile(
    r"(?<![\w-])(?:color-scheme|supported-color-schemes)\s*:\s*[\w\s-]{0,100}\bdark\b", re.IGNORECASE
)
_DARK_RULES = re.compile(r"prefers-color-scheme\s*:\s*dark", re.IGNORECASE)
_PREFERENCE = re.compile(r"\(\s*prefers-color-scheme\s*:\s*(dark|light)\s*\)", re.IGNORECASE)
_HEAD_END = "</style></head>"
_MARKERS_LIMIT = 200

_STYLE = """\
html{color-scheme:light;color:#1c1c1e;font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
body{margin:16px;overflow-wrap:anywhere}
img{max-width:100%}
img:not([src]){background:#f4f4f5;color:#71717a;font-size:12px}
pre{white-space:pre-wrap}
.gatepost-plain{font:inherit;margin:1em 0}
"""
_DARK_STYLE = """\
@media (prefers-color-scheme: dark){html{color-scheme:dark;color:#e9e9ec}body{background-color:#1c1c1e}}
"""
"""For a mail that says that it has both, as Apple Mail does."""


@value
class Document:
    """A sanitised HTML mail."""

    html: str
    """The whole document, for a sandboxed frame."""
    markup: str
    """The sanitised content of its body."""
    cut: bool
    """True where the mail is longer than what is shown."""
    dark: bool
    """True where the mail has styles for programs with a dark background."""
    removed: tuple[Removed, ...]
    """Elements that were left out, and that a reader might miss."""


@dataclass(slots=True)
class _Source:
    """The mail's HTML, tokenised: without comments, raw text and what is too much for the parser."""

    markup: str = ""
    styles: str = ""
    html_attributes: str = ""
    body_attributes: str = ""
    cut: bool = False
    declares_dark: bool = False
    """True where it says that it has colours of its own for both."""
    removed: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Room:
    """How much more of a mail's HTML is shown."""

    characters: int = _HTML_LIMIT
    tags: int = _TAGS_LIMIT
    special: int = _SPECIAL_LIMIT
    styles: int = STYLESHEET_LIMIT


def in_colors(html: str, colors: Colors) -> str:
    """A document as it looks where those colours are preferred, whatever the browser itself prefers.

    A frame's ``color-scheme`` would do this in some browsers only, and it loses against the developer tools.
    """
    head, end, body = html.partition(_HEAD_END)
    head = _PREFERENCE.sub(
        lambda found: "(min-width:0)" if found[1].lower() == colors else "(max-width:0)", head
    )
    return head + end + body


def make_document(texts: Sequence[tuple[str, str]], images: Images) -> Document:
    """The document of some texts, each with its content type; others than text/html as they are."""
    markups: list[str] = []
    styles: list[str] = []
    html_attributes, body_attributes, cut, declares_dark = "", "", False, False
    removed: Counter[str] = Counter()
    room = _Room()
    for content_type, text in texts:
        if content_type != "text/html":
            markups.append(f'<pre class="gatepost-plain">{escape(text)}</pre>')
            continue
        source = _read(text, images, room)
        markups.append(_clean(source.markup, images))
        styles.append(source.styles)
        html_attributes = html_attributes or source.html_attributes
        body_attributes = body_attributes or source.body_attributes
        cut = cut or source.cut
        declares_dark = declares_dark or source.declares_dark
        removed += source.removed
    css = "".join(styles)
    own = _STYLE + (STYLE if removed else "") + (_DARK_STYLE if declares_dark else "")
    markup = "\n".join(markups)
    html = (
        f'<!doctype html><html{_clean_root(html_attributes, images)}><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(remote=images.remote)}">'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{own}{css}{_HEAD_END}"
        f"<body{_clean_body(body_attributes, images)}>{markup}</body></html>"
    )
    return Document(
        html=html,
        markup=markup,
        cut=cut,
        dark=declares_dark or bool(_DARK_RULES.search(css)),
        removed=tuple([Removed(element=element, count=count) for element, count in removed.items()]),
    )


def _policy(*, remote: bool) -> str:
    images = "data: http: https:" if remote else "data:"
    return (
        f"default-src 'none'; img-src {images}; style-src 'unsafe-inline'; "
        "form-action 'none'; base-uri 'none'"
    )


def _read(text: str, images: Images, room: _Room) -> _Source:
    source = _Source(cut=len(text) > room.characters)
    text = text[: room.characters]
    room.characters -= len(text)
    kept: list[str] = []
    removing, nesting = _Removing(source.removed), Nesting()
    position = 0
    for token in tokens(text):
        kept.append(text[position : token.start])
        position = token.end
        room.tags -= 1
        if room.tags < 0:
            source.cut = True
            position = len(text)
            break
        if not token.complete or token.name == "plaintext":
            position = len(text)
            break
        kept.append(removing.marker(token))
        if token.content is not None:
            # Tags in it are none, nor is it text of the mail; of style the rules are kept.
            if token.name == "style":
                source.styles += _style(token.content[: room.styles], token.attributes, images)
                source.cut = source.cut or len(token.content) > room.styles
                room.styles -= min(len(token.content), room.styles)
                source.declares_dark = source.declares_dark or bool(_CSS_DARK.search(token.content))
        elif token.name == "html":
            source.html_attributes = source.html_attributes or ("" if token.closing else token.attributes)
        elif token.name == "body":
            source.body_attributes = source.body_attributes or ("" if token.closing else token.attributes)
        elif token.name == "meta":
            source.declares_dark = source.declares_dark or _declares_dark(token.attributes)
        elif token.name and not _is_left_out(token):
            kept.append(text[token.start : token.end])
            if not nesting.take(token.name, token.attributes, closing=token.closing):
                source.cut = True
                position = len(text)
                break
    kept.append(text[position:])
    source.markup = "".join(kept)
    special = source.markup.count("&") + source.markup.count("<") + source.markup.count("\xa0")
    if special > room.special:
        end = next(islice(_SPECIAL.finditer(source.markup), room.special, None)).start()
        source.markup, source.cut = source.markup[:end], True
    room.special -= min(special, room.special)
    return source


class _Removing:
    """Counts the elements that a reader might miss, and marks where they were.

    The marks are put into the source: what comes of them is sanitised like all else.
    """

    def __init__(self, removed: Counter[str]) -> None:
        self._removed = removed
        self._in_form = False
        self._within = ""
        """The hidden element that is open: a mark in it could end it, and what is in it is hidden with it."""
        self._depth = 0
        self._markers = 0

    def marker(self, token: Token) -> str:
        """What is to be put before the token, mostly nothing."""
        if not self._within and token.name not in ELEMENTS:
            return ""
        is_empty = token.name in _EMPTY_TAGS or token.attributes.endswith("/")
        if self._within:
            if token.name == self._within and not is_empty:
                self._depth += -1 if token.closing else 1
                self._within = self._within if self._depth else ""
            return ""
        if token.name == "form":
            self._in_form = not token.closing
        element = "" if token.closing else removed_element(token.name, token.attributes)
        if not element or (element == "field" and self._in_form):
            return ""
        if token.name in _HIDDEN_TAGS and token.content is None and not is_empty:
            self._within, self._depth = token.name, 1
        self._removed[element] += 1
        shows = element in MARKED and self._markers < _MARKERS_LIMIT
        self._markers += shows
        return marker(element) if shows else ""


def _declares_dark(attributes: str) -> bool:
    return bool(_META_NAME.search(attributes) and _META_DARK.search(attributes))


def _is_left_out(token: Token) -> bool:
    """True for a tag that means nothing in the body, and that the parser is spared."""
    if token.name in _LEFT_OUT:
        return True
    if len(token.attributes) > _ATTRIBUTES_LIMIT and _is_crowded(token.attributes):
        return True
    # To the parser a foreign element is open until its end tag comes, except within svg and math.
    return token.attributes.endswith("/") and token.name not in _KNOWN_TAGS


def _is_crowded(attributes: str) -> bool:
    return attributes.count("=") > _ATTRIBUTES_LIMIT or len(attributes.split()) > _ATTRIBUTES_LIMIT


def _style(text: str, attributes: str, images: Images) -> str:
    rules = clean_stylesheet(text, images.source)
    media = _MEDIA.search(attributes)
    if not media or not rules:
        return rules
    condition = clean_media(media[1] or media[2] or media[3] or "all")
    return "" if condition is None else f"@media {condition}{{{rules}}}"


def _clean_root(attributes: str, images: Images) -> str:
    """The direction and the language of the html element."""
    cleaned = _clean(f"<div {attributes}></div>", images) if attributes else ""
    return "".join(_LANGUAGE.findall(cleaned.partition(">")[0]))


def _clean_body(attributes: str, images: Images) -> str:
    """The safe attributes of the body element, which the sanitiser itself would leave out."""
    found = _BODY.fullmatch(_clean(f"<div {attributes}></div>", images)) if attributes else None
    safe = found[1] if found else ""
    # As an attribute, so that the mail's own style sheet has the last word.
    return safe if " bgcolor=" in safe else f'{safe} bgcolor="#ffffff"'


def _clean(markup: str, images: Images) -> str:
    styles: dict[str, str] = {}

    def clean_style(value: str) -> str:
        if "(" in value:  # an image counts each time
            return clean_declarations(value, images.source)
        if value not in styles:
            styles[value] = clean_declarations(value, images.source)
        return styles[value]

    def clean_attribute(tag: str, name: str, value: str) -> str | None:
        if tag not in _TAGS:  # it is left out, and no image of it is missed
            return None
        match name:
            case "style":
                return clean_style(value) or None
            case "href":
                value = value.strip()
                return value if _LINK.match(value) else None
            case "src" | "background":
                return images.source(value)
            case "usemap":
                return value if value.startswith("#") else None
            case _:
                return value

    cleaned = nh3.clean(
        markup,
        tags=_TAGS,
        clean_content_tags=_HIDDEN_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=clean_attribute,
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={
            "a": {"target": "_blank"},
            "area": {"target": "_blank", "rel": "noopener noreferrer nofollow"},
        },
        url_schemes={"http", "https", "mailto", "tel", "cid", "data"},
    )
    return _PLACE_IN_PAGE.sub(r"\1", cleaned)
