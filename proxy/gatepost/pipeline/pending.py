"""Pending verdicts: found at an early stage, applied at the rule's place in the file."""

from collections.abc import Iterable

from gatepost.model.mail import Recipient, Stage
from gatepost.model.verdict import Action, Verdict
from gatepost.values import value

__all__ = ["NOT_FINAL", "PendingVerdict", "first_final"]

NOT_FINAL = frozenset({Action.TAG, Action.SCORE})
"""The actions of a pending verdict after which later rules are asked."""


@value
class PendingVerdict:
    """A verdict of an early stage that is applied when the message is decided."""

    index: int
    """The rule's place in the file."""
    stage: Stage
    """The stage at which it was found."""
    verdict: Verdict
    action: Action
    """The action to apply; also ``quarantine`` if the filter failed under ``on_error: quarantine``."""
    recipient: str | None = None
    """The address of the recipient that it is about; None: all recipients."""

    def covers(self, recipient: Recipient | None) -> bool:
        """True if it is about this recipient or about all recipients."""
        return self.recipient is None or (recipient is not None and self.recipient == recipient.address)


def first_final(pending: Iterable[PendingVerdict], recipient: Recipient | None) -> PendingVerdict | None:
    """The first verdict in file order with a final action for the recipient; later rules are not asked."""
    final = (one for one in pending if one.action not in NOT_FINAL and one.covers(recipient))
    return min(final, key=lambda one: one.index, default=None)
