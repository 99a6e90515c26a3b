"""What is wrong with a message and with the commands before it: for pages and API alike."""

from gatepost.model.record import Record
from gatepost.store import Conversation, KeptMessage, of_transaction
from gatepost.web.desk import Desk
from gatepost.web.view import Finding, MessageView, lint_commands, worst_first

__all__ = ["checks_of", "conversation_of"]


async def conversation_of(desk: Desk, record: Record | None) -> Conversation | None:
    """The whole conversation of the message's session; None if it is not stored."""
    if desk.conversations is None or record is None:
        return None
    return await desk.call(desk.conversations.conversation, record.session_id)


def checks_of(kept: KeptMessage, view: MessageView, conversation: Conversation | None) -> tuple[Finding, ...]:
    """Errors first."""
    if conversation is None:
        return view.lint
    lines = of_transaction(conversation, kept.transaction_id)
    before = conversation.lines[: conversation.lines.index(lines[0])] if lines else ()
    return worst_first((*view.lint, *lint_commands(before, lines)))
