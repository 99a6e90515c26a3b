"""The filter ``match``: always a hit, so that the rule's ``when`` is the whole condition.

It needs nothing but the session, so it answers as soon as ``when`` can be decided: at MAIL for
``{sender: ...}``, at each RCPT for ``{recipient: ...}``, with the message for ``{header: ...}``.
"""

from dataclasses import dataclass

from gatepost import Verdict, hookimpl

__all__ = ["Match"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Always a hit."""

    reason: str = ""
    """The reason in the journal; empty: what of the rule's ``when`` holds."""

    @hookimpl
    async def filter_connect(self) -> Verdict:
        """Return the hit."""
        return Verdict(reason=self.reason)
