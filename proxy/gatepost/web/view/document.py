"""HTML of a hostile mail as a document that looks like it and can do nothing.

Three walls: the sanitiser lets in tags, attributes and URLs by name; the document's own
Content-Security-Policy forbids scripts, forms and remote loads; and the page shows it in a sandboxed
frame without scripts and of no origin.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import nh3

from gatepost.web.view.css import clean_declarations, clean_media, clean_stylesheet
from gatepost.web.view.images import Images

__all__ = ["Document", "make_document"]

_HTML_LIMIT = 2 << 20
"""Characters of the source that are shown."""
_TAGS_LIMIT = 20_000
"""The parser's time grows with the square of the depth; this many nested ones cost about half a second."""
_ATTRIBUTES_LIMIT = 200
"""Of one tag; the parser's time grows with their square. One with more is left out."""

# By the tokeniser of the HTML standard, so that nobody can make the limits count something else.
_TAG = re.compile(
    r"""<(/?)([a-zA-Z][^\s/>]*+)
    ((?:[\s/]++|[^\s/>][^\s/>=]*+(?:\s*+=\s*+(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^\s>"'][^\s>]*+)?)?)*+)
    (>|\Z)""",
    re.VERBOSE,
)
_MARKUP = re.compile(r"<(?=[a-zA-Z/!?])")
_COMMENT_END = re.compile(r"--!?>")
_RAW = frozenset({"iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp"})
"""Tags in them are none, nor is it text of the mail; of style the rules are kept."""
_RAW_ENDS = {name: re.compile(rf"</{name}(?=[\s/>]|\Z)", re.IGNORECASE) for name in _RAW}
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
_SIZES = {"align", "valign", "bgcolor", "background", "width", "height", "border"}
_CELL = _SIZES | {"colspan", "rowspan", "nowrap", "scope", "headers", "abbr", "axis"}
_ATTRIBUTES = {
    "*": {"style", "class", "id", "dir", "lang", "title", "align", "role"},
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
    "div": {"bgcolor", "background", "text", "link", "vlink", "alink"},  # stands for body too
    "hr": {"color", "noshade", "size", "width"},
    "ol": {"start", "type", "reversed"},
    "ul": {"type"},
    "li": {"type", "value"},
    "details": {"open"},
    "br": {"clear"},
    "pre": {"width"},
}
_LINK = re.compile(r"(?:https?://|mailto:|tel:)", re.IGNORECASE)

_STYLE = """\
html{color-scheme:light;color:#1c1c1e;font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
body{margin:16px;overflow-wrap:anywhere}
img{max-width:100%}
img:not([src]){background:#f4f4f5;color:#71717a;font-size:12px}
pre{white-space:pre-wrap}
.gatepost-plain{font:inherit;margin:1em 0}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A sanitised HTML mail."""

    html: str
    """The whole document, for a sandboxed frame."""
    markup: str
    """The sanitised content of its body."""
    cut: bool
    """True where the mail is longer than what is shown."""


@dataclass(slots=True)
class _Source:
    """The mail's HTML, tokenised: without comments, raw text and what is too much for the parser."""

    markup: str = ""
    styles: str = ""
    body_attributes: str = ""
    cut: bool = False


def make_document(texts: Sequence[tuple[str, str]], images: Images) -> Document:
    """The document of some texts, each with its content type; others than text/html as they stand."""
    markups: list[str] = []
    styles: list[str] = []
    body_attributes, cut = "", False
    for content_type, text in texts:
        if content_type != "text/html":
            markups.append(f'<pre class="gatepost-plain">{escape(text)}</pre>')
            continue
        source = _read(text, images)
        markups.append(_clean(source.markup, images))
        styles.append(source.styles)
        body_attributes = body_attributes or source.body_attributes
        cut = cut or source.cut
    markup = "\n".join(markups)
    html = (
        '<!doctype html><html><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(remote=images.remote)}">'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}{''.join(styles)}</style></head>"
        f"<body{_clean_body(body_attributes, images)}>{markup}</body></html>"
    )
    return Document(html=html, markup=markup, cut=cut)


def _policy(*, remote: bool) -> str:
    images = "data: http: https:" if remote else "data:"
    return (
        f"default-src 'none'; img-src {images}; style-src 'unsafe-inline'; "
        "form-action 'none'; base-uri 'none'"
    )


def _read(text: str, images: Images) -> _Source:
    source = _Source(cut=len(text) > _HTML_LIMIT)
    text = text[:_HTML_LIMIT]
    kept: list[str] = []
    position = tags = 0
    while mark := _MARKUP.search(text, position):
        start = mark.start()
        kept.append(text[position:start])
        tag = _TAG.match(text, start)
        if not tag:
            position = _comment_end(text, start)
            continue
        position = tag.end()
        closing, name = tag[1], tag[2].lower()
        if tag[4] != ">":
            break
        if name in _RAW and not closing:
            end = _raw_end(text, name, position)
            if name == "style":
                source.styles += _style(text[position:end], tag[3], images)
            position = end
        elif name == "body":
            source.body_attributes = source.body_attributes or ("" if closing else tag[3])
        elif name == "plaintext":
            break
        elif name not in _LEFT_OUT and not (len(tag[3]) > _ATTRIBUTES_LIMIT and _is_crowded(tag[3])):
            kept.append(tag[0])
            tags += 1
            if tags >= _TAGS_LIMIT:
                source.cut = True
                position = len(text)
                break
    else:
        kept.append(text[position:])
    source.markup = "".join(kept)
    return source


def _comment_end(text: str, start: int) -> int:
    if not text.startswith("<!--", start):
        end = text.find(">", start)
        return len(text) if end < 0 else end + 1
    if text.startswith((">", "->"), start + 4):
        return text.index(">", start) + 1
    found = _COMMENT_END.search(text, start + 4)
    return found.end() if found else len(text)


def _raw_end(text: str, name: str, start: int) -> int:
    found = _RAW_ENDS[name].search(text, start)
    return found.start() if found else len(text)


def _is_crowded(attributes: str) -> bool:
    return attributes.count("=") > _ATTRIBUTES_LIMIT or len(attributes.split()) > _ATTRIBUTES_LIMIT


def _style(text: str, attributes: str, images: Images) -> str:
    rules = clean_stylesheet(text, images.source)
    media = _MEDIA.search(attributes)
    if not media or not rules:
        return rules
    condition = clean_media(media[1] or media[2] or media[3] or "all")
    return "" if condition is None else f"@media {condition}{{{rules}}}"


def _clean_body(attributes: str, images: Images) -> str:
    """The safe attributes of the body element, which the sanitiser itself would leave out."""
    found = _BODY.fullmatch(_clean(f"<div {attributes}></div>", images)) if attributes else None
    safe = found[1] if found else ""
    # As an attribute, so that the mail's own style sheet has the last word.
    return safe if " bgcolor=" in safe else f'{safe} bgcolor="#ffffff"'


def _clean(markup: str, images: Images) -> str:
    def clean_attribute(_tag: str, name: str, value: str) -> str | None:
        match name:
            case "style":
                return clean_declarations(value, images.source) or None
            case "href":
                value = value.strip()
                return value if _LINK.match(value) else None
            case "src" | "background":
                return images.source(value)
            case "usemap":
                return value if value.startswith("#") else None
            case _:
                return value

    return nh3.clean(
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
