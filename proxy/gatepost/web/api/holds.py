"""Operations on sessions that are held, and on the breakpoints that hold them."""

from pydantic import ValidationError
from starlette.responses import Response

from gatepost.config.conditions import KEYS, Condition
from gatepost.holding import HeldSession, HeldSessions, NotHeldError, TooManyError
from gatepost.model.mail import Stage
from gatepost.model.user import Need
from gatepost.web.api.hold_responses import (
    ArmedBreakpoint,
    ArmedBreakpoints,
    Disarmed,
    Held,
    HeldList,
    LetGo,
    armed_breakpoint,
    held_session,
)
from gatepost.web.api.long_poll import long_poll
from gatepost.web.api.operation import Call, Link, NoBody, NoParameters, Operation
from gatepost.web.api.requests import AnswerHeld, Arm, ListHeld
from gatepost.web.audit import note
from gatepost.web.desk import Desk
from gatepost.web.files import file_answer
from gatepost.web.hold_answers import make_answer
from gatepost.web.problems import Kind, Problem, WrongValue
from gatepost.web.security import actor

__all__ = ["operations"]

_GROUP = "Breakpoints"
_ANSWER_OCTETS = 1 << 20

_ABOUT_ARM = """
The next sessions that reach the stage and match `when` stop there, until `answerHeld` or the deadline. It
is in force as soon as this returns. `when` is a condition as in rules.yaml, for example
`{"recipient": "bob@example.com"}`; at `message` it sees the first MiB of the message.

Only in complaints mode: in front of a mail server a rule with `action: hold` holds sessions.
""".strip()
_ABOUT_ANSWER = """
Without a value it goes on as decided. `reply` 2xx accepts whatever was decided; 4xx and 5xx refuse, and 421
also closes the connection. At `message` the envelope and the message can be changed; its Received field is
added afterwards. If the answer cannot be carried out, the session is held on.
""".strip()


def _of(desk: Desk) -> HeldSessions:
    if desk.held is None:
        raise Problem(Kind.NO_HOLDS, "This desk runs without an SMTP server")
    return desk.held


async def _list(call: Call[ListHeld, NoBody]) -> HeldList:
    asked = call.parameters
    found = await long_poll(call.request, _of(call.desk).wait(asked.breakpoint, asked.timeout))
    note(call.request, *(one.held.id for one in found), action="session.read" if found else None)
    return HeldList(held=[held_session(one) for one in found])


def _session(call: Call[NoParameters, NoBody] | Call[NoParameters, AnswerHeld]) -> HeldSession:
    try:
        return _of(call.desk).session(call.path("hold"))
    except NotHeldError as error:
        raise _not_held(call.path("hold"), error) from None


def _not_held(hold_id: str, error: NotHeldError) -> Problem:
    if str(error):
        return Problem(Kind.NOT_HELD, f"{hold_id} is not held any more: {error}")
    return Problem(Kind.NOT_FOUND, f"There is no held session {hold_id[:64]}")


async def _read(call: Call[NoParameters, NoBody]) -> Held:
    return held_session(_session(call))


async def _message(call: Call[NoParameters, NoBody]) -> Response:
    held = _session(call).held
    if held.stage is not Stage.MESSAGE:
        raise Problem(Kind.NOT_FOUND, f"At the stage {held.stage.name.lower()} there is no message yet")
    return file_answer(held.content, f"{held.id}.eml", media_type="message/rfc822")


async def _answer(call: Call[NoParameters, AnswerHeld]) -> LetGo:
    held, given = _session(call).held, call.body
    try:
        answer = make_answer(
            actor=actor(call.request),
            reply=given.reply,
            mail_from=given.mail_from,
            recipients=given.recipients,
            message=given.message,
            message_base64=given.message_base64,
        )
        await _of(call.desk).answer(held.id, answer)
    except NotHeldError as error:
        raise _not_held(held.id, error) from None
    except ValueError as error:
        raise Problem(Kind.WRONG_REQUEST, str(error)) from None
    return LetGo(id=held.id)


async def _breakpoints(call: Call[NoParameters, NoBody]) -> ArmedBreakpoints:
    return ArmedBreakpoints(breakpoints=[armed_breakpoint(one) for one in _of(call.desk).breakpoints()])


async def _arm(call: Call[NoParameters, Arm]) -> ArmedBreakpoint:
    holds, asked = _of(call.desk), call.body
    if not holds.arms:
        raise Problem(
            Kind.NO_HOLDS, "In front of a mail server no breakpoints are armed: use a rule with action: hold"
        )
    stage = Stage[asked.stage.upper()]
    try:
        armed = holds.arm(
            stage,
            when=asked.when,
            condition=_condition(asked, stage),
            count=asked.count,
            deadline_seconds=asked.deadline,
            on_error=asked.on_error,
            actor=actor(call.request),
        )
    except TooManyError as error:
        raise Problem(Kind.TOO_MANY_BREAKPOINTS, str(error)) from None
    return armed_breakpoint(armed)


def _condition(asked: Arm, stage: Stage) -> Condition | None:
    if asked.when is None:
        return None
    try:
        condition = Condition.parse(asked.when)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("when", *first["loc"])))
        expected = f"one of: {', '.join(KEYS)}" if first["type"] == "unknown_key" else first["msg"]
        raise _wrong(f"body {place}", str(first["input"]), expected) from None
    if condition.weighs:
        raise _wrong("body when", str(asked.when), "no score, hit or auth: they are for rules")
    if condition.known_at > stage:
        known = condition.known_at.name.lower()
        raise _wrong("body when", str(asked.when), f"what is known at {asked.stage}; this is at {known}")
    return condition


def _wrong(where: str, found: str, expected: str) -> Problem:
    found = found.encode("utf-8", "replace").decode()[:200]
    return Problem(
        Kind.WRONG_REQUEST,
        f"{where}: found {found!r}, expected {expected}",
        errors=[WrongValue(where=where, found=found, expected=expected)],
    )


async def _disarm(call: Call[NoParameters, NoBody]) -> Disarmed:
    some_id = call.path("breakpoint")
    if not _of(call.desk).disarm(some_id):
        raise Problem(Kind.NOT_FOUND, f"The breakpoint {some_id[:64]} is not armed: used up, or removed")
    return Disarmed(disarmed=1)


async def _disarm_all(call: Call[NoParameters, NoBody]) -> Disarmed:
    holds = _of(call.desk)
    return Disarmed(disarmed=sum(holds.disarm(one.id) for one in holds.breakpoints()))


operations = (
    Operation(
        method="GET",
        path="/breakpoints",
        name="listBreakpoints",
        needs=Need.READ_ALL,
        group=_GROUP,
        summary="List the breakpoints that are armed",
        run=_breakpoints,
        answer=ArmedBreakpoints,
        problems=(Kind.NO_HOLDS,),
    ),
    Operation(
        method="POST",
        path="/breakpoints",
        name="armBreakpoint",
        needs=Need.ADMINISTER,
        audit="breakpoint.arm",
        group=_GROUP,
        summary="Arm a breakpoint, which stops sessions at a stage",
        description=_ABOUT_ARM,
        run=_arm,
        body=Arm,
        answer=ArmedBreakpoint,
        problems=(Kind.NO_HOLDS, Kind.TOO_MANY_BREAKPOINTS),
        links=(
            Link(name="its sessions", to="listHeld", given={"breakpoint": "/id"}),
            Link(name="its end", to="disarmBreakpoint", given={"breakpoint": "/id"}),
        ),
    ),
    Operation(
        method="DELETE",
        path="/breakpoints",
        name="disarmBreakpoints",
        needs=Need.ADMINISTER,
        audit="breakpoint.disarm",
        group=_GROUP,
        summary="Remove all breakpoints",
        description="Sessions that are held stay held.",
        run=_disarm_all,
        answer=Disarmed,
        problems=(Kind.NO_HOLDS,),
    ),
    Operation(
        method="DELETE",
        path="/breakpoints/{breakpoint}",
        name="disarmBreakpoint",
        needs=Need.ADMINISTER,
        audit="breakpoint.disarm",
        group=_GROUP,
        summary="Remove a breakpoint",
        description="Sessions that it holds stay held.",
        run=_disarm,
        answer=Disarmed,
        problems=(Kind.NOT_FOUND, Kind.NO_HOLDS),
    ),
    Operation(
        method="GET",
        path="/held",
        name="listHeld",
        needs=Need.READ_ALL,
        group=_GROUP,
        summary="List the sessions that are held, or wait for one",
        run=_list,
        parameters=ListHeld,
        answer=HeldList,
        problems=(Kind.NO_HOLDS,),
        links=(
            Link(name="longest", to="readHeld", given={"hold": "/held/0/id"}),
            Link(name="message of the longest", to="readHeldMessage", given={"hold": "/held/0/id"}),
            Link(name="answer to the longest", to="answerHeld", given={"hold": "/held/0/id"}),
        ),
    ),
    Operation(
        method="GET",
        path="/held/{hold}",
        name="readHeld",
        needs=Need.READ_ALL,
        audit="session.read",
        group=_GROUP,
        summary="Read what is known of a session that is held",
        run=_read,
        answer=Held,
        problems=(Kind.NOT_FOUND, Kind.NOT_HELD, Kind.NO_HOLDS),
    ),
    Operation(
        method="GET",
        path="/held/{hold}/message",
        name="readHeldMessage",
        needs=Need.READ_ALL,
        audit="session.read",
        group=_GROUP,
        summary="Read the message of a session that is held at `message`",
        description="The bytes as received, without a Received field; of a large message the first MiB.",
        run=_message,
        answer="message/rfc822",
        problems=(Kind.NOT_FOUND, Kind.NOT_HELD, Kind.NO_HOLDS),
    ),
    Operation(
        method="POST",
        path="/held/{hold}/answer",
        name="answerHeld",
        needs=Need.OPERATE_ALL,
        audit="session.answer",
        group=_GROUP,
        summary="Let a session go on: choose its reply, or change envelope and message",
        description=_ABOUT_ANSWER,
        run=_answer,
        body=AnswerHeld,
        body_octets=_ANSWER_OCTETS,
        answer=LetGo,
        problems=(Kind.NOT_FOUND, Kind.NOT_HELD, Kind.NO_HOLDS),
    ),
)
