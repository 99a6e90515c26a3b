"""The recipients of a message after its rules have added and removed some."""

from collections.abc import Sequence
from dataclasses import replace

from gatepost.model.addresses import mailbox_key
from gatepost.model.mail import Recipient
from gatepost.model.plan import RecipientOutcome
from gatepost.model.verdict import Action, Outcome

__all__ = ["readdressed"]

_REACHES_SOMEBODY = (Action.ACCEPT, Action.QUARANTINE)
"""Of other outcomes nothing is added or removed."""


def readdressed(paired: Sequence[RecipientOutcome]) -> list[RecipientOutcome]:
    """The recipients that the client has named, then those that were added, each with its outcome.

    A recipient that was removed is discarded. One that was added has the outcome of those for whom it was
    added: of the first that is accepted, else of the first that is quarantined.
    """
    known = {mailbox_key(one.recipient.address) for one in paired}
    added: list[RecipientOutcome] = []
    for action in _REACHES_SOMEBODY:
        for outcome in [one.outcome for one in paired if one.outcome.action is action]:
            for address in outcome.changes.added if outcome.changes else ():
                key = mailbox_key(address)
                if key not in known:
                    known.add(key)
                    added.append(RecipientOutcome(recipient=Recipient(address=address), outcome=outcome))
    return [*[replace(one, outcome=_own(one.outcome)) for one in paired], *added]


def _own(outcome: Outcome) -> Outcome:
    """The outcome for a recipient itself, apart from those that were added for it."""
    changes = outcome.changes
    if not changes or not changes.removed or outcome.action not in _REACHES_SOMEBODY:
        return outcome
    reason = f"removed from the recipients{f': {outcome.reason}' if outcome.reason else ''}"
    return replace(outcome, action=Action.DISCARD, rule=changes.rule, reason=reason)
