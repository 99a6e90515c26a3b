"""Whether a message may go to other recipients, or from another sender, than its client has named."""

from gatepost.config.settings import Config
from gatepost.model.addresses import mailbox_key
from gatepost.model.envelope_edits import AddRecipient, ChangeSender, EnvelopeEdit
from gatepost.model.mail import Envelope, Recipient, Session, Transaction
from gatepost.server.paths import parse_rcpt
from gatepost.server.replies import Refusal
from gatepost.values import value

__all__ = ["Addressing"]


@value
class Addressing:
    """What the settings allow. Every method returns a fault in words, or an empty text."""

    config: Config

    def of_edits(self, transaction: Transaction, beside: Recipient, edits: tuple[EnvelopeEdit, ...]) -> str:
        """Why the gateway cannot carry out these edits, asked for with the recipient ``beside``."""
        envelope, known = transaction.envelope, set[str]()
        for edit in edits:
            fault = ""
            match edit:
                case AddRecipient(address) if (key := mailbox_key(address)) not in known:
                    if not known:
                        known = {mailbox_key(one.address) for one in envelope.recipients} | {""}
                    if key not in known:
                        fault = self.of_recipient(address, envelope, transaction.session, beside)
                    known.add(key)
                case ChangeSender(address):
                    fault = self.of_sender(address, envelope)
                case _:
                    pass
            if fault:
                return fault
        return self.of_number(len(known) - 1)

    def of_sender(self, address: str, envelope: Envelope) -> str:
        """Why the message cannot have this sender."""
        if not address or address == envelope.mail_from or _is_address(address, envelope):
            return ""
        return f"the sender {address!r} is not an address" + _without_smtputf8(address, envelope)

    def of_recipient(self, address: str, envelope: Envelope, session: Session, beside: Recipient) -> str:
        """Why the message cannot be sent to this address together with the recipient ``beside``."""
        if not _is_address(address, envelope):
            return f"the recipient {address!r} is not an address" + _without_smtputf8(address, envelope)
        route, other = (
            self.config.route(session, Recipient(address=address)),
            self.config.route(session, beside),
        )
        if route is None:
            return f"the recipient {address!r} has no route"
        if other is None or route.to != other.to:
            return f"the recipient {address!r} has another destination than the other recipients"
        return ""

    def of_number(self, recipients: int) -> str:
        """Why it cannot be sent to so many."""
        most = self.config.limits.recipients
        return f"{recipients} recipients, expected at most {most}" if recipients > most else ""


def _is_address(text: str, envelope: Envelope) -> bool:
    try:
        return parse_rcpt(f"TO:<{text}>", (), smtputf8=envelope.smtputf8) == (text, ())
    except Refusal:
        return False


def _without_smtputf8(text: str, envelope: Envelope) -> str:
    return "" if text.isascii() or envelope.smtputf8 else ", since the client did not ask for SMTPUTF8"
