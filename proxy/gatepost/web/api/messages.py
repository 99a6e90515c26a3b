"""Operations on messages: list, read, mark, delete."""

from pydantic import BaseModel
from starlette.responses import Response

from gatepost.model.bcc import bcc
from gatepost.model.user import Need
from gatepost.store import KeptMessage, Listed, State
from gatepost.web.api.change_responses import Changed, Deleted
from gatepost.web.api.journal_responses import JournalRecord
from gatepost.web.api.operation import Call, Link, NoBody, NoParameters, Operation, Parameters
from gatepost.web.api.requests import DeleteMessages, Form, Latest, ListMessages, MarkSeen, read_query
from gatepost.web.api.responses import Message, MessagePage, MessageSummary, fields_of
from gatepost.web.audit import note, note_done
from gatepost.web.checks import checks_of, conversation_of
from gatepost.web.desk import Desk
from gatepost.web.files import file_answer, html_answer
from gatepost.web.problems import Kind, Problem
from gatepost.web.security import actor
from gatepost.web.view import attachment, in_colors

__all__ = ["LINKS_OF_LIST", "full_message", "operations", "stored_message", "summary"]


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


async def _latest(call: Call[Latest, NoBody]) -> Message:
    query = call.parameters.query
    page = await call.desk.call(call.desk.mailbox.page, read_query(query), limit=1)
    kept = await call.desk.call(call.desk.mailbox.message, page.messages[0].id) if page.messages else None
    note(call.request, *([kept.id] if kept else []))
    if kept is None or kept.state is State.DELETED:
        that = f"that matches {query!r}" if query else "in the store"
        raise Problem(Kind.NOT_FOUND, f"There is no message {that}; to wait for one ask /api/v1/wait")
    return await full_message(call.desk, kept)


async def stored_message(call: Call[Parameters, BaseModel]) -> KeptMessage:
    """The message whose id is in the path, or the only one of that transaction or session; raises Problem."""
    some_id = call.path("id")
    named = await call.desk.kept_ids([some_id])
    if len(named) > 1:
        raise Problem(Kind.AMBIGUOUS, f"{some_id} has several messages: {', '.join(named[:20])}")
    kept = await call.desk.call(call.desk.mailbox.message, named[0]) if named else None
    if kept is None:
        raise Problem(Kind.NOT_FOUND, f"There is no message {some_id[:64]}")
    if kept.state is State.DELETED:
        raise Problem(Kind.NOT_FOUND, f"{kept.changed_by} has deleted the message {kept.id}")
    return kept


async def full_message(desk: Desk, kept: KeptMessage) -> Message:
    """A message, parsed, with what the journal says of it."""
    view = await desk.view(kept)
    record = await desk.call(desk.archive.record, kept.transaction_id)
    return Message.model_validate(
        {
            **fields_of(kept),
            **fields_of(view),
            "bcc": bcc(kept.recipients, view.named),
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
    return html_answer(in_colors(view.html, call.parameters.colors), remote_images=remote)


async def _attachment(call: Call[NoParameters, NoBody]) -> Response:
    kept = await stored_message(call)
    number = int(call.path("number"))
    found = await call.desk.call(attachment, kept.delivered_form, number)
    if found is None:
        raise Problem(Kind.NOT_FOUND, f"The message {kept.id} has no attachment {number}")
    described, octets = found
    return file_answer(octets, described.filename)


async def _mark(call: Call[NoParameters, MarkSeen]) -> Changed:
    note(call.request, *call.body.ids)
    ids = await call.desk.kept_ids(call.body.ids)
    changed = await call.desk.call(call.desk.mailbox.mark, ids, seen=call.body.seen)
    note_done(call.request, ids)
    return Changed(changed=changed)


async def _delete(call: Call[NoParameters, NoBody]) -> Deleted:
    kept = await stored_message(call)
    deleted = await call.desk.call(call.desk.mailbox.delete, [kept.id], actor=actor(call.request))
    note(call.request, failed=not deleted)
    return Deleted(deleted=len(deleted))


async def _delete_several(call: Call[DeleteMessages, NoBody]) -> Deleted:
    asked, mailbox = call.parameters, call.desk.mailbox
    if asked.id:
        note(call.request, *asked.id)
        ids = await call.desk.kept_ids(asked.id)
        deleted = await call.desk.call(mailbox.delete, ids, actor=actor(call.request))
        note_done(call.request, deleted)
        return Deleted(deleted=len(deleted))
    query = read_query(asked.query or "")
    note(call.request, f"query:{asked.query}" if asked.query else "all")
    return Deleted(deleted=await call.desk.call(mailbox.delete_matching, query, actor=actor(call.request)))


LINKS_OF_LIST = (
    Link(name="next page", to="listMessages", given={"before": "/next"}),
    Link(name="newest", to="readMessage", given={"id": "/messages/0/id"}),
    Link(name="newest deleted", to="deleteMessage", given={"id": "/messages/0/id"}),
    Link(name="transaction", to="readJournal", given={"id": "/messages/0/transaction_id"}),
)
_LINKS_OF_MESSAGE = (
    Link(name="bytes", to="readMessageRaw", given={"id": "/id"}),
    Link(name="html", to="readMessageHtml", given={"id": "/id"}),
    Link(
        name="first attachment",
        to="readAttachment",
        given={"id": "/id", "number": "/attachments/0/number"},
    ),
    Link(name="deleted", to="deleteMessage", given={"id": "/id"}),
    Link(name="forwarded", to="forwardMessage", given={"id": "/id"}),
    Link(name="learned", to="learnMessage", given={"id": "/id"}),
    Link(name="released", to="releaseMessage", given={"id": "/id"}),
    Link(name="dropped", to="deleteQuarantined", given={"id": "/id"}),
    Link(name="transaction", to="readJournal", given={"id": "/transaction_id"}),
    Link(name="conversation", to="readConversation", given={"id": "/record/session_id"}),
    Link(
        name="its part of the conversation",
        to="readConversation",
        given={"id": "/record/session_id", "transaction": "/transaction_id"},
    ),
    Link(name="next message", to="waitForMessages", given={"after": "/id"}),
)

operations = (
    Operation(
        method="GET",
        path="/messages",
        name="listMessages",
        needs=Need.READ,
        group="Messages",
        summary="List or search messages",
        run=_list,
        parameters=ListMessages,
        answer=MessagePage,
        links=LINKS_OF_LIST,
    ),
    Operation(
        method="DELETE",
        path="/messages",
        name="deleteMessages",
        needs=Need.OPERATE,
        audit="message.delete",
        group="Messages",
        summary="Delete several messages, or all that match a query",
        description="The content is deleted; a record of the message and of who deleted it remains.",
        run=_delete_several,
        parameters=DeleteMessages,
        answer=Deleted,
    ),
    Operation(
        method="POST",
        path="/messages/seen",
        name="markMessages",
        needs=Need.OPERATE,
        audit="message.change",
        group="Messages",
        summary="Mark messages as seen or not seen",
        description="Reading a message over this API does not mark it as seen.",
        run=_mark,
        body=MarkSeen,
        answer=Changed,
    ),
    Operation(
        method="GET",
        path="/messages/latest",
        name="readLatestMessage",
        needs=Need.READ,
        audit="message.read",
        group="Messages",
        summary="Read the message that arrived last, of all or of those that match a query",
        description="`wait` does the same, and waits until there is one.",
        run=_latest,
        parameters=Latest,
        answer=Message,
        links=_LINKS_OF_MESSAGE,
        problems=(Kind.NOT_FOUND,),
    ),
    Operation(
        method="GET",
        path="/messages/{id}",
        name="readMessage",
        needs=Need.READ,
        audit="message.read",
        group="Messages",
        summary="Read one message: headers, text, links, codes, attachments, verdicts",
        run=_read,
        answer=Message,
        problems=(Kind.NOT_FOUND, Kind.AMBIGUOUS),
        links=_LINKS_OF_MESSAGE,
    ),
    Operation(
        method="DELETE",
        path="/messages/{id}",
        name="deleteMessage",
        needs=Need.OPERATE,
        audit="message.delete",
        group="Messages",
        summary="Delete one message",
        run=_delete,
        answer=Deleted,
        problems=(Kind.NOT_FOUND, Kind.AMBIGUOUS),
    ),
    Operation(
        method="GET",
        path="/messages/{id}/raw",
        name="readMessageRaw",
        needs=Need.READ,
        audit="message.source",
        group="Messages",
        summary="The bytes of a message as it is delivered, with trace fields and edits",
        run=_raw,
        answer="message/rfc822",
        problems=(Kind.NOT_FOUND, Kind.AMBIGUOUS),
    ),
    Operation(
        method="GET",
        path="/messages/{id}/html",
        name="readMessageHtml",
        needs=Need.READ,
        audit="message.read",
        group="Messages",
        summary="The HTML of a message, sanitised",
        run=_html,
        parameters=Form,
        answer="text/html",
        problems=(Kind.NOT_FOUND, Kind.AMBIGUOUS),
    ),
    Operation(
        method="GET",
        path="/messages/{id}/attachments/{number:int}",
        name="readAttachment",
        needs=Need.READ,
        audit="message.attachment",
        group="Messages",
        summary="The decoded bytes of an attachment",
        run=_attachment,
        answer="application/octet-stream",
        problems=(Kind.NOT_FOUND, Kind.AMBIGUOUS),
    ),
)
