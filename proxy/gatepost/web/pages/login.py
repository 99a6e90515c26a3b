"""Log in and out, if a login is needed."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gatepost.model.user import Need
from gatepost.web.access import Guarded
from gatepost.web.audit import audit
from gatepost.web.rendering import render
from gatepost.web.security import Guard, check_password, client_of
from gatepost.web.view.text import visible_line

__all__ = ["routes"]

_NAME_LIMIT = 64


async def _show(request: Request) -> Response:
    if _guard(request).accounts.are_open:
        return RedirectResponse("/", 303)
    return _form(request, target=_next(request.query_params.get("next")))


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
    )


async def _log_in(request: Request) -> Response:
    guard = _guard(request)
    if guard.accounts.are_open:
        return RedirectResponse("/", 303)
    form = await request.form(max_files=0, max_fields=10)
    password, name, target = (str(form.get(key, "")) for key in ("password", "name", "next"))
    name = visible_line(name.strip(), _NAME_LIMIT)
    checked = await check_password(guard, client_of(request), name, password)
    if isinstance(checked, Response):
        problem = bytes(checked.body).decode()
        retry = {"retry-after": checked.headers["retry-after"]}
        return _form(request, target=_next(target), name=name, problem=problem, status=429, **retry)
    if checked is None:
        problem = "Wrong name or password." if guard.accounts.have_names else "Wrong password."
        return _form(request, target=_next(target), name=name, problem=problem, status=403)
    audit(request.scope, "login", "ok", user=checked.user)
    response = RedirectResponse(_next(target), 303)
    response.set_cookie(
        guard.cookie,
        guard.sessions.begin(checked),
        httponly=True,
        path=_path(request),
        samesite="strict",
        secure=_is_https(request),
    )
    return response


async def _log_out(request: Request) -> Response:
    guard = _guard(request)
    guard.sessions.end(request.cookies.get(guard.cookie, ""))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(guard.cookie, path=_path(request))
    return response


def _guard(request: Request) -> Guard:
    guard: Guard = request.scope["gatepost.guard"]
    return guard


def _path(request: Request) -> str:
    """The path of the session cookie: other applications behind the same proxy do not get it."""
    return request.app.state.base_path or "/"


def _is_https(request: Request) -> bool:
    """True if the browser uses HTTPS: with this desk, or with a proxy in front, as its own Origin says."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")


def _next(target: str | None) -> str:
    """The page after the login: always a path of this desk, whatever the link says."""
    path = target or "/"
    ours = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if ours and path.isprintable() else "/"


routes = [
    Guarded("/login", _show, needs=Need.NOTHING),
    Guarded("/login", _log_in, needs=Need.NOTHING, methods=["POST"]),
    Guarded("/logout", _log_out, needs=Need.LOGIN, audit="logout", methods=["POST"]),
]
