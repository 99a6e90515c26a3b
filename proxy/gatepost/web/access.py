"""The one place where it is decided what a user may do: each route says what it needs."""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from gatepost.model.user import Need, User
from gatepost.store import StoreError
from gatepost.web.audit import Result, audit, noted
from gatepost.web.problems import Kind, Problem

__all__ = ["NO_LONGER", "Guarded", "no_longer_allowed", "still_allowed", "user_of"]

_API = "/api/v1/"
_OTHER_PLACE = 300
_ERROR = 400
NO_LONGER = "The user was removed or has logged out, or has other rights now"
_LOOK_SECONDS = 1.5
"""Between two looks at whether the user of an open request is still logged in."""


def user_of(request: Request) -> User | None:
    """The user who has logged in; None on pages that need no login."""
    user: User | None = request.scope.get("gatepost.user")
    return user


async def still_allowed(scope: Scope) -> bool:
    """True if the user of a request is still logged in, with the same role and domains.

    For answers that take long: `Security` has looked only when the request came. Raises StoreError where the
    store has the sessions and does not answer.
    """
    user = scope.get("gatepost.user")
    return user is None or await scope["gatepost.user_now"]() == user


async def no_longer_allowed(scope: Scope) -> None:
    """Return within two seconds after the user of a request has logged out, or has other rights.

    A store that does not answer ends nothing.
    """
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if not await _may_go_on(scope):
            return


async def _may_go_on(scope: Scope) -> bool:
    try:
        return await still_allowed(scope)
    except StoreError:
        return True


class Guarded(Route):
    """A route that only users with the declared rights reach.

    ``needs`` is for all methods, or for each; a method that is not named needs a login, and is answered by
    the endpoint as one that is not allowed. ``audit`` is the action under which requests are noted in the
    audit log, for all methods or for each; empty: only refused ones are noted.
    """

    def __init__(
        self,
        path: str,
        endpoint: Any,
        *,
        needs: Need | Mapping[str, Need],
        audit: str | Mapping[str, str] = "",
        **options: Any,
    ) -> None:
        super().__init__(path, endpoint, **options)
        self._needs = needs
        self._audit = audit

    def need(self, method: str) -> Need:
        """What a request with this method needs; HEAD what GET does."""
        if isinstance(self._needs, Need):
            return self._needs
        return self._needs.get("GET" if method == "HEAD" else method, Need.LOGIN)

    def action(self, method: str) -> str:
        """The action of a request with this method in the audit log; empty: none."""
        if isinstance(self._audit, str):
            return self._audit
        return self._audit.get("GET" if method == "HEAD" else method, "")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse; raises HTTPException for a page that the user may not see."""
        need = self.need(scope["method"])
        user: User | None = scope.get("gatepost.user")
        if need is Need.NOTHING or (user is not None and user.may(need)):
            await self._audited(scope, receive, send, user)
            return
        action = self.action(scope["method"]) or f"{scope['method']} {self.path}"
        audit(scope, action, "refused", user=user, objects=_objects(scope))
        if not scope["path"].startswith(_API):
            raise HTTPException(403)
        await Problem(Kind.NOT_PERMITTED, _why(user, need)).response()(scope, receive, send)

    async def _audited(self, scope: Scope, receive: Receive, send: Send, user: User | None) -> None:
        """Answer, and note the request in the audit log when the answer begins, or when it fails to come.

        Nothing is noted where nobody has to log in.
        """
        if user is None or scope["gatepost.guard"].accounts.are_open:
            await super().handle(scope, receive, send)
            return
        is_look = scope["method"] in ("GET", "HEAD")
        has_begun = False

        def write(result: Result) -> None:
            more = noted(scope)
            if action := more.get("action", self.action(scope["method"])):
                objects = [*_objects(scope), *more.get("objects", ())]
                audit(scope, action, result, user=user, objects=objects)

        async def noting(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                if not (is_look and _OTHER_PLACE <= message["status"] < _ERROR):
                    failed = noted(scope).get("failed", message["status"] >= _ERROR)
                    write("failed" if failed else "ok")
            await send(message)

        try:
            await super().handle(scope, receive, noting)
        except BaseException as error:
            if not has_begun:
                is_done = noted(scope).get("failed") is False
                cut_off = isinstance(error, asyncio.CancelledError)
                write("ok" if is_done else "interrupted" if cut_off else "failed")
            raise


def _objects(scope: Scope) -> list[str]:
    """The identifiers in the path."""
    return [*map(str, scope.get("path_params", {}).values())]


def _why(user: User | None, need: Need) -> str:
    if user is None:
        return "Log in first"
    if user.domains is not None and User(name="", role=user.role).may(need):
        return "This concerns the mail of all domains; you see that of " + ", ".join(sorted(user.domains))
    return f"Your role is {user.role}; this needs more"
