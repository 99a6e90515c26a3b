"""A node that has a store open, as others with the same store see it."""

import secrets
from typing import Self

from gatepost.values import value

__all__ = ["RunningNode"]


@value
class RunningNode:
    """One start of a gateway: all its processes, also those that take the place of others."""

    name: str
    """The node's, which no other node with this store should have."""
    instance: int
    """A random number below 2**31, which tells it from another start with that name."""

    @classmethod
    def started(cls, name: str) -> Self:
        """One that starts now."""
        return cls(name=name, instance=secrets.randbits(31))
