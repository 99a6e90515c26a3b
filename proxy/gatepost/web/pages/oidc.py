"""Log in with OpenID Connect: the address that leads to the provider, and that to which it leads back."""

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gatepost.config.oidc import CALLBACK
from gatepost.logline import LogLine
from gatepost.model.user import Need
from gatepost.web.access import Guarded
from gatepost.web.audit import audit
from gatepost.web.oidc import USERS_PREFIX, LoginError, Why
from gatepost.web.pages.login import begin_session, end_address, own_page
from gatepost.web.rendering import render
from gatepost.web.security import Guard, client_of

if TYPE_CHECKING:
    from gatepost.web.oidc.sign_on import SignOn

__all__ = ["routes"]

log = logging.getLogger(__name__)

_BEGIN = "/login/oidc"
_MOVED = "moved"
"""The browser has been led to the name in redirect_uri: not again, if a proxy changes the Host field."""


async def _begin(request: Request) -> Response:
    """Lead to the provider. By a link: form-action 'self' would let no form lead to another site."""
    sign_on = _sign_on(request)
    target = own_page(request.query_params.get("next"))
    if request.headers.get("host", "") != sign_on.settings.authority and _MOVED not in request.query_params:
        # Only a browser that uses the name in redirect_uri has the cookie when it comes back.
        begin = sign_on.settings.redirect_uri.removesuffix(CALLBACK) + _BEGIN
        return RedirectResponse(f"{begin}?next={quote(target, safe='')}&{_MOVED}", 303)
    try:
        address, sealed = await sign_on.begin(target)
    except LoginError as error:
        return _failed(request, error, target)
    response = RedirectResponse(address, 303)
    response.set_cookie(
        _cookie(request),
        sealed,
        max_age=sign_on.seconds,
        httponly=True,
        path=_path(request),
        samesite="lax",  # it must come with the browser from the provider
        secure=sign_on.settings.is_https,
    )
    return response


async def _finish(request: Request) -> Response:
    """End a log-in with a page that leads on.

    It is no redirect: the cookie of the session is only sent where no other site has led to.
    """
    sign_on, guard = _sign_on(request), _guard(request)
    try:
        found = await sign_on.finish(request.query_params, request.cookies.get(_cookie(request), ""))
        logged_in = guard.accounts.signed_on(found)
    except LoginError as error:
        return _without_cookie(request, _failed(request, error, "/"))
    identity = found.identity
    if logged_in is None:
        name = f"{USERS_PREFIX}{identity.name}"
        audit(request.scope, "login", "refused", user=None, name=name, objects=[identity.subject])
        address = await end_address(request, found.id_token)
        return _without_cookie(request, _page(request, Why.NO_ROLE, "/", name=identity.name, address=address))
    response = render(request, "logged_in.html", target=own_page(found.target))
    await begin_session(request, response, logged_in, is_https=sign_on.settings.is_https)
    audit(request.scope, "login", "ok", user=logged_in.user, objects=[identity.subject])
    return _without_cookie(request, response)


def _failed(request: Request, error: LoginError, target: str) -> Response:
    audit(request.scope, "login", "failed", user=None)
    client = client_of(request)
    text = f"web desk: log-in with OpenID Connect failed client={client or 'Unix socket'}: {error}"
    log.warning(LogLine(text, client=client or None))
    return _page(request, error.why, target)


def _page(request: Request, why: Why, target: str, *, name: str = "", address: str | None = None) -> Response:
    """``name`` is that of an account, and ``address`` where its user can log out to take another one."""
    return render(
        request,
        "login_failed.html",
        status=why.status,
        title=why.title,
        advice=why.advice,
        name=name,
        address=address,
        provider=_sign_on(request).settings.shown,
        target=target,
    )


def _without_cookie(request: Request, response: Response) -> Response:
    """Each log-in ends once, whatever came of it."""
    response.delete_cookie(_cookie(request), path=_path(request))
    return response


def _sign_on(request: Request) -> "SignOn":
    found = _guard(request).accounts.sign_on
    if found is None:
        raise HTTPException(404)
    return found


def _guard(request: Request) -> Guard:
    guard: Guard = request.scope["gatepost.guard"]
    return guard


def _cookie(request: Request) -> str:
    return f"{_guard(request).cookie}-oidc"


def _path(request: Request) -> str:
    return f"{request.app.state.base_path}{_BEGIN}"


routes = [
    Guarded(_BEGIN, _begin, needs=Need.NOTHING),
    Guarded(CALLBACK, _finish, needs=Need.NOTHING),
]
