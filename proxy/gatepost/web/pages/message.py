"""The page of one message: its tabs and actions."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gatepost.config import ConfigError
from gatepost.model.bcc import bcc
from gatepost.model.learnt import Learnt
from gatepost.model.record import Disposition, Record
from gatepost.model.saved import IMPORTED
from gatepost.model.user import Need
from gatepost.model.verdict import Evaluation
from gatepost.store import ConflictError, Conversation, KeptMessage, State, StoreError, of_transaction
from gatepost.values import value
from gatepost.web.access import Guarded, user_of
from gatepost.web.audit import note
from gatepost.web.checks import checks_of, conversation_of
from gatepost.web.desk import Desk
from gatepost.web.learning import Kind
from gatepost.web.pages.conversation import said
from gatepost.web.pages.folders import Place, list_messages
from gatepost.web.pages.lists import Offered, offered
from gatepost.web.pages.preview import Preview
from gatepost.web.problems import why_not_taken
from gatepost.web.recipients import RECIPIENTS, is_recipient, not_allowed, read_recipients
from gatepost.web.rendering import desk_of, is_fragment, render
from gatepost.web.security import actor
from gatepost.web.view import Finding, MessageView, Piece, highlight, open_part
from gatepost.web.view.links import words_of
from gatepost.web.view.text import visible
from gatepost.web.view.urls import link_urls

__all__ = ["kept_message", "routes"]

log = logging.getLogger(__name__)

_SOURCE_OCTETS = 256 << 10
"""Bytes of a message that its source tab shows."""
_KINDS: Final[Mapping[str, Kind]] = {"spam": "spam", "ham": "ham"}
_PART = re.compile(r"[1-9][0-9]{0,4}")


@value
class Tab:
    """One tab of a message."""

    name: str
    label: str
    number: int | None = None
    """A number beside the label."""
    bad: bool = False
    """True if the number needs attention."""


@value
class TabGroup:
    """Tabs that belong together."""

    label: str
    tabs: tuple[Tab, ...]


@value
class Opened:
    """The values for a message's page."""

    kept: KeptMessage
    view: MessageView | None
    """None if its content was deleted."""
    record: Record | None
    groups: tuple[TabGroup, ...]
    """What its reader sees, and how it is made and came."""
    tab: str
    """The name of the open tab."""
    checks: tuple[Finding, ...]
    """Problems of the message and of the commands before it."""
    details: dict[str, Any]
    """The values for the open tab."""
    bcc: tuple[str, ...] = ()
    """The recipients that neither To nor Cc names."""
    offered: Offered = field(default_factory=dict)
    """What of it can be allowed and blocked."""
    problem: str = ""
    """Why it was not released or forwarded."""
    forwarded: Record | None = None
    """The record of a forward that was just made, whether the server accepted it or not."""
    learnt: tuple[Learnt, ...] = ()
    """What came of it that rules were to learn this message."""

    @property
    def is_deleted(self) -> bool:
        """True if only its record is left."""
        return self.kept.state is State.DELETED


async def _show(request: Request) -> Response:
    kept = await kept_message(request)
    user = user_of(request)
    may_mark = user is not None and user.may(Need.OPERATE)
    if request.method == "GET" and may_mark and kept.state is not State.DELETED:
        await _mark_seen(desk_of(request), kept)
    return await _answer(request, kept, request.query_params.get("tab", ""))


async def kept_message(request: Request) -> KeptMessage:
    """The message that the path names; raises HTTPException.

    An id of its transaction or session leads to its page, or to a list if there are several.
    """
    desk = desk_of(request)
    some_id = request.path_params["id"]
    kept = await desk.call(desk.mailbox.message, some_id)
    if kept is None:
        named = await desk.kept_ids([some_id])
        if not named:
            raise HTTPException(404)
        other = f"/messages/{named[0]}" if len(named) == 1 else f"/?{urlencode({'q': f'id:{some_id}'})}"
        raise HTTPException(303, headers={"location": other})
    return kept


async def _mark_seen(desk: Desk, kept: KeptMessage) -> None:
    try:
        await desk.call(desk.mailbox.mark, [kept.id], seen=True)
    except StoreError as error:
        log.warning("%s was opened, and cannot be marked as seen: %s", kept.id, error)


async def _answer(
    request: Request,
    kept: KeptMessage,
    wanted: str,
    *,
    problem: str = "",
    notice: str = "",
    forwarded: Record | None = None,
    learnt: Sequence[Learnt] = (),
) -> Response:
    desk = desk_of(request)
    if problem:
        note(request, failed=True)
    opened = replace(await _open(desk, kept, wanted, problem), forwarded=forwarded, learnt=tuple(learnt))
    opened = await _open_part(desk, opened, request.query_params.get("part"))
    place, preview = Place.of(request.query_params), Preview.of(request.cookies)
    headers = {"hx-trigger": json.dumps({"desk:notice": {"text": notice}})} if notice else None
    if is_fragment(request):
        return render(request, "message.html", headers=headers, opened=opened, place=place, preview=preview)
    listing = await desk.call(list_messages, desk, place)
    return render(request, "mail.html", listing=listing, opened=opened, place=place, preview=preview)


async def _open(desk: Desk, kept: KeptMessage, wanted: str, problem: str) -> Opened:
    view = await desk.view(kept) if kept.state is not State.DELETED else None
    record = await desk.call(desk.archive.record, kept.transaction_id)
    conversation = await conversation_of(desk, record)
    checks = checks_of(kept, view, conversation) if view else ()
    groups = _tab_groups(view, record, checks)
    names = [tab.name for group in groups for tab in group.tabs]
    tab = wanted if wanted in names else names[0]
    return Opened(
        kept=kept,
        view=view,
        record=record,
        groups=groups,
        tab=tab,
        checks=checks,
        details=_details(tab, kept, view, record, conversation),
        bcc=bcc(kept.recipients, view.named) if view else (),
        offered=await offered(desk, kept.mail_from, kept.client) if kept.reason != IMPORTED else {},
        problem=problem,
    )


async def _open_part(desk: Desk, opened: Opened, number: str | None) -> Opened:
    """With that part of the message in place of a tab, if there is one."""
    if not number or not _PART.fullmatch(number) or opened.is_deleted:
        return opened
    part = await desk.call(open_part, opened.kept.delivered_form, int(number))
    return replace(opened, tab="part", details={"part": part}) if part else opened


def _tab_groups(
    view: MessageView | None, record: Record | None, checks: tuple[Finding, ...]
) -> tuple[TabGroup, ...]:
    hits = sum(evaluation.action is not None for evaluation in record.evaluations) if record else 0
    of_transaction = (
        Tab(name="conversation", label="Conversation"),
        Tab(name="verdicts", label="Verdicts", number=hits or None, bad=hits > 0),
    )
    if view is None:
        return (TabGroup(label="Details", tabs=of_transaction),)
    errors = sum(finding.severity == "error" for finding in checks)
    found = len(view.links) + len(view.codes)
    read = [
        *([Tab(name="html", label="HTML")] if view.html is not None else []),
        Tab(name="text", label="Text"),
        *([Tab(name="links", label="Links", number=found)] if found else []),
    ]
    details = [
        Tab(name="headers", label="Headers"),
        Tab(name="source", label="Source"),
        Tab(name="structure", label="Structure"),
        *of_transaction,
        Tab(name="checks", label="Checks", number=len(checks) or None, bad=errors > 0),
    ]
    return TabGroup(label="Content", tabs=tuple(read)), TabGroup(label="Details", tabs=tuple(details))


def _details(
    tab: str,
    kept: KeptMessage,
    view: MessageView | None,
    record: Record | None,
    conversation: Conversation | None,
) -> dict[str, Any]:
    match tab:
        case "text":
            return {"pieces": link_urls(view.text or "") if view else ()}
        case "links":
            return {"words": words_of(view.anchors) if view else {}}
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
    """Each evaluation with its matches."""
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
        problem = f"The message was {kept.state} by {kept.changed_by} in the meantime; nothing was done."
        return await _answer(request, kept, "verdicts", problem=problem)
    recipients = None if others is None else tuple(dict.fromkeys(re.split(r"[\s,;]+", others.strip())))
    if recipients is not None and (problem := _problem_with(recipients) or desk.not_own(recipients)):
        return await _answer(request, kept, "verdicts", problem=problem)
    try:
        reply = await desk.send_on(kept, recipients, actor=actor(request))
    except ConflictError:
        problem = "The message is being released, or has been released by somebody else; nothing was done."
        return await _answer(request, await kept_message(request), "verdicts", problem=problem)
    if not reply.positive:
        problem = f"The message was not released and stays in quarantine. {why_not_taken(reply)}"
        return await _answer(request, kept, "verdicts", problem=problem)
    note(request, failed=False)
    if not is_fragment(request):
        return RedirectResponse(f"/messages/{kept.id}", 303)
    released = await kept_message(request)
    return await _answer(request, released, "verdicts", notice=f"Released: {reply}")


async def _forward(request: Request) -> Response:
    """Send a message to the server of `web.forward`, and show what became of it for each recipient."""
    desk = desk_of(request)
    kept = await kept_message(request)
    if desk.forward is None or kept.state is State.DELETED:
        raise HTTPException(404)
    tab = request.query_params.get("tab", "")
    async with request.form(max_files=0, max_fields=10) as form:
        recipients = read_recipients(str(form.get("to", "")), kept.recipients)
    problem = _problem_with([one for one in recipients if one not in kept.recipients] or recipients)
    problem = problem or desk.not_own(recipients) or not_allowed(desk.forward.settings, recipients)
    if problem:
        return await _answer(request, kept, tab, problem=f"Not forwarded. {problem}")
    try:
        record = await desk.forward_on(kept, recipients, actor=actor(request))
    except ConflictError:
        problem = "The message is being sent already; nothing was done."
        return await _answer(request, await kept_message(request), tab, problem=problem)
    done = all(one.disposition is Disposition.RELAYED for one in record.recipients)
    note(request, failed=not done)
    notice = f"Forwarded to {record.upstream}." if done else ""
    return await _answer(request, await kept_message(request), tab, notice=notice, forwarded=record)


async def _learn(request: Request) -> Response:
    """Have the rules that learn take a message as spam or as ham."""
    desk = desk_of(request)
    kept = await kept_message(request)
    async with request.form(max_files=0, max_fields=10) as form:
        kind = _KINDS.get(str(form.get("kind")))
    if kind is None or not desk.learners or kept.state is State.DELETED:
        raise HTTPException(404)
    tab = request.query_params.get("tab", "")
    try:
        learnt = await desk.learn(kept, kind, actor=actor(request))
    except ConfigError as error:
        problem = f"Nothing was learned: the settings are wrong: {error}"
        return await _answer(request, kept, tab, problem=problem)
    done = all(one.succeeded for one in learnt)
    note(request, failed=not done)
    notice = f"Learned as {'spam' if kind == 'spam' else 'no spam'}." if done else ""
    return await _answer(request, kept, tab, notice=notice, learnt=learnt)


def _problem_with(recipients: Sequence[str]) -> str:
    if not any(recipients):
        return "Enter the recipients, one address on each line."
    if len(recipients) > RECIPIENTS:
        return f"At most {RECIPIENTS} recipients at once."
    wrong = [one for one in recipients if not (is_recipient(one) and one.isprintable())]
    return f"Not an address: {visible(wrong[0][:100])}" if wrong else ""


routes = [
    Guarded("/messages/{id}", _show, needs=Need.READ, audit="message.read"),
    Guarded(
        "/messages/{id}/release", _release, needs=Need.OPERATE, audit="message.release", methods=["POST"]
    ),
    Guarded(
        "/messages/{id}/forward", _forward, needs=Need.OPERATE, audit="message.forward", methods=["POST"]
    ),
    Guarded("/messages/{id}/learn", _learn, needs=Need.OPERATE_ALL, audit="message.learn", methods=["POST"]),
]
