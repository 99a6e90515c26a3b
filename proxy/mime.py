"""READ: message octets -> headers, texts, attachments (the only import of the MIME parser)."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Attachment", "Header", "MimeView", "Text", "read_message"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One header field (RFC 5322 section 2.2)."""

    name: str
    """As written; compare without regard to case."""
    value: str
    """Unfolded, encoded-words (RFC 2047) decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One text part, decoded from its transfer encoding and charset."""

    content_type: str
    """For example ``text/plain`` or ``text/html``, in lower case."""
    text: str
    """The characters of the part; of HTML the source, with its markup."""


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
    attachments: tuple[Attachment, ...]
    warnings: tuple[str, ...]
    """What could not be parsed or was repaired; empty for a clean message."""

    def header(self, name: str) -> str | None:
        """The value of the first field of that name, None where there is none."""
        wanted = name.lower()
        return next((h.value for h in self.headers if h.name.lower() == wanted), None)


def read_message(content: bytes) -> MimeView:
    raise NotImplementedError
