"""The file of tokens: what programs send instead of a password, each with a role; only hashes are stored."""

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import AwareDatetime, Field, ValidationError

from gatepost.config.desk_user import Domains, check_user_name
from gatepost.config.section import Settings
from gatepost.model.user import Role, User

__all__ = ["PREFIX", "USERS_PREFIX", "Token", "hash_of", "new_secret", "read_tokens", "tokens_text"]

PREFIX: Final = "gatepost_"
"""How each token begins, so that one that was published by mistake can be recognised."""
USERS_PREFIX: Final = "token "
"""Before the names of these users: no other user's name has a space."""
_RANDOM_BYTES = 32
_EXPECTED = "expected the file that gatepost token writes: names, and what each may do"
_HEADING = "# Written by gatepost token. The tokens themselves are not stored.\n"


class Token(Settings):
    """What a token lets a program do."""

    sha256: Annotated[str, Field(pattern="[0-9a-f]{64}")]
    """Of the token; it is random, so that no slower hash is needed."""
    role: Role
    domains: Domains | None = None
    """Only mail to recipients in these domains; default: all mail."""
    expires: AwareDatetime | None = None
    """From then on it is refused; default: never."""

    def user(self, name: str) -> User:
        """The user that a program with this token is."""
        domains = None if self.domains is None else frozenset(self.domains)
        return User(name=f"{USERS_PREFIX}{name}", role=self.role, domains=domains)


def new_secret() -> str:
    """A new token."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def hash_of(secret: str) -> str:
    """The SHA-256 of a token, in hexadecimal digits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def read_tokens(path: Path) -> Mapping[str, Token]:
    """The tokens by name; none if there is no file. Raises OSError, and ValueError that names the file."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {_EXPECTED}; it is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: {_EXPECTED}")  # noqa: TRY004 - one error for a wrong file
    found: dict[str, Token] = {}
    for name, value in content.items():
        try:
            found[check_user_name(str(name))] = Token.model_validate(value)
        except (ValidationError, ValueError) as error:
            first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise ValueError(f"{path}: the token {name!r}: {first}") from None
    return found


def tokens_text(tokens: Mapping[str, Token]) -> str:
    """The text of the file."""
    values = {
        name: token.model_dump(mode="json", exclude_none=True) for name, token in sorted(tokens.items())
    }
    return _HEADING + (yaml.safe_dump(values, sort_keys=False, allow_unicode=True) if values else "")
