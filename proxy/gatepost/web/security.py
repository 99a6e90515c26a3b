"""Access control: host names, origins, login, and the security headers of responses.

The desk shows hostile mail, and any web page can make a browser send requests to it. So each request passes
these checks first: it names a known host (no DNS rebinding); it does not come from another site; a change
comes from our own pages; the user has logged in if that is needed; its body is small, unless it is a
file to import. Each response has headers that keep a browser from doing more with it than to show it.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Literal
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatepost.config.fields import is_loopback
from gatepost.logline import LogLine
from gatepost.model.saved import FILE_OCTETS
from gatepost.model.user import EVERYTHING, User
from gatepost.store import StoreError
from gatepost.web.access import NO_LONGER, still_allowed, user_of
from gatepost.web.accounts import Accounts, LoggedIn
from gatepost.web.attempts import Attempts, Login, guesser
from gatepost.web.audit import audit
from gatepost.web.problems import Kind, Problem, as_problem
from gatepost.web.sessions import MemorySessions, Sessions
from gatepost.web.view.text import visible_line

__all__ = ["PAGE_POLICY", "Guard", "Security", "actor", "check_password", "client_of", "harden"]

log = logging.getLogger(__name__)

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    # Not no-referrer: browsers then send "Origin: null" with our own forms. No other site gets a referrer.
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BODY_OCTETS = 1 << 20
_FILE_OCTETS = FILE_OCTETS + _BODY_OCTETS
"""Of a file to import: more than the operation itself allows, so that it can say so."""
_FILES = ("POST", "/api/v1/messages")
_FOR_PROGRAMS = ("/api/v1/", "/api/openapi.json", "/metrics")
_OPEN_PATHS = ("/login", "/static/")
_PROBES = ("/healthz", "/readyz")
"""For everybody under any host name, or without one as HAProxy asks: they say nothing but yes or no."""
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_])?|[0-9a-f:.]{2,45}")
"""What a shell and YAML take as it is."""
_ADD_HOST = {
    "gateway": "add it to web.hosts in rules.yaml:\n\nweb: {{hosts: ['{name}']}}\n\n"
    "Then run:\n\ngatepost reload --replace",
    "complaints": "start the server with it:\n\ngatepost complaints --host {name}",
}
_BY_ITSELF = "desk-refresh"
"""A field of requests that no person has made, as pages send them when the store has changed."""
_PROMPT_SECONDS = 1.0
"""A body that took longer ends with another look at whether its user is still logged in."""
_NAME_LENGTH = 64
_WRONG_SECONDS = 0.3
_WAITING = 20


def harden(headers: MutableHeaders) -> None:
    """Add the default headers that a response does not have."""
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)


def actor(request: Request) -> str:
    """The actor recorded for a change: the name given at login, and the client's address."""
    client = request.client.host if request.client else "Unix socket"
    user = user_of(request)
    name = user.name if user else ""
    return f"{name} ({client})" if name else f"web desk ({client})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What `Security` checks against."""

    cookie: str
    """The name of the session cookie; it contains the port, because cookies are shared between ports."""
    hosts: frozenset[str]
    """Host names and addresses, in lower case, without port and brackets; ``*``: any IP address."""
    accounts: Accounts
    """Who may log in; if they are open: no login."""
    sessions: Sessions = field(default_factory=MemorySessions)
    attempts: Attempts = field(default_factory=Attempts)
    to_add_host: str = _ADD_HOST["gateway"]
    """How the person who runs the desk adds a host name; ``{name}`` is replaced."""
    waiting: set[str] = field(default_factory=set)
    """Clients that are waiting for the delayed answer to a wrong password, as `guesser` names them."""

    @classmethod
    def of(
        cls,
        address: tuple[str, int] | None,
        hosts: Iterable[str],
        accounts: Accounts,
        *,
        sessions: Sessions | None = None,
        needs_password: bool = True,
        mode: Literal["gateway", "complaints"] = "gateway",
    ) -> "Guard":
        """Make it from a listener's address, None for a Unix socket, and the further names in the settings.

        ``sessions`` are in memory by default; ``mode`` is the command that was started. Raises ValueError,
        unless ``needs_password`` is false, if other machines can connect and nobody needs to log in.
        """
        host, port = address or ("localhost", 0)
        if accounts.are_open and needs_password and not is_loopback(host):
            raise ValueError(
                f"{host} is open to other machines: web.password_file, web.users or web.oidc is required"
            )
        names = {"localhost", "127.0.0.1", "::1", host.lower(), *(_bare(name) for name in hosts)}
        if host in ("0.0.0.0", "::"):
            names.add("*")
        return cls(
            cookie=f"gatepost-{port}",
            hosts=frozenset(names),
            accounts=accounts,
            sessions=sessions or MemorySessions(),
            to_add_host=_ADD_HOST[mode],
        )

    async def user_of_session(self, token: str) -> User | None:
        """The user of a session as the settings are now, without using the session; None if it has ended.

        Raises StoreError.
        """
        session = await self.sessions.peek(token)
        return self.accounts.now(session) if session else None

    def knows(self, host: str) -> bool:
        """True if a Host field names this desk. A bare address cannot be rebound, a name can."""
        name = _bare(host)
        if name in self.hosts:
            return True
        if "*" not in self.hosts:
            return False
        try:
            ip_address(name)
        except ValueError:
            return False
        return True


def _bare(host: str) -> str:
    """The name without port, brackets and a final dot, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    if host.count(":") > 1:
        return host
    return host.partition(":")[0].removesuffix(".")


Trouble = Callable[[Request, Exception], Awaitable[Response]]


class Security:
    """The middleware; pure ASGI, so that events stream through it."""

    def __init__(self, app: ASGIApp, guard: Guard, trouble: Trouble) -> None:
        """``trouble`` answers a request where the store that has the sessions does not."""
        self._app = app
        self._guard = guard
        self._trouble = trouble

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI says it
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                harden(MutableHeaders(scope=message))
            await send(message)

        scope["gatepost.guard"] = self._guard
        is_probe = scope["path"] in _PROBES
        try:
            refusal = None if is_probe else self._foreign(scope) or await self._unknown(scope)
        except StoreError as error:
            answer = await self._trouble(Request(scope), error)
            await answer(scope, receive, send_hardened)
            return
        if refusal:
            await _for_whom(scope, refusal)(scope, receive, send_hardened)
            return
        most = _FILE_OCTETS if (scope["method"], scope["path"]) == _FILES else _BODY_OCTETS
        body = _Body(scope, receive, most)
        if body.announced(Headers(scope=scope)) > most:
            await _for_whom(scope, _too_large(most))(scope, receive, send_hardened)
            return
        try:
            await self._app(scope, body.receive, send_hardened)
        except _TooLargeError:
            await _for_whom(scope, _too_large(most))(scope, receive, send_hardened)

    def _foreign(self, scope: Scope) -> Response | None:
        """A refusal of a request from another site."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not host or len(headers.getlist("host")) != 1:
            return PlainTextResponse("A request needs exactly one Host field with a host name.\n", 421)
        if not self._guard.knows(host):
            return PlainTextResponse(_unknown_host(host, self._guard.to_add_host), 421)
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if scope["method"] in _SAFE_METHODS:
            opens_page = headers.get("sec-fetch-mode") == "navigate" and (
                headers.get("sec-fetch-dest") == "document"
            )
            if site in ("cross-site", "same-site") and not opens_page:
                return PlainTextResponse("Other sites may link to this page, but not load it.\n", 403)
        elif site not in (None, "same-origin", "none") or not _is_own(origin, host):
            return PlainTextResponse("Changes are only accepted from Gatepost's own pages.\n", 403)
        return None

    async def _unknown(self, scope: Scope) -> Response | None:
        """A refusal if the user has not logged in; else records the user."""
        guard = self._guard
        path: str = scope["path"]
        if guard.accounts.are_open:
            _record(scope, EVERYTHING, _at_once(lambda: EVERYTHING if guard.accounts.are_open else None))
            return None
        if path.startswith(_OPEN_PATHS):
            return None
        request = Request(scope)
        cookie = request.cookies.get(guard.cookie, "")
        sessions = guard.sessions
        session = await (sessions.peek(cookie) if _is_by_itself(request) else sessions.logged_in(cookie))
        if session and (user := guard.accounts.now(session)):
            _record(scope, user, partial(guard.user_of_session, cookie))
            return None
        if given := Login.from_header(request.headers.get("authorization", "")):
            secret = given.password
            if not given.name and (user := guard.accounts.of_token(secret)):
                _record(scope, user, _at_once(lambda: guard.accounts.of_token(secret)))
                return None
            checked = await check_password(guard, client_of(request), given.name, secret)
            if isinstance(checked, Response):
                return checked
            if checked:
                _record(scope, checked.user, _at_once(partial(guard.accounts.now, checked)))
                return None
        return _ask_to_log_in(request)


def _record(scope: Scope, user: User, now: Callable[[], Awaitable[User | None]]) -> None:
    """Record the user of a request, and how to look up later who that is; see `still_allowed`."""
    scope["gatepost.user"] = user
    scope["gatepost.user_now"] = now


def _at_once(now: Callable[[], User | None]) -> Callable[[], Awaitable[User | None]]:
    async def user_now() -> User | None:
        return now()

    return user_now


def _is_by_itself(request: Request) -> bool:
    """True for what an open page asks by itself: such requests do not keep its session.

    Else each use that is noted in a store would be a change of the store, at which pages ask again.
    """
    return request.url.path.endswith("events") or _BY_ITSELF in request.headers


def _unknown_host(host: str, to_add: str) -> str:
    """What is wrong, and what to type if the name is right."""
    name = _bare(host)
    text = f"Gatepost does not answer to the host name {host[:200]!r}.\n"
    if not _HOST.fullmatch(name):
        return text
    return f"{text}If that is a name of this web desk, {to_add.format(name=name)}\n"


def client_of(request: Request) -> str:
    """The address of the client; empty on a Unix socket."""
    return request.client.host if request.client else ""


async def check_password(guard: Guard, client: str, name: str, given: str) -> LoggedIn | Response | None:
    """The user with this password; None if it is wrong, after a while; a response: the client must wait."""
    attempts, whose = guard.attempts, guesser(client)
    async with attempts.turn(whose):
        wait = attempts.wait_seconds(whose)
        if wait or whose in guard.waiting or len(guard.waiting) >= _WAITING:
            seconds = int(wait) + 1
            return PlainTextResponse(
                f"Too many wrong passwords. Try again in {seconds} s.\n", 429, {"retry-after": str(seconds)}
            )
        name = visible_line(name.strip(), _NAME_LENGTH)
        if found := await guard.accounts.log_in(name, given):
            return found
        attempts.note_wrong(whose)
        guard.waiting.add(whose)
    tried = guard.accounts.named(name)
    audit({"client": (client, 0) if client else None}, "login", "failed", user=tried)
    log.warning(LogLine(f"web desk: wrong password client={client or 'Unix socket'}", client=client or None))
    try:
        await asyncio.sleep(_WRONG_SECONDS)
    finally:
        guard.waiting.discard(whose)
    return None


def _ask_to_log_in(request: Request) -> Response:
    path = request.url.path
    if path.startswith(_FOR_PROGRAMS):
        fields: Mapping[str, str] = {"www-authenticate": 'Bearer, Basic realm="Gatepost"'}
        return PlainTextResponse("Send Authorization: Bearer, and a token or the password\n", 401, fields)
    if "hx-request" in request.headers:
        return PlainTextResponse("Log in again.\n", 401, {"hx-redirect": "/login"})
    if request.method not in _SAFE_METHODS or path.endswith("events"):
        return PlainTextResponse("Log in first: /login\n", 401)
    target = f"{path}?{request.url.query}" if request.url.query else path
    return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)


def _for_whom(scope: Scope, refusal: Response) -> Response:
    """A refusal as text, or as a problem for programs."""
    return as_problem(refusal) if scope["path"].startswith(_FOR_PROGRAMS) else refusal


def _is_own(origin: str | None, host: str) -> bool:
    """True without an Origin, or if it is the same as Host."""
    return origin is None or (origin != "null" and urlsplit(origin).netloc.lower() == host.strip().lower())


class _TooLargeError(Exception):
    """The body is too large."""


class _Body:
    """Counts the bytes of a request's body; one that took long is only read to its end for whom may send it.

    Otherwise somebody could begin a request, hold back its end, and change things after having been removed.
    """

    def __init__(self, scope: Scope, receive: Receive, most: int) -> None:
        self._scope = scope
        self._receive = receive
        self._most = most
        self._octets = 0
        self._began = time.monotonic()

    @staticmethod
    def announced(headers: Headers) -> int:
        length = headers.get("content-length", "0")
        return int(length) if length.isdecimal() else 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._octets += len(message.get("body", b""))
        if self._octets > self._most:
            raise _TooLargeError
        is_end = message["type"] == "http.request" and not message.get("more_body", False)
        is_late = time.monotonic() - self._began > _PROMPT_SECONDS
        if is_end and is_late and not await still_allowed(self._scope):
            if self._scope["path"].startswith("/api/"):
                raise Problem(Kind.NOT_PERMITTED, NO_LONGER)
            raise HTTPException(403)
        return message


def _too_large(most: int) -> Response:
    return PlainTextResponse(f"A request may have at most {most} bytes.\n", 413, {"connection": "close"})
