"""Who may log in to the desk: users and programs, and people with the single password."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from gatepost.config.tokens import PREFIX
from gatepost.config.web import WebSettings
from gatepost.model.user import EVERYTHING, User
from gatepost.server import Users, desk_hashes
from gatepost.web.known_tokens import KnownTokens

__all__ = ["Accounts", "LoggedIn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedIn:
    """A user, and what proved it."""

    user: User
    proof: str = ""
    """The hash of the user's password, so that another password ends the sessions; empty for others."""


class Accounts:
    """The users of one desk; for one event loop."""

    def __init__(
        self,
        *,
        password: str | None = None,
        users: Sequence[User] = (),
        hashes: Mapping[str, str] | None = None,
        tokens: Path | None = None,
    ) -> None:
        """Raises ValueError for an empty password.

        Args:
            password: lets anybody in who knows it, with every right and any name but those of ``users``.
            users: those with passwords of their own.
            hashes: the argon2 hash of each of them, by name.
            tokens: the file of the tokens of programs.
        """
        if password == "":
            raise ValueError("the password is empty")
        self._password = None if password is None else password.encode()
        self._tokens = KnownTokens(tokens) if tokens else None
        self._take(users, hashes or {})
        self._began_open = self.are_open = password is None and not users
        """True if nobody needs to log in."""

    @classmethod
    def of(cls, web: WebSettings, password: str | None) -> Self:
        """Those of the settings; raises OSError and ValueError."""
        users, hashes = [one.user for one in web.users], desk_hashes(web)
        return cls(password=password, users=users, hashes=hashes, tokens=web.tokens_file)

    def _take(self, users: Sequence[User], hashes: Mapping[str, str]) -> None:
        self._users = {user.name: user for user in users}
        self._hashes = hashes
        self._check = Users(hashes) if hashes else None

    def renew(self, web: WebSettings) -> None:
        """Take the users of new settings; raises OSError and ValueError, and then nothing has changed.

        Settings without users do not open a desk that needed a login: nobody can log in until it is started
        again, with the password that it then has.
        """
        hashes = desk_hashes(web)
        before = self._check
        self._take([one.user for one in web.users], hashes)
        self.are_open = self._began_open and not web.users
        if before:
            before.close()

    @property
    def have_names(self) -> bool:
        """True if a login needs a name."""
        return bool(self._users)

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
            return LoggedIn(user=user, proof=self._hashes[name]) if checked else None
        if self.is_password(password):
            return LoggedIn(user=replace(EVERYTHING, name=name))
        return None

    def named(self, name: str) -> User | None:
        """The user of that name; None for any other text, which may be a password."""
        return self._users.get(name)

    def of_token(self, secret: str) -> User | None:
        """The user whose token this is; None for an unknown, revoked or expired one, and for other text."""
        return self._tokens.user(secret) if self._tokens and secret.startswith(PREFIX) else None

    def is_password(self, given: str) -> bool:
        """True for the single password; takes the same time for every wrong one."""
        known = self._password
        return known is not None and hmac.compare_digest(given.encode("utf-8", "surrogatepass"), known)

    def now(self, logged_in: LoggedIn) -> User | None:
        """The user of a session as the settings are now; None if the session has ended with them."""
        name = logged_in.user.name
        if not logged_in.proof:  # by the single password, with a name that is a user's only now
            return None if name in self._users else logged_in.user
        return self._users.get(name) if self._hashes.get(name) == logged_in.proof else None
