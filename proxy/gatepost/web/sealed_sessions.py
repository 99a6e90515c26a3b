"""What is stored of a session: sealed with its token, which only the browser has.

So a copy of the database has neither tokens nor names, and no password can be guessed with it.
"""

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken

from gatepost.model.user import Role, User
from gatepost.web.accounts import LoggedIn
from gatepost.web.oidc import Identity

__all__ = ["key_of", "owner_of", "seal", "unseal"]


def key_of(token: str) -> bytes:
    """The SHA-256 of a token, by which its session is found."""
    return hashlib.sha256(token.encode()).digest()


def owner_of(logged_in: LoggedIn) -> bytes:
    """A hash of the user, by which the store counts the sessions of each; it does not have the name."""
    return hashlib.sha256(json.dumps(("gatepost session", *logged_in.owner)).encode()).digest()[:16]


def seal(token: str, logged_in: LoggedIn) -> bytes:
    """A session as text that only the token opens; without `LoggedIn.lasts_seconds`."""
    user, identity = logged_in.user, logged_in.identity
    content = {
        "name": user.name,
        "role": user.role,
        "domains": None if user.domains is None else sorted(user.domains),
        "proof": logged_in.proof,
        "id_token": logged_in.id_token,
        "identity": identity
        and {
            "issuer": identity.issuer,
            "subject": identity.subject,
            "name": identity.name,
            "groups": sorted(identity.groups),
        },
    }
    return _fernet(token).encrypt(json.dumps(content).encode())


def unseal(token: str, sealed: bytes) -> LoggedIn | None:
    """What `seal` was given; None for what another token or another version of Gatepost has sealed."""
    try:
        found = json.loads(_fernet(token).decrypt(sealed))
        domains, identity = found["domains"], found["identity"]
        return LoggedIn(
            user=User(
                name=found["name"],
                role=Role(found["role"]),
                domains=None if domains is None else frozenset(domains),
            ),
            proof=found["proof"],
            id_token=found["id_token"],
            identity=identity and _identity(identity),
        )
    except (InvalidToken, ValueError, KeyError, TypeError):
        return None


def _identity(found: dict[str, Any]) -> Identity:
    return Identity(**{**found, "groups": frozenset(found["groups"])})


def _fernet(token: str) -> Fernet:
    key = hmac.digest(token.encode(), b"gatepost session", "sha256")
    return Fernet(base64.urlsafe_b64encode(key))
