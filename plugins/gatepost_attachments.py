"""Attachments by name, type and content, also inside archives.

    - name: no-executables
      filter: attachments
      with:
        extensions: [exe, scr, js, tar.gz]
        types: [application/x-dosexec, "video/*"]
        mismatch: true
        inside_archives: true
        encrypted: true

``extensions`` compares names as Windows does: case, full-width dots, invisible and
direction-changing characters, and dots and spaces at the end are ignored. If an attachment has several
names, all are checked. ``types`` are compared with the declared type and with that of the content, whatever
the name: ``application/x-dosexec`` (Windows), ``application/x-elf`` and ``application/x-mach-binary`` find
programs under any name. ``mismatch`` finds content that does not match a name or the type: `gatepost_content`
defines how.

``inside_archives`` looks for ``extensions`` in archives, in archives in them, and among the attachments of
messages in them; `gatepost_archives` lists kinds and bounds. Office files and jar are zip files too.

``encrypted`` finds archives that cannot be inspected: an encrypted member, encrypted names, a damaged
archive, an unknown kind of archive or compression, one that exceeds the bounds, one for which the extra
``archives`` is not installed, an office file with a password. They are hits for ``inside_archives`` alone
too, except two that are logged instead: an encrypted member (or office file) whose name was looked at, and an
archive for which the extra is not installed, since there was a warning when the rules were loaded.

Attachments of forwarded messages count too. Content is checked in a thread.
"""

import asyncio
import logging
import re
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from gatepost import Attachment, Match, Transaction, Verdict, hookimpl
from gatepost_archives import Archives, Found, Why, missing_libraries
from gatepost_content import false_claim, other_types, sniffed

__all__ = ["Attachments"]

_INLINE_LIMIT = 64 << 10
"""Size of a message in bytes above which it is read in a thread."""
_MATCHES_LIMIT = 10
_THREADS = 4
"""Threads of a rule, so that those of the event loop, which also look up names, stay free."""
_ONLY_LOGGED = (Why.ENCRYPTED, Why.ENCRYPTED_OFFICE, Why.NOT_INSTALLED)
"""Findings that are not a hit for inside_archives alone."""

log = logging.getLogger(__name__)


class NotReadError(Exception):
    """Nothing was found, but the message could not be read completely: the rule's `on_error` decides."""


@dataclass(kw_only=True, eq=False)
class Attachments:
    """Hits an attachment with one of the extensions, types or other properties in the settings."""

    extensions: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    mismatch: bool = False
    inside_archives: bool = False
    encrypted: bool = False

    def __post_init__(self) -> None:
        if not (self.extensions or self.types or self.mismatch or self.encrypted):
            raise ValueError("nothing to look for: expected extensions, types, mismatch or encrypted")
        for extension in self.extensions:
            if not re.fullmatch(r"\.?[^\s./\\*?][^\s/\\*?]*", extension):
                raise ValueError(f"extensions: {extension!r}: expected an extension like exe or tar.gz")
        for content_type in self.types:
            if not re.fullmatch(r"[^\s/]+/[^\s/]+", content_type):
                raise ValueError(f"types: {content_type!r}: expected a type like application/zip or video/*")
        if self.inside_archives and not self.extensions:
            raise ValueError("inside_archives without extensions: expected extensions to look for")
        self._endings = tuple("." + _plain(extension).lstrip(".") for extension in self.extensions)
        self._reads = bool(self.types or self.mismatch or self.inside_archives or self.encrypted)
        self._types = [content_type.lower() for content_type in self.types]
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="attachments")
        if (self.inside_archives or self.encrypted) and (missing := missing_libraries()):
            log.warning(
                "attachments: 7z, rar, cab, iso, zst and others cannot be inspected: `encrypted` hits them,"
                " `inside_archives` alone lets them pass. To inspect them, %s",
                missing,
            )

    @hookimpl
    async def filter_message(self, transaction: Transaction) -> Verdict | None:
        """A hit names the attachment and what was found."""
        message = transaction.message
        if len(message.content) > _INLINE_LIMIT or (self._reads and message.view.attachments):
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._look, transaction)
        return self._look(transaction)

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False)

    def _look(self, transaction: Transaction) -> Verdict | None:
        message = transaction.message
        found: list[tuple[str, Match]] = []
        archives = Archives()
        for attachment in message.view.attachments:
            where = f"attachment {_printable(attachment.filename) or attachment.content_type}"
            findings = self._findings(attachment, archives, f"transaction {transaction.id}: {where}")
            found += ((why, Match(where=where, text=text)) for why, text in findings)
            if len(found) >= _MATCHES_LIMIT:
                break
        if not found:
            if not message.view.unread:
                return None
            if self.encrypted:
                return Verdict(reason=f"cannot be inspected: {message.view.unread}")
            raise NotReadError(message.view.unread)
        why, match = found[0]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        warning = f" ({_printable(message.view.warnings[0])})" if message.view.warnings else ""
        return Verdict(
            reason=f"{match.where}: {why}{more}{warning}",
            matches=tuple(match for _, match in found[:_MATCHES_LIMIT]),
        )

    def _findings(self, attachment: Attachment, archives: Archives, place: str) -> Iterator[tuple[str, str]]:
        """Why it is a hit, and the matches to show; ``place`` is for the log."""
        names = attachment.filenames
        if ending := next(filter(None, map(self._ending, names)), ""):
            yield f"extension {ending}", _printable(next(filter(self._ending, names)))
        if declared := self._listed(attachment.content_type):
            yield f"type {_printable(declared)}", _printable(declared)
        if not self._reads:
            return
        content = attachment.read()
        if self._types and not declared:
            kind = sniffed(content)
            shown = kind.types if kind else other_types(content)
            if listed := next(filter(self._listed, shown), ""):
                yield f"content of type {listed}", listed
        if self.mismatch:
            is_, claim = false_claim(content, map(_plain, names), attachment.content_type)
            if claim:
                yield f"{is_}, but {_printable(claim)}", is_.removeprefix("content of type ")
        if self.inside_archives or self.encrypted:
            yield from self._findings_inside(archives.look_into(content, names), place)

    def _findings_inside(self, members: Iterator[Found], place: str) -> Iterator[tuple[str, str]]:
        unseen = ""
        for member in members:
            if not member.why:
                if self.inside_archives and (ending := self._ending(member.name)):
                    yield f"extension {ending} inside", _printable(member.name)
                    return
                continue
            reason = str(member.why)
            if member.why not in (Why.ENCRYPTED, Why.ENCRYPTED_OFFICE):
                reason += f": {_printable(member.detail)}"
            if self.encrypted or member.why not in _ONLY_LOGGED:
                yield reason, _printable(member.name)
                return
            unseen = unseen or reason
        if unseen:
            log.warning("%s could not be looked into: %s", place, unseen)

    def _ending(self, filename: str) -> str:
        """The listed extension that the name has; empty where it has none."""
        if not filename or not self._endings:
            return ""
        # Windows ends a name at NUL; a colon begins the name of a stream of the file.
        for name in (filename, filename.partition("\0")[0], filename.partition(":")[0]):
            plain = _plain(name)
            for ending in self._endings:
                if plain.endswith(ending):
                    return ending[1:]
        return ""

    def _listed(self, content_type: str) -> str:
        return content_type if any(fnmatchcase(content_type, listed) for listed in self._types) else ""


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:200])


def _plain(name: str) -> str:
    """The end of a file name as it is when somebody opens the file, in lower case."""
    name = name[-1000:]
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name).replace("\u3002", ".")
        name = "".join(character for character in name if unicodedata.category(character) != "Cf")
    return re.sub(r"[\x00-\x1f\x7f]", "", name).lower().rstrip(". \u3000\"'")
