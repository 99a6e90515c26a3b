"""The audit log: reads, releases, deletions, changes, logins and refusals, each with its user."""

import logging
from collections.abc import Sequence
from typing import Any, Literal

from starlette.requests import Request
from starlette.types import Scope

from gatepost.logline import LogLine
from gatepost.model.user import User

__all__ = ["audit", "note", "noted"]

log = logging.getLogger("gatepost.audit")

Result = Literal["ok", "refused", "failed"]


def note(request: Request, *objects: str, action: str | None = None, failed: bool = False) -> None:
    """Say more of a request than its route does, before it is answered.

    Args:
        request: the request.
        objects: identifiers of what it reads or changes, which its path does not name.
        action: what it does, if the route does several things.
        failed: nothing was done, although the answer is a page.
    """
    found = noted(request.scope)
    found["objects"] = [*found.get("objects", ()), *objects]
    if action:
        found["action"] = action
    if failed:
        found["failed"] = True


def noted(scope: Scope) -> dict[str, Any]:
    """What was noted of the request."""
    found: dict[str, Any] = scope.setdefault("gatepost.noted", {})
    return found


def audit(
    scope: Scope,
    action: str,
    result: Result,
    *,
    user: User | None,
    name: str | None = None,
    objects: Sequence[str] = (),
) -> None:
    """Write a line. Text from outside is quoted; identifiers that no message has may be anything.

    ``name`` is that of somebody who is no user.
    """
    client = scope["client"][0] if scope.get("client") else None
    name = user.name if user else name
    text = f"audit {action} {result} client={client or 'Unix socket'}"
    if user:
        text += f" role={user.role}"
    if name is not None:
        text += f" user={name!r}"
    if objects:
        text += f" objects={[*objects]!r}"
    log.info(
        LogLine(
            text,
            action=action,
            result=result,
            client=client,
            user=name,
            role=str(user.role) if user else None,
            objects=[*objects] or None,
        )
    )
