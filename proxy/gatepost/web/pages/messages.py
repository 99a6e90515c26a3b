"""The pages with lists of messages, and actions on several messages."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.datastructures import FormData, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from gatepost.model.user import Need
from gatepost.store import QueryError, State
from gatepost.web.access import Guarded
from gatepost.web.audit import note, note_done
from gatepost.web.pages.folders import DELETED, HELD, MESSAGES, RELEASED, Folder, Place, list_messages
from gatepost.web.rendering import decoded, desk_of, is_fragment, plural, render
from gatepost.web.security import actor
from gatepost.web.trash import UNDO_SECONDS

__all__ = ["routes"]

_SELECTED = 1000
_SUBJECT_LIMIT = 60
"""Characters of a subject in a notice."""


def _page_of(folder: Folder) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def show(request: Request) -> Response:
        desk = desk_of(request)
        listing = await desk.call(list_messages, desk, Place.of(request.query_params, folder))
        return render(request, "mail.html", listing=listing, opened=None)

    return show


async def _list(request: Request) -> Response:
    """Only the rows, for an open page."""
    desk = desk_of(request)
    place = Place.of(request.query_params)
    listing = await desk.call(list_messages, desk, place)
    return render(request, "rows.html" if place.before else "list.html", listing=listing, opened=None)


async def _change(request: Request) -> Response:
    """Mark or delete the messages that were selected."""
    desk = desk_of(request)
    async with request.form(max_files=0, max_fields=_SELECTED + 10) as form:
        chosen = [str(value) for value in form.getlist("id")][:_SELECTED]
        action, back = str(form.get("do", "")), _place(form)
    note(request, *chosen, action="message.delete" if action == "delete" else None)
    if not chosen:
        note(request, failed=True)
        return _answer_change(request, back, "No message is selected.", bad=True)
    match action:
        case "seen" | "unseen":
            found = await desk.kept_ids(chosen)
            number = await desk.call(desk.mailbox.mark, found, seen=action == "seen")
            note_done(request, found)
            text = f"{plural(number, 'message')} marked as {'read' if action == 'seen' else 'unread'}."
            return _answer_change(request, back, text, changed=chosen)
        case "delete" if len(chosen) == 1:
            return await _delete_one(request, back, chosen[0])
        case "delete":
            deleted = await desk.call(desk.mailbox.delete, chosen, actor=actor(request))
            note_done(request, deleted)
            text = f"{plural(len(deleted), 'message')} deleted."
            return _answer_change(request, back, text, changed=chosen, deleted=deleted)
        case _:
            raise HTTPException(400)


async def _delete_one(request: Request, back: Place, kept_id: str) -> Response:
    """Delete a message without a question: the page offers to undo it."""
    desk = desk_of(request)
    message = await desk.remove(kept_id, actor=actor(request))
    note_done(request, [kept_id] if message else [])
    if message is None:
        kept = await desk.call(desk.mailbox.message, kept_id)
        if kept and kept.state is not State.DELETED:
            text = "The message is being released just now. It was not deleted."
            return _answer_change(request, back, text, bad=True)
        text = "The message was deleted already."
        return _answer_change(request, back, text, deleted=[kept_id])
    subject = decoded(message.subject) or "(no subject)"
    if len(subject) > _SUBJECT_LIMIT:
        subject = f"{subject[:_SUBJECT_LIMIT]} …"
    undo = {"text": f"Deleted: {subject}", "seconds": UNDO_SECONDS}
    return _answer_change(request, back, "", changed=[kept_id], deleted=[kept_id], undo=undo)


async def _undo(request: Request) -> Response:
    """Put a message back that was just deleted."""
    if await desk_of(request).put_back(request.path_params["id"]):
        return Response(status_code=204)
    or_elsewhere = ", or another node has deleted it" if request.app.state.shared_node else ""
    return PlainTextResponse(f"It is too late{or_elsewhere}: the message is deleted.", 410)


async def _delete_all(request: Request) -> Response:
    """Delete all messages that match the search."""
    desk = desk_of(request)
    async with request.form(max_files=0, max_fields=10) as form:
        back = _place(form)
    note(request, f"in:{back.folder.name} {back.search}".rstrip())
    if back.folder.deleted:
        raise HTTPException(400)
    try:
        query = back.query()
    except QueryError as error:
        note(request, failed=True)
        return _answer_change(request, back, str(error), bad=True)
    number = await desk.call(desk.mailbox.delete_matching, query, actor=actor(request))
    note(request, failed=False)
    return _answer_change(
        request, back, f"{plural(number, 'message')} deleted.", changed=(), all_deleted=True
    )


def _place(form: FormData) -> Place:
    return Place.of(QueryParams({key: str(form.get(key, "")) for key in ("in", "q")}))


def _answer_change(
    request: Request, back: Place, text: str, *, bad: bool = False, **changed: Any
) -> Response:
    """The response after a change; without a script the list is shown again."""
    if not is_fragment(request):
        return RedirectResponse(back.path, 303)
    notice = {"desk:notice": {"text": text, "bad": bad}} if text else {}
    events = {**notice, "desk:changed": changed}
    return Response(status_code=204, headers={"hx-trigger": json.dumps(events)})


routes = [
    Guarded("/", _page_of(MESSAGES), needs=Need.READ),
    Guarded("/quarantine", _page_of(HELD), needs=Need.READ),
    Guarded("/quarantine/released", _page_of(RELEASED), needs=Need.READ),
    Guarded("/quarantine/deleted", _page_of(DELETED), needs=Need.READ),
    Guarded("/messages/list", _list, needs=Need.READ),
    Guarded("/messages/change", _change, needs=Need.OPERATE, audit="message.change", methods=["POST"]),
    Guarded(
        "/messages/delete-all", _delete_all, needs=Need.OPERATE, audit="message.delete", methods=["POST"]
    ),
    Guarded("/messages/{id}/undo", _undo, needs=Need.OPERATE, audit="message.undelete", methods=["POST"]),
]
