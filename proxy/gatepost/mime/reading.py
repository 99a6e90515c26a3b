"""A message as a view: every part under every reading that a mail program may make of it."""

from dataclasses import dataclass, field, replace
from functools import partial

from gatepost.mime.attached import HEAD_BYTES, is_message
from gatepost.mime.bounds import Bounds
from gatepost.mime.entity import MESSAGE_TYPES, Declared, Entity, decode_body, walk
from gatepost.mime.fields import HEADER_SECTION, Header, decoded
from gatepost.mime.flowed import unflowed
from gatepost.mime.scan import Scanned, scan_parts
from gatepost.mime.structure import read_structure
from gatepost.mime.text import read_in_place, read_text
from gatepost.mime.tnef import is_tnef, read_tnef
from gatepost.mime.transfer import BASE64, QUOTED_PRINTABLE, other_readings
from gatepost.mime.uuencode import BEGIN, BLOCKS_LIMIT, find_blocks
from gatepost.mime.uuencode import ENCODINGS as UUENCODINGS
from gatepost.mime.view import Attachment, MimeView, Text
from gatepost.mime.words import decode_octets, on_one_line

__all__ = ["read_message"]

_DEPTH_LIMIT = 10
"""Messages attached as files in such messages."""
_SHOWN = ("text/", "message/")
"""Types that readers show as text, but for messages: message/delivery-status for example."""
_DOUBTFUL_PARTS_LIMIT = 900
"""With more parts `Structure` ends early, and shows nothing that a scan has not found."""
_ENCODINGS = BASE64 | QUOTED_PRINTABLE | UUENCODINGS
_NOT_ENCODED = ("",)
_FROM_TNEF = ("from winmail.dat",)


def read_message(content: bytes) -> MimeView:
    """The view of a message, however broken.

    ``warnings`` names what was wrong. Attachments are decoded when they are read, texts here.
    """
    bounds = Bounds.of(content)
    reading = _Reading(bounds)
    root = reading.message(content, 0)
    headers, forwarded = decoded(root.pairs), tuple(reading.forwarded)
    if not HEADER_SECTION.match(content) or content.startswith((b"\r\n", b"\n")):
        # All of it is body once our fields are before it; what may be taken for fields is shown as such.
        headers, forwarded = (), headers + forwarded
    return MimeView(
        headers=headers,
        forwarded_headers=forwarded,
        subject=_first_subject(headers),
        texts=tuple(reading.texts),
        attachments=tuple(reading.attachments),
        warnings=tuple(bounds.warnings),
        unread=bounds.unread,
    )


def _first_subject(headers: tuple[Header, ...]) -> str:
    for header in headers:
        if header.name.lower() == "subject":
            return header.value
    return ""


@dataclass(slots=True)
class _Reading:
    """A message on its way to a view."""

    bounds: Bounds
    forwarded: list[Header] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    known: set[tuple[int, ...]] = field(default_factory=set)
    """The parts of the message that is read now, and the files in its texts, of which a reading is there."""
    in_other_reading: bool = False
    """True within a message or a winmail.dat that is another reading of one that is there."""

    def message(self, content: bytes, depth: int) -> Declared:
        """Read a message into the lists; returns what its own header section declares."""
        structure = read_structure(content)
        root = structure.root
        if structure.doubts:
            self.bounds.warn(f"readers may see another structure: {'; '.join(structure.doubts)}")
            scanned = scan_parts(content)
            if scanned.unread:
                self.bounds.leave_unread(scanned.unread)
            entities, messages = _all_parts(scanned, content, root), scanned.messages
        elif root.children:
            entities = [part for part in walk(root) if not part.is_multipart]
            messages = [part.children[0].declared for part in entities if part.is_message and part.children]
        else:
            self._leaf(root, depth)
            return root.declared
        for inner in messages:
            self.forwarded += decoded(inner.pairs)
        for entity in entities:
            self._leaf(entity, depth)
        if structure.doubts:
            for entity in walk(root):
                self._fallback(entity, depth)
        return root.declared

    def _leaf(self, entity: Entity, depth: int) -> None:
        # Most messages are one text without a name or an encoding: the checks for that save a dozen calls.
        declared = entity.declared
        named = declared.filenames if declared.types or declared.dispositions else ()
        names = tuple([name.text for name in named]) if named else ()
        how = tuple([name.how for name in named if name.how]) if named else ()
        encodings = _mechanisms(declared) if declared.transfer_encodings else _NOT_ENCODED
        if names and not self.bounds.may_name(len(names)):
            return
        is_first = True
        for encoding in encodings:
            of_encoding = (*how, f"read as {encoding or 'not encoded'}") if len(encodings) > 1 else how
            for content_type in declared.content_types:
                if is_first or self.bounds.may_spend(entity.end - entity.start):
                    self._reading(entity, content_type, encoding, names, of_encoding, depth)
                is_first = False

    def _fallback(self, entity: Entity, depth: int) -> None:
        """The entity as it is for readers that do not accept its Content-Type field."""
        how = ("its Content-Type is not accepted",)
        for content_type in entity.declared.fallback_types:
            if content_type == "text/plain":
                for octets in {entity.encoded(): None, entity.read(): None}:
                    if not self.bounds.may_spend(len(octets)):  # one multipart may be within another
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
                self.known.add(_place(entity))
                self._attach(attachment, _place(entity), _head(entity, encoding), depth)

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
                self._uuencoded(head, entity, depth)
        if encoding in UUENCODINGS:
            self._uuencoded(entity.encoded(), entity, depth)
        if is_attachment:
            attachment = Attachment(
                filenames=names,
                content_type=content_type,
                read=lambda: decode_body(entity.encoded(), encoding),
                how=how,
                content_id=entity.content_id,
            )
            head = head or _head(entity, encoding)
            self._attach(attachment, _place(entity), head, depth, is_open=_is_open(entity, encoding))
        if not encoding:
            return
        for octets in other_readings(entity.source, entity.start, entity.end, encoding):
            odd = (*how, f"{encoding} read in another way")
            if is_text:
                self._text(entity, octets, content_type, names, odd)
            if is_attachment:
                read = partial(bytes, octets)
                other = Attachment(
                    filenames=names,
                    content_type=content_type,
                    read=read,
                    how=odd,
                    content_id=entity.content_id,
                )
                self._attach(other, _place(entity), octets, depth)

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
            self._uuencoded(entity.encoded(), entity, depth)
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
                if seen and not self.bounds.may_spend(len(octets)):
                    return
                if reading.warning:
                    self.bounds.warn(reading.warning)
                if reading.text in seen:
                    continue
                seen.add(reading.text)
                noted = (*how, reading.note) if reading.note else how
                self._add_text(entity, content_type, reading.text, names, noted)

    def _flowed(self, entity: Entity, text: Text) -> None:
        """The lines of a text joined, where it says that they flow (RFC 3676)."""
        for one in entity.declared.types:
            if one.first(b"format").lower() == "flowed" and self.bounds.may_spend(len(text.text)):
                joined = unflowed(text.text, delsp=one.first(b"delsp").lower() == "yes")
                if joined != text.text.replace("\r\n", "\n"):
                    self.texts.append(replace(text, text=joined, how=(*text.how, "lines joined (RFC 3676)")))

    def _uuencoded(self, octets: bytes, entity: Entity, depth: int) -> None:
        """The files in a text; of a part that is uuencoded the first is the part."""
        place, blocks = _place(entity), find_blocks(octets)
        is_part = not UUENCODINGS.isdisjoint(entity.declared.transfer_encodings)
        if len(blocks) >= BLOCKS_LIMIT:
            self.bounds.leave_unread(f"more than {BLOCKS_LIMIT} uuencoded files in a text")
        for number, block in enumerate(blocks):
            name, content = on_one_line(decode_octets(block.name)), block.content
            self._attach(
                Attachment(
                    filenames=(name,) if name else (),
                    content_type="application/octet-stream",
                    read=partial(bytes, content),
                    how=("uuencoded",),
                ),
                place if is_part and not number else (*place, number),
                content[:HEAD_BYTES],
                depth,
            )

    def _attach(
        self,
        attachment: Attachment,
        place: tuple[int, ...],
        head: bytes,
        depth: int,
        *,
        is_open: bool = False,
    ) -> None:
        """Keep an attachment, whose beginning is ``head``; a message is read unless it is open already."""
        if self.in_other_reading or place in self.known:
            attachment = replace(attachment, is_other_reading=True)
        self.known.add(place)
        self.attachments.append(attachment)
        if is_open:
            return
        is_packed = is_tnef(head)
        if not is_packed and not is_message(head, attachment.content_type, attachment.filenames):
            return
        octets = self._opened(attachment, depth)
        if octets is None:
            return
        outer = self.known, self.in_other_reading
        self.known, self.in_other_reading = set(), attachment.is_other_reading
        if is_packed:
            self._tnef(octets, depth)
        else:
            self.forwarded += decoded(self.message(octets, depth + 1).pairs)
        self.known, self.in_other_reading = outer

    def _opened(self, attachment: Attachment, depth: int) -> bytes | None:
        """The bytes of a file that is to be looked into; None past the bounds."""
        octets = attachment.read()
        if depth >= _DEPTH_LIMIT:
            self.bounds.leave_unread(f"files in files more than {_DEPTH_LIMIT} deep")
            return None
        return octets if self.bounds.may_spend(len(octets)) else None

    def _tnef(self, octets: bytes, depth: int) -> None:
        tnef = read_tnef(octets)
        if tnef.fault:
            self.bounds.warn(f"winmail.dat: {tnef.fault}")
        for text in tnef.texts:
            self.texts.append(Text(content_type=text.content_type, text=text.text, how=_FROM_TNEF))
        for number, file in enumerate(tnef.files):
            attachment = Attachment(
                filenames=tuple(map(on_one_line, file.names)),
                content_type=file.content_type or "application/octet-stream",
                read=partial(bytes, file.content),
                how=_FROM_TNEF,
            )
            self._attach(attachment, (id(octets), 0, number), file.content[:HEAD_BYTES], depth + 1)


def _place(entity: Entity) -> tuple[int, int]:
    """In which bytes of the message its body is, and where that begins."""
    return id(entity.source), entity.start


def _all_parts(scanned: Scanned, content: bytes, root: Entity) -> list[Entity]:
    """What a scan has found, then the leaves that the structure shows in another extent."""
    if len(scanned.parts) > _DOUBTFUL_PARTS_LIMIT:
        return scanned.parts
    # What is encoded the scan has decoded anew, so that its parts are of another source.
    known = {(part.start, part.end) for part in scanned.parts if part.source is content}
    leaves = (part for part in walk(root) if part.source is content and not part.children)
    others = [part for part in leaves if not part.is_multipart and (part.start, part.end) not in known]
    return [*scanned.parts, *others]


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
    return decode_body(entity.source[entity.start : min(entity.end, entity.start + HEAD_BYTES)], encoding)


def _is_open(entity: Entity, encoding: str) -> bool:
    """True if the parts of a message in the message are entities themselves."""
    return not MESSAGE_TYPES.isdisjoint(entity.declared.content_types) and (
        encoding == _mechanism(entity.transfer_encoding)
    )
