"""The provider: its metadata, its keys, and the requests to it, each bounded in time and size."""

import asyncio
import json
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote_plus, urlencode

from joserfc.jwk import Key
from pydantic import BaseModel, BeforeValidator, ValidationError

from gatepost.config.http_url import HttpUrl, http_url
from gatepost.config.oidc import OidcSettings
from gatepost.printable import printable
from gatepost.web.http_request import HttpError, HttpResponse, request
from gatepost.web.oidc.failure import LoginError, Why
from gatepost.web.oidc.id_token import NoKeyError, TokenError, read_keys, verified

__all__ = ["Metadata", "Provider", "Tokens"]

_SECONDS: Final = 10.0
"""For one request."""
_BYTES: Final = 512 << 10
"""Of one response."""
_FRESH_SECONDS: Final = 600.0
"""How long metadata and keys are used before they are asked for again."""
_PAUSE_SECONDS: Final = 3.0
"""After a failure nobody asks again for so long."""
_DISCOVERY: Final = "/.well-known/openid-configuration"
_ERROR_LENGTH: Final = 200

Model = TypeVar("Model", bound=BaseModel)
Endpoint = Annotated[HttpUrl, BeforeValidator(lambda value: http_url(value, example="https://host/path"))]


class Metadata(BaseModel):
    """What a provider says of itself (OpenID Connect Discovery 1.0 section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: Endpoint
    jwks_uri: Endpoint
    userinfo_endpoint: Endpoint | None = None
    end_session_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Tokens(BaseModel):
    """The answer to a code (RFC 6749 section 5.1)."""

    id_token: str
    access_token: str


class Provider:
    """One provider; for one event loop. What it says of itself and its keys are kept for some minutes."""

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.time) -> None:
        """Raises OSError and ValueError for a wrong file of authorities."""
        self._settings = settings
        self._clock = clock
        self._tls = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        self._https = settings.issuer.startswith("https:")
        self._asking = asyncio.Lock()
        self._metadata: tuple[float, Metadata] | None = None
        self._failure: tuple[float, LoginError] | None = None
        self._keys: tuple[float, tuple[Key, ...]] | None = None

    async def metadata(self) -> Metadata:
        """What it says of itself; raises LoginError."""
        async with self._asking:
            if self._metadata and self._is_fresh(self._metadata[0], _FRESH_SECONDS):
                return self._metadata[1]
            if self._failure and self._is_fresh(self._failure[0], _PAUSE_SECONDS):
                raise LoginError(self._failure[1].why, str(self._failure[1]))
            try:
                found = await self._discover()
            except LoginError as error:
                self._failure = (self._clock(), error)
                raise
            self._metadata, self._keys = (self._clock(), found), None
            return found

    def _is_fresh(self, since: float, seconds: float) -> bool:
        return 0 <= self._clock() - since < seconds

    async def _discover(self) -> Metadata:
        base = self._settings.issuer.removesuffix("/")
        document = await self._get_json(http_url(f"{base}{_DISCOVERY}"), "discovery")
        found = _parsed(Metadata, document, "discovery")
        if found.issuer != self._settings.issuer:
            raise _unusable(
                f"discovery: the provider calls itself {printable(found.issuer)[:_ERROR_LENGTH]!r}, "
                f"expected {self._settings.issuer!r}, as in web.oidc.issuer"
            )
        endpoints = [found.authorization_endpoint, *filter(None, [found.end_session_endpoint])]
        try:
            urls = [*map(http_url, endpoints), found.token_endpoint, found.jwks_uri, found.userinfo_endpoint]
        except ValueError:
            raise _unusable("discovery: an endpoint is not a URL") from None
        if self._https and not all(url.tls for url in urls if url):
            raise _unusable("discovery: an endpoint without https, expected https as that of the issuer")
        return found

    async def redeem(self, code: str, verifier: str) -> Tokens:
        """The tokens for a code; raises LoginError."""
        metadata, settings = await self.metadata(), self._settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": settings.redirect_uri,
            "code_verifier": verifier,
        }
        fields = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")]
        try:
            secret = settings.client_secret
        except (OSError, ValueError) as error:
            raise _unusable(f"the client's secret: {error}") from None
        methods = metadata.token_endpoint_auth_methods_supported
        if "client_secret_basic" in methods or "client_secret_post" not in methods:
            both = f"{quote_plus(settings.client_id)}:{quote_plus(secret)}"  # RFC 6749 section 2.3.1
            fields.append(("authorization", f"Basic {b64encode(both.encode()).decode()}"))
        else:
            form |= {"client_id": settings.client_id, "client_secret": secret}
        answer = await self._ask(metadata.token_endpoint, "token", "POST", fields, urlencode(form).encode())
        if answer.status != 200:
            said = _error_in(answer)
            why = Why.STALE if said.startswith("invalid_grant") else Why.UNAVAILABLE
            raise LoginError(why, f"token: {answer}{f', {said}' if said else ''}")
        return _parsed(Tokens, _json(answer, "token"), "token")

    async def claims(self, tokens: Tokens, nonce: str) -> dict[str, Any]:
        """The claims of the ID token of this log-in; raises LoginError."""
        metadata = await self.metadata()
        known = self._keys if self._keys and self._is_fresh(self._keys[0], _FRESH_SECONDS) else None

        def verify(keys: tuple[Key, ...]) -> dict[str, Any]:
            settings, now = self._settings, self._clock()
            return verified(
                tokens.id_token,
                keys,
                issuer=settings.issuer,
                client_id=settings.client_id,
                nonce=nonce,
                now=now,
            )

        try:
            if known:
                try:
                    return verify(known[1])
                except NoKeyError:
                    pass  # the provider may have new keys
            keys = read_keys(await self._get_json(metadata.jwks_uri, "keys"))
            self._keys = (self._clock(), keys)
            return verify(keys)
        except TokenError as error:
            raise _unusable(f"ID token: {error}") from None

    async def userinfo(self, tokens: Tokens, subject: str) -> dict[str, Any]:
        """The claims that userinfo adds; none if there is no such endpoint. Raises LoginError."""
        endpoint = (await self.metadata()).userinfo_endpoint
        if endpoint is None:
            return {}
        token = tokens.access_token
        if not (token.isascii() and token.isprintable()):
            raise _unusable("token: the access token has characters that no header field can have")
        found = await self._get_json(endpoint, "userinfo", ("authorization", f"Bearer {token}"))
        if found.get("sub") != subject:
            raise _unusable("userinfo: sub is not that of the ID token")
        return found

    async def _get_json(self, url: HttpUrl, what: str, *fields: tuple[str, str]) -> dict[str, Any]:
        answer = await self._ask(url, what, "GET", [("accept", "application/json"), *fields])
        if answer.status != 200:
            raise _unusable(f"{what}: {answer} of {url}")
        return _json(answer, what)

    async def _ask(
        self, url: HttpUrl, what: str, method: str, fields: list[tuple[str, str]], body: bytes = b""
    ) -> HttpResponse:
        try:
            return await request(
                url, method=method, fields=fields, body=body, tls=self._tls, seconds=_SECONDS, most=_BYTES
            )
        except HttpError as error:
            raise _unusable(f"{what}: {url}: {error}") from None


def _unusable(reason: str) -> LoginError:
    return LoginError(Why.UNAVAILABLE, reason)


def _json(answer: HttpResponse, what: str) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        kind = printable(answer.content_type)[:100] or "no content type"
        raise _unusable(f"{what}: the answer is not a JSON object ({kind})")
    return found


def _parsed(model: type[Model], document: Mapping[str, Any], what: str) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise _unusable(f"{what}: {name}: {printable(first['msg'])}") from None


def _error_in(answer: HttpResponse) -> str:
    """The error of RFC 6749 section 5.2; empty: there is none."""
    try:
        found = _json(answer, "")
    except LoginError:
        return ""
    texts = [found.get("error"), found.get("error_description")]
    return ": ".join(printable(text)[:_ERROR_LENGTH] for text in texts if isinstance(text, str))
