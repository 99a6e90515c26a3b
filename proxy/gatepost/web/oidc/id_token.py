"""ID tokens: their signature and their claims (OpenID Connect Core 1.0 section 3.1.3.7)."""

import hmac
import warnings
from collections.abc import Sequence
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError, SecurityWarning
from joserfc.jwk import JWKRegistry, Key, RSAKey
from joserfc.jws import JWSRegistry, extract_compact

from gatepost.printable import printable

__all__ = ["ALGORITHMS", "NoKeyError", "TokenError", "read_keys", "verified"]

ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
)  # fmt: skip
"""Those with a public key: never ``none``, nor HMAC, for which the client's secret would be the key."""
_LEEWAY_SECONDS: Final = 60
"""That the clocks of provider and desk may differ."""
_KEYS: Final = 100
_RSA_BITS: Final = 2048
"""RFC 7518 section 3.3."""
_SUBJECT_LENGTH: Final = 255


warnings.simplefilter("ignore", SecurityWarning)  # of weak keys, which are not used; not a line of the log


class TokenError(Exception):
    """The token cannot be trusted; the text says why."""


class NoKeyError(TokenError):
    """None of the keys made the signature: the provider may have new ones."""


def read_keys(document: Any) -> tuple[Key, ...]:
    """The keys of a JWK Set (RFC 7517 section 5) but those of kinds that are not known; raises TokenError."""
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list) or len(members) > _KEYS:
        raise TokenError(f"no JWK Set of at most {_KEYS} keys")
    found = []
    for member in members:
        if not isinstance(member, dict) or member.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        try:
            key = JWKRegistry.import_key(member)
        except (JoseError, ValueError, TypeError, KeyError):  # a curve that nobody knows, no key at all
            continue
        if not isinstance(key, RSAKey) or key.public_key.key_size >= _RSA_BITS:
            found.append(key)
    if not found:
        raise TokenError("no key for signatures in the JWK Set")
    return tuple(found)


def verified(
    token: str, keys: Sequence[Key], *, issuer: str, client_id: str, nonce: str, now: float
) -> dict[str, Any]:
    """The claims of an ID token for this client and this log-in; raises TokenError."""
    claims = _signed(token, keys)
    audience = claims.get("aud")
    if isinstance(audience, list) and len(audience) > 1 and "azp" not in claims:
        raise TokenError("several audiences without azp")
    if "azp" in claims and claims["azp"] != client_id:
        raise TokenError("azp names another client")
    rules = jwt.JWTClaimsRegistry(
        now=int(now),
        leeway=_LEEWAY_SECONDS,
        iss={"essential": True, "value": issuer},
        sub={"essential": True},
        aud={"essential": True, "value": client_id},
        exp={"essential": True},
        iat={"essential": True},
    )
    try:
        rules.validate(claims)
    except JoseError as error:
        raise TokenError(printable(str(error))) from None
    if not 0 < len(claims["sub"]) <= _SUBJECT_LENGTH:
        raise TokenError(f"sub has not 1 to {_SUBJECT_LENGTH} characters")
    given = claims.get("nonce")
    if not isinstance(given, str) or not hmac.compare_digest(
        given.encode("utf-8", "replace"), nonce.encode()
    ):
        raise TokenError("the nonce is that of another log-in")
    return claims


def _signed(token: str, keys: Sequence[Key]) -> dict[str, Any]:
    """The claims, if one of the keys made the signature."""
    rules = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    try:
        header = extract_compact(token.encode("ascii"), registry=rules).headers()
        rules.get_alg(str(header["alg"]))
        name = header.get("kid")
        for key in keys:
            if (name is None or key.kid == name) and key.get("use") in (None, "sig"):
                try:
                    claims: dict[str, Any] = jwt.decode(token, key, registry=rules).claims
                except BadSignatureError:
                    continue
                except JoseError:  # a key of another kind than the algorithm
                    if name is not None:
                        raise
                else:
                    return claims
    except RecursionError:
        raise TokenError("its claims are nested too deeply") from None
    except (JoseError, ValueError, TypeError) as error:
        raise TokenError(printable(str(error))) from None
    raise NoKeyError("none of the provider's keys made the signature")
