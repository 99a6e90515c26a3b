"""Every file of a message, decoded, for filters that look at content: texts, attachments, archive members.

For filters that run in a process of their own (``isolation``): all kinds of archives are read right here, by
libraries that may crash or take long on what was made for that.
"""

import importlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gatepost import Message
from gatepost_archives import Walk, Why

__all__ = ["File", "LeftOut", "NotReadError", "look_at_files", "oletools", "printable"]

_NAME_LIMIT = 200
_LOGGERS = ("crypto", "ftguess", "oleobj", "olevba", "ooxml", "ppt", "record_base", "rtfobj")
"""Those of oletools, which switches some of them on while it works."""
_ENCRYPTED = (Why.ENCRYPTED, Why.ENCRYPTED_NAMES, Why.ENCRYPTED_OFFICE)


class NotReadError(Exception):
    """Not all parts of the message could be read: the rule's `on_error` decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a message."""

    where: str
    """For a person, for example ``attachment a.zip: b/c.exe``."""
    names: tuple[str, ...]
    """Every name that some reader may show for it."""
    content: bytes
    in_archive: bool
    """True for a member of an archive."""


@dataclass(slots=True)
class LeftOut:
    """What could not be looked into, for a person; empty if there is nothing."""

    unscanned: str = ""
    encrypted: str = ""


def look_at_files(message: Message, look: Callable[[File], None], *, seconds: float) -> LeftOut:
    """Call ``look`` for each file of a message. Texts that are no attachments are files without a name.

    ``seconds`` is the processor time for all of it, looking included. Returns the first archive or member
    that could not be unpacked, and the first that is encrypted.
    """
    from gatepost_archives_child import KINDS  # noqa: PLC0415 - libraries that workers do not need

    end = time.thread_time() + seconds
    left_out = LeftOut()
    view = message.view
    for text in view.texts:
        if not text.filename:
            content = text.text.encode("utf-8", "replace")
            look(File(where=text.content_type, names=(), content=content, in_archive=False))
    for attachment in view.attachments:
        where = f"attachment {printable(attachment.filename) or attachment.content_type}"
        names, content = attachment.filenames, attachment.read()
        look(File(where=where, names=names, content=content, in_archive=False))

        def visit(content: bytes, names: tuple[str, ...], where: str = where) -> None:
            place = f"{where}: {printable(names[0]) if names else ''}"
            look(File(where=place, names=names, content=content, in_archive=True))

        walk = Walk(end=end, kinds=KINDS, visit=visit)
        for found in walk.all(content, names, 0):
            if found.why:
                text_of_it = f"{where}: {found.why}: {printable(found.detail or found.name)}"
                if found.why in _ENCRYPTED:
                    left_out.encrypted = left_out.encrypted or text_of_it
                else:
                    left_out.unscanned = left_out.unscanned or text_of_it
    return left_out


def oletools(name: str) -> Any:
    """A module of oletools, which logs nothing: its lines are about content, and name no message.

    Raises ImportError.
    """
    for logger in _LOGGERS:
        logging.getLogger(logger).disabled = True
    return importlib.import_module(f"oletools.{name}")


def printable(text: str) -> str:
    """The beginning of a text, safe to show."""
    return "".join(c if c.isprintable() else "?" for c in text[:_NAME_LIMIT])
