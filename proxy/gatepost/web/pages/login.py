"""Log in and out, if a login is needed."""

import logging
from contextlib import suppress
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gatepost.logline import LogLine
from gatepost.model.user import Need
from gatepost.store import StoreError
from gatepost.web.access import Guarded
from gatepost.web.accounts import LoggedIn
from gatepost.web.audit import audit
from gatepost.web.oidc import LoginError
from gatepost.web.rendering import render
from gatepost.web.security import Guard, check_password, client_of

__all__ = ["begin_session", "end_address", "own_page", "routes"]

log = logging.getLogger(__name__)

_SHOWN = 64
"""Characters of a name that was typed."""


async def _show(request: Request) -> Response:
    if _guard(request).accounts.are_open:
        return RedirectResponse("/", 303)
    return _form(request, target=own_page(request.query_params.get("next")))


def _form(
    request: Request,
    *,
    target: str,
    name: str = "",
    problem: str = "",
    status: int = 200,
    **fields: str,
) -> Response:
    accounts = _guard(request).accounts
    sign_on = accounts.sign_on
    return render(
        request,
        "login.html",
        status=status,
        headers=fields,
        problem=problem,
        next=target,
        name=name,
        needs_name=accounts.have_names and not accounts.has_password,
        has_names=accounts.have_names,
        can_be_typed=accounts.can_be_typed,
        provider=sign_on.settings.shown if sign_on else "",
        begin=f"/login/oidc?next={quote(target, safe='')}",
    )


async def _log_in(request: Request) -> Response:
    guard = _guard(request)
    if guard.accounts.are_open:
        return RedirectResponse("/", 303)
    form = await request.form(max_files=0, max_fields=10)
    password, name, target = (str(form.get(key, "")) for key in ("password", "name", "next"))
    checked = await check_password(guard, client_of(request), name, password)
    if isinstance(checked, Response):
        problem = bytes(checked.body).decode()
        retry = {"retry-after": checked.headers["retry-after"]}
        return _form(
            request, target=own_page(target), name=name[:_SHOWN], problem=problem, status=429, **retry
        )
    if checked is None:
        problem = "Wrong name or password." if guard.accounts.have_names else "Wrong password."
        return _form(request, target=own_page(target), name=name[:_SHOWN], problem=problem, status=403)
    response = RedirectResponse(own_page(target), 303)
    await begin_session(request, response, checked, is_https=_is_https(request))
    audit(request.scope, "login", "ok", user=checked.user)
    return response


async def begin_session(request: Request, response: Response, logged_in: LoggedIn, *, is_https: bool) -> None:
    """Begin a session, and have the response give its cookie to the browser; raises StoreError.

    The session that the browser had ends: nobody could log out of it any more.
    """
    guard = _guard(request)
    token = await guard.sessions.begin(logged_in)
    with suppress(StoreError):
        await guard.sessions.end(request.cookies.get(guard.cookie, ""))
    response.set_cookie(
        guard.cookie,
        token,
        httponly=True,
        path=_path(request),
        samesite="strict",
        secure=is_https,
    )


async def _log_out(request: Request) -> Response:
    guard = _guard(request)
    token = request.cookies.get(guard.cookie, "")
    session = await guard.sessions.peek(token)
    await guard.sessions.end(token)
    address = await end_address(request, session.id_token) if session and session.identity else None
    response: Response = RedirectResponse("/login", 303)
    if address:  # a page, since form-action 'self' lets no form lead to another site
        sign_on = guard.accounts.sign_on
        shown = sign_on.settings.shown if sign_on else ""
        response = render(request, "logged_out.html", address=address, provider=shown)
    response.delete_cookie(guard.cookie, path=_path(request))
    return response


async def end_address(request: Request, id_token: str) -> str | None:
    """Where the user logs out at the provider too; None: nowhere, or the provider does not answer."""
    sign_on = _guard(request).accounts.sign_on
    try:
        return await sign_on.end_address(id_token) if sign_on else None
    except LoginError as error:
        log.warning(LogLine(f"web desk: no log-out at the OpenID Connect provider: {error}"))
        return None


def _guard(request: Request) -> Guard:
    guard: Guard = request.scope["gatepost.guard"]
    return guard


def _path(request: Request) -> str:
    """The path of the session cookie: other applications behind the same proxy do not get it."""
    return request.app.state.base_path or "/"


def _is_https(request: Request) -> bool:
    """True if the browser uses HTTPS: with this desk, or with a proxy in front, as its own Origin says."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")


def own_page(target: str | None) -> str:
    """The page after the login: always a path of this desk, whatever the link says."""
    path = target or "/"
    ours = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if ours and path.isprintable() else "/"


routes = [
    Guarded("/login", _show, needs=Need.NOTHING),
    Guarded("/login", _log_in, needs=Need.NOTHING, methods=["POST"]),
    Guarded("/logout", _log_out, needs=Need.LOGIN, audit="logout", methods=["POST"]),
]
