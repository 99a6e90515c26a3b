"""The filter ``discard``: like ``match``, and the action that it suggests is to drop the mail.

The client is told 250, nobody gets the message, and the journal says so.
"""

from dataclasses import dataclass

from gatepost import Action, Verdict, hookimpl

__all__ = ["Discard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """A hit for everything that the rule is for, with the action ``discard``."""

    reason: str = "discarded by the rule"
    """What the journal says of a hit."""

    @hookimpl
    async def filter_connect(self) -> Verdict:
        """Yes: drop it."""
        return Verdict(reason=self.reason, action=Action.DISCARD)
