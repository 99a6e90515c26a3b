"""Which parts are the message's text, as mail programs choose (RFC 2046 section 5.1)."""

from typing import NamedTuple

from gatepost.mime.entity import Entity
from gatepost.mime.text import read_text

__all__ = ["BodyText", "Texts", "html_parts", "own_parts", "text_parts", "whole_text"]

_OCTETS_LIMIT = 1 << 20
"""Of one part that are decoded, after its transfer encoding."""
_PARTS_LIMIT = 100
_NO_BODY = frozenset(
    {"text/calendar", "text/csv", "text/vcard", "text/x-vcard", "text/directory", "text/x-amp-html"}
)


def text_parts(root: Entity) -> list[Entity]:
    """The leaves that make the plain text: of alternatives the plain one where there is one."""
    return _leaves(_shown(root), "text/plain")[:_PARTS_LIMIT]


def html_parts(root: Entity) -> list[Entity]:
    """The leaves that make the HTML page: of alternatives the HTML one where there is one."""
    return _leaves(_shown(root), "text/html")[:_PARTS_LIMIT]


def own_parts(root: Entity) -> list[Entity]:
    """The entities of the message that is shown, in their order, without those of messages that are in it."""
    found: list[Entity] = []
    waiting = [_shown(root)]
    while waiting:
        entity = waiting.pop()
        found.append(entity)
        waiting += () if entity.is_message else reversed(entity.children)
    return found


def _shown(root: Entity) -> Entity:
    """Of a message that is nothing but another one, that one."""
    while root.is_message and root.children:
        root = root.children[0]
    return root


def _leaves(entity: Entity, wanted: str) -> list[Entity]:
    if entity.is_message:
        return []
    if not entity.is_multipart:
        return [entity] if _is_body(entity) else []
    choices = [leaves for child in entity.children if (leaves := _leaves_of(child, wanted))]
    if entity.content_type != "multipart/alternative":
        return [leaf for leaves in choices for leaf in leaves]
    fitting = (c for c in reversed(choices) if any(leaf.content_type == wanted for leaf in c))
    return next(fitting, choices[-1] if choices else [])


def _leaves_of(child: Entity, wanted: str) -> list[Entity]:
    if child.disposition == "attachment" or (child.filename and not child.is_multipart):
        return []
    return _leaves(child, wanted)


def _is_body(entity: Entity) -> bool:
    return entity.content_type.startswith("text/") and entity.content_type not in _NO_BODY


class BodyText(NamedTuple):
    """What a text part says, or the beginning of it."""

    content_type: str
    text: str
    """With LF as line ends."""
    cut: bool
    """True where the part is longer."""
    warning: str
    """What is wrong with its charset, for a person; empty where nothing is."""
    size: int
    """Bytes of the whole part after transfer decoding."""


class Texts:
    """The text parts of one message: each is decoded once."""

    def __init__(self) -> None:
        self._read: dict[int, BodyText] = {}

    def read(self, part: Entity) -> BodyText:
        """The beginning of a text part: at most 1 MiB."""
        if (found := self._read.get(id(part))) is None:
            found = self._read[id(part)] = _read(part, _OCTETS_LIMIT)
        return found

    def size(self, part: Entity) -> int:
        """Bytes; of a part that is no container after transfer decoding."""
        if not part.is_encoded:
            return part.end - part.start
        return self.read(part).size if part.content_type.startswith("text/") else len(part.read())


def whole_text(root: Entity) -> str:
    """All of the plain text, with LF as line ends; of a message without one its HTML as it is."""
    parts = text_parts(root)
    return "\n\n".join(_read(part, part.end).text.rstrip("\n") for part in parts)


def _read(part: Entity, limit: int) -> BodyText:
    octets = part.read()
    size = len(octets)
    if cut := size > limit:
        end = max(octets.rfind(b"\n", 0, limit) + 1, limit - 1000)
        while end and octets[end] & 0xC0 == 0x80:
            end -= 1
        octets = octets[:end]
    reading = read_text(octets, part.charset, part.content_type)[0]
    text = reading.text.replace("\r\n", "\n").replace("\r", "\n")
    return BodyText(part.content_type, text, cut, reading.warning, size)
