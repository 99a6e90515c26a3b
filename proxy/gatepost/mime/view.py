"""What a message says, as filters see it."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from gatepost.mime.entity import MESSAGE_TYPES, Declared, Entity, decode_body
from gatepost.mime.fields import HEADER_SECTION, Header, decoded
from gatepost.mime.flowed import unflowed
from gatepost.mime.scan import Scanned, scan_parts
from gatepost.mime.structure import read_structure
from gatepost.mime.text import read_in_place, read_text
from gatepost.mime.tnef import is_tnef, read_tnef
from gatepost.mime.transfer import BASE64, QUOTED_PRINTABLE, other_readings
from gatepost.mime.uuencode import BEGIN, BLOCKS_LIMIT, find_blocks
from gatepost.mime.uuencode import ENCODINGS as UUENCODINGS
from gatepost.mime.words import decode_octets

__all__ = ["Attachment", "MimeView", "Text", "read_message"]

_WARNINGS_LIMIT = 20
"""More of them tell the operator nothing new."""
_DEPTH_LIMIT = 10
"""Messages attached as files in such messages."""
_SHOWN = ("text/", "message/")
"""Types that readers show as text, but for messages: message/delivery-status for example."""
_HEAD_OCTETS = 1024
"""By these a file is known as a message."""
_DOUBTFUL_PARTS_LIMIT = 900
"""With more parts `Structure` ends early, and shows nothing that a scan has not found."""
_NAMES_LIMIT = 20_000
"""All readings of the names of all attachments."""
_SPARE_OCTETS = 1 << 20
_ENCODINGS = BASE64 | QUOTED_PRINTABLE | UUENCODINGS
_FIELD = re.compile(rb"(?:[ \t]*+\r?\n)*+(?:>?From [^\n]*+\n)?[!-9;-~]{1,76}+[ \t]*+:")
_MESSAGE_FIELD = re.compile(
    rb"^(received|return-path|delivered-to|from|to|date|subject|message-id|mime-version)[ \t]*+:",
    re.IGNORECASE | re.MULTILINE,
)
_NOT_ENCODED = ("",)
_FROM_TNEF = ("from winmail.dat",)
_MESSAGE_FILES = (".eml", ".mht", ".mhtml", ".nws", ".mail")


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One reading of a part that is not shown as the message's text."""

    filenames: tuple[str, ...] = ()
    """Each name that some reader may show for it, decoded, the likeliest first; they may hold anything."""
    content_type: str
    """As declared, in lower case."""
    read: Callable[[], bytes]
    """Returns the bytes after transfer decoding; what cannot be decoded comes as it stands."""
    how: tuple[str, ...] = ()
    """How it was read where that is not plain, for a person: for example ``filename from RFC 2231``."""

    @property
    def filename(self) -> str:
        """The likeliest name; empty where none was given."""
        return self.filenames[0] if self.filenames else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MimeView:
    """What a message says, for reading only."""

    headers: tuple[Header, ...]
    """In the order of the message."""
    forwarded_headers: tuple[Header, ...] = ()
    """The header fields of the messages in the message, one after the other; and what looks like fields in a
    message without a header section, whose text it is."""
    subject: str
    texts: tuple[Text, ...]
    """Every text/* part, also of forwarded messages and of text files attached; reports (message/*) too."""
    attachments: tuple[Attachment, ...]
    """Every part that has a file name, is marked as attachment, or is no text; also of forwarded messages."""
    warnings: tuple[str, ...]
    """What could not be parsed or was repaired; empty for a clean message."""
    unread: str = ""
    """Why a part of the message was not read, for a person: the bounds were exceeded. A filter that finds
    nothing in such a message has not seen all of it, and should fail rather than have no opinion."""

    def header(self, name: str) -> str | None:
        """The value of the first field of that name, None where there is none."""
        wanted = name.lower()
        return next((h.value for h in self.headers if h.name.lower() == wanted), None)


def read_message(content: bytes) -> MimeView:
    """The view of a message, however broken.

    ``warnings`` names what was wrong. Attachments are decoded when they are read, texts here.
    """
    reading = _Reading(octets_left=4 * len(content) + _SPARE_OCTETS)
    root = reading.message(content, 0)
    headers, forwarded = decoded(root.pairs), tuple(reading.forwarded)
    if not HEADER_SECTION.match(content) or content.startswith((b"\r\n", b"\n")):
        # All of it is body once our fields are before it; what may be taken for fields is shown as such.
        headers, forwarded = (), headers + forwarded
    return MimeView(
        headers=headers,
        forwarded_headers=forwarded,
        subject=next((header.value for header in headers if header.name.lower() == "subject"), ""),
        texts=tuple(reading.texts),
        attachments=tuple(reading.attachments),
        warnings=tuple(reading.warnings),
        unread=reading.unread,
    )


@dataclass(slots=True)
class _Reading:
    """A message on its way to a view."""

    octets_left: int
    """That may still be decoded to look into files: each message in a message costs the time of the whole."""
    forwarded: list[Header] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    names_left: int = _NAMES_LIMIT
    unread: str = ""

    def message(self, content: bytes, depth: int) -> Declared:
        """Read a message into the lists; returns what its own header section declares."""
        structure = read_structure(content)
        root = structure.root
        if structure.doubts:
            self._warn(f"readers may see another structure: {'; '.join(structure.doubts)}")
            scanned = scan_parts(content)
            if scanned.unread:
                self._leave_unread(scanned.unread)
            entities, messages = _all_parts(scanned, content, root), scanned.messages
        elif root.children:
            entities = [part for part in _walk(root) if not part.is_multipart]
            messages = [part.children[0].declared for part in entities if part.is_message and part.children]
        else:
            self._leaf(root, depth)
            return root.declared
        for inner in messages:
            self.forwarded += decoded(inner.pairs)
        for entity in entities:
            self._leaf(entity, depth)
        if structure.doubts:
            for entity in _walk(root):
                self._fallback(entity, depth)
        return root.declared

    def _may_spend(self, octets: int) -> bool:
        """Whether the message is not too large for another reading of so many bytes; says so where it is."""
        self.octets_left -= octets
        if self.octets_left < 0:
            self._leave_unread("too many readings, or too much in the files of it")
        return self.octets_left >= 0

    def _leave_unread(self, why: str) -> None:
        if not self.unread:
            self.unread = why
            self._warn(f"not all of the message was read: {why}")

    def _warn(self, warning: str) -> None:
        if len(self.warnings) < _WARNINGS_LIMIT:
            self.warnings.append(warning)

    def _leaf(self, entity: Entity, depth: int) -> None:
        # Most messages are one text without a name or an encoding: the checks for that save a dozen calls.
        declared = entity.declared
        named = declared.filenames if declared.types or declared.dispositions else ()
        names = tuple([name.text for name in named]) if named else ()
        how = tuple([name.how for name in named if name.how]) if named else ()
        encodings = _mechanisms(declared) if declared.transfer_encodings else _NOT_ENCODED
        self.names_left -= len(names)
        if self.names_left < 0:
            self._leave_unread(f"more than {_NAMES_LIMIT} names of attachments")
            return
        is_first = True
        for encoding in encodings:
            of_encoding = (*how, f"read as {encoding or 'not encoded'}") if len(encodings) > 1 else how
            for content_type in declared.content_types:
                if is_first or self._may_spend(entity.end - entity.start):
                    self._reading(entity, content_type, encoding, names, of_encoding, depth)
                is_first = False

    def _fallback(self, entity: Entity, depth: int) -> None:
        """The entity as it is for readers that do not accept its Content-Type field."""
        how = ("its Content-Type is not accepted",)
        for content_type in entity.declared.fallback_types:
            if content_type == "text/plain":
                for octets in {entity.encoded(): None, entity.read(): None}:
                    if not self._may_spend(len(octets)):  # one multipart may be within another
                        return
                    texts = [one.text for one in read_text(octets, "", content_type)]
                    self.texts += [Text(content_type=content_type, text=text, how=how) for text in texts]
            elif entity.content_type.startswith("text/"):
                encoding = entity.transfer_encoding
                attachment = Attachment(
                    filenames=tuple([name.text for name in entity.declared.filenames]),
                    content_type=content_type,
                    read=entity.read,
                    how=how,
                )
                self._attach(attachment, _head(entity, encoding), depth)

    def _reading(
        self,
        entity: Entity,
        content_type: str,
        encoding: str,
        names: tuple[str, ...],
        how: tuple[str, ...],
        depth: int,
    ) -> None:
        """A leaf read as one of its types, under one of its encodings."""
        dispositions = entity.declared.dispositions
        is_text = content_type.startswith(_SHOWN) and content_type not in MESSAGE_TYPES
        is_attachment = bool(names) or not content_type.startswith("text/")
        is_attachment = is_attachment or (bool(dispositions) and entity.declared.is_attachment)
        head = b""
        if is_text and (encoding or not self._text_in_place(entity, content_type, names, how, depth)):
            head = decode_body(entity.encoded(), encoding)
            self._text(entity, head, content_type, names, how)
            if BEGIN in head:
                self._uuencoded(head, depth)
        if encoding in UUENCODINGS:
            self._uuencoded(entity.encoded(), depth)
        if is_attachment:
            attachment = Attachment(
                filenames=names,
                content_type=content_type,
                read=lambda: decode_body(entity.encoded(), encoding),
                how=how,
            )
            head = head or _head(entity, encoding)
            self._attach(attachment, head, depth, is_open=_is_open(entity, encoding))
        if not encoding:
            return
        for octets in other_readings(entity.source, entity.start, entity.end, encoding):
            odd = (*how, f"{encoding} read in another way")
            if is_text:
                self._text(entity, octets, content_type, names, odd)
            if is_attachment:
                read = partial(bytes, octets)
                other = Attachment(filenames=names, content_type=content_type, read=read, how=odd)
                self._attach(other, octets, depth)

    def _text_in_place(
        self, entity: Entity, content_type: str, names: tuple[str, ...], how: tuple[str, ...], depth: int
    ) -> bool:
        """Read a text that is neither encoded nor odd; False where it has to be looked at closer."""
        charsets = entity.declared.charsets
        if len(charsets) > 1:
            return False
        text = read_in_place(entity.source, entity.start, entity.end, charsets[0])
        if text is None:
            return False
        self._add_text(entity, content_type, text, names, how)
        if entity.source.find(BEGIN, entity.start, entity.end) >= 0:
            self._uuencoded(entity.encoded(), depth)
        return True

    def _add_text(
        self, entity: Entity, content_type: str, shown: str, names: tuple[str, ...], how: tuple[str, ...]
    ) -> None:
        text = Text(content_type=content_type, text=shown, filename=names[0] if names else "", how=how)
        self.texts.append(text)
        if entity.declared.types:
            self._flowed(entity, text)

    def _text(
        self, entity: Entity, octets: bytes, content_type: str, names: tuple[str, ...], how: tuple[str, ...]
    ) -> None:
        seen: set[str] = set()
        for charset in entity.declared.charsets:
            for reading in read_text(octets, charset, content_type):
                if seen and not self._may_spend(len(octets)):
                    return
                if reading.warning:
                    self._warn(reading.warning)
                if reading.text in seen:
                    continue
                seen.add(reading.text)
                noted = (*how, reading.note) if reading.note else how
                self._add_text(entity, content_type, reading.text, names, noted)

    def _flowed(self, entity: Entity, text: Text) -> None:
        """The lines of a text joined, where it says that they flow (RFC 3676)."""
        for one in entity.declared.types:
            if one.first(b"format").lower() == "flowed" and self._may_spend(len(text.text)):
                joined = unflowed(text.text, delsp=one.first(b"delsp").lower() == "yes")
                if joined != text.text.replace("\r\n", "\n"):
                    self.texts.append(replace(text, text=joined, how=(*text.how, "lines joined (RFC 3676)")))

    def _uuencoded(self, octets: bytes, depth: int) -> None:
        blocks = find_blocks(octets)
        if len(blocks) >= BLOCKS_LIMIT:
            self._leave_unread(f"more than {BLOCKS_LIMIT} uuencoded files in a text")
        for block in blocks:
            name, content = decode_octets(block.name), block.content
            self._attach(
                Attachment(
                    filenames=(name,) if name else (),
                    content_type="application/octet-stream",
                    read=partial(bytes, content),
                    how=("uuencoded",),
                ),
                content[:_HEAD_OCTETS],
                depth,
            )

    def _attach(self, attachment: Attachment, head: bytes, depth: int, *, is_open: bool = False) -> None:
        """Keep an attachment, whose beginning is ``head``; a message is read unless it is open already."""
        self.attachments.append(attachment)
        if is_open:
            return
        if is_tnef(head):
            if (octets := self._opened(attachment, depth)) is not None:
                self._tnef(octets, depth)
        elif _is_message(attachment, head) and (octets := self._opened(attachment, depth)) is not None:
            self.forwarded += decoded(self.message(octets, depth + 1).pairs)

    def _opened(self, attachment: Attachment, depth: int) -> bytes | None:
        """The bytes of a file that is to be looked into; None past the bounds."""
        octets = attachment.read()
        if depth >= _DEPTH_LIMIT:
            self._leave_unread(f"files in files more than {_DEPTH_LIMIT} deep")
            return None
        return octets if self._may_spend(len(octets)) else None

    def _tnef(self, octets: bytes, depth: int) -> None:
        tnef = read_tnef(octets)
        if tnef.fault:
            self._warn(f"winmail.dat: {tnef.fault}")
        for text in tnef.texts:
            self.texts.append(Text(content_type=text.content_type, text=text.text, how=_FROM_TNEF))
        for file in tnef.files:
            attachment = Attachment(
                filenames=file.names,
                content_type=file.content_type or "application/octet-stream",
                read=partial(bytes, file.content),
                how=_FROM_TNEF,
            )
            self._attach(attachment, file.content[:_HEAD_OCTETS], depth + 1)


def _all_parts(scanned: Scanned, content: bytes, root: Entity) -> list[Entity]:
    """What a scan has found, then the leaves that the structure shows in another extent."""
    if len(scanned.parts) > _DOUBTFUL_PARTS_LIMIT:
        return scanned.parts
    # What is encoded the scan has decoded anew, so that its parts are of another source.
    known = {(part.start, part.end) for part in scanned.parts if part.source is content}
    leaves = (part for part in _walk(root) if part.source is content and not part.children)
    others = [part for part in leaves if not part.is_multipart and (part.start, part.end) not in known]
    return [*scanned.parts, *others]


def _walk(root: Entity) -> Iterator[Entity]:
    waiting = [root]
    while waiting:
        entity = waiting.pop()
        yield entity
        waiting += reversed(entity.children)


def _mechanism(encoding: str) -> str:
    """The encoding if bytes must be decoded, else nothing."""
    return encoding if encoding in _ENCODINGS else ""


def _mechanisms(declared: Declared) -> tuple[str, ...]:
    """The encodings under which a body is read, the likeliest first."""
    mechanisms = dict.fromkeys(map(_mechanism, declared.transfer_encodings)) or {"": None}
    if not UUENCODINGS.isdisjoint(mechanisms):
        mechanisms.setdefault("")  # no RFC names it: some readers show the code
    return tuple(mechanisms)


def _head(entity: Entity, encoding: str) -> bytes:
    """The beginning of a file."""
    return decode_body(entity.source[entity.start : min(entity.end, entity.start + _HEAD_OCTETS)], encoding)


def _is_open(entity: Entity, encoding: str) -> bool:
    """True if the parts of a message in the message are entities themselves."""
    return not MESSAGE_TYPES.isdisjoint(entity.declared.content_types) and (
        encoding == _mechanism(entity.transfer_encoding)
    )


def _is_message(attachment: Attachment, head: bytes) -> bool:
    if not _FIELD.match(head):
        return False
    if attachment.content_type.startswith("message/"):
        return True
    if any(name.lower().endswith(_MESSAGE_FILES) for name in attachment.filenames):
        return True
    return len({name.lower() for name in _MESSAGE_FIELD.findall(head[:_HEAD_OCTETS])}) > 1
