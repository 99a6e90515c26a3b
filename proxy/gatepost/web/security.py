"""Who may ask, from where, and what a browser may do with the answer.

The desk shows hostile mail, and any web page can make a browser send requests to it. So each request passes
these checks before anything else sees it: it names a host that is ours (no DNS rebinding); it does not come
from another site; a change comes from our own pages; who asks has logged in where there is a password; its
body is small. Each answer carries the headers that keep a browser from doing more with it than to show it.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatepost.config.fields import is_loopback
from gatepost.web.problems import as_problem
from gatepost.web.sessions import Login, Sessions

__all__ = ["PAGE_POLICY", "Guard", "Security", "harden", "who"]

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    # Not no-referrer: browsers then send "Origin: null" with our own forms. No other site is told anything.
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BODY_OCTETS = 1 << 20
_FOR_PROGRAMS = ("/api/v1/", "/api/openapi.json", "/metrics")
_OPEN_PATHS = ("/login", "/static/")
_WRONG_SECONDS = 0.3
_WAITING = 20


def harden(headers: MutableHeaders) -> None:
    """Add the headers of every answer, as far as it has none of its own."""
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)


def who(request: Request) -> str:
    """What a change is noted under: the name given at login, and where the request came from."""
    client = request.client.host if request.client else "unknown"
    name: str = request.scope.get("gatepost.name", "")
    return f"{name} ({client})" if name else f"web desk ({client})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What `Security` checks against."""

    port: int
    hosts: frozenset[str]
    """Names and addresses, in lower case and without port and brackets; ``*``: any IP address."""
    sessions: Sessions | None
    """None: no password is asked for."""
    waiting: set[str] = field(default_factory=set)
    """Clients whose wrong password is being answered slowly."""

    @classmethod
    def of(cls, address: tuple[str, int], hosts: Iterable[str], password: str | None) -> "Guard":
        """For a listener's address and the further names of the settings.

        Raises ValueError for an empty password, and where there is none and other machines can connect.
        """
        host, port = address
        if password is None and not is_loopback(host):
            raise ValueError(f"{host} can be reached from other machines: web.password_file is needed")
        names = {"localhost", "127.0.0.1", "::1", host.lower(), *(_bare(name) for name in hosts)}
        if host in ("0.0.0.0", "::"):
            names.add("*")
        return cls(
            port=port, hosts=frozenset(names), sessions=Sessions(password) if password is not None else None
        )

    @property
    def cookie(self) -> str:
        """The session cookie's name; cookies know no ports, so it has the port in it."""
        return f"gatepost-{self.port}"

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


class Security:
    """The middleware; pure ASGI, so that events stream through it."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI says it
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                harden(MutableHeaders(scope=message))
            await send(message)

        scope["gatepost.guard"] = self._guard
        refusal = self._foreign(scope) or await self._unknown(scope)
        if refusal:
            await _for_whom(scope, refusal)(scope, receive, send_hardened)
            return
        body = _Body(receive)
        if body.announced(Headers(scope=scope)) > _BODY_OCTETS:
            await _for_whom(scope, _too_large())(scope, receive, send_hardened)
            return
        try:
            await self._app(scope, body.receive, send_hardened)
        except _TooLargeError:
            await _for_whom(scope, _too_large())(scope, receive, send_hardened)

    def _foreign(self, scope: Scope) -> Response | None:
        """A refusal of what does not come from our own pages, or from no page at all."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._guard.knows(host):
            return PlainTextResponse(
                f"This is Gatepost, and it does not answer to the name {host[:200]!r}.\n"
                "If it should, add the name to web.hosts in rules.yaml.\n",
                421,
            )
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if scope["method"] in _SAFE_METHODS:
            opens_page = headers.get("sec-fetch-mode") == "navigate" and (
                headers.get("sec-fetch-dest") == "document"
            )
            if site in ("cross-site", "same-site") and not opens_page:
                return PlainTextResponse("Other sites may link to this page, not load it.\n", 403)
        elif site not in (None, "same-origin", "none") or not _is_own(origin, host):
            return PlainTextResponse("Changes are only taken from Gatepost's own pages.\n", 403)
        return None

    async def _unknown(self, scope: Scope) -> Response | None:
        """A refusal of who has not logged in; notes the name of who has."""
        sessions = self._guard.sessions
        path: str = scope["path"]
        if sessions is None or path.startswith(_OPEN_PATHS):
            return None
        request = Request(scope)
        name = sessions.name(request.cookies.get(self._guard.cookie, ""))
        if name is None and (given := Login.from_header(request.headers.get("authorization", ""))):
            client = request.client.host if request.client else ""
            checked = await check_password(self._guard, client, given.password)
            if isinstance(checked, Response):
                return checked
            name = given.name if checked else None
        if name is not None:
            scope["gatepost.name"] = name
            return None
        return _ask_to_log_in(request)


async def check_password(guard: Guard, client: str, given: str) -> bool | Response:
    """True for the password; a wrong one takes a while; an answer where the client must wait first."""
    sessions = guard.sessions
    if sessions is None:
        return True
    wait = sessions.wait_seconds(client)
    if wait or client in guard.waiting or len(guard.waiting) >= _WAITING:
        seconds = int(wait) + 1
        return PlainTextResponse(
            f"Too many wrong passwords. Try again in {seconds} s.\n", 429, {"retry-after": str(seconds)}
        )
    if sessions.is_password(given):
        return True
    sessions.note_wrong(client)
    guard.waiting.add(client)
    try:
        await asyncio.sleep(_WRONG_SECONDS)
    finally:
        guard.waiting.discard(client)
    return False


def _ask_to_log_in(request: Request) -> Response:
    path = request.url.path
    if path.startswith(_FOR_PROGRAMS):
        fields: Mapping[str, str] = {"www-authenticate": 'Bearer, Basic realm="Gatepost"'}
        return PlainTextResponse("Send Authorization: Bearer PASSWORD\n", 401, fields)
    if "hx-request" in request.headers:
        return PlainTextResponse("Log in again.\n", 401, {"hx-redirect": "/login"})
    if request.method not in _SAFE_METHODS or path.endswith("events"):
        return PlainTextResponse("Log in first: /login\n", 401)
    target = f"{path}?{request.url.query}" if request.url.query else path
    return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)


def _for_whom(scope: Scope, refusal: Response) -> Response:
    """A refusal in words, for programs as a problem."""
    return as_problem(refusal) if scope["path"].startswith(_FOR_PROGRAMS) else refusal


def _is_own(origin: str | None, host: str) -> bool:
    """True where a browser sent no Origin, or the one of the page that Host names."""
    return origin is None or (origin != "null" and urlsplit(origin).netloc.lower() == host.strip().lower())


class _TooLargeError(Exception):
    """The body is larger than anybody may send."""


class _Body:
    """Counts the octets of a request's body."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._octets = 0

    @staticmethod
    def announced(headers: Headers) -> int:
        length = headers.get("content-length", "0")
        return int(length) if length.isdecimal() else 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._octets += len(message.get("body", b""))
        if self._octets > _BODY_OCTETS:
            raise _TooLargeError
        return message


def _too_large() -> Response:
    return PlainTextResponse(f"A request may have {_BODY_OCTETS} octets.\n", 413, {"connection": "close"})
