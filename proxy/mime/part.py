"""One part of a message, however it was found."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Part"]


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf of the MIME structure, or a forwarded message."""

    content_type: str
    """In lower case; ``text/plain`` where none, or none of the form type/subtype, is declared."""
    charset: str
    """As declared; empty where none is."""
    filename: str
    attached: bool
    """True where Content-Disposition (RFC 2183) says ``attachment``."""
    read: Callable[[], bytes]
    """Gives the octets after transfer decoding; never raises."""
