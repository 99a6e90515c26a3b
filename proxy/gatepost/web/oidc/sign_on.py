"""A log-in from its begin to its end. What must be known in between is in the browser, sealed in a cookie.

So the desk that ends a log-in need not be the one that began it, if both have the same settings.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode

from cryptography.fernet import Fernet, InvalidToken

from gatepost.config.oidc import OidcSettings
from gatepost.model.user import User
from gatepost.printable import printable
from gatepost.web.oidc.failure import LoginError, Why
from gatepost.web.oidc.identity import Finished, Identity, identity_of, is_complete, user_of
from gatepost.web.oidc.provider import Provider

__all__ = ["SignOn"]

_LOGIN_SECONDS: Final = 600
_AT_ONCE: Final = 20
"""Log-ins that wait for the provider."""
_HINT_LENGTH: Final = 4096
"""A longer ID token would not fit into an address."""
_TARGET_LENGTH: Final = 1024


class SignOn:
    """Logs users in with one provider; for one event loop."""

    seconds: Final = _LOGIN_SECONDS
    """For a log-in at the provider."""

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.time) -> None:
        """Raises OSError and ValueError for wrong files."""
        self.settings = settings
        self._clock = clock
        self._provider = Provider(settings, clock=clock)
        self._waiting = 0

    async def begin(self, target: str) -> tuple[str, str]:
        """The provider's address for a browser that wants a page, and the text of its cookie.

        Raises LoginError.
        """
        with self._counted():
            metadata = await self._provider.metadata()
        settings = self.settings
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        kept = {"state": state, "nonce": nonce, "verifier": verifier, "target": target[:_TARGET_LENGTH]}
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": settings.client_id,
            "redirect_uri": settings.redirect_uri,
            "scope": " ".join(dict.fromkeys(("openid", *settings.scopes))),
            "state": state,
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        sealed = self._seal().encrypt_at_time(json.dumps(kept).encode(), int(self._clock()))
        return _with_query(metadata.authorization_endpoint, query), sealed.decode()

    async def finish(self, query: Mapping[str, str], sealed: str) -> Finished:
        """What came of a log-in, from the query with which the browser came back, and its cookie.

        Raises LoginError.
        """
        kept = self._kept(sealed)
        if not hmac.compare_digest(query.get("state", "").encode(), kept["state"].encode()):
            raise LoginError(Why.STALE, "the state is that of another log-in")
        with self._counted():
            await self._check_issuer(query)
            if "error" in query:
                told = ": ".join(query[key] for key in ("error", "error_description") if key in query)
                raise LoginError(Why.REFUSED, f"the provider says: {printable(told)[:300]}")
            if not query.get("code"):
                raise LoginError(Why.UNAVAILABLE, "the provider sent neither a code nor an error")
            tokens = await self._provider.redeem(query["code"], kept["verifier"])
            claims = await self._provider.claims(tokens, kept["nonce"])
            if not is_complete(self.settings, claims):
                claims = {**await self._provider.userinfo(tokens, claims["sub"]), **claims}
        identity = identity_of(self.settings, claims)
        hint = tokens.id_token if len(tokens.id_token) <= _HINT_LENGTH else ""
        return Finished(identity=identity, id_token=hint, target=kept["target"])

    async def _check_issuer(self, query: Mapping[str, str]) -> None:
        """RFC 9207: an answer of another provider must not be taken for one of this."""
        metadata = await self._provider.metadata()
        is_named = "iss" in query or metadata.authorization_response_iss_parameter_supported
        if is_named and query.get("iss") != self.settings.issuer:
            raise LoginError(Why.UNAVAILABLE, "the answer is not from the provider that was asked (iss)")

    def user_of(self, identity: Identity) -> User | None:
        """What somebody may do now; None: nothing."""
        return user_of(self.settings, identity)

    async def end_address(self, id_token: str) -> str | None:
        """Where a browser logs out at the provider too (OpenID Connect RP-Initiated Logout 1.0).

        None: the provider offers no such address. Raises LoginError.
        """
        with self._counted():
            endpoint = (await self._provider.metadata()).end_session_endpoint
        if endpoint is None:
            return None
        settings = self.settings
        query = {"client_id": settings.client_id}
        if id_token:
            query["id_token_hint"] = id_token
        if settings.post_logout_redirect_uri:
            query["post_logout_redirect_uri"] = settings.post_logout_redirect_uri
        return _with_query(endpoint, query)

    def _kept(self, sealed: str) -> dict[str, str]:
        if not sealed:
            raise LoginError(Why.STALE, "the browser has no cookie of a log-in")
        try:
            text = self._seal().decrypt_at_time(sealed, self.seconds, int(self._clock()))
        except InvalidToken:
            raise LoginError(Why.STALE, "the cookie of the log-in is too old, or not from here") from None
        kept: dict[str, str] = json.loads(text)
        return kept

    def _seal(self) -> Fernet:
        """Its key is made of the client's secret, which all desks that are one client have."""
        try:
            secret = self.settings.client_secret
        except (OSError, ValueError) as error:
            raise LoginError(Why.UNAVAILABLE, f"the client's secret: {error}") from None
        about: Any = ["gatepost log-in", self.settings.issuer, self.settings.client_id]
        key = hmac.digest(secret.encode(), json.dumps(about).encode(), "sha256")
        return Fernet(base64.urlsafe_b64encode(key))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._waiting >= _AT_ONCE:
            raise LoginError(Why.BUSY, f"{_AT_ONCE} log-ins wait for the provider already")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1


def _with_query(address: str, query: Mapping[str, str]) -> str:
    return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"
