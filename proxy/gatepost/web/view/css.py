"""CSS of mail: styling is kept, whatever could load or cover something is removed.

Everything is let in by name: properties, functions in values, characters of selectors. A declaration
with a backslash is dropped, so that no escape can spell another name. All expressions are linear.
"""

import re
from collections.abc import Callable

__all__ = ["STYLESHEET_LIMIT", "Source", "clean_declarations", "clean_media", "clean_stylesheet"]

Source = Callable[[str], str | None]
"""Returns the URL to load instead of another one; None: load nothing."""

STYLESHEET_LIMIT = 192 << 10
"""Characters of all style sheets of a mail; the rest is dropped."""
_DEPTH_LIMIT = 3
"""@media in @media."""

_STRING = r""""[^"\n]*+"|'[^'\n]*+'"""
# The alternatives begin with different characters, so that nothing is tried twice. Possessive groups, which
# would say so, go wrong in Python before 3.11.5 (https://github.com/python/cpython/issues/106052).
_INNER = rf"""\((?:[^()"']|{_STRING})*\)"""
_MIDDLE = rf"""\((?:[^()"']|{_STRING}|{_INNER})*\)"""
_PARENTHESES = rf"""\((?:[^()"']|{_STRING}|{_MIDDLE})*\)"""

_DECLARATION = re.compile(
    rf"""\s*+([a-zA-Z-]{{1,40}}+)\s*+:((?:[^;()"'{{}}]|{_STRING}|{_PARENTHESES})*)(?:;|\Z)"""
)
_BROKEN = re.compile(rf"""(?:[^;()"']|{_STRING}|{_PARENTHESES})*;""")
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_PRELUDE = re.compile(rf"""((?:[^{{}};"']|{_STRING})*)([{{}};])""")
_BLOCK = re.compile(rf"""((?:[^{{}}"']|{_STRING})*)\}}""")
_SELECTOR = re.compile(r"""[\w\s.#,:>+~*=\[\]"'^$|()-]{1,2000}""")
_MEDIA = re.compile(r"@media\s([\w\s:,()./-]{1,300})", re.IGNORECASE)
_FUNCTION = re.compile(r"([\w-]*)\(")
_URL = re.compile(r"""url\(\s*+(?:"([^"]*+)"|'([^']*+)'|([^"'()\s]*+))\s*+\)""", re.IGNORECASE)
_UNSAFE_VALUE = re.compile(r"""[\\<>@{}!\x00-\x08\x0b-\x1f\x7f]|/\*""")
_IMPORTANT = re.compile(r"\s*!\s*important\s*\Z", re.IGNORECASE)
_UNSAFE_IN_URL = re.compile(r"""["'()\\<>\s\x00-\x20\x7f]""")

_FUNCTIONS = frozenset(
    """
    rgb rgba hsl hsla calc min max clamp linear-gradient radial-gradient repeating-linear-gradient
    repeating-radial-gradient -webkit-linear-gradient -webkit-gradient from to color-stop
    """.split()  # noqa: SIM905 # one a line fills pages
) | {""}
_IMAGE_PROPERTIES = frozenset({"background", "background-image"})
_PROPERTIES = frozenset(
    """
    background background-attachment background-clip background-color background-image background-origin
    background-position background-repeat background-size border border-bottom border-bottom-color
    border-bottom-left-radius border-bottom-right-radius border-bottom-style border-bottom-width
    border-collapse border-color border-left border-left-color border-left-style border-left-width
    border-radius border-right border-right-color border-right-style border-right-width border-spacing
    border-style border-top border-top-color border-top-left-radius border-top-right-radius
    border-top-style border-top-width border-width align-content align-items align-self box-shadow
    box-sizing caption-side clear color column-count column-gap column-width columns direction display
    empty-cells flex flex-basis flex-direction flex-flow flex-grow flex-shrink flex-wrap float font
    font-family font-feature-settings font-size font-size-adjust font-stretch font-style font-variant
    font-weight gap height hyphens justify-content justify-items justify-self letter-spacing line-height
    list-style list-style-position list-style-type margin margin-bottom margin-left margin-right
    margin-top max-height max-width min-height min-width mix-blend-mode object-fit object-position
    opacity order outline outline-color outline-style outline-width overflow overflow-wrap overflow-x
    overflow-y padding padding-bottom padding-left padding-right padding-top row-gap table-layout
    tab-size text-align text-align-last text-decoration text-decoration-color text-decoration-line
    text-decoration-style text-indent text-overflow text-shadow text-transform text-underline-offset
    unicode-bidi vertical-align visibility white-space width word-break word-spacing word-wrap
    writing-mode -webkit-text-size-adjust -webkit-font-smoothing
    """.split()  # noqa: SIM905 # one a line fills pages
)


def clean_declarations(text: str, source: Source) -> str:
    """The safe declarations of a style attribute or a rule; URLs only of backgrounds, by ``source``."""
    kept: list[str] = []
    text = _COMMENT.sub(" ", text) if "/*" in text else text
    position = 0
    while position < len(text):
        found = _DECLARATION.match(text, position)
        if found:
            if declaration := _declaration(found[1].lower(), found[2].strip(), source):
                kept.append(declaration)
        else:
            found = _BROKEN.match(text, position)
        if not found:
            break
        position = found.end()
    return ";".join(kept)


def _declaration(name: str, value: str, source: Source) -> str | None:
    if name not in _PROPERTIES:
        return None
    important = _IMPORTANT.search(value[-30:]) if "!" in value else None
    if important:
        value = value[: len(value) - len(important[0])]
    rest = _URL.sub("", value) if name in _IMAGE_PROPERTIES and "(" in value else value
    if _UNSAFE_VALUE.search(rest):
        return None
    if "(" in rest and any(function.lower() not in _FUNCTIONS for function in _FUNCTION.findall(rest)):
        return None
    if rest != value:
        value = _URL.sub(lambda found: _background(found, source), value).strip()
    return f"{name}:{value}{' !important' if important else ''}" if value else None


def _background(found: re.Match[str], source: Source) -> str:
    url = source(found[1] or found[2] or found[3] or "")
    return "none" if url is None or _UNSAFE_IN_URL.search(url) else f'url("{url}")'


def clean_media(condition: str) -> str | None:
    """A media query of plain characters; None for others."""
    found = _MEDIA.fullmatch(f"@media {condition}".rstrip())
    return found[1].strip() if found else None


def clean_stylesheet(text: str, source: Source) -> str:
    """The safe rules of a style sheet; of the at-rules only @media is kept. Holds no ``<``."""
    text = _COMMENT.sub(" ", text[:STYLESHEET_LIMIT]).replace("<!--", " ").replace("-->", " ")
    kept: list[str] = []
    open_media = skipped = position = 0
    while found := _PRELUDE.match(text, position):
        position = found.end()
        prelude, sign = found[1].strip(), found[2]
        if skipped:
            skipped += {"{": 1, "}": -1, ";": 0}[sign]
        elif sign == "}":
            if open_media:
                open_media -= 1
                kept.append("}")
        elif sign == "{" and prelude.startswith("@"):
            media = clean_media(prelude[6:].strip()) if prelude[:6].lower() == "@media" else None
            if media is None or open_media >= _DEPTH_LIMIT:
                skipped = 1
            else:
                open_media += 1
                kept.append(f"@media {media}{{")
        elif sign == "{":
            block = _BLOCK.match(text, position)
            if not block:
                skipped = 1
                continue
            position = block.end()
            declarations = clean_declarations(block[1], source)
            if declarations and _SELECTOR.fullmatch(prelude):
                kept.append(f"{prelude}{{{declarations}}}")
    return "\n".join(kept) + "}" * open_media
