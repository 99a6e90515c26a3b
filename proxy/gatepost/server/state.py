"""The state of a session that its commands change and its mail transactions read."""

from gatepost.model.mail import Session
from gatepost.server.contract import SessionHandler

__all__ = ["SessionState"]


class SessionState:
    """The state of one session, from the greeting on."""

    __slots__ = ("errors", "failed_auth", "handler", "offered", "session")

    def __init__(self, session: Session, handler: SessionHandler) -> None:
        self.session = session
        self.handler = handler
        self.offered: frozenset[str] = frozenset()
        """The keywords of the last reply to EHLO."""
        self.errors = 0
        """Number of invalid commands since the last accepted message."""
        self.failed_auth = 0
        """Number of wrong credentials."""
