"""Attachments, with names that are safe on every computer."""

import re
import unicodedata

from gatepost.mime.entity import Entity
from gatepost.values import value
from gatepost.web.view.text import joins

__all__ = ["AttachmentView", "make_attachment", "safe_filename"]

_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"*:<>?|\u2028\u2029\ud800-\udfff\ufffe\uffff]')
_INVISIBLE = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?=\.|$)", re.IGNORECASE)
_OCTETS_LIMIT = 120
"""Of a name in UTF-8; file systems take 255, and a browser may add a number."""
_EXTENSION_LIMIT = 20
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_EXTENSIONS = {
    "application/ics": ".ics",
    "application/json": ".json",
    "application/msword": ".doc",
    "application/pdf": ".pdf",
    "application/pgp-encrypted": ".asc",
    "application/pgp-keys": ".asc",
    "application/pgp-signature": ".asc",
    "application/pkcs7-mime": ".p7m",
    "application/pkcs7-signature": ".p7s",
    "application/rtf": ".rtf",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/xml": ".xml",
    "application/zip": ".zip",
    "audio/mpeg": ".mp3",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/tiff": ".tif",
    "image/webp": ".webp",
    "message/delivery-status": ".txt",
    "message/disposition-notification": ".txt",
    "message/feedback-report": ".txt",
    "message/global": ".eml",
    "message/rfc822": ".eml",
    "text/calendar": ".ics",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/plain": ".txt",
    "text/rfc822-headers": ".txt",
    "text/vcard": ".vcf",
    "text/x-vcard": ".vcf",
    "video/mp4": ".mp4",
}
_OPENED_TYPES = re.compile(
    r"text/|message/|image/(?:png|jpe?g|pjpeg|gif|webp|svg\+xml)\Z|application/(?:pdf|x-pdf|json|xml|ics|pgp-.*|yaml|"
    r"x-yaml|javascript|x-sh|sql|.*\+(?:json|xml))\Z"
)
_OPENED_NAMES = re.compile(
    r"\.(?:pdf|png|jpe?g|gif|webp|svg|txt|log|csv|tsv|md|json|xml|ya?ml|ics|vcf|eml|html?|css|js|asc|sql|ini|conf)\Z",
    re.IGNORECASE,
)


@value
class AttachmentView:
    """A part that is not shown as the message's text."""

    number: int
    """That of its node in the tree; ``attachment`` takes it."""
    filename: str
    """Safe to save under: one name without path, controls and invisible characters, never empty."""
    content_type: str
    """As declared where that has the form type/subtype, else ``application/octet-stream``."""
    size: int
    """Bytes."""
    inline: bool
    """True where the HTML shows it in its place."""
    opens: bool
    """True for an image, a PDF or a text by its type or name: worth a look at its bytes (`open_part`)."""


def make_attachment(number: int, entity: Entity, size: int, *, inline: bool) -> AttachmentView:
    """The view of a part."""
    content_type = entity.content_type if _TYPE.fullmatch(entity.content_type) else "application/octet-stream"
    name = entity.filename or _name_from_subject(entity)
    return AttachmentView(
        number=number,
        filename=safe_filename(name, f"part-{number}{_EXTENSIONS.get(content_type, '')}"),
        content_type=content_type,
        size=size,
        inline=inline,
        opens=bool(_OPENED_TYPES.match(content_type) or _OPENED_NAMES.search(name)),
    )


def _name_from_subject(entity: Entity) -> str:
    if not (entity.is_message and entity.children):
        return ""
    subject = entity.children[0].subject.replace("/", " ").replace("\\", " ").strip()
    return f"{subject[:60].strip()}.eml" if subject else ""


def _joiner(found: re.Match[str]) -> str:
    return found[0] if joins(found.string, found.start()) else ""


def safe_filename(name: str, otherwise: str) -> str:
    """A name to save a file under; ``otherwise`` where nothing is left of it.

    Without the folders before it, characters that are not allowed or cannot be seen, leading dots, and
    trailing dots and spaces; not one of the names that Windows keeps for devices; the extension stays, and so
    do U+200C and U+200D where a script or an emoji needs them.
    """
    name = name[-2000:].replace("\\", "/").rstrip("/ ").rpartition("/")[2]
    name = unicodedata.normalize("NFC", _INVISIBLE.sub(_joiner, _UNSAFE.sub("_", name)))
    name = " ".join(name.split()).lstrip(".").rstrip(". ").strip()
    if not name.strip("_"):
        return otherwise
    if _RESERVED.match(name):
        name = f"_{name}"
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > _EXTENSION_LIMIT:
        stem, dot, extension = name, "", ""
    room = _OCTETS_LIMIT - len(dot) - len(extension.encode())
    return f"{stem.encode()[:room].decode(errors='ignore').rstrip('. ')}{dot}{extension}"
