"""``when``: whom a rule is for."""

from proxy.mail import Envelope, Message, Recipient, Session, Stage


class Condition:
    """A compiled ``when``."""

    known_at: Stage
    """The first stage at which it can be decided."""
    per_recipient: bool
    """True if it looks at the recipient."""

    def holds(
        self,
        session: Session,
        envelope: Envelope | None = None,
        recipient: Recipient | None = None,
        message: Message | None = None,
    ) -> bool:
        raise NotImplementedError
