"""What a desk does beside reading and deleting: it sends, imports, changes lists, has rules learn."""

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

from gatepost.config.forward import ForwardSettings
from gatepost.model.record import Record
from gatepost.model.saved import SavedMessage
from gatepost.model.verdict import Reply
from gatepost.store import KeptMessage, StoreError
from gatepost.values import value
from gatepost.web.learning import Learning
from gatepost.web.lists import Lists

__all__ = ["Actions", "Client", "Forwarder", "Import", "Release"]

Client = IPv4Address | IPv6Address
Import = Callable[[Iterable[SavedMessage], Client], list[str | StoreError]]
"""Store saved messages; returns an id or an error for each, as `gatepost.gateway.imports` does; blocks."""
Release = Callable[[KeptMessage, Sequence[str] | None], Reply]
"""Deliver a kept message, to these recipients instead of its own; blocks. Raises StoreError."""


@value
class Forwarder:
    """The server to which any message of the desk can be forwarded."""

    settings: ForwardSettings
    send: Callable[[KeptMessage, Sequence[str] | None], Record]
    """Send a kept message, to these recipients instead of its own; blocks. Raises StoreError."""


@value
class Actions:
    """How a desk does each of these; None: it does not."""

    release: Release | None = None
    """Sends a stored message over its route."""
    forward: Forwarder | None = None
    """Sends a stored message to one server."""
    imports: Import | None = None
    """Stores saved messages."""
    lists: Lists | None = None
    """Changes the lists of the rules."""
    learning: Learning | None = None
    """Has rules learn a stored message."""
