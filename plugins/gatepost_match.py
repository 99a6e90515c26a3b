"""The filter ``match``: says yes whenever it is asked, so that the rule's ``when`` is the whole condition.

It needs nothing but the session, so it answers as soon as ``when`` can be decided: at MAIL for
``{sender: ...}``, at each RCPT for ``{recipient: ...}``, with the message for ``{header: ...}``.
"""

from dataclasses import dataclass

from gatepost import Verdict, hookimpl

__all__ = ["Match"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A hit for everything that the rule is for."""

    reason: str = "the rule's when holds"
    """What the journal says of a hit."""

    @hookimpl
    async def filter_connect(self) -> Verdict:
        """Yes."""
        return Verdict(reason=self.reason)
