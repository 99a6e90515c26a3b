"""Lists of messages, and what is done with several of them at once."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.datastructures import FormData, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gatepost.store import QueryError
from gatepost.web.pages.folders import DELETED, HELD, MESSAGES, RELEASED, Folder, Place, list_messages
from gatepost.web.rendering import desk_of, is_fragment, plural, render
from gatepost.web.security import who

__all__ = ["answer_change", "routes"]

_SELECTED = 1000


def _page_of(folder: Folder) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def show(request: Request) -> Response:
        desk = desk_of(request)
        listing = await desk.call(list_messages, desk, Place.of(request.query_params, folder))
        return render(request, "mail.html", listing=listing, opened=None)

    return show


async def _list(request: Request) -> Response:
    """The rows alone, for a page that is open."""
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
    if not chosen:
        return answer_change(request, back, "No message is selected.", changed=(), bad=True)
    match action:
        case "seen" | "unseen":
            number = await desk.call(desk.mailbox.mark, chosen, seen=action == "seen")
            text = f"{plural(number, 'message')} marked as {'read' if action == 'seen' else 'unread'}."
            return answer_change(request, back, text, changed=chosen)
        case "delete":
            deleted = await desk.call(desk.mailbox.delete, chosen, who=who(request))
            text = f"{plural(len(deleted), 'message')} deleted."
            return answer_change(request, back, text, changed=chosen, deleted=chosen)
        case _:
            raise HTTPException(400)


async def _delete_all(request: Request) -> Response:
    """Delete all that match what is searched for."""
    desk = desk_of(request)
    async with request.form(max_files=0, max_fields=10) as form:
        back = _place(form)
    if back.folder.deleted:
        raise HTTPException(400)
    try:
        query = back.query()
    except QueryError as error:
        return answer_change(request, back, str(error), changed=(), bad=True)
    number = await desk.call(desk.mailbox.delete_matching, query, who=who(request))
    return answer_change(request, back, f"{plural(number, 'message')} deleted.", changed=(), all_deleted=True)


def _place(form: FormData) -> Place:
    return Place.of(QueryParams({key: str(form.get(key, "")) for key in ("in", "q")}))


def answer_change(request: Request, back: Place, text: str, *, bad: bool = False, **changed: Any) -> Response:
    """What a page is told after a change; without a script the list is shown again."""
    if not is_fragment(request):
        return RedirectResponse(back.path, 303)
    events = {"desk:notice": {"text": text, "bad": bad}, "desk:changed": changed}
    return Response(status_code=204, headers={"hx-trigger": json.dumps(events)})


routes = [
    Route("/", _page_of(MESSAGES)),
    Route("/quarantine", _page_of(HELD)),
    Route("/quarantine/released", _page_of(RELEASED)),
    Route("/quarantine/deleted", _page_of(DELETED)),
    Route("/messages/list", _list),
    Route("/messages/change", _change, methods=["POST"]),
    Route("/messages/delete-all", _delete_all, methods=["POST"]),
]
