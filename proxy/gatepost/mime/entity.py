"""The noun Entity: a message or a part of one, and what its header fields declare."""

from collections.abc import Iterator
from dataclasses import field
from urllib.parse import unquote

from gatepost.mime.fields import Fields
from gatepost.mime.parameters import Named, Structured, read_structured
from gatepost.mime.transfer import BASE64, QUOTED_PRINTABLE, decode_transfer
from gatepost.mime.uuencode import ENCODINGS as UUENCODINGS
from gatepost.mime.uuencode import decode_uuencoded
from gatepost.mime.words import decode_value, on_one_line
from gatepost.values import value

__all__ = ["MESSAGE_TYPES", "Declared", "Entity", "declared_by", "decode_body", "walk"]

MESSAGE_TYPES = frozenset({"message/rfc822", "message/global", "message/news"})
_ENCODED = BASE64 | QUOTED_PRINTABLE | UUENCODINGS
_PLAIN_MECHANISMS = frozenset({b"base64", b"quoted-printable", b"7bit", b"8bit", b"binary"})
_NO_CHARSET = ("",)
_DISPOSITION_NAMES, _TYPE_NAMES = (b"filename", b"name"), (b"name", b"filename")
"""Where a name belongs, and where some readers take one too."""
_READINGS_LIMIT = 4
"""Of fields that are to occur once."""


@value
class Declared:
    """What the header fields of an entity say of it; fields that occur more than once count each."""

    content_types: tuple[str, ...]
    """In lower case, the likeliest first; the default of its place where none of the form type/subtype is."""
    types: tuple[Structured, ...]
    """Content-Type fields."""
    dispositions: tuple[Structured, ...]
    """Content-Disposition fields (RFC 2183)."""
    transfer_encodings: tuple[str, ...]
    """In lower case, the likeliest first; none where none is declared."""
    pairs: list[tuple[bytes, bytes]] = field(repr=False)
    """All fields, as in `Fields`."""
    fallback_types: tuple[str, ...] = ()
    """What the entity is for readers that do not accept its Content-Type field; none where it is sound."""

    @property
    def content_type(self) -> str:
        """The likeliest."""
        return self.content_types[0]

    @property
    def is_multipart(self) -> bool:
        """True where the body is nothing but other entities."""
        return self.content_types[0].startswith("multipart/")

    @property
    def is_message(self) -> bool:
        """True for a message in the message."""
        return self.content_types[0] in MESSAGE_TYPES

    @property
    def is_encoded(self) -> bool:
        """True where reading the body means decoding it."""
        return any(encoding in _ENCODED for encoding in self.transfer_encodings)

    @property
    def default_type(self) -> str:
        """The type of a part in it that declares none (RFC 2046 section 5.1.5)."""
        return "message/rfc822" if self.content_types[0] == "multipart/digest" else "text/plain"

    @property
    def is_attachment(self) -> bool:
        """True where a Content-Disposition says ``attachment``."""
        return any(disposition.kind == "attachment" for disposition in self.dispositions)

    @property
    def boundaries(self) -> tuple[bytes, ...]:
        """Those that a multipart may have, the likeliest first."""
        found: dict[bytes, None] = {}
        for content_type in self.types:
            for octets in content_type.octets(b"boundary"):
                found.setdefault(octets.rstrip())  # blanks before it count
            for reading in content_type.readings(b"boundary"):
                found.setdefault(reading.text.rstrip().encode("utf-8", "surrogateescape"))
        return tuple(found)

    @property
    def charsets(self) -> tuple[str, ...]:
        """As declared, the likeliest first; one that is empty where none is."""
        found: dict[str, None] = {}
        for one in self.types:
            readings = one.readings(b"charset")
            found |= {reading.text: None for reading in readings} if readings else {"": None}
        return tuple(found)[:_READINGS_LIMIT] if found else _NO_CHARSET

    @property
    def filenames(self) -> tuple[Named, ...]:
        """All names that some reader may show, the likeliest first, and how each was read."""
        if not (self.dispositions or self.types):
            return ()
        texts: dict[str, str] = {}
        for fields, parameters in ((self.dispositions, _DISPOSITION_NAMES), (self.types, _TYPE_NAMES)):
            for number, structured in enumerate(fields):
                for parameter in parameters:
                    for text, how in structured.readings(parameter):
                        texts.setdefault(text, _how(parameter.decode("ascii"), how, number))
        for text in [text for text in texts if text.startswith("<") and text.endswith(">")]:
            texts.setdefault(text[1:-1], "filename without its brackets")
        if any("%" in text for text in texts):
            for text in list(texts):
                texts.setdefault(unquote(text), "filename, percent-decoded")
        names: dict[str, str] = {}
        for text, how in texts.items():
            names.setdefault(on_one_line(text), how)
        return tuple([Named(text, how) for text, how in names.items()])

    def text_of(self, name: bytes) -> str:
        """The value of the first field of that name (in lower case); empty where there is none."""
        for other, octets in self.pairs:
            if other.rstrip().lower() == name:
                return decode_value(octets)
        return ""


def _how(parameter: str, how: str, number: int) -> str:
    if not how and not number:
        return ""
    origin = how.startswith(("RFC", "encoded-word"))
    words = f" from {how}" if origin else f", {how}" if how else ""
    return f"{parameter}{words}{' (of a second field)' if number else ''}"


@value
class Entity:
    """A message or a part of one (RFC 2045 section 2.4)."""

    declared: Declared
    source: bytes = field(repr=False)
    """What the positions are of: the message, or a decoded message in it."""
    start: int
    """Where the body begins."""
    end: int
    children: tuple["Entity", ...] = ()
    fault: str = ""
    """What is wrong with its structure, for a person; empty where nothing is."""

    @property
    def content_type(self) -> str:
        """In lower case; the default of its place where none of the form type/subtype is declared."""
        return self.declared.content_types[0]

    @property
    def charset(self) -> str:
        """As declared; empty where none is."""
        return self.declared.charsets[0]

    @property
    def transfer_encoding(self) -> str:
        """In lower case; empty where none is declared."""
        return next(iter(self.declared.transfer_encodings), "")

    @property
    def filename(self) -> str:
        """As the sender wrote it, decoded; may hold anything. Empty where none was given."""
        return next((name.text for name in self.declared.filenames), "")

    @property
    def disposition(self) -> str:
        """``inline``, ``attachment`` or what else is declared, in lower case; empty where nothing is."""
        return next((one.kind for one in self.declared.dispositions), "")

    @property
    def content_id(self) -> str:
        """Without its angle brackets."""
        return self.declared.text_of(b"content-id").strip().removeprefix("<").removesuffix(">")

    @property
    def subject(self) -> str:
        """Of a message; empty for others."""
        return self.declared.text_of(b"subject")

    @property
    def is_multipart(self) -> bool:
        """True where the body is nothing but other entities."""
        return self.declared.is_multipart

    @property
    def is_message(self) -> bool:
        """True for a message in the message."""
        return self.declared.is_message

    @property
    def is_encoded(self) -> bool:
        """True where reading the body means decoding it."""
        return self.declared.is_encoded and not self.is_multipart

    def encoded(self) -> bytes:
        """The body as it was sent."""
        return self.source[self.start : self.end]

    def read(self) -> bytes:
        """The body after transfer decoding; what cannot be decoded comes as it is."""
        return decode_body(self.encoded(), self.transfer_encoding)


def walk(root: Entity) -> Iterator[Entity]:
    """The entity and all that are in it, in the order in which they begin."""
    waiting = [root]
    while waiting:
        entity = waiting.pop()
        yield entity
        waiting += reversed(entity.children)


def decode_body(octets: bytes, encoding: str) -> bytes:
    """The bytes of a body without its transfer encoding (lower case); unchanged where that is unknown."""
    return decode_uuencoded(octets) if encoding in UUENCODINGS else decode_transfer(octets, encoding)


def declared_by(fields: Fields, default_type: str) -> Declared:
    """What the fields declare; ``default_type`` is that of an entity there without a type of its own."""
    types, dispositions, encodings = [], [], []
    fallback_types: dict[str, None] = {}
    for name, octets in fields.pairs:
        if name[:8].lower() == b"content-":
            match name.rstrip().lower():
                case b"content-type":
                    types.append(octets)
                    if name[12:]:  # a blank before the colon: no field for Python's and Perl's readers
                        fallback_types["text/plain"] = None
                case b"content-disposition":
                    dispositions.append(octets)
                case b"content-transfer-encoding":
                    encodings.append((name, octets))
                case _:
                    pass
    content_types: tuple[str, ...] = (default_type,)
    structured: tuple[Structured, ...] = ()
    if types:
        structured = _read(types)
        content_types = tuple(
            dict.fromkeys(one.kind if "/" in one.kind else default_type for one in structured)
        )
        for octets, one in zip(types, structured, strict=False):
            if "/" not in one.kind or (b"(" in octets and octets.lstrip().startswith(b"(")):
                fallback_types |= dict.fromkeys(("text/plain", "application/octet-stream"))
    return Declared(
        content_types=content_types,
        types=structured,
        dispositions=_read(dispositions) if dispositions else (),
        transfer_encodings=_mechanisms(encodings) if encodings else (),
        pairs=fields.pairs,
        fallback_types=tuple(fallback_types) if fallback_types else (),
    )


def _mechanisms(found: list[tuple[bytes, bytes]]) -> tuple[str, ...]:
    """The transfer encodings; where a reader may take the field for none, also none."""
    mechanisms = dict.fromkeys(one.kind for one in _read([octets for _, octets in found]))
    plain = all(
        octets.strip().lower() in _PLAIN_MECHANISMS and not name.endswith((b" ", b"\t"))
        for name, octets in found
    )
    if not plain:
        mechanisms.setdefault("7bit")
    return tuple(mechanisms)


def _read(values: list[bytes]) -> tuple[Structured, ...]:
    """The first ones and the last one: of two fields readers take the one or the other."""
    if len(values) > _READINGS_LIMIT:
        values = [*values[: _READINGS_LIMIT - 1], values[-1]]
    return tuple([read_structured(octets) for octets in values])
