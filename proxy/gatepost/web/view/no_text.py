"""Why a message has no text to read, or less than was sent."""

from collections.abc import Sequence
from typing import Literal

from gatepost.mime.entity import Entity
from gatepost.values import value
from gatepost.web.view.declared import declared_parameter

__all__ = ["NoText", "why_no_text"]

Reason = Literal[
    "openpgp",
    "smime-encrypted",
    "smime-signed",
    "smime-compressed",
    "outlook",
    "attachments",
    "images",
    "empty",
]

_PKCS7 = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_SMIME: dict[str, Reason] = {
    "enveloped-data": "smime-encrypted",
    "authenveloped-data": "smime-encrypted",
    "encrypted-data": "smime-encrypted",
    "signed-data": "smime-signed",
    "compressed-data": "smime-compressed",
}
_OID = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"
_OID_SMIME = b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01"
_CONTENT_TYPES: dict[bytes, Reason] = {
    _OID + b"\x02": "smime-signed",
    _OID + b"\x03": "smime-encrypted",
    _OID + b"\x06": "smime-encrypted",
    _OID_SMIME + b"\x09": "smime-compressed",
    _OID_SMIME + b"\x17": "smime-encrypted",
}
"""What a CMS ContentInfo is, by its object identifier in DER (RFC 5652 section 3, RFC 8551 section 3.2.2)."""
_HEAD = 64
"""Bytes in which that is."""
_ARMOUR = "-----BEGIN PGP MESSAGE-----"
_TEXTS: dict[Reason, str] = {
    "openpgp": "The message is encrypted with OpenPGP: it can be read only with the recipient's key.",
    "smime-encrypted": "The message is encrypted with S/MIME: it can be read only with the recipient's key.",
    "smime-signed": "The message is signed with S/MIME in a form that holds the text within the signature, "
    "which Gatepost does not open. Mail programs with S/MIME show it.",
    "smime-compressed": "The message is compressed with S/MIME, which Gatepost does not open.",
    "outlook": "The text is in a part that only Outlook writes and reads (winmail.dat).",
    "attachments": "The message has no text, only attachments.",
    "images": "The HTML has no words, only images.",
    "empty": "The message is empty.",
}


@value
class NoText:
    """The reason."""

    reason: Reason
    """For programs."""
    text: str
    """For a person."""


def why_no_text(
    parts: Sequence[Entity], text: str, *, has_images: bool, has_attachments: bool
) -> NoText | None:
    """Why there is no text, or why what there is may not be all; None where nothing is missing.

    Args:
        parts: the entities of the message in their order.
        text: what can be read.
        has_images: True where the HTML shows images.
        has_attachments: True where there are parts that are not shown as its text.
    """
    reason = next((reason for part in parts if (reason := _sealed(part))), None)
    if reason is None and text.lstrip().startswith(_ARMOUR):
        reason = "openpgp"
    if reason is None and not text.strip():
        outlook = any(
            part.content_type in ("application/ms-tnef", "application/vnd.ms-tnef") for part in parts
        )
        reason = (
            "outlook"
            if outlook
            else "images"
            if has_images
            else "attachments"
            if has_attachments
            else "empty"
        )
    return NoText(reason=reason, text=_TEXTS[reason]) if reason else None


def _sealed(part: Entity) -> Reason | None:
    """What keeps the content of a part from being read."""
    if part.content_type == "multipart/encrypted":
        protocol = declared_parameter(part, "protocol")
        return "smime-encrypted" if "pkcs7" in protocol else "openpgp"
    if part.content_type not in _PKCS7:
        return None
    declared = _SMIME.get(declared_parameter(part, "smime-type"))
    if declared:
        return declared
    head = part.read()[:_HEAD]
    return next((reason for oid, reason in _CONTENT_TYPES.items() if oid in head), None)
