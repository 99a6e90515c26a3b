"""Answers of filters as plain JSON, for filters in a process of their own.

What comes from such a process is not trusted: values are made anew from text and numbers, and check
themselves. Nothing is unpickled.
"""

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

from gatepost.model.edits import EDITS
from gatepost.model.envelope_edits import ENVELOPE_EDITS
from gatepost.model.verdict import Action, Match, Passed, PerRecipient, Reply, ReplyTiming, Verdict

__all__ = ["from_plain", "to_plain"]

_CLASSES: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Verdict, PerRecipient, Passed, Reply, ReplyTiming, Match, *EDITS, *ENVELOPE_EDITS)
}
_KIND, _BYTES = "is", "base64"


def to_plain(answer: Any) -> Any:
    """The answer of a hook as JSON has it; raises TypeError for what no filter may answer."""
    if answer is None or isinstance(answer, bool | int | float | str):
        return answer if answer is None or type(answer) in (bool, int, float) else str(answer)
    if isinstance(answer, bytes):
        return {_KIND: _BYTES, "data": base64.b64encode(answer).decode("ascii")}
    if isinstance(answer, tuple):
        return [to_plain(one) for one in answer]
    if isinstance(answer, PerRecipient):
        verdicts = {address: to_plain(one) for address, one in answer.verdicts.items()}
        return {_KIND: "PerRecipient", "verdicts": verdicts}
    kind = type(answer).__name__
    if _CLASSES.get(kind) is not type(answer):
        raise TypeError(f"returned {kind}, expected Verdict or None")
    given = {one.name: to_plain(getattr(answer, one.name)) for one in dataclasses.fields(answer) if one.init}
    return {_KIND: kind, **given}


def from_plain(data: Any) -> Any:
    """What `to_plain` was given; raises TypeError, ValueError or KeyError for anything else."""
    if data is None or isinstance(data, bool | int | float | str):
        return data
    if isinstance(data, list):
        return tuple([from_plain(one) for one in data])
    fields = dict(data)
    kind = fields.pop(_KIND)
    if kind == _BYTES:
        return base64.b64decode(fields["data"], validate=True)
    if kind == "PerRecipient":
        return PerRecipient(
            verdicts={address: from_plain(one) for address, one in fields["verdicts"].items()}
        )
    given = {name: from_plain(one) for name, one in fields.items()}
    if kind == "Verdict" and given["action"] is not None:
        given["action"] = Action(given["action"])
    return _CLASSES[kind](**given)
