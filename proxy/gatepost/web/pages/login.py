"""Log in and out, where there is a password."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gatepost.web.rendering import render
from gatepost.web.security import Guard, check_password
from gatepost.web.view.text import visible_line

__all__ = ["routes"]

_NAME_LIMIT = 40


async def _show(request: Request) -> Response:
    if _guard(request).sessions is None:
        return RedirectResponse("/", 303)
    return render(request, "login.html", problem="", next=_next(request.query_params.get("next")), name="")


async def _log_in(request: Request) -> Response:
    guard = _guard(request)
    if guard.sessions is None:
        return RedirectResponse("/", 303)
    form = await request.form(max_files=0, max_fields=10)
    password, name, target = (str(form.get(key, "")) for key in ("password", "name", "next"))
    name = visible_line(name.strip(), _NAME_LIMIT)
    checked = await check_password(guard, request.client.host if request.client else "", password)
    if isinstance(checked, Response):
        problem = bytes(checked.body).decode()
        return render(
            request, "login.html", status=429, problem=problem, next=_next(target), name=name,
            headers={"retry-after": checked.headers["retry-after"]},
        )  # fmt: skip
    if not checked:
        return render(
            request, "login.html", status=403, problem="This is not the password.", next=_next(target),
            name=name,
        )  # fmt: skip
    response = RedirectResponse(_next(target), 303)
    response.set_cookie(
        guard.cookie,
        guard.sessions.begin(name),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


async def _log_out(request: Request) -> Response:
    guard = _guard(request)
    if guard.sessions:
        guard.sessions.end(request.cookies.get(guard.cookie, ""))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(guard.cookie)
    return response


def _guard(request: Request) -> Guard:
    guard: Guard = request.scope["gatepost.guard"]
    return guard


def _next(target: str | None) -> str:
    """Where to go after it: a path of this desk, whatever the link said."""
    path = target or "/"
    ours = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if ours and path.isprintable() else "/"


routes = [
    Route("/login", _show),
    Route("/login", _log_in, methods=["POST"]),
    Route("/logout", _log_out, methods=["POST"]),
]
