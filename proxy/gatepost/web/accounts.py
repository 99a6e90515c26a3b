"""Who may log in to the desk: users, programs, users of a provider, and people with the single password."""

import hashlib
import hmac
import math
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gatepost.config import tokens as tokens_file
from gatepost.config.web import WebSettings
from gatepost.model.user import EVERYTHING, User
from gatepost.server import Users, desk_hashes
from gatepost.values import value
from gatepost.web.known_tokens import KnownTokens
from gatepost.web.oidc import USERS_PREFIX, Finished, Identity

if TYPE_CHECKING:
    from gatepost.config.oidc import OidcSettings
    from gatepost.web.oidc.sign_on import SignOn

__all__ = ["Accounts", "LoggedIn"]

_NOT_TO_BE_TAKEN = (USERS_PREFIX, tokens_file.USERS_PREFIX)
"""How names of users of a provider and of tokens begin: nobody else is to be noted under one of them."""


@value
class LoggedIn:
    """A user, and what proved it."""

    user: User
    proof: str = ""
    """The SHA-256 of the hash of the user's password, or of the single password; another one ends sessions.

    Empty for users of a provider.
    """
    identity: Identity | None = None
    """Who it is at the provider; None: the user has not logged in there."""
    id_token: str = field(default="", repr=False)
    """Of the provider, for the log-out there; empty where it is too long for that."""
    lasts_seconds: float = math.inf
    """Time from the log-in to the end of the session, also of one that is used."""

    @property
    def owner(self) -> tuple[str, ...]:
        """Whose log-ins are counted together: the account at the provider, or the name."""
        return (self.identity.issuer, self.identity.subject) if self.identity else (self.user.name,)


class Accounts:
    """The users of one desk; for one event loop."""

    def __init__(
        self,
        *,
        password: str | None = None,
        users: Sequence[User] = (),
        hashes: Mapping[str, str] | None = None,
        tokens: Path | None = None,
        sign_on: "SignOn | None" = None,
    ) -> None:
        """Raises ValueError for an empty password.

        Args:
            password: lets anybody in who knows it, with every right and any name but those of ``users``.
            users: those with passwords of their own.
            hashes: the argon2 hash of each of them, by name.
            tokens: the file of the tokens of programs.
            sign_on: logs users of a provider in.
        """
        if password == "":
            raise ValueError("the password is empty")
        self._password = None if password is None else password.encode()
        self._password_proof = "" if password is None else _proof(password)
        self._tokens = KnownTokens(tokens) if tokens else None
        self._take(users, hashes or {})
        self.sign_on = sign_on
        """Logs users of a provider in; None: there is no provider."""
        self._began_open = self.are_open = password is None and not users and sign_on is None
        """True if nobody needs to log in."""

    @classmethod
    def of(cls, web: WebSettings, password: str | None) -> Self:
        """Those of the settings; raises OSError and ValueError."""
        users, hashes = [one.user for one in web.users], desk_hashes(web)
        sign_on = _sign_on(web.oidc)
        return cls(password=password, users=users, hashes=hashes, tokens=web.tokens_file, sign_on=sign_on)

    def _take(self, users: Sequence[User], hashes: Mapping[str, str]) -> None:
        self._users = {user.name: user for user in users}
        self._hashes = hashes
        self._check = Users(hashes) if hashes else None

    def renew(self, web: WebSettings) -> None:
        """Take the users of new settings; raises OSError and ValueError, and then nothing has changed.

        Settings without users do not open a desk that needed a login: nobody can log in until it is started
        again, with the password that it then has.
        """
        hashes, sign_on = desk_hashes(web), _sign_on(web.oidc)
        before = self._check
        self.sign_on = sign_on
        self._take([one.user for one in web.users], hashes)
        self.are_open = self._began_open and not web.users and self.sign_on is None
        if before:
            before.close()

    @property
    def have_names(self) -> bool:
        """True if a login needs a name."""
        return bool(self._users)

    @property
    def can_be_typed(self) -> bool:
        """True if somebody can log in with a password."""
        return self.have_names or self.has_password

    @property
    def has_password(self) -> bool:
        """True if there is a single password too."""
        return self._password is not None

    async def log_in(self, name: str, password: str) -> LoggedIn | None:
        """The user with this password; None if it is wrong. The time does not tell which names there are."""
        checked = False
        if name and self._check:
            checked = await self._check.check(name, password)
        if user := self._users.get(name):
            return LoggedIn(user=user, proof=_proof(self._hashes[name])) if checked else None
        if self.is_password(password) and not name.lower().startswith(_NOT_TO_BE_TAKEN):
            return LoggedIn(user=replace(EVERYTHING, name=name), proof=self._password_proof)
        return None

    def signed_on(self, found: Finished) -> LoggedIn | None:
        """Somebody whom the provider knows; None: nobody has given them a role."""
        user = self.sign_on.user_of(found.identity) if self.sign_on else None
        if self.sign_on is None or user is None:
            return None
        return LoggedIn(
            user=user,
            identity=found.identity,
            id_token=found.id_token,
            lasts_seconds=self.sign_on.settings.session_time,
        )

    def named(self, name: str) -> User | None:
        """The user of that name; None for any other text, which may be a password."""
        return self._users.get(name)

    def of_token(self, secret: str) -> User | None:
        """The user whose token this is; None for an unknown, revoked or expired one, and for other text."""
        return self._tokens.user(secret) if self._tokens and secret.startswith(tokens_file.PREFIX) else None

    def is_password(self, given: str) -> bool:
        """True for the single password; takes the same time for every wrong one."""
        known = self._password
        return known is not None and hmac.compare_digest(given.encode("utf-8", "surrogatepass"), known)

    def now(self, logged_in: LoggedIn) -> User | None:
        """The user of a session as the settings are now; None if the session has ended with them."""
        if logged_in.identity:
            return self.sign_on.user_of(logged_in.identity) if self.sign_on else None
        name = logged_in.user.name
        if user := self._users.get(name):  # the name may be a user's only now
            return user if logged_in.proof == _proof(self._hashes.get(name, "")) else None
        return logged_in.user if logged_in.proof == self._password_proof else None


def _proof(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _sign_on(settings: "OidcSettings | None") -> "SignOn | None":
    """Raises OSError and ValueError."""
    if settings is None:
        return None
    from gatepost.web.oidc.sign_on import SignOn  # noqa: PLC0415 - its libraries are an extra

    return SignOn(settings)
