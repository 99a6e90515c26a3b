"""Who somebody is by the claims of a provider, and what the settings let them do."""

from collections.abc import Mapping
from typing import Any, Final

from gatepost.config.oidc import OidcSettings
from gatepost.model.user import User
from gatepost.printable import printable
from gatepost.values import value
from gatepost.web.oidc.failure import LoginError, Why

__all__ = ["USERS_PREFIX", "Finished", "Identity", "identity_of", "is_complete", "user_of"]

USERS_PREFIX: Final = "oidc:"
"""Before the names of these users: no other user's name has a colon."""
_NAME_LENGTH: Final = 64
_EMAIL: Final = "email"

Claims = Mapping[str, Any]


@value
class Identity:
    """A user of a provider."""

    issuer: str
    subject: str
    """Identifies the user at the provider; unlike the name, it never changes."""
    name: str
    """Printable, at most 64 characters."""
    groups: frozenset[str]
    """Those that the settings named when the user logged in."""


@value
class Finished:
    """A log-in that the provider has confirmed."""

    identity: Identity
    id_token: str
    """Tells the provider at the log-out who it is; empty where it is too long for that."""
    target: str
    """The page that was asked for."""


def identity_of(settings: OidcSettings, claims: Claims) -> Identity:
    """The user with these claims; raises LoginError if they do not include a name."""
    name = _claim(claims, settings.name_claim)
    if not isinstance(name, str) or not name.strip():
        known = ", ".join(sorted(map(str, claims)))[:300]
        raise LoginError(
            Why.UNAVAILABLE,
            f"no text in the claim {settings.name_claim!r} (web.oidc.name_claim); "
            f"the claims are: {printable(known)}",
        )
    named = {group for entry in settings.roles for group in entry.groups}
    return Identity(
        issuer=settings.issuer,
        subject=str(claims["sub"]),
        name=printable(name.strip(), mark="\ufffd")[:_NAME_LENGTH],
        groups=frozenset(named & _groups(claims, settings.groups_claim)),
    )


def is_complete(settings: OidcSettings, claims: Claims) -> bool:
    """True if the provider need not be asked for more claims."""
    wanted = {settings.name_claim, settings.groups_claim}
    if _EMAIL in wanted:
        wanted.add("email_verified")
    return all(_claim(claims, name) is not None for name in wanted)


def user_of(settings: OidcSettings, identity: Identity) -> User | None:
    """What the settings let somebody do; None: nothing.

    The first entry with one of the groups says the role. Further ones with the same role add their domains.
    """
    if identity.issuer != settings.issuer:
        return None
    found = [entry for entry in settings.roles if identity.groups & {*entry.groups}]
    if not found:
        return None
    role = found[0].role
    domains = [entry.domains for entry in found if entry.role is role]
    seen = None if None in domains else frozenset(name for one in domains for name in one or ())
    return User(name=f"{USERS_PREFIX}{identity.name}", role=role, domains=seen)


def _claim(claims: Claims, path: str) -> Any:
    """The claim of that name, else the one that ``outer.inner`` leads to; None: there is none."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _groups(claims: Claims, path: str) -> set[str]:
    """The texts of a claim: one, those of a list, or the keys of an object.

    An address of mail that the provider has not verified is none: users may write any.
    """
    found = _claim(claims, path)
    if path == _EMAIL and claims.get("email_verified") is not True:
        return set()
    values = [found] if isinstance(found, str) else found if isinstance(found, list | dict) else []
    return {value for value in values if isinstance(value, str)}
