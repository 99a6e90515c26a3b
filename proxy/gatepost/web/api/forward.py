"""The operation that forwards a message to the server of `web.forward`."""

from typing import Any

from gatepost.model.record import Disposition, Record
from gatepost.model.user import Need
from gatepost.store import ConflictError
from gatepost.web.api.change_responses import Forwarded, ForwardedTo, NotForwarded
from gatepost.web.api.messages import stored_message
from gatepost.web.api.operation import Call, Link, NoParameters, Operation
from gatepost.web.api.requests import Forward
from gatepost.web.problems import Kind, Problem
from gatepost.web.recipients import not_allowed
from gatepost.web.security import actor

__all__ = ["operations"]

_NO_SERVER = (
    "There is no server to forward to: start gatepost complaints with --forward-to smtp://HOST:PORT,"
    " or set web.forward in rules.yaml"
)
_DESCRIPTION = """
To the server of `--forward-to` (or `web.forward` in rules.yaml), with the bytes of `raw`. All recipients are
asked, and the message is sent only if the server accepts each of them, so that nobody gets it twice when you
try again. A message in quarantine stays there.
""".strip()


async def _forward(call: Call[NoParameters, Forward]) -> Forwarded:
    desk = call.desk
    kept = await stored_message(call)
    if desk.forward is None:
        raise Problem(Kind.NO_FORWARD, _NO_SERVER)
    if problem := desk.not_own(call.body.to or ()):
        raise Problem(Kind.NOT_PERMITTED, problem)
    if problem := not_allowed(desk.forward.settings, call.body.to or kept.recipients):
        raise Problem(Kind.NOT_ALLOWED, problem)
    try:
        record = await desk.forward_on(kept, call.body.to, actor=actor(call.request))
    except ConflictError:
        raise Problem(
            Kind.STATE, f"The message {kept.id} is being sent by somebody else; try again"
        ) from None
    if any(one.disposition is not Disposition.RELAYED for one in record.recipients):
        raise _not_taken(record)
    return Forwarded.model_validate(_fields(record))


def _fields(record: Record) -> dict[str, Any]:
    return {
        "transaction_id": record.id,
        "server": record.upstream,
        "mail_from": record.mail_from,
        "reply": record.reply,
        "recipients": [ForwardedTo.model_validate(one).model_dump(mode="json") for one in record.recipients],
    }


def _not_taken(record: Record) -> Problem:
    kind = Kind.IN_DOUBT if Disposition.IN_DOUBT in record.dispositions else Kind.NOT_TAKEN
    why = record.upstream_reply or record.reply
    if record.upstream is None:
        detail = f"Nothing was sent: {why}"
    elif why[:3].isdecimal():
        detail = f"The server's reply: {why}"
    else:
        detail = f"The server has not answered: {why}"
    return Problem(kind, detail, **_fields(record))


operations = (
    Operation(
        method="POST",
        path="/messages/{id}/forward",
        name="forwardMessage",
        needs=Need.OPERATE,
        audit="message.forward",
        group="Messages",
        summary="Forward a message to a mail server, to its recipients or others",
        description=_DESCRIPTION,
        run=_forward,
        body=Forward,
        answer=Forwarded,
        links=(Link(name="record", to="readJournal", given={"id": "/transaction_id"}),),
        problems={
            Kind.NOT_FOUND: None,
            Kind.AMBIGUOUS: None,
            Kind.NO_FORWARD: None,
            Kind.STATE: None,
            Kind.NOT_PERMITTED: None,
            Kind.NOT_ALLOWED: None,
            Kind.NOT_TAKEN: NotForwarded,
            Kind.IN_DOUBT: NotForwarded,
        },
    ),
)
