"""What a message says, as filters see it."""

from collections.abc import Callable

from gatepost.mime.address_list import Address, read_addresses
from gatepost.mime.fields import Header
from gatepost.values import value

__all__ = ["Attachment", "MimeView", "Text"]


@value
class Text:
    """One reading of a text part, decoded from its transfer encoding and charset."""

    content_type: str
    """For example ``text/plain`` or ``text/html``, in lower case."""
    text: str
    """The characters of the part; of HTML the source, with its markup."""
    filename: str = ""
    """Set where the part is an attachment too, for example ``notes.txt``."""
    how: tuple[str, ...] = ()
    """How it was read where that is not plain, for a person."""


@value
class Attachment:
    """One reading of a part that is not shown as the message's text."""

    filenames: tuple[str, ...] = ()
    """Each name that some reader may show for it, decoded, the likeliest first; they may hold anything
    but line ends."""
    content_type: str
    """As declared, in lower case."""
    read: Callable[[], bytes]
    """Returns the bytes after transfer decoding; what cannot be decoded comes as it is."""
    how: tuple[str, ...] = ()
    """How it was read where that is not plain, for a person: for example ``filename from RFC 2231``."""
    content_id: str = ""
    """Its Content-ID without angle brackets, to which HTML may refer with ``cid:``; empty if it has none."""
    is_other_reading: bool = False
    """True if another reading of the same part is in the list before it, or shown as text."""

    @property
    def filename(self) -> str:
        """The likeliest name; empty where none was given."""
        return self.filenames[0] if self.filenames else ""


@value
class MimeView:
    """What a message says, for reading only."""

    headers: tuple[Header, ...]
    """In the order of the message."""
    forwarded_headers: tuple[Header, ...] = ()
    """The header fields of the messages in the message, one after the other; and what looks like fields in a
    message without a header section, whose text it is."""
    subject: str
    """The decoded value of the first Subject field; empty if there is none."""
    texts: tuple[Text, ...]
    """The text of every part whose type is text/*: both alternatives (text/plain and text/html), attached
    text files (with ``filename`` if they have a name; they are in `attachments` too), the texts of the
    messages in the message and of winmail.dat, and reports (message/delivery-status). A part that can be
    read in several ways is there once for each. Not there: what only another program can read, such as PDF,
    office files and archives; they are in `attachments` alone."""
    attachments: tuple[Attachment, ...]
    """Every part that has a file name, is marked as attachment, or is no text; also of forwarded messages."""
    warnings: tuple[str, ...]
    """What could not be parsed or was repaired; empty for a clean message."""
    unread: str = ""
    """Why a part of the message was not read, for a person: the bounds were exceeded. A filter that finds
    nothing in such a message has not seen all of it, and should fail rather than have no opinion."""

    def addresses(self, name: str) -> tuple[Address, ...]:
        """The entries of all address fields of that name, for example ``From``, in their order.

        Readers differ in which of two From fields they show, so there may be more than one author. Empty
        where there is no such field.
        """
        wanted = name.lower()
        return tuple(
            [
                address
                for header in self.headers
                if header.name.lower() == wanted
                for address in read_addresses(header.raw)
            ]
        )

    def header(self, name: str) -> str | None:
        """The value of the first field of that name, None where there is none."""
        wanted = name.lower()
        return next((h.value for h in self.headers if h.name.lower() == wanted), None)
