"""How sending a message upstream ended."""

from enum import StrEnum

from gatepost.model.verdict import Reply
from gatepost.values import value

__all__ = ["Delivered", "DeliveryState"]


class DeliveryState(StrEnum):
    """How sending ended."""

    ACCEPTED = "accepted"
    """Upstream replied 2xx to the end of data."""
    REFUSED = "refused"
    """Upstream replied 4xx or 5xx, or does not offer an extension that the message needs."""
    UNSENT = "unsent"
    """The connection failed before the end of data: nothing was delivered."""
    IN_DOUBT = "in doubt"
    """No reply after the end of data: the message may have been delivered."""


@value
class Delivered:
    """What became of a message upstream."""

    state: DeliveryState
    replies: tuple[Reply, ...]
    """The replies for the client, one for each recipient that the message was sent to, in their order.

    They are equal, since an SMTP server sends one reply to the end of data (RFC 5321 section 4.1.1.4).
    """
    server: str | None
    """The server that was asked last, as ``host:port``."""
    upstream_reply: str
    """Its last reply, or the error, on one line; for the journal."""

    @property
    def reply(self) -> Reply:
        """The reply for the first recipient."""
        return self.replies[0]
