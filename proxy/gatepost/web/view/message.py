"""The view of one message."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gatepost.mime import Header
from gatepost.mime.entity import Entity
from gatepost.mime.fields import header_section_start, read_header_section
from gatepost.mime.structure import read_structure
from gatepost.web.view.attachments import AttachmentView, make_attachment
from gatepost.web.view.body import BodyText, html_parts, read_text, text_parts
from gatepost.web.view.codes import find_codes
from gatepost.web.view.document import Document, make_document
from gatepost.web.view.images import Images
from gatepost.web.view.links import LinkView, find_links, view_links
from gatepost.web.view.lint import Finding, lint
from gatepost.web.view.text import read_markup, visible, visible_line
from gatepost.web.view.tree import Node, make_tree, walk

__all__ = ["MessageView", "attachment", "view_message"]

_TEXT_LIMIT = 1 << 20
"""Characters of text that are shown."""
_HEADERS_LIMIT = 2000
_HEADER_SECTION_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageView:
    """All that a page shows of a message; every text in it is without control characters."""

    headers: tuple[Header, ...]
    """In the order of the message, decoded; at most 2,000."""
    author: str
    """The From field; empty where there is none, as with those below."""
    to: str
    cc: str
    subject: str
    date: str
    """As the sender wrote it."""
    text: str | None
    """The plain text, or one made of the HTML; None for a message without text."""
    html: str | None
    """A sanitised document for a sandboxed frame; None for a message without HTML."""
    blocked_images: int
    """Remote images that are not loaded; they are with ``remote_images=True``."""
    tree: Node
    attachments: tuple[AttachmentView, ...]
    lint: tuple[Finding, ...]
    links: tuple[str, ...]
    """The http and https URLs of the text and the HTML, each once, in order."""
    anchors: tuple[LinkView, ...]
    """The links of the HTML with the words one reads there, and whether those name another host."""
    codes: tuple[str, ...]
    """What looks like a one-time code, the likeliest first."""
    notes: tuple[str, ...]
    """What is not shown because there is too much of it, for a person."""


def view_message(content: bytes, *, remote_images: bool = False) -> MessageView:
    """The view of a message, however broken; ``remote_images`` lets its HTML load http and https images."""
    start = header_section_start(content)
    all_headers = read_header_section(content[start : start + _HEADER_SECTION_LIMIT])
    root = read_structure(content).root
    parts = list(walk(root))
    sizes = {number: len(part.read()) for number, part in parts if part.is_encoded}
    shown = text_parts(root)
    pages = html_parts(root)
    is_html = any(part.content_type == "text/html" for part in pages)
    read = {id(part): read_text(part) for part in (*shown, *pages)}

    images = Images({part.content_id: part for _, part in parts if part.content_id}, remote=remote_images)
    page = _page([read[id(part)] for part in pages], images) if is_html else None
    markup_text, anchors = read_markup(page.markup) if page else ("", ())
    made = any(part.content_type == "text/html" for part in shown)
    text = _text([read[id(part)] for part in shown], markup_text if made else None)
    header = _first(all_headers)
    body = _body_parts(root, (part for _, part in parts))
    return MessageView(
        headers=tuple(
            [
                Header(name=visible_line(h.name, 200), value=visible(h.value))
                for h in all_headers[:_HEADERS_LIMIT]
            ]
        ),
        author=header("from"),
        to=header("to"),
        cc=header("cc"),
        subject=header("subject"),
        date=header("date"),
        text=None if text is None else text[:_TEXT_LIMIT],
        html=page.html if page else None,
        blocked_images=images.blocked,
        tree=make_tree(root, sizes),
        attachments=tuple(
            [
                make_attachment(number, part, sizes.get(number, part.end - part.start), images.shown)
                for number, part in parts
                if id(part) not in body and not part.is_multipart
            ]
        ),
        lint=lint(content, all_headers, root),
        links=find_links(text or "", anchors, anchors_first=made),
        anchors=view_links(anchors),
        codes=find_codes(header("subject"), text or ""),
        notes=tuple(_notes(all_headers, page, text, list(read.values()))),
    )


def attachment(content: bytes, number: int) -> tuple[AttachmentView, bytes] | None:
    """The part of that number in the tree and its octets; None where there is none or it is a multipart."""
    for found, part in walk(read_structure(content).root):
        if found == number:
            if part.is_multipart:
                return None
            octets = part.read()
            return make_attachment(number, part, len(octets), ()), octets
    return None


def _body_parts(root: Entity, parts: Iterable[Entity]) -> set[int]:
    """The parts that are text of the message or of one in it."""
    messages = [root, *(child for part in parts if part.is_message for child in part.children)]
    return {id(part) for message in messages for part in (*text_parts(message), *html_parts(message))}


def _page(texts: list[BodyText], images: Images) -> Document:
    return make_document([(content_type, text) for content_type, text, _ in texts], images)


def _text(texts: list[BodyText], made: str | None) -> str | None:
    if made is not None or not texts:
        return made
    return visible("\n\n".join(text.rstrip("\n") for _, text, _ in texts))


def _first(headers: tuple[Header, ...]) -> Callable[[str], str]:
    found: dict[str, str] = {}
    for header in headers:
        found.setdefault(header.name.lower(), header.value)
    return lambda name: visible_line(found.get(name, ""))


def _notes(
    headers: tuple[Header, ...], page: Document | None, text: str | None, texts: list[BodyText]
) -> Iterator[str]:
    if len(headers) > _HEADERS_LIMIT:
        yield f"Only the first {_HEADERS_LIMIT} of {len(headers)} header fields are shown."
    if any(cut for _, _, cut in texts) or (text and len(text) > _TEXT_LIMIT):
        yield "The text is long: only its beginning is shown."
    if page and page.cut:
        yield "The HTML is long: only its beginning is shown."
