"""Which parts are the message's text, as mail programs choose (RFC 2046 section 5.1)."""

from gatepost.mime.entity import Entity
from gatepost.mime.text import read_text as text_readings

__all__ = ["BodyText", "html_parts", "read_text", "text_octets", "text_parts"]

BodyText = tuple[str, str, bool]
"""Content type, characters with LF as line ends, and whether the part is longer than that."""

_OCTETS_LIMIT = 4 << 20
"""Of one part that are decoded; what is shown of it is less."""
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


def text_octets(entity: Entity) -> tuple[bytes, bool]:
    """The first octets of a text part after transfer decoding, and whether there are more."""
    octets = entity.read()
    if len(octets) <= _OCTETS_LIMIT:
        return octets, False
    end = max(octets.rfind(b"\n", 0, _OCTETS_LIMIT) + 1, _OCTETS_LIMIT - 1000)
    while end and octets[end] & 0xC0 == 0x80:
        end -= 1
    return octets[:end], True


def read_text(entity: Entity) -> BodyText:
    """The characters of a text part, at most some millions."""
    octets, cut = text_octets(entity)
    text = text_readings(octets, entity.charset, entity.content_type)[0].text
    return entity.content_type, text.replace("\r\n", "\n").replace("\r", "\n"), cut
