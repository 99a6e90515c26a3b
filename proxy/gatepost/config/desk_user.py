"""The users of the section `web`: names, roles, and the domains whose mail they see."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from gatepost.config.fields import one_or_many
from gatepost.config.patterns import expected
from gatepost.config.section import Settings
from gatepost.model.addresses import mailbox
from gatepost.model.user import Role, User

__all__ = ["DeskUser", "Domains", "check_user_name"]

_NAME = re.compile(r"[^\x00-\x20\x7f-\xa0:\ud800-\udfff]{1,64}")
"""RFC 7617 section 2 allows no colon in a name."""
_DOMAIN = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")


def check_user_name(name: str) -> str:
    """A name to log in with."""
    if not _NAME.fullmatch(name):
        raise expected("a name of at most 64 characters without spaces and ':'")
    return name


def check_domain(value: str) -> str:
    """A domain in lower-case A-labels."""
    found = mailbox(f"x@{value}").domain
    if "@" in value or len(found) > 253 or not _DOMAIN.fullmatch(found):
        raise expected("a domain like example.com")
    return found


Domains = Annotated[tuple[Annotated[str, AfterValidator(check_domain)], ...], BeforeValidator(one_or_many)]
"""One domain or more, in lower-case A-labels."""


class DeskUser(Settings):
    """A user of the web desk and its API."""

    name: Annotated[str, AfterValidator(check_user_name)]
    """As in `WebSettings.users_file`."""
    role: Role
    domains: Domains | None = None
    """Only mail to recipients in these domains; default: all mail."""

    @property
    def user(self) -> User:
        """The same as a value."""
        domains = None if self.domains is None else frozenset(self.domains)
        return User(name=self.name, role=self.role, domains=domains)
