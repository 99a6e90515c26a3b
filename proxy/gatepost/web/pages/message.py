"""One message: its tabs, and what is done with it."""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gatepost.record import Record
from gatepost.store import Conversation, KeptMessage, State, StoreError, of_transaction
from gatepost.verdict import Evaluation
from gatepost.web.checks import checks_of, conversation_of
from gatepost.web.desk import Desk, MeanwhileError
from gatepost.web.pages.conversation import said
from gatepost.web.pages.folders import Place, list_messages
from gatepost.web.rendering import desk_of, is_fragment, render
from gatepost.web.security import who
from gatepost.web.view import Finding, MessageView, Piece, highlight
from gatepost.web.view.text import visible

__all__ = ["routes"]

log = logging.getLogger(__name__)

_SOURCE_OCTETS = 256 << 10
"""Of a message, that its source tab shows."""
_ADDRESS = re.compile(r"[^\s<>,;\"]{1,64}@[^\s<>,;\"@]{1,255}")
_RECIPIENTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """One way to look at a message."""

    name: str
    label: str
    number: int | None = None
    """Shown beside the label."""
    bad: bool = False
    """True where the number asks for attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A message as its page shows it."""

    kept: KeptMessage
    view: MessageView | None
    """None where its octets are gone."""
    record: Record | None
    tabs: tuple[Tab, ...]
    tab: str
    checks: tuple[Finding, ...]
    """What is wrong with the message and with the commands before it."""
    details: dict[str, Any]
    """What the open tab needs."""
    problem: str = ""
    """Why it could not be released."""

    @property
    def is_deleted(self) -> bool:
        """True where only its traces are left."""
        return self.kept.state is State.DELETED


async def _show(request: Request) -> Response:
    kept = await kept_message(request)
    wanted = request.query_params.get("tab", "")
    if not wanted and request.method == "GET" and kept.state is not State.DELETED:
        await _mark_seen(desk_of(request), kept)
    return await _answer(request, kept, wanted)


async def kept_message(request: Request) -> KeptMessage:
    """The message that the path names; raises HTTPException 404."""
    desk = desk_of(request)
    kept = await desk.call(desk.mailbox.message, request.path_params["id"])
    if kept is None:
        raise HTTPException(404)
    return kept


async def _mark_seen(desk: Desk, kept: KeptMessage) -> None:
    try:
        await desk.call(desk.mailbox.mark, [kept.id], seen=True)
    except StoreError as error:
        log.warning("%s was opened, and cannot be marked as seen: %s", kept.id, error)


async def _answer(
    request: Request, kept: KeptMessage, wanted: str, *, problem: str = "", notice: str = ""
) -> Response:
    desk = desk_of(request)
    opened = await _open(desk, kept, wanted, problem)
    place = Place.of(request.query_params)
    headers = {"hx-trigger": json.dumps({"desk:notice": {"text": notice}})} if notice else None
    if is_fragment(request):
        return render(request, "message.html", headers=headers, opened=opened, place=place)
    listing = await desk.call(list_messages, desk, place)
    return render(request, "mail.html", listing=listing, opened=opened, place=place)


async def _open(desk: Desk, kept: KeptMessage, wanted: str, problem: str) -> Opened:
    view = await desk.view(kept) if kept.state is not State.DELETED else None
    record = await desk.call(desk.archive.record, kept.transaction_id)
    conversation = await conversation_of(desk, record)
    checks = checks_of(kept, view, conversation) if view else ()
    tabs = tuple(_tabs(view, record, checks))
    tab = wanted if any(tab.name == wanted for tab in tabs) else tabs[0].name
    return Opened(
        kept=kept,
        view=view,
        record=record,
        tabs=tabs,
        tab=tab,
        checks=checks,
        details=_details(tab, kept, view, record, conversation),
        problem=problem,
    )


def _tabs(view: MessageView | None, record: Record | None, checks: tuple[Finding, ...]) -> Sequence[Tab]:
    hits = sum(evaluation.action is not None for evaluation in record.evaluations) if record else 0
    of_transaction = [
        Tab(name="conversation", label="Conversation"),
        Tab(name="verdicts", label="Verdicts", number=hits or None, bad=hits > 0),
    ]
    if view is None:
        return of_transaction
    errors = sum(finding.severity == "error" for finding in checks)
    found = len(view.links) + len(view.codes)
    return [
        *([Tab(name="html", label="HTML")] if view.html is not None else []),
        Tab(name="text", label="Text"),
        *([Tab(name="links", label="Links", number=found)] if found else []),
        Tab(name="headers", label="Headers"),
        Tab(name="structure", label="Structure"),
        Tab(name="source", label="Source"),
        *of_transaction,
        Tab(name="checks", label="Checks", number=len(checks) or None, bad=errors > 0),
    ]


def _details(
    tab: str,
    kept: KeptMessage,
    view: MessageView | None,
    record: Record | None,
    conversation: Conversation | None,
) -> dict[str, Any]:
    match tab:
        case "source":
            return {
                "source": _source(kept.delivered_form[:_SOURCE_OCTETS]),
                "left_out": max(0, len(kept.delivered_form) - _SOURCE_OCTETS),
            }
        case "conversation":
            lines = of_transaction(conversation, kept.transaction_id) if conversation else ()
            return {"lines": said(lines)}
        case "verdicts":
            return {"evaluations": _evaluations(view, record)}
        case _:
            return {}


def _source(octets: bytes) -> str:
    text = octets.decode("utf-8", "replace").replace("\r\n", "\n")
    return visible(text.replace("\r", "\u240d\n"))


def _evaluations(
    view: MessageView | None, record: Record | None
) -> Sequence[tuple[Evaluation, Sequence[tuple[str, Sequence[Piece]]]]]:
    """Each evaluation with the places that made its filter say yes."""
    evaluations = record.evaluations if record else ()
    return [
        (
            evaluation,
            [
                (
                    match.where,
                    highlight(match, view, reason=evaluation.reason)
                    if view
                    else (Piece(text=visible(match.text), is_hit=True),),
                )
                for match in evaluation.matches
            ],
        )
        for evaluation in evaluations
    ]


async def _release(request: Request) -> Response:
    """Deliver a message, to its own recipients or to others."""
    desk = desk_of(request)
    kept = await kept_message(request)
    if desk.release is None or kept.state is State.DELETED:
        raise HTTPException(404)
    async with request.form(max_files=0, max_fields=10) as form:
        others = str(form.get("others", "")) if form.get("to") == "others" else None
        known_state = form.get("state", kept.state)
    if known_state != kept.state:
        problem = f"Meanwhile it was {kept.state} by {kept.changed_by}: nothing was done."
        return await _answer(request, kept, "verdicts", problem=problem)
    recipients = None if others is None else tuple(dict.fromkeys(re.split(r"[\s,;]+", others.strip())))
    if recipients is not None and (problem := _problem_with(recipients)):
        return await _answer(request, kept, "verdicts", problem=problem)
    try:
        reply = await desk.send_on(kept, recipients, who=who(request))
    except MeanwhileError:
        problem = "Somebody else is releasing it, or has done so: nothing was done."
        return await _answer(request, await kept_message(request), "verdicts", problem=problem)
    if not reply.positive:
        problem = f"It was not taken, and stays here. The server said: {reply}"
        return await _answer(request, kept, "verdicts", problem=problem)
    if not is_fragment(request):
        return RedirectResponse(f"/messages/{kept.id}", 303)
    released = await kept_message(request)
    return await _answer(request, released, "verdicts", notice=f"Released: {reply}")


def _problem_with(recipients: tuple[str, ...]) -> str:
    if not any(recipients):
        return "Say to whom it should go: one address a line."
    if len(recipients) > _RECIPIENTS:
        return f"At most {_RECIPIENTS} recipients at once."
    wrong = [one for one in recipients if not (_ADDRESS.fullmatch(one) and one.isprintable())]
    return f"This is no address: {visible(wrong[0][:100])}" if wrong else ""


routes = [
    Route("/messages/{id}", _show),
    Route("/messages/{id}/release", _release, methods=["POST"]),
]
