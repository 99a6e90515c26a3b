"""What the web desks of nodes with one store pass to each other while somebody watches live conversations."""

from gatepost.values import value

__all__ = ["PassedBatch", "Turn"]


@value
class PassedBatch:
    """Lines of conversations of one node, passed on by its desk."""

    desk: str
    """Names the desk's process; its successor has another name."""
    node: str
    """The name of the desk's node."""
    number: int
    """Counts up by one with each batch of the desk."""
    before: int
    """How many lines the desk had before these, passed on or not: a difference says how many are lost."""
    lines: int
    """How many these are."""
    octets: bytes
    """The lines, as `gatepost.traffic.feed` writes them."""


@value
class Turn:
    """What a desk learns in one turn."""

    others_watch: bool
    """True: somebody watches on another desk, so this one passes its lines on."""
    batches: tuple[PassedBatch, ...]
    """Those of other desks that were not read yet, each desk's in order; none for a desk without watchers."""
