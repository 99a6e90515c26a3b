"""Operations on conversations."""

from gatepost.model.user import Need
from gatepost.store import of_transaction
from gatepost.traffic.events import moment
from gatepost.web.api.operation import Call, Link, NoBody, Operation
from gatepost.web.api.requests import ListConversations, OfTransaction
from gatepost.web.api.session_responses import Conversation, ConversationLine, Session, SessionPage, line_text
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
    some_id = call.path("id")
    found = await call.desk.conversation(some_id)
    if found is None:
        raise Problem(Kind.NOT_FOUND, f"There is no conversation {some_id[:64]}")
    transaction_id = call.parameters.transaction
    lines = of_transaction(found, transaction_id) if transaction_id else found.lines
    return Conversation(
        session=Session.model_validate(found.session),
        lines=[
            ConversationLine(at=moment(line.at), direction=line.direction, text=line_text(line.data))
            for line in lines
        ],
    )


operations = (
    Operation(
        method="GET",
        path="/conversations",
        name="listConversations",
        needs=Need.READ_ALL,
        group="Conversations",
        summary="List SMTP sessions, including refused and aborted ones",
        run=_list,
        parameters=ListConversations,
        answer=SessionPage,
        links=(
            Link(name="next page", to="listConversations", given={"before": "/next"}),
            Link(name="newest", to="readConversation", given={"id": "/sessions/0/id"}),
        ),
    ),
    Operation(
        method="GET",
        path="/conversations/{id}",
        name="readConversation",
        needs=Need.READ_ALL,
        audit="conversation.read",
        group="Conversations",
        summary="The whole conversation of one session",
        description="By the session's id, that of one of its transactions, or that of a message kept from "
        "one. A message's `record` has `session_id`, and `id` for `transaction`.",
        run=_read,
        parameters=OfTransaction,
        answer=Conversation,
        links=(Link(name="transactions", to="listJournal", given={"session_id": "/session/id"}),),
        problems=(Kind.NOT_FOUND,),
    ),
)
