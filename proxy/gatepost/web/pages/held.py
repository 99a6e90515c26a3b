"""The page of sessions that are held: look at one, change it, choose its reply, let it go on."""

import re

from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gatepost.config.conditions import Condition
from gatepost.config.rules import hold_limit_seconds
from gatepost.holding import Answer, Held, HeldSession, HeldSessions, NotHeldError, TooManyError
from gatepost.model.mail import Stage
from gatepost.model.user import Need
from gatepost.values import value
from gatepost.web.access import Guarded
from gatepost.web.audit import note
from gatepost.web.hold_answers import make_answer
from gatepost.web.rendering import desk_of, render
from gatepost.web.security import actor

__all__ = ["routes"]

_EDITABLE_OCTETS = 256 << 10
"""Of a message that is shown in a form."""
_SHOWN_RECIPIENTS = 1000
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|[\0\f\v]")
"""What a form would not send back as it was."""
_FOREVER = "all"


@value
class Draft:
    """The fields of the form, as they are shown."""

    reply: str
    mail_from: str
    recipients: str
    """One on each line."""
    message: str | None
    """None: it cannot be edited as text."""

    @classmethod
    def of(cls, held: Held) -> "Draft":
        """The form before anybody has changed it."""
        envelope = held.envelope
        addresses = [one.address for one in envelope.recipients] if envelope else []
        return cls(
            reply="",
            mail_from=envelope.mail_from if envelope else "",
            recipients="\n".join(addresses),
            message=_editable(held),
        )

    @classmethod
    def sent(cls, form: FormData, before: "Draft") -> "Draft":
        """The form as somebody has sent it."""

        def field(name: str, otherwise: str) -> str:
            return str(form.get(name, otherwise)).replace("\r\n", "\n")

        return cls(
            reply=field("quick", "") or field("reply", "").strip(),
            mail_from=field("mail_from", before.mail_from),
            recipients=field("recipients", before.recipients),
            message=None if before.message is None else field("message", before.message),
        )

    def answer(self, before: "Draft", *, by: str) -> Answer:
        """The answer that it makes; what was not changed is not in it. Raises ValueError."""
        recipients = self.recipients.split()
        changed = recipients != before.recipients.split()
        return make_answer(
            actor=by,
            reply=self.reply or None,
            mail_from=None if self.mail_from.strip() == before.mail_from else self.mail_from,
            recipients=recipients if changed else None,
            message=None if self.message == before.message else self.message,
        )


def _editable(held: Held) -> str | None:
    """The message as the text of a form; None if a form would change bytes that nobody has edited."""
    content = held.content
    if not held.is_whole or len(content) > _EDITABLE_OCTETS or _BARE.search(content):
        return None
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None


async def _show(request: Request) -> Response:
    """``/held`` and ``/held/ID``; without an id that which is held longest."""
    holds = _holds(request)
    hold_id = request.path_params.get("hold")
    if hold_id is None:
        return _page(request, holds, _longest(request, holds))
    try:
        return _page(request, holds, holds.session(hold_id))
    except NotHeldError as error:
        return _page(request, holds, None, ended=_how(error), status=404)


def _longest(request: Request, holds: HeldSessions) -> HeldSession | None:
    """That which is held longest, which is noted as read."""
    sessions = holds.sessions()
    if not sessions:
        return None
    note(request, sessions[0].held.id, action="session.read" if request.method != "POST" else None)
    return sessions[0]


async def _list(request: Request) -> Response:
    """``/held/list``: the part of the page that changes by itself."""
    holds = _holds(request)
    hold_id = request.query_params.get("at", "")
    ended = ""
    if hold_id:
        try:
            holds.session(hold_id)
        except NotHeldError as error:
            ended = _how(error)
    return render(
        request,
        "held_list.html",
        sessions=holds.sessions(),
        at=hold_id,
        ended=ended,
        breakpoints=holds.breakpoints(),
        arms=holds.arms,
    )


async def _answer(request: Request) -> Response:
    holds = _holds(request)
    hold_id = request.path_params["hold"]
    async with request.form(max_files=0, max_fields=10) as form:
        try:
            session = holds.session(hold_id)
            before = Draft.of(session.held)
            draft = Draft.sent(form, before)
            await holds.answer(hold_id, draft.answer(before, by=actor(request)))
        except NotHeldError as error:
            return _page(request, holds, None, ended=_how(error), status=409)
        except ValueError as error:
            return _page(request, holds, session, draft=draft, problem=str(error), status=400)
    return RedirectResponse("/held", 303)


async def _arm(request: Request) -> Response:
    holds = _holds(request)
    if not holds.arms:
        raise HTTPException(404)
    async with request.form(max_files=0, max_fields=10) as form:
        stage_name, recipient, count = (str(form.get(key, "")) for key in ("stage", "recipient", "count"))
    stage = {one.name.lower(): one for one in Stage}.get(stage_name)
    if stage is None:
        raise HTTPException(400)
    try:
        when = {"recipient": recipient.strip()} if recipient.strip() else None
        holds.arm(
            stage,
            when=when,
            condition=_condition(when, stage),
            count=None if count == _FOREVER else 1,
            deadline_seconds=hold_limit_seconds(stage),
            actor=actor(request),
        )
    except (ValueError, TooManyError) as error:
        session = _longest(request, holds)
        return _page(request, holds, session, armed_problem=str(error), status=400)
    return RedirectResponse("/held", 303)


def _condition(when: dict[str, str] | None, stage: Stage) -> Condition | None:
    """The compiled condition; raises ValueError, which says what was expected."""
    if when is None:
        return None
    try:
        condition = Condition.parse(when)
    except ValidationError as error:
        (first, *_) = error.errors()
        raise ValueError(f"{first['input']!r}, expected {first['msg']}") from None
    if condition.weighs:
        raise ValueError("score, hit and auth are for rules, not for breakpoints")
    if condition.known_at > stage:
        raise ValueError("the recipient is known at the stages rcpt and message only")
    return condition


async def _disarm(request: Request) -> Response:
    _holds(request).disarm(request.path_params["breakpoint"])
    return RedirectResponse("/held", 303)


def _holds(request: Request) -> HeldSessions:
    holds = desk_of(request).held
    if holds is None:
        raise HTTPException(404)
    return holds


def _how(error: NotHeldError) -> str:
    return f"This session is not held any more: {error}." if str(error) else "No such session is held."


def _page(
    request: Request,
    holds: HeldSessions,
    session: HeldSession | None,
    *,
    draft: Draft | None = None,
    problem: str = "",
    ended: str = "",
    armed_problem: str = "",
    status: int = 200,
) -> Response:
    return render(
        request,
        "held.html",
        status=status,
        sessions=holds.sessions(),
        session=session,
        at=session.held.id if session else "",
        draft=draft or (Draft.of(session.held) if session else None),
        problem=problem,
        ended=ended,
        armed_problem=armed_problem,
        breakpoints=holds.breakpoints(),
        arms=holds.arms,
        node=request.app.state.shared_node,
        stages=[stage.name.lower() for stage in Stage],
        shown_recipients=_SHOWN_RECIPIENTS,
    )


routes = [
    Guarded("/held", _show, needs=Need.READ_ALL),
    Guarded("/held/list", _list, needs=Need.READ_ALL),
    Guarded("/held/breakpoints", _arm, needs=Need.ADMINISTER, audit="breakpoint.arm", methods=["POST"]),
    Guarded(
        "/held/breakpoints/{breakpoint}/remove",
        _disarm,
        needs=Need.ADMINISTER,
        audit="breakpoint.disarm",
        methods=["POST"],
    ),
    Guarded("/held/{hold}", _show, needs=Need.READ_ALL, audit="session.read"),
    Guarded("/held/{hold}/answer", _answer, needs=Need.OPERATE_ALL, audit="session.answer", methods=["POST"]),
]
