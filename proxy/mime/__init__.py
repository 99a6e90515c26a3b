"""READ: message octets -> headers, texts, attachments.

    fields     header sections and their fields, in the message's order
    words      a field's value as characters
    parameters those of Content-Type and Content-Disposition
    transfer   transfer encodings
    charsets   charsets
    text       the characters of a text part
    tree       parts by the MIME parser: the usual way, a few microseconds (its only import)
    markup     HTML as plain text
    scan       parts by one linear pass over the octets: for what the parser refuses, or would take long over

Nothing here raises on any message, and the time is linear in its size.
"""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.mime.fields import Header, read_header_section
from proxy.mime.part import Part
from proxy.mime.scan import scan_parts
from proxy.mime.text import decode_text
from proxy.mime.tree import UnreadableError, parse_parts

__all__ = ["Attachment", "Header", "MimeView", "Text", "read_message"]

_WARNINGS_LIMIT = 20
"""More of them tell the operator nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One text part, decoded from its transfer encoding and charset."""

    content_type: str
    """For example ``text/plain`` or ``text/html``, in lower case."""
    text: str
    """The characters of the part; of HTML the source, with its markup."""
    filename: str = ""
    """Set where the part is an attachment too, for example ``notes.txt``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One part that is not shown as the message's text."""

    filename: str
    """As the sender wrote it, decoded; may hold anything. Empty where none was given."""
    content_type: str
    """As declared, in lower case."""
    read: Callable[[], bytes]
    """Gives the octets after transfer decoding; what cannot be decoded comes as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MimeView:
    """What a message says, for reading only."""

    headers: tuple[Header, ...]
    """In the order of the message."""
    subject: str
    texts: tuple[Text, ...]
    """Every text/* part, also of forwarded messages and of text files attached."""
    attachments: tuple[Attachment, ...]
    """Every part that has a file name, is marked as attachment, or is no text; also of forwarded messages."""
    warnings: tuple[str, ...]
    """What could not be parsed or was repaired; empty for a clean message."""

    def header(self, name: str) -> str | None:
        """The value of the first field of that name, None where there is none."""
        wanted = name.lower()
        return next((h.value for h in self.headers if h.name.lower() == wanted), None)


def read_message(content: bytes) -> MimeView:
    """The view of a message; of one that cannot be parsed, what a scan of its octets finds.

    ``warnings`` names what was wrong. Attachments are decoded when they are read, texts here.
    """
    headers = read_header_section(content)
    warnings: list[str] = []
    try:
        parts = parse_parts(content)
    except UnreadableError as error:
        if error.reason:
            warnings.append(f"message could not be parsed: {error.reason}")
        parts = scan_parts(content)
    texts: list[Text] = []
    attachments: list[Attachment] = []
    for part in parts:
        if part.content_type.startswith("text/"):
            text, warning = decode_text(part.read(), part.charset)
            if warning and len(warnings) < _WARNINGS_LIMIT:
                warnings.append(warning)
            texts.append(Text(content_type=part.content_type, text=text, filename=part.filename))
        if _is_attachment(part):
            attachments.append(
                Attachment(filename=part.filename, content_type=part.content_type, read=part.read)
            )
    return MimeView(
        headers=headers,
        subject=next((header.value for header in headers if header.name.lower() == "subject"), ""),
        texts=tuple(texts),
        attachments=tuple(attachments),
        warnings=tuple(warnings),
    )


def _is_attachment(part: Part) -> bool:
    return bool(part.filename) or part.attached or not part.content_type.startswith("text/")
