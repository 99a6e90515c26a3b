"""Edits of the envelope in a filter's answer: which there are, and whether they can be carried out."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from gatepost.model.edits import Edit
from gatepost.model.envelope_edits import ENVELOPE_EDITS, EnvelopeEdit
from gatepost.model.mail import Recipient, Transaction
from gatepost.model.verdict import Evaluation, PerRecipient, Verdict
from gatepost.pipeline.ask import FilterAnswer

__all__ = ["CanCarryOut", "anything", "edits_of", "split", "too_early", "with_changes"]

CanCarryOut = Callable[[Transaction, Recipient, tuple[EnvelopeEdit, ...]], str]
"""Says why changes of the envelope, asked for with this recipient, cannot be carried out; or nothing."""


def anything(_: Transaction, __: Recipient, ___: tuple[EnvelopeEdit, ...]) -> str:
    """Where nothing is carried out: there is no fault."""
    return ""


def edits_of(answer: FilterAnswer) -> tuple[EnvelopeEdit, ...]:
    """All that an answer wants to change in the envelope, nearly always nothing."""
    if isinstance(answer, Verdict):
        return tuple(split(answer.edits)[1]) if answer.edits else ()
    if isinstance(answer, PerRecipient):
        return tuple(edit for one in answer.verdicts.values() if one for edit in split(one.edits)[1])
    return ()


def split(edits: Iterable[Edit | EnvelopeEdit]) -> tuple[list[Edit], list[EnvelopeEdit]]:
    """The edits of the message, and those of its envelope."""
    of_message: list[Edit] = []
    of_envelope: list[EnvelopeEdit] = []
    for edit in edits:
        if isinstance(edit, ENVELOPE_EDITS):
            of_envelope.append(edit)
        else:
            of_message.append(edit)
    return of_message, of_envelope


def too_early(answer: FilterAnswer) -> str:
    """Why an answer before the message cannot be carried out; empty if it can."""
    edits = edits_of(answer)
    return (
        f"returned {type(edits[0]).__name__} before the message, expected it of filter_message"
        if edits
        else ""
    )


def with_changes(evaluation: Evaluation, verdict: Verdict) -> Evaluation:
    """The evaluation of a hit, which tells the journal what it changes in the envelope."""
    changes = ", ".join(map(str, edits_of(verdict)))
    if not changes:
        return evaluation
    reason = Verdict(reason=f"{evaluation.reason}; {changes}").reason  # cut where it is too long
    return replace(evaluation, reason=reason)
