"""What is read of a message for searches and lists, whatever is wrong with it."""

import logging

from gatepost.mime.words import decode_words
from gatepost.printable import storable
from gatepost.store.edits import edits_from_json
from gatepost.store.excerpt import Excerpt, read_excerpt
from gatepost.store.sql.rows import Fields

__all__ = ["excerpt_of", "subject_only"]

_log = logging.getLogger(__name__)


def excerpt_of(row: Fields, content: bytes) -> Excerpt:
    """Of the beginning of a message; ``row`` has its id, subject, header_from and edits. Never raises."""
    try:
        edits = edits_from_json(row["edits"]) if row["edits"] else ()
        return read_excerpt(content, edits)
    except Exception:  # noqa: BLE001 - no message may block the others
        _log.exception("message %s cannot be read; only its subject is indexed", row["id"])
        return subject_only(row)


def subject_only(row: Fields) -> Excerpt:
    """What is known of a message without reading it."""
    return Excerpt(
        subject=storable(decode_words(row["subject"])),
        header_from=storable(decode_words(row["header_from"])),
        to="",
        cc="",
        named=frozenset(),
        reply_to="",
        message_id="",
        header="",
        body="",
        snippet="",
        attachment_names="",
        attachments=0,
    )
