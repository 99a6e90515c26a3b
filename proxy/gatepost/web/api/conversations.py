"""Operations on conversations: sessions, and what was said in one."""

from gatepost.store.conversations import of_transaction
from gatepost.web.api.answers import Conversation, ConversationLine, Session, SessionPage, line_text
from gatepost.web.api.asked import ListConversations, OfTransaction
from gatepost.web.api.operation import Call, NoBody, Operation
from gatepost.web.problems import Kind, Problem

__all__ = ["operations"]


async def _list(call: Call[ListConversations, NoBody]) -> SessionPage:
    asked = call.parameters
    if call.desk.conversations is None:
        return SessionPage(sessions=[], next=None)
    found = await call.desk.call(
        call.desk.conversations.sessions,
        client=asked.client,
        address=asked.address,
        limit=asked.limit + 1,
        before=asked.before,
    )
    return SessionPage(
        sessions=[Session.model_validate(session) for session in found[: asked.limit]],
        next=found[asked.limit - 1].id if len(found) > asked.limit else None,
    )


async def _read(call: Call[OfTransaction, NoBody]) -> Conversation:
    session_id = call.path("id")
    conversations = call.desk.conversations
    found = await call.desk.call(conversations.conversation, session_id) if conversations else None
    if found is None:
        raise Problem(Kind.NOT_FOUND, f"There is no conversation {session_id[:64]}")
    transaction_id = call.parameters.transaction
    lines = of_transaction(found, transaction_id) if transaction_id else found.lines
    return Conversation(
        session=Session.model_validate(found.session),
        lines=[
            ConversationLine(at=line.at, direction=line.direction, text=line_text(line.data))
            for line in lines
        ],
    )


operations = (
    Operation(
        method="GET",
        path="/conversations",
        name="listConversations",
        group="Conversations",
        summary="List SMTP sessions, the refused and broken-off ones too",
        run=_list,
        parameters=ListConversations,
        answer=SessionPage,
    ),
    Operation(
        method="GET",
        path="/conversations/{id}",
        name="readConversation",
        group="Conversations",
        summary="All that was said in one session",
        description="A message's `record` has `session_id` for it, and `id` for its `transaction`.",
        run=_read,
        parameters=OfTransaction,
        answer=Conversation,
        problems=(Kind.NOT_FOUND,),
    ),
)
