"""Operations on messages: list, read, mark, delete."""

from pydantic import BaseModel
from starlette.responses import Response

from gatepost.store import KeptMessage, Listed, State
from gatepost.web.api.answers import (
    Changed,
    Deleted,
    JournalRecord,
    Message,
    MessagePage,
    MessageSummary,
    fields_of,
)
from gatepost.web.api.asked import DeleteMessages, Form, ListMessages, MarkSeen, read_query
from gatepost.web.api.operation import Call, NoBody, NoParameters, Operation, Parameters
from gatepost.web.checks import checks_of, conversation_of
from gatepost.web.desk import Desk
from gatepost.web.files import file_answer, html_answer
from gatepost.web.problems import Kind, Problem, WrongValue
from gatepost.web.security import who
from gatepost.web.view import attachment

__all__ = ["full_message", "operations", "stored_message", "summary"]


async def _list(call: Call[ListMessages, NoBody]) -> MessagePage:
    asked = call.parameters
    page = await call.desk.call(
        call.desk.mailbox.page, read_query(asked.query), limit=asked.limit, before=asked.before
    )
    return MessagePage(messages=[summary(listed) for listed in page.messages], next=page.next)


def summary(listed: Listed) -> MessageSummary:
    """A row of a list."""
    return MessageSummary.model_validate(
        {
            **fields_of(listed),
            "subject": listed.shown_subject,
            "author": listed.shown_from,
            "attachment_count": listed.attachments,
        }
    )


async def _read(call: Call[NoParameters, NoBody]) -> Message:
    return await full_message(call.desk, await stored_message(call))


async def stored_message(call: Call[Parameters, BaseModel]) -> KeptMessage:
    """The one whose id stands in the path; raises Problem."""
    kept_id = call.path("id")
    kept = await call.desk.call(call.desk.mailbox.message, kept_id)
    if kept is None:
        raise Problem(Kind.NOT_FOUND, f"There is no message {kept_id[:64]}")
    if kept.state is State.DELETED:
        raise Problem(Kind.NOT_FOUND, f"{kept.changed_by} has deleted the message {kept_id}")
    return kept


async def full_message(desk: Desk, kept: KeptMessage) -> Message:
    """A message, parsed, with what the journal says of it."""
    view = await desk.view(kept)
    record = await desk.call(desk.archive.record, kept.transaction_id)
    return Message.model_validate(
        {
            **fields_of(kept),
            **fields_of(view),
            "lint": checks_of(kept, view, await conversation_of(desk, record)),
            "record": JournalRecord.model_validate(record) if record else None,
        }
    )


async def _raw(call: Call[NoParameters, NoBody]) -> Response:
    kept = await stored_message(call)
    return file_answer(kept.delivered_form, f"{kept.id}.eml", media_type="message/rfc822")


async def _html(call: Call[Form, NoBody]) -> Response:
    remote = call.parameters.remote_images
    kept = await stored_message(call)
    view = await call.desk.view(kept, remote_images=remote)
    if view.html is None:
        raise Problem(Kind.NOT_FOUND, f"The message {kept.id} has no HTML")
    return html_answer(view.html, remote_images=remote)


async def _attachment(call: Call[NoParameters, NoBody]) -> Response:
    kept = await stored_message(call)
    number = int(call.path("number"))
    found = await call.desk.call(attachment, kept.delivered_form, number)
    if found is None:
        raise Problem(Kind.NOT_FOUND, f"The message {kept.id} has no attachment {number}")
    described, octets = found
    return file_answer(octets, described.filename)


async def _mark(call: Call[NoParameters, MarkSeen]) -> Changed:
    changed = await call.desk.call(call.desk.mailbox.mark, call.body.ids, seen=call.body.seen)
    return Changed(changed=changed)


async def _delete(call: Call[NoParameters, NoBody]) -> Deleted:
    kept = await stored_message(call)
    deleted = await call.desk.call(call.desk.mailbox.delete, [kept.id], who=who(call.request))
    return Deleted(deleted=len(deleted))


async def _delete_several(call: Call[DeleteMessages, NoBody]) -> Deleted:
    asked, mailbox = call.parameters, call.desk.mailbox
    if [asked.query is not None, bool(asked.id), asked.all].count(True) != 1:
        expected = "exactly one of query, id and all=true"
        raise Problem(
            Kind.WRONG_REQUEST,
            f"What to delete is not said, expected {expected}",
            errors=[WrongValue(where="query", found=str(call.request.query_params)[:200], expected=expected)],
        )
    if asked.id:
        deleted = await call.desk.call(mailbox.delete, asked.id, who=who(call.request))
        return Deleted(deleted=len(deleted))
    query = read_query(asked.query or "")
    return Deleted(deleted=await call.desk.call(mailbox.delete_matching, query, who=who(call.request)))


operations = (
    Operation(
        method="GET",
        path="/messages",
        name="listMessages",
        group="Messages",
        summary="List or search messages",
        run=_list,
        parameters=ListMessages,
        answer=MessagePage,
    ),
    Operation(
        method="DELETE",
        path="/messages",
        name="deleteMessages",
        group="Messages",
        summary="Delete several messages, or all that match a query",
        description="The octets go; that there was a message, and who deleted it, stays known.",
        run=_delete_several,
        parameters=DeleteMessages,
        answer=Deleted,
    ),
    Operation(
        method="POST",
        path="/messages/seen",
        name="markMessages",
        group="Messages",
        summary="Mark messages as seen or not seen",
        description="Reading a message over this API marks nothing.",
        run=_mark,
        body=MarkSeen,
        answer=Changed,
    ),
    Operation(
        method="GET",
        path="/messages/{id}",
        name="readMessage",
        group="Messages",
        summary="Read one message: headers, text, links, codes, attachments, verdicts",
        run=_read,
        answer=Message,
        problems=(Kind.NOT_FOUND,),
    ),
    Operation(
        method="DELETE",
        path="/messages/{id}",
        name="deleteMessage",
        group="Messages",
        summary="Delete one message",
        run=_delete,
        answer=Deleted,
        problems=(Kind.NOT_FOUND,),
    ),
    Operation(
        method="GET",
        path="/messages/{id}/raw",
        name="readMessageRaw",
        group="Messages",
        summary="The octets of a message, with the trace fields that were added",
        run=_raw,
        answer="message/rfc822",
        problems=(Kind.NOT_FOUND,),
    ),
    Operation(
        method="GET",
        path="/messages/{id}/html",
        name="readMessageHtml",
        group="Messages",
        summary="The HTML of a message, sanitised",
        run=_html,
        parameters=Form,
        answer="text/html",
        problems=(Kind.NOT_FOUND,),
    ),
    Operation(
        method="GET",
        path="/messages/{id}/attachments/{number:int}",
        name="readAttachment",
        group="Messages",
        summary="The octets of an attachment, decoded",
        run=_attachment,
        answer="application/octet-stream",
        problems=(Kind.NOT_FOUND,),
    ),
)
