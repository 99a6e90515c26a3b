"""What a client does in one session, counted for `report_session`."""

from gatepost.model.mail import Session
from gatepost.model.record import SessionRecord

__all__ = ["SessionCounts"]


class SessionCounts:
    """The counts of one session so far; those who count increase them."""

    __slots__ = ("bad_commands", "failed_auth", "messages", "refused_recipients", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        """Its latest state."""
        self.bad_commands = 0
        self.failed_auth = 0
        self.refused_recipients = 0
        self.messages = 0

    def is_about(self, session: Session) -> bool:
        """True if it is the same client: a trusted source may speak for several on one connection."""
        return session.client == self.session.client

    def record(self) -> SessionRecord:
        """The record of the session."""
        session = self.session
        return SessionRecord(
            id=session.id,
            client=str(session.client),
            listener=session.listener,
            connected_at=session.connected_at,
            helo=session.helo,
            tls=session.tls,
            authenticated=session.authenticated,
            early_talker=session.early_talker,
            bad_commands=self.bad_commands,
            failed_auth=self.failed_auth,
            refused_recipients=self.refused_recipients,
            messages=self.messages,
        )
