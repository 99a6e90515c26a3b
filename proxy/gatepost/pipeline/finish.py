"""After all edits: fields that rules put before the finished message, for example a signature of it."""

import re
import time

from gatepost.model.mail import Stage, Transaction
from gatepost.model.verdict import Action, Evaluation, Result, Verdict
from gatepost.pipeline.engine import Pipeline
from gatepost.values import value

__all__ = ["Finished", "checked_fields", "finish"]

_FIELDS_LIMIT = 64 << 10
"""Bytes that one rule may put before a message."""
_FIELD = re.compile(rb"[!-9;-~]{1,76}:(?:[^\x00\r\n]*\r\n[ \t])*[^\x00\r\n]*\r\n")


@value
class Finished:
    """What the rules put before one form of the message."""

    fields: bytes = b""
    """Complete header fields; the last rule's come first."""
    evaluations: tuple[Evaluation, ...] = ()
    """One for each rule that was asked, in that order."""
    failed: Evaluation | None = None
    """Of the first rule that failed, if its ``on_error`` is not skip; no later rule was asked."""


async def finish(
    pipeline: Pipeline, transaction: Transaction, content: bytes, *, deadline: float
) -> Finished:
    """Ask the rules that finish messages about one form of it; ``content`` has all edits. Never raises.

    ``deadline`` is by `time.perf_counter`.
    """
    fields = b""
    evaluations: list[Evaluation] = []
    for asked in pipeline.finishing:
        rule = asked.rule
        if rule.when and not rule.when.holds(
            transaction.session, transaction.envelope, None, transaction.message
        ):
            continue
        added: list[bytes] = []

        def check(answer: object, added: list[bytes] = added) -> Verdict:
            added.append(checked_fields(answer))
            names = ", ".join(_names(added[0]))
            return Verdict(reason=f"puts {names} before the message", action=Action.TAG)

        ((_, evaluation),) = await pipeline.ask(
            asked,
            Stage.MESSAGE,
            {"transaction": transaction, "session": transaction.session, "content": fields + content},
            recipients=(),
            seconds=max(0.001, min(rule.timeout_seconds, deadline - time.perf_counter())),
            transaction_id=transaction.id,
            check=check,
        )
        evaluations.append(evaluation)
        if rule.observe or evaluation.action is None:
            continue
        if evaluation.result is not Result.HIT:
            return Finished(evaluations=tuple(evaluations), failed=evaluation)
        fields = b"".join((*added, fields))
    return Finished(fields=fields, evaluations=tuple(evaluations))


def checked_fields(answer: object) -> bytes:
    """The fields; raises TypeError or ValueError for anything else, which would change the message."""
    if not isinstance(answer, bytes):
        raise TypeError(f"returned {type(answer).__name__}, expected bytes or None")
    if len(answer) > _FIELDS_LIMIT:
        raise ValueError(f"returned {len(answer):,} bytes, expected at most {_FIELDS_LIMIT:,}")
    end = 0
    while found := _FIELD.match(answer, end):
        end = found.end()
    if not answer or end < len(answer):
        raise ValueError(f"returned {answer[end : end + 80]!r}, expected header fields, each line with CRLF")
    return answer


def _names(fields: bytes) -> list[str]:
    return [found[0].partition(b":")[0].decode("ascii") for found in _FIELD.finditer(fields)]
