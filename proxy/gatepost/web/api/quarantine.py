"""Operations on the quarantine: list, release, delete."""

from pydantic import BaseModel

from gatepost.model.user import Need
from gatepost.store import Box, ConflictError, KeptMessage, State
from gatepost.store.query import Is, Mark, Query
from gatepost.web.api.change_responses import Deleted, Released
from gatepost.web.api.messages import LINKS_OF_LIST, stored_message, summary
from gatepost.web.api.operation import Call, Link, NoBody, NoParameters, Operation, Parameters
from gatepost.web.api.requests import ListMessages, Release, read_query
from gatepost.web.api.responses import MessagePage
from gatepost.web.problems import Kind, Problem, why_not_taken
from gatepost.web.security import actor

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
        raise Problem(Kind.NO_RELEASE, "This server only stores mail and has no upstream server")
    kept = await _held(call)
    recipients = call.body.to or list(kept.recipients)
    if problem := desk.not_own(recipients):
        raise Problem(Kind.NOT_PERMITTED, problem)
    try:
        reply = await desk.send_on(kept, call.body.to, actor=actor(call.request))
    except ConflictError:
        raise Problem(Kind.STATE, f"The message {kept.id} is being released, or has been") from None
    if not reply.positive:
        raise Problem(Kind.NOT_TAKEN, why_not_taken(reply), reply=str(reply))
    return Released(reply=str(reply), recipients=recipients)


async def _delete(call: Call[NoParameters, NoBody]) -> Deleted:
    kept = await _held(call)
    deleted = await call.desk.call(call.desk.mailbox.delete, [kept.id], actor=actor(call.request))
    if not deleted:
        raise Problem(Kind.STATE, f"The message {kept.id} is being released, or was deleted")
    return Deleted(deleted=len(deleted))


operations = (
    Operation(
        method="GET",
        path="/quarantine",
        name="listQuarantine",
        needs=Need.READ,
        group="Quarantine",
        summary="List or search messages that are held in quarantine",
        run=_list,
        parameters=ListMessages,
        answer=MessagePage,
        links=(
            Link(name="next page", to="listQuarantine", given={"before": "/next"}),
            *(link for link in LINKS_OF_LIST if link.to != "listMessages"),
            Link(name="newest released", to="releaseMessage", given={"id": "/messages/0/id"}),
            Link(name="newest dropped", to="deleteQuarantined", given={"id": "/messages/0/id"}),
        ),
    ),
    Operation(
        method="POST",
        path="/quarantine/{id}/release",
        name="releaseMessage",
        needs=Need.OPERATE,
        audit="message.release",
        group="Quarantine",
        summary="Release a message from quarantine to its recipients",
        description="Over the routes of rules.yaml; the rules are not asked again.",
        run=_release,
        body=Release,
        answer=Released,
        problems=(
            Kind.NOT_PERMITTED,
            Kind.NOT_FOUND,
            Kind.AMBIGUOUS,
            Kind.NO_RELEASE,
            Kind.STATE,
            Kind.NOT_TAKEN,
        ),
    ),
    Operation(
        method="DELETE",
        path="/quarantine/{id}",
        name="deleteQuarantined",
        needs=Need.OPERATE,
        audit="message.delete",
        group="Quarantine",
        summary="Delete a message that is held in quarantine",
        run=_delete,
        answer=Deleted,
        problems=(Kind.NOT_FOUND, Kind.AMBIGUOUS, Kind.STATE),
    ),
)
