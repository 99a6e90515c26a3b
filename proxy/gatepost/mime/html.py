"""HTML taken apart: the one tokeniser, and what a reader sees of a page.

It follows the tokeniser of the HTML standard where that decides what a reader sees. Each expression matches
to the end of the text where something is left open, as browsers do, which also keeps them linear. Nothing
that comes from here is safe to show as HTML.
"""

import re
from collections.abc import Iterator
from html import unescape
from typing import NamedTuple

__all__ = ["Token", "plain_text", "tokens", "visible_text"]

_ANY_ATTRIBUTES = r"""
    (?: [\s/]++
      | [^\s/>][^\s/>=]*+ (?: \s*+=\s*+ (?: "[^"]*+(?:"|\Z) | '[^']*+(?:'|\Z) | [^\s>"'][^\s>]*+ )? )?
    )*+"""
_MARKUP = re.compile(
    rf"""<(?:
    !--(?:-?>|.*?(?:--!?>|\Z))
    | (script|style|title|textarea|xmp|iframe|noembed|noframes)(?=[\s/>])({_ANY_ATTRIBUTES})
      (?: > (.*?) (?: </\1(?=[\s/>]){_ANY_ATTRIBUTES}(?:>|\Z) | \Z ) | \Z )
    | !\[CDATA\[([^>]*+)(?:>|\Z)
    | (?:[!?]|/(?![a-z]))[^>]*+(?:>|\Z)
    | (/?[a-z][^\s/>]*+)({_ANY_ATTRIBUTES})(>|\Z)
    )""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
"""A comment; an element whose content has no markup; CDATA; what is taken for a comment; a tag."""
_GROUPS = _MARKUP.groups + 1
_CONDITIONAL = re.compile(r"\[(?:end)?if\b", re.IGNORECASE)
_CONDITION = re.compile(r"<!--\s*+\[if\b[^<>]*+>|(?:<!--\s*+)?<!\[endif\]\s*+--+>", re.IGNORECASE)
"""The beginning and the end of a comment that Outlook takes for markup."""
_FOREIGN = re.compile(r"<(?:svg|math)\b", re.IGNORECASE)
"""Elements in which a style is a tag like any other."""
_STYLED_TEXT = re.compile(r"""content\s*+:\s*+(?:"([^"]*+)"|'([^']*+)')""", re.IGNORECASE)
_BEFORE_EQUALS = re.compile(r"(?<!\s)\s++=")
_SHOWN_ATTRIBUTE = re.compile(
    r"=(?<=[eflrty]=)(?:(?<=href=)|(?<=alt=)|(?<=title=)|(?<=label=)|(?<=placeholder=)|(?<=value=)|(?<=summary=))"
    r"""\s*+(?:"([^"]*+)"?|'([^']*+)'?|([^\s"'>]++))""",
    re.IGNORECASE,
)
_BLOCKS = frozenset(
    """
    address article aside blockquote body br button caption center dd details div dl dt fieldset figcaption
    figure footer form frame h1 h2 h3 h4 h5 h6 head header hr html iframe input legend li link main menu meta
    nav object ol option p pre section select summary table tbody td textarea tfoot th thead title tr ul video
    """.split()  # noqa: SIM905 # as a list it would be sixty lines
)
"""The elements that part words; all others, also unknown ones, may be within a word."""
_INLINE = frozenset(
    """
    a abbr b bdi bdo big cite code del em font i ins kbd mark q s small span strike strong sub sup tt u wbr
    """.split()  # noqa: SIM905 # one a line fills a page
)
"""The elements that do not end a word of the index; it knows no words across others."""
_NOT_SHOWN = frozenset({"script", "style", "template", "title"})
_CHUNK = 1 << 20
"""Characters that are taken apart at a time: bounds the memory, as there may be a million tags in them."""
_LEADING_ZEROS = re.compile(r"(&#x?)0++(?=[0-9a-f])", re.IGNORECASE)
_NO_CHARACTER = re.compile(r"&#x?[0-9a-f]{8,}+;?", re.IGNORECASE)


class Token(NamedTuple):
    """A piece of markup; what is between two of them is text."""

    start: int
    end: int
    name: str = ""
    """Of a tag, in lower case; empty for a comment and what is taken for one."""
    closing: bool = False
    """True for an end tag."""
    attributes: str = ""
    """As written."""
    content: str | None = None
    """Of an element whose content has no markup (script, style, title, ...): the token includes its end tag.
    None for other tokens."""
    complete: bool = True
    """False where the text ends within the tag."""


def tokens(html: str) -> Iterator[Token]:
    """The markup of the text in order."""
    for found in _MARKUP.finditer(html):
        start, end = found.span()
        raw, raw_attributes, content, _, tag, attributes, bracket = found.groups()
        if raw:
            complete = content is not None
            name = raw.lower()
            yield Token(start, end, name, False, raw_attributes, content or "", complete)  # noqa: FBT003 - a tuple
        elif tag:
            closing = tag.startswith("/")
            yield Token(start, end, tag[closing:].lower(), closing, attributes, None, bool(bracket))
        else:
            yield Token(start, end)


def plain_text(html: str) -> str:
    """The characters that a reader sees, for the index: without comments, styles, scripts and title.

    Comments for Outlook alone (``<!--[if mso]>``) are text.
    """
    if _CONDITIONAL.search(html):
        html = _CONDITION.sub(" ", html)
    return _unescaped("".join(_shown_pieces(html)))


def _shown_pieces(html: str) -> Iterator[str]:
    position, templates = 0, 0
    for token in tokens(html):
        if not templates:
            yield html[position : token.start]
            if token.content and token.name not in _NOT_SHOWN:
                yield f" {token.content}"
            if token.name not in _INLINE:
                yield " "
        if token.name == "template":
            templates = max(templates + (-1 if token.closing else 1), 0)
        position = token.end
    if not templates:
        yield html[position:]


def visible_text(html: str) -> str:
    """What a reader sees of HTML, and after it the addresses of links and the texts in attributes.

    Elements that part words become spaces; all other markup is taken out, so that a word that is split by
    tags is whole. Where Outlook reads the page in another way than other programs, both readings.
    """
    if not _CONDITIONAL.search(html):
        return _visible(html)
    return f"{_visible(html)} | {_visible(_CONDITION.sub('', html))}"


def _visible(html: str) -> str:
    in_foreign = bool(_FOREIGN.search(html))
    if len(html) <= _CHUNK:
        return _visible_chunk(html, in_foreign=in_foreign)
    return "".join(_visible_chunk(chunk, in_foreign=in_foreign) for chunk in _chunks(html))


def _chunks(html: str) -> Iterator[str]:
    """The text in pieces that begin with a tag or a comment."""
    start = 0
    for token in _MARKUP.finditer(html):
        if token.start() - start >= _CHUNK:
            yield html[start : token.start()]
            start = token.start()
    yield html[start:]


def _visible_chunk(html: str, *, in_foreign: bool) -> str:
    # All groups of all tokens in one list: several times faster than one token after another.
    pieces: list[str | None] = _MARKUP.split(html)
    names, contents = pieces[1::_GROUPS], pieces[3::_GROUPS]
    attributes = " ".join(filter(None, (*pieces[2::_GROUPS], *pieces[6::_GROUPS])))
    if " =" in attributes or "\t=" in attributes or "\n=" in attributes:
        attributes = _BEFORE_EQUALS.sub("=", attributes)
    extras = ["".join(values) for values in _SHOWN_ATTRIBUTE.findall(attributes)]
    extras += filter(None, pieces[4::_GROUPS])
    for place, (name, content) in enumerate(zip(names, contents, strict=True)):
        if name and content:
            if name.lower() == "style":
                extras += ["".join(values) for values in _STYLED_TEXT.findall(content)]
            shown = in_foreign or name.lower() not in ("script", "style")
            contents[place] = f" {content} " if shown else ""
    pieces[3::_GROUPS] = contents
    pieces[1::_GROUPS] = [
        " " if tag and tag.lower().lstrip("/") in _BLOCKS else "" for tag in pieces[5::_GROUPS]
    ]
    for group in (2, 4, 5, 6, 7):
        pieces[group::_GROUPS] = [None] * len(contents)
    return _unescaped(" | ".join(["".join(filter(None, pieces)), *extras]))


def _unescaped(text: str) -> str:
    if "&" not in text:
        return text
    return unescape(_NO_CHARACTER.sub("\ufffd", _LEADING_ZEROS.sub(r"\1", text)))
