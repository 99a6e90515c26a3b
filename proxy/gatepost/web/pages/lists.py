"""The dialogs that allow or block the sender of a message, and what they change."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gatepost.config.list_changes import ListError
from gatepost.config.list_entries import entry_for
from gatepost.model.user import Need
from gatepost.web.access import Guarded
from gatepost.web.audit import note
from gatepost.web.desk import Desk
from gatepost.web.lists import Choice, ListRequest, NotReloadedError, choices
from gatepost.web.rendering import desk_of, is_fragment, render
from gatepost.web.security import actor

__all__ = ["Offered", "offered", "routes"]

_ENTRY_LIMIT = 320
_NOTE_LIMIT = 200

Offered = dict[str, tuple[Choice, ...]]
"""What can be added to the lists of senders and clients, for ``allow`` and ``block``; empty: nothing."""


async def offered(desk: Desk, mail_from: str | None, client: str) -> Offered:
    """What a message's page offers to allow and to block."""
    if desk.lists is None:
        return {}
    used = await desk.call(desk.lists.used)
    return {
        "allow": choices(used, "allow", mail_from or "", client),
        "block": choices(used, "block", mail_from or "", client),
    }


async def _change(request: Request) -> Response:
    """Change a list; the answer is a line for the dialog."""
    desk = desk_of(request)
    async with request.form(max_files=0, max_fields=10) as form:
        verb, typed = form.get("do"), str(form.get("entry", ""))[:_ENTRY_LIMIT]
        remark, remove = str(form.get("note", ""))[:_NOTE_LIMIT], "remove" in form
    if desk.lists is None or verb not in ("allow", "block"):
        raise HTTPException(404)
    note(request, f"{verb} {'remove ' if remove else ''}{typed}")
    try:
        wanted = ListRequest(
            verb="allow" if verb == "allow" else "block",
            entry=entry_for(typed),
            remove=remove,
            note=remark,
            actor=actor(request),
        )
        done = await desk.change_list(wanted)
    except (ValueError, ListError, NotReloadedError) as error:
        return _said(request, str(error), bad=True)
    except OSError as error:
        return _said(request, f"{error.filename}: {error.strerror}", bad=True)
    effect = " In force now." if done.reloaded else ""
    return _said(request, f"{done.change}.{effect}", bad=not done.change.succeeded)


def _said(request: Request, text: str, *, bad: bool = False) -> Response:
    if bad:
        note(request, failed=True)
    if not is_fragment(request):
        return PlainTextResponse(f"{text}\n", 409 if bad else 200)
    return render(request, "list_answer.html", text=text, bad=bad)


routes = [Guarded("/lists/change", _change, needs=Need.OPERATE_ALL, audit="list.change", methods=["POST"])]
