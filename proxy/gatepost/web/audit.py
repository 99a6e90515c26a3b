"""The audit log: reads, releases, deletions, changes, logins and refusals, each with its user."""

import logging
from collections.abc import Sequence
from typing import Any, Literal

from starlette.requests import Request
from starlette.types import Scope

from gatepost.logline import LogLine
from gatepost.model.user import User

__all__ = ["Result", "audit", "note", "note_done", "noted"]

log = logging.getLogger("gatepost.audit")

Result = Literal["ok", "refused", "failed", "interrupted"]
"""Interrupted: the desk stopped before there was an answer; it may have been done."""
_OBJECT_LENGTH = 2100
"""Characters of one object: a whole query, and less than what a path may have."""


def note(request: Request, *objects: str, action: str | None = None, failed: bool | None = None) -> None:
    """Say more of a request than its route does, before it is answered.

    Args:
        request: the request.
        objects: identifiers of what it reads or changes, which its path does not name.
        action: what it does, if the route does several things, or nothing in other cases.
        failed: True: nothing was done, although the answer is a page. False: it was done, whatever becomes
            of the answer. None: the status of the answer says it.
    """
    found = noted(request.scope)
    found["objects"] = [*found.get("objects", ()), *objects]
    if action:
        found["action"] = action
    if failed is not None:
        found["failed"] = failed


def note_done(request: Request, objects: Sequence[str]) -> None:
    """Say what was changed, in place of what was asked for; nothing was done if it is empty."""
    found = noted(request.scope)
    if objects:
        found["objects"] = [*objects]
    found["failed"] = not objects


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
    objects = [one if len(one) <= _OBJECT_LENGTH else f"{one[:_OBJECT_LENGTH]}…" for one in objects]
    text = f"audit {action} {result} client={client or 'Unix socket'}"
    if user:
        text += f" role={user.role}"
    if name is not None:
        text += f" user={name!r}"
    if objects:
        text += f" objects={objects!r}"
    log.info(
        LogLine(
            text,
            action=action,
            result=result,
            client=client,
            user=name,
            role=str(user.role) if user else None,
            objects=objects or None,
        )
    )
