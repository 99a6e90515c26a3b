"""Users of the web desk and the API, and what each role may do there."""

from collections.abc import Iterable
from enum import Enum, StrEnum, auto
from typing import Final

from gatepost.model.addresses import mailbox
from gatepost.values import value

__all__ = ["EVERYTHING", "Need", "Role", "User"]


class Role(StrEnum):
    """What a user may do; each role may do what those before it may."""

    READER = "reader"
    """Sees journal and messages."""
    OPERATOR = "operator"
    """Also releases, forwards, deletes, marks, learns, blocks, and answers sessions that are held."""
    ADMINISTRATOR = "administrator"
    """Also imports messages, and sets breakpoints."""


class Need(Enum):
    """What a user needs for a page or an operation."""

    NOTHING = auto()
    """Not even a login."""
    LOGIN = auto()
    """Any role."""
    READ = auto()
    """To see; a user of some domains sees only what is theirs."""
    READ_ALL = auto()
    """To see what cannot be divided by domain: sessions, statistics, metrics."""
    OPERATE = auto()
    """To change; a user of some domains changes only what is theirs."""
    OPERATE_ALL = auto()
    """To change what concerns the mail of every domain: lists, what filters learn, sessions that are held."""
    ADMINISTER = auto()
    """To do the rest."""

    @property
    def role(self) -> Role | None:
        """The least role that is enough; None: nobody needs to log in."""
        return _LEAST.get(self)

    @property
    def is_of_all_domains(self) -> bool:
        """True if a user of some domains does not have it, whatever the role."""
        return self in _OF_ALL_DOMAINS


_LEAST: Final = {
    Need.LOGIN: Role.READER,
    Need.READ: Role.READER,
    Need.READ_ALL: Role.READER,
    Need.OPERATE: Role.OPERATOR,
    Need.OPERATE_ALL: Role.OPERATOR,
    Need.ADMINISTER: Role.ADMINISTRATOR,
}
"""The least role that is enough."""
_OF_ALL_DOMAINS: Final = frozenset({Need.READ_ALL, Need.OPERATE_ALL, Need.ADMINISTER})
_ORDER: Final = tuple(Role)


@value
class User:
    """A person or a program that has logged in."""

    name: str
    """Empty: it gave none."""
    role: Role
    domains: frozenset[str] | None = None
    """The recipients' domains whose mail it sees, in lower-case A-labels; None: all mail."""

    def may(self, need: Need) -> bool:
        """True if the role, and the domains, are enough."""
        if need is Need.NOTHING:
            return True
        if self.domains is not None and need.is_of_all_domains:
            return False
        return _ORDER.index(self.role) >= _ORDER.index(_LEAST[need])

    def owns(self, recipients: Iterable[str]) -> bool:
        """True if all these forward-paths are in the user's domains; of none, only without domains."""
        if self.domains is None:
            return True
        addresses = tuple(recipients)
        return bool(addresses) and all(mailbox(one).domain in self.domains for one in addresses)


EVERYTHING: Final = User(name="", role=Role.ADMINISTRATOR)
"""The user of a desk without a login, and of one with a single password."""
