"""The operation that changes a list of the rules."""

from gatepost.config.list_changes import ListError
from gatepost.config.list_entries import entry_for
from gatepost.model.user import Need
from gatepost.web.api.change_responses import ListChanged
from gatepost.web.api.operation import Call, NoParameters, Operation
from gatepost.web.api.requests import ChangeList
from gatepost.web.audit import note
from gatepost.web.lists import ListRequest, NotReloadedError
from gatepost.web.problems import Kind, Problem
from gatepost.web.security import actor

__all__ = ["operations"]

_DESCRIPTION = """
A line is added to the file of `blocked-senders`, `blocked-clients`, `allowed-senders` or `allowed-clients`,
or of another list of rules.yaml, or deleted from it, as by `gatepost block` and `gatepost allow`. The answer
comes when all workers have the new rules. The rules that use the list decide what it does.
""".strip()


async def _change(call: Call[NoParameters, ChangeList]) -> ListChanged:
    asked = call.body
    note(call.request, f"{asked.do} {'remove ' if asked.remove else ''}{asked.entry}")
    if call.desk.lists is None:
        raise Problem(Kind.NO_LIST, "Only the desk of a gateway (gatepost serve) changes lists")
    try:
        entry = entry_for(asked.entry)
    except ValueError as error:
        raise Problem(Kind.NO_LIST, f"body entry: {error}") from None
    wanted = ListRequest(
        verb=asked.do,
        entry=entry,
        list_name=asked.list,
        remove=asked.remove,
        note=asked.note,
        actor=actor(call.request),
    )
    try:
        done = await call.desk.change_list(wanted)
    except ListError as error:
        raise Problem(Kind.NO_LIST, str(error)) from None
    except NotReloadedError as error:
        raise Problem(Kind.NOT_RELOADED, str(error)) from None
    except OSError as error:
        raise Problem(Kind.LIST_FILE, f"{error.filename}: {error.strerror}") from None
    return ListChanged(
        list=done.change.list_name,
        file=str(done.change.path),
        entry=done.change.entry,
        done=done.change.done,
        line=done.change.line or None,
        reloaded=done.reloaded,
        message=str(done.change),
    )


operations = (
    Operation(
        method="POST",
        path="/lists",
        name="changeList",
        needs=Need.OPERATE_ALL,
        audit="list.change",
        group="Lists",
        summary="Block or allow a sender or a client, or take that back",
        description=_DESCRIPTION,
        run=_change,
        body=ChangeList,
        answer=ListChanged,
        problems=(Kind.NO_LIST, Kind.LIST_FILE, Kind.NOT_RELOADED),
    ),
)
