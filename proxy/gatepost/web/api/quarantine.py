"""Operations on the quarantine: list, send on after all, delete."""

from pydantic import BaseModel

from gatepost.store import Box, KeptMessage, State
from gatepost.store.query import Is, Mark, Query
from gatepost.web.api.answers import Deleted, MessagePage, Released
from gatepost.web.api.asked import ListMessages, Release, read_query
from gatepost.web.api.messages import stored_message, summary
from gatepost.web.api.operation import Call, NoBody, NoParameters, Operation, Parameters
from gatepost.web.desk import MeanwhileError
from gatepost.web.problems import Kind, Problem
from gatepost.web.security import who

__all__ = ["operations"]


async def _list(call: Call[ListMessages, NoBody]) -> MessagePage:
    asked = call.parameters
    query = Query(terms=(Is(mark=Mark.QUARANTINED), *read_query(asked.query).terms))
    page = await call.desk.call(call.desk.mailbox.page, query, limit=asked.limit, before=asked.before)
    return MessagePage(messages=[summary(listed) for listed in page.messages], next=page.next)


async def _held(call: Call[Parameters, BaseModel]) -> KeptMessage:
    kept = await stored_message(call)
    if kept.box is not Box.QUARANTINE:
        raise Problem(Kind.NOT_FOUND, f"The message {kept.id} was never in quarantine")
    if kept.state is not State.HELD:
        raise Problem(Kind.STATE, f"{kept.changed_by} has released the message {kept.id}: {kept.note}")
    return kept


async def _release(call: Call[NoParameters, Release]) -> Released:
    desk = call.desk
    if desk.release is None:
        raise Problem(Kind.NO_RELEASE, "This server keeps mail and has no server to send it to")
    kept = await _held(call)
    recipients = call.body.to or list(kept.recipients)
    try:
        reply = await desk.send_on(kept, call.body.to, who=who(call.request))
    except MeanwhileError:
        raise Problem(Kind.STATE, f"Somebody else releases the message {kept.id}, or has done so") from None
    if not reply.positive:
        raise Problem(Kind.NOT_TAKEN, f"The server said: {reply}", reply=str(reply))
    return Released(reply=str(reply), recipients=recipients)


async def _delete(call: Call[NoParameters, NoBody]) -> Deleted:
    kept = await _held(call)
    deleted = await call.desk.call(call.desk.mailbox.delete, [kept.id], who=who(call.request))
    return Deleted(deleted=len(deleted))


operations = (
    Operation(
        method="GET",
        path="/quarantine",
        name="listQuarantine",
        group="Quarantine",
        summary="List or search messages that are held in quarantine",
        run=_list,
        parameters=ListMessages,
        answer=MessagePage,
    ),
    Operation(
        method="POST",
        path="/quarantine/{id}/release",
        name="releaseMessage",
        group="Quarantine",
        summary="Send a message from quarantine to its recipients after all",
        description="Over the routes of rules.yaml; the rules are not asked again.",
        run=_release,
        body=Release,
        answer=Released,
        problems=(Kind.NOT_FOUND, Kind.NO_RELEASE, Kind.STATE, Kind.NOT_TAKEN),
    ),
    Operation(
        method="DELETE",
        path="/quarantine/{id}",
        name="deleteQuarantined",
        group="Quarantine",
        summary="Delete a message that is held in quarantine",
        run=_delete,
        answer=Deleted,
        problems=(Kind.NOT_FOUND, Kind.STATE),
    ),
)
