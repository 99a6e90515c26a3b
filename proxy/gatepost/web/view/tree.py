"""The MIME tree as a page draws it, and the numbers by which a page asks for a part."""

from collections.abc import Iterator

from gatepost.mime.entity import Entity, walk
from gatepost.values import value
from gatepost.web.view.text import visible_line

__all__ = ["Node", "make_tree", "numbered"]


@value
class Node:
    """One entity: the message, a part of it, or a message in it."""

    number: int
    """1 for the message; then in the order in which the parts begin."""
    content_type: str
    charset: str
    """As declared; empty where none is."""
    transfer_encoding: str
    """As declared; empty where none is."""
    filename: str
    """As the sender wrote it; empty where none was given. See AttachmentView for a safe one."""
    disposition: str
    """``inline``, ``attachment``, another one, or empty."""
    size: int
    """Bytes; of a part that is no container after transfer decoding."""
    fault: str
    """What is wrong with its structure; empty where nothing is."""
    children: tuple["Node", ...]


def numbered(root: Entity) -> Iterator[tuple[int, Entity]]:
    """All entities with their numbers."""
    return enumerate(walk(root), start=1)


def make_tree(root: Entity, sizes: dict[int, int]) -> Node:
    """The tree; ``sizes`` by number, of those that are decoded."""
    return _Numbering(sizes).node(root)


class _Numbering:
    def __init__(self, sizes: dict[int, int]) -> None:
        self._sizes = sizes
        self._last = 0

    def node(self, entity: Entity) -> Node:
        self._last += 1
        number = self._last
        return Node(
            number=number,
            content_type=visible_line(entity.content_type, 100),
            charset=visible_line(entity.charset, 60),
            transfer_encoding=visible_line(entity.transfer_encoding, 60),
            filename=visible_line(entity.filename, 200),
            disposition=visible_line(entity.disposition, 60),
            size=self._sizes.get(number, entity.end - entity.start),
            fault=entity.fault,
            children=tuple([self.node(child) for child in entity.children]),
        )
