"""The view of one message."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from gatepost.mime import Header
from gatepost.mime.entity import Entity
from gatepost.mime.fields import decoded, header_section_end, header_section_start, split_fields
from gatepost.mime.inline import shown_in_html
from gatepost.mime.structure import read_structure
from gatepost.model.bcc import Named, named_mailboxes
from gatepost.values import value
from gatepost.web.view.attachments import AttachmentView, make_attachment
from gatepost.web.view.body import BodyText, Texts, html_parts, own_parts, text_parts, whole_text
from gatepost.web.view.codes import find_codes
from gatepost.web.view.declared import declared_parameter
from gatepost.web.view.document import Document, make_document
from gatepost.web.view.findings import Finding
from gatepost.web.view.images import Images
from gatepost.web.view.invitation import Invitation, read_invitation
from gatepost.web.view.links import LinkView, find_links, view_links
from gatepost.web.view.lint import ONCE, lint
from gatepost.web.view.main_link import MainLink, find_main_link
from gatepost.web.view.no_text import NoText, why_no_text
from gatepost.web.view.opened import CALENDARS
from gatepost.web.view.removed import Removed
from gatepost.web.view.report import Report, read_report
from gatepost.web.view.text import read_markup, visible, visible_line
from gatepost.web.view.tree import Node, make_tree, numbered

__all__ = ["MessageView", "attachment", "plain_text", "view_message"]

_TEXT_LIMIT = 1 << 20
"""Characters of text that are shown."""
_HEADERS_LIMIT = 2000
_TELLING_LIMIT = 500
"""Fields behind them that are read all the same, because they say what the message is."""
_HEADER_SECTION_LIMIT = 512 << 10
_ONCE = frozenset(name.encode() for name in ONCE)


@value
class FieldView:
    """One header field, as a page shows it."""

    name: str
    value: str


@value
class MessageView:
    """All that a page shows of a message; every text in it is without control characters."""

    headers: tuple[FieldView, ...]
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
    dark_styles: bool
    """True where the HTML has styles for programs with a dark background; see `in_colors`."""
    removed: tuple[Removed, ...]
    """Elements of the HTML that are not shown, and that a reader might miss."""
    tree: Node
    attachments: tuple[AttachmentView, ...]
    """The parts that are not the message's text, without ``inline_images``."""
    inline_images: tuple[AttachmentView, ...]
    """The images that the HTML shows in their places."""
    named: tuple[str, ...]
    """The mailboxes in To and Cc, for `gatepost.model.bcc.bcc`."""
    lint: tuple[Finding, ...]
    links: tuple[str, ...]
    """The http and https URLs of the text and the HTML, each once, in order."""
    anchors: tuple[LinkView, ...]
    """The links of the HTML with the words one reads there, and whether those name another host."""
    main_link: MainLink | None
    """The link that the message is about; None where no link clearly is."""
    codes: tuple[str, ...]
    """What looks like a one-time code, the likeliest first."""
    notes: tuple[str, ...]
    """What is not shown because there is too much of it, for a person."""
    no_text: NoText | None
    """Why there is no text, or why it may not be all; None where nothing is missing."""
    invitation: Invitation | None
    """What the first calendar part says."""
    report: Report | None
    """What a bounce, a receipt or a complaint says."""


def view_message(content: bytes, *, remote_images: bool = False) -> MessageView:
    """The view of a message, however broken; ``remote_images`` lets its HTML load http and https images."""
    pairs = _header_pairs(content)
    names = [name.rstrip().lower() for name, _ in pairs]
    counts = Counter([name.decode() for name in names if name in _ONCE])
    headers = _headers(pairs, names)
    root = read_structure(content).root
    parts = list(numbered(root))
    texts = Texts()
    sizes = {number: texts.size(part) for number, part in parts if part.is_encoded}
    shown = text_parts(root)
    pages = html_parts(root)
    is_html = any(part.content_type == "text/html" for part in pages)

    images = Images((part for _, part in parts), remote=remote_images)
    page = _page([texts.read(part) for part in pages], images) if is_html else None
    reading = read_markup(page.markup if page else "")
    made = any(part.content_type == "text/html" for part in shown)
    text = _text([texts.read(part) for part in shown], reading.text if made else None)
    header = _first(headers)
    body = _body_parts(root, (part for _, part in parts))
    others = [(number, part) for number, part in parts if id(part) not in body and not part.is_multipart]
    htmls = (texts.read(part).text for _, part in parts if part.content_type == "text/html")
    shown_inline = shown_in_html([(part.content_id, part.read) for _, part in others], htmls)
    files = [
        make_attachment(number, part, sizes.get(number, part.end - part.start), inline=inline)
        for (number, part), inline in zip(others, shown_inline, strict=True)
    ]
    own = own_parts(root)
    named = named_mailboxes(headers)
    return MessageView(
        headers=tuple(
            [
                FieldView(name=visible_line(h.name, 200), value=visible(h.value))
                for h in headers[:_HEADERS_LIMIT]
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
        dark_styles=page is not None and page.dark,
        removed=page.removed if page else (),
        tree=make_tree(root, sizes),
        attachments=tuple([file for file in files if not file.inline]),
        inline_images=tuple([file for file in files if file.inline]),
        named=tuple(named.mailboxes),
        lint=lint(content, headers, counts, root, texts),
        links=find_links(text or "", reading.anchors, anchors_first=made),
        anchors=view_links(reading.anchors),
        main_link=find_main_link(text or "", reading.anchors, has_html=is_html),
        codes=find_codes(
            header("subject"), reading.shown if made else f"{text or ''}\n\n{reading.shown}", reading.hidden
        ),
        notes=tuple(
            _notes(content, len(pairs), named, page, text, [texts.read(part) for part in (*shown, *pages)])
        ),
        no_text=why_no_text(
            own,
            text or "",
            has_images=page is not None and "<img" in page.markup,
            has_attachments=bool(files),
        ),
        invitation=_invitation(own, texts),
        report=read_report(own),
    )


def plain_text(content: bytes) -> str:
    """All of the message's text, however long it is; of a message with HTML alone its source."""
    return visible(whole_text(read_structure(content).root))


def attachment(content: bytes, number: int) -> tuple[AttachmentView, bytes] | None:
    """The part of that number in the tree and its bytes; None where there is none or it is a multipart."""
    for found, part in numbered(read_structure(content).root):
        if found == number:
            if part.is_multipart:
                return None
            octets = part.read()
            return make_attachment(number, part, len(octets), inline=False), octets
    return None


def _invitation(parts: Iterable[Entity], texts: Texts) -> Invitation | None:
    part = next((part for part in parts if part.content_type in CALENDARS), None)
    if part is None:
        return None
    return read_invitation(
        texts.read(part).text,
        declared_parameter(part, "method"),
        attached=part.disposition == "attachment" or part.content_type == "application/ics",
    )


def _header_pairs(content: bytes) -> list[tuple[bytes, bytes]]:
    start = header_section_start(content)
    return split_fields(content[start : start + _HEADER_SECTION_LIMIT])


def _headers(pairs: list[tuple[bytes, bytes]], names: list[bytes]) -> tuple[Header, ...]:
    """Those that are shown, and behind them those that say what the message is."""
    others = zip(pairs[_HEADERS_LIMIT:], names[_HEADERS_LIMIT:], strict=True)
    telling = [pair for pair, name in others if name in _ONCE]
    return decoded(pairs[:_HEADERS_LIMIT] + telling[:_TELLING_LIMIT])


def _body_parts(root: Entity, parts: Iterable[Entity]) -> set[int]:
    """The parts that are text of the message or of one in it."""
    messages = [root, *(child for part in parts if part.is_message for child in part.children)]
    return {id(part) for message in messages for part in (*text_parts(message), *html_parts(message))}


def _page(texts: list[BodyText], images: Images) -> Document:
    return make_document([(one.content_type, one.text) for one in texts], images)


def _text(texts: list[BodyText], made: str | None) -> str | None:
    if made is not None or not texts:
        return made
    return visible("\n\n".join(one.text.rstrip("\n") for one in texts)[: _TEXT_LIMIT + 1])


def _first(headers: tuple[Header, ...]) -> Callable[[str], str]:
    found: dict[str, str] = {}
    for header in headers:
        found.setdefault(header.name.lower(), header.value)
    return lambda name: visible_line(found.get(name, ""))


def _notes(
    content: bytes,
    headers: int,
    named: Named,
    page: Document | None,
    text: str | None,
    texts: list[BodyText],
) -> Iterator[str]:
    start = header_section_start(content)
    if header_section_end(content[start : start + _HEADER_SECTION_LIMIT + 2]) > _HEADER_SECTION_LIMIT:
        yield "The header section is long: only its beginning is shown."
    if headers > _HEADERS_LIMIT:
        yield f"Only the first {_HEADERS_LIMIT} of {headers} header fields are shown."
    if named.cut:
        yield "To and Cc are long: recipients that only their end names are shown as Bcc."
    if any(one.cut for one in texts) or (text and len(text) > _TEXT_LIMIT):
        yield "The text is long: only its beginning is shown."
    if page and page.cut:
        yield "The HTML is long: only its beginning is shown."
