"""What is known of a session that is held, and the answer to it; both as JSON between processes."""

from datetime import datetime
from ipaddress import ip_address
from typing import Any

from gatepost.model.mail import Envelope, Recipient, Session, Stage
from gatepost.model.verdict import Action, Hold, Reply
from gatepost.values import value

__all__ = ["POSITIVE_CODES", "Answer", "Decided", "Held"]

POSITIVE_CODES = {
    Stage.CONNECT: (220,),
    Stage.HELO: (250,),
    Stage.MAIL: (250,),
    Stage.RCPT: (250, 251),
    Stage.MESSAGE: (250,),
}
"""The positive replies of each stage (RFC 5321 section 4.3.2)."""


@value
class Decided:
    """What the rules decided, for the stage or for one recipient of the message."""

    recipient: str | None
    """Its address; None before the message: the decision is about the command."""
    action: Action
    rule: str | None
    """The rule that decided; None: no rule had a final action."""
    reason: str
    reply: str
    """The reply of a refusal; empty if nothing is refused."""


@value
class Held:
    """One session that has stopped at a stage, and what is known of it."""

    id: str
    """Of this stop: a session may be held more than once."""
    stage: Stage
    since: datetime
    """Aware, UTC."""
    session: Session
    transaction_id: str
    """Empty before MAIL."""
    envelope: Envelope | None
    """None before MAIL."""
    recipient: Recipient | None
    """At RCPT: the recipient that is asked about; the envelope has those accepted before it."""
    decided: tuple[Decided, ...]
    """What happens if the answer is to go on: one for the stage, or one for each recipient of the message."""
    holds: tuple[Hold, ...]
    """The rules that hold it; empty if only a breakpoint does."""
    size: int | None
    """Bytes of the message; None before it."""
    content: bytes = b""
    """The message, or its beginning if it is large."""

    @property
    def is_whole(self) -> bool:
        """True if `content` is the whole message."""
        return self.size == len(self.content)

    def to_json(self) -> dict[str, Any]:
        """All but the content."""
        session, envelope = self.session, self.envelope
        return {
            "id": self.id,
            "stage": int(self.stage),
            "since": self.since.isoformat(),
            "session": {
                "id": session.id,
                "client": str(session.client),
                "client_port": session.client_port,
                "listener": session.listener,
                "connected_at": session.connected_at.isoformat(),
                "helo": session.helo,
                "extended": session.extended,
                "tls": session.tls,
                "authenticated": session.authenticated,
                "early_talker": session.early_talker,
            },
            "transaction_id": self.transaction_id,
            "envelope": envelope
            and {
                "mail_from": envelope.mail_from,
                "parameters": envelope.parameters,
                "recipients": [_recipient_to_json(one) for one in envelope.recipients],
            },
            "recipient": self.recipient and _recipient_to_json(self.recipient),
            "decided": [
                [one.recipient, one.action.value, one.rule, one.reason, one.reply] for one in self.decided
            ],
            "holds": [
                [one.rule, one.index, one.reason, one.deadline_seconds, one.on_error] for one in self.holds
            ],
            "size": self.size,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], content: bytes) -> "Held":
        """The inverse of `to_json`."""
        session, envelope, recipient = data["session"], data["envelope"], data["recipient"]
        return cls(
            id=data["id"],
            stage=Stage(data["stage"]),
            since=datetime.fromisoformat(data["since"]),
            session=Session(
                id=session["id"],
                client=ip_address(session["client"]),
                client_port=session["client_port"],
                listener=session["listener"],
                connected_at=datetime.fromisoformat(session["connected_at"]),
                helo=session["helo"],
                extended=session["extended"],
                tls=session["tls"],
                authenticated=session["authenticated"],
                early_talker=session["early_talker"],
            ),
            transaction_id=data["transaction_id"],
            envelope=envelope
            and Envelope(
                mail_from=envelope["mail_from"],
                parameters=tuple(envelope["parameters"]),
                recipients=tuple(map(_recipient_from_json, envelope["recipients"])),
            ),
            recipient=recipient and _recipient_from_json(recipient),
            decided=tuple(
                Decided(recipient=address, action=Action(action), rule=rule, reason=reason, reply=reply)
                for address, action, rule, reason, reply in data["decided"]
            ),
            holds=tuple(
                Hold(rule=rule, index=index, reason=reason, deadline_seconds=seconds, on_error=on_error)
                for rule, index, reason, seconds, on_error in data["holds"]
            ),
            size=data["size"],
            content=content,
        )


def _recipient_to_json(recipient: Recipient) -> list[Any]:
    return [recipient.address, list(recipient.parameters)]


def _recipient_from_json(data: list[Any]) -> Recipient:
    address, parameters = data
    return Recipient(address=address, parameters=tuple(parameters))


@value
class Answer:
    """What to do with a session that is held; without a reply and edits it goes on as decided."""

    actor: str
    """The person or program that answers, for the journal."""
    reply: Reply | None = None
    """2xx accepts whatever was decided, 4xx and 5xx refuse, 421 also closes; None: as decided."""
    mail_from: str | None = None
    """Another reverse-path for the message; None: unchanged."""
    recipients: tuple[str, ...] | None = None
    """All forward-paths of the message; None: unchanged."""
    content: bytes | None = None
    """Another message; None: unchanged."""

    @property
    def edits(self) -> bool:
        """True if it changes the envelope or the message."""
        return self.mail_from is not None or self.recipients is not None or self.content is not None

    def fault(self, stage: Stage) -> str:
        """Why this is not an answer at that stage; empty if it is one."""
        if self.edits and stage is not Stage.MESSAGE:
            return f"envelope and message can be changed at the stage message, not at {stage.name.lower()}"
        if self.recipients is not None and not self.recipients:
            return "no recipients: a message needs at least one"
        if self.reply and self.reply.code not in POSITIVE_CODES[stage] and self.reply.code < 400:
            codes = " or ".join(map(str, POSITIVE_CODES[stage]))
            return f"the reply code {self.reply.code} at {stage.name.lower()}, expected {codes}, 4xx or 5xx"
        if self.reply and self.edits and not self.reply.positive:
            return "changes to a message that is refused"
        return ""

    def to_json(self) -> dict[str, Any]:
        """All but the content."""
        reply = self.reply
        return {
            "actor": self.actor,
            "reply": reply and [reply.code, reply.enhanced, reply.text],
            "mail_from": self.mail_from,
            "recipients": self.recipients,
            "edited": self.content is not None,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], content: bytes) -> "Answer":
        """The inverse of `to_json`."""
        reply, recipients = data["reply"], data["recipients"]
        return cls(
            actor=data["actor"],
            reply=reply and Reply(code=reply[0], enhanced=reply[1], text=reply[2]),
            mail_from=data["mail_from"],
            recipients=None if recipients is None else tuple(recipients),
            content=content if data["edited"] else None,
        )
