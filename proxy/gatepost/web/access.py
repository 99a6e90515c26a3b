"""The one place where it is decided what a user may do: each route says what it needs."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from gatepost.model.user import Need, User
from gatepost.web.audit import audit, noted
from gatepost.web.problems import Kind, Problem

__all__ = ["Guarded", "still_allowed", "user_of"]

_API = "/api/v1/"
_OTHER_PLACE = 300
_ERROR = 400


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
            await super().handle(scope, receive, self._audited(scope, user, send))
            return
        action = self.action(scope["method"]) or f"{scope['method']} {self.path}"
        audit(scope, action, "refused", user=user, objects=_objects(scope))
        if not scope["path"].startswith(_API):
            raise HTTPException(403)
        await Problem(Kind.NOT_PERMITTED, _why(user, need)).response()(scope, receive, send)

    def _audited(self, scope: Scope, user: User | None, send: Send) -> Send:
        """Note the request in the audit log when its answer begins; nothing where nobody has to log in."""
        declared = self.action(scope["method"])
        if not declared or user is None or scope["gatepost.guard"].accounts.are_open:
            return send
        is_look = scope["method"] in ("GET", "HEAD")

        async def noting(message: Message) -> None:
            leads_on = is_look and _OTHER_PLACE <= message.get("status", 0) < _ERROR
            if message["type"] == "http.response.start" and not leads_on:
                more = noted(scope)
                failed = more.get("failed") or message["status"] >= _ERROR
                objects = [*_objects(scope), *more.get("objects", ())]
                audit(
                    scope,
                    more.get("action", declared),
                    "failed" if failed else "ok",
                    user=user,
                    objects=objects,
                )
            await send(message)

        return noting


def _objects(scope: Scope) -> list[str]:
    """The identifiers in the path."""
    return [*map(str, scope.get("path_params", {}).values())]


def _why(user: User | None, need: Need) -> str:
    if user is None:
        return "Log in first"
    if user.domains is not None and User(name="", role=user.role).may(need):
        return "This concerns the mail of all domains; you see that of " + ", ".join(sorted(user.domains))
    return f"Your role is {user.role}; this needs more"
