"""The filter ``discard``: like ``match``, and the action that it suggests is to drop the mail.

The client gets 250, nobody gets the message, and the journal shows it.
"""

from dataclasses import dataclass

from gatepost import Action, Verdict, hookimpl

__all__ = ["Discard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Always a hit, with the action ``discard``."""

    reason: str = ""
    """The reason in the journal; empty: what of the rule's ``when`` holds."""

    @hookimpl
    async def filter_connect(self) -> Verdict:
        """Return the hit."""
        return Verdict(reason=self.reason, action=Action.DISCARD)
