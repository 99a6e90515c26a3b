"""Values to rows and back; text from mail is made safe for a column here."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from gatepost.mime.words import decode_words
from gatepost.model.mail import Stage
from gatepost.model.record import Disposition, RecipientRecord, Record
from gatepost.model.verdict import Action, Evaluation, Match, Result
from gatepost.printable import storable
from gatepost.store.edits import edits_from_json, edits_to_json
from gatepost.store.kept import Box, Kept, KeptMessage, KeptSummary, Listed, State
from gatepost.store.text import header_fields

__all__ = [
    "RULE_HIT_PATTERN",
    "Fields",
    "Row",
    "hit_pattern",
    "kept_edits_row",
    "kept_message",
    "kept_recipient_rows",
    "kept_row",
    "kept_summary",
    "listed",
    "microseconds",
    "moment",
    "recipient_rows",
    "record",
    "refusal_pattern",
    "rules_hit",
    "transaction_row",
]

Row = tuple[Any, ...]
"""One row for a driver, in the order of the table's columns."""


class Fields(Protocol):
    """One row of a result, by the columns' names."""

    def __getitem__(self, name: str, /) -> Any:
        """The value of a column."""

    def keys(self) -> Iterable[str]:
        """The columns' names."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_encode = json.JSONEncoder(separators=(",", ":")).encode
_quoted = json.encoder.encode_basestring_ascii


def microseconds(when: datetime) -> int:
    """Since 1970, UTC."""
    return (when - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """Of microseconds since 1970; aware, UTC."""
    return _EPOCH + value * _MICROSECOND


def transaction_row(record: Record) -> Row:
    """For the table ``transactions``."""
    row = (
        record.id,
        record.session_id,
        microseconds(record.received_at),
        record.client,
        record.helo,
        record.tls,
        record.authenticated,
        record.mail_from,
        record.size,
        record.message_id,
        record.subject,
        record.reply,
        record.upstream,
        record.upstream_reply,
        record.seconds,
        _evaluations(record.evaluations) if record.evaluations else None,
        record.failed_user,
        record.node,
    )
    user = record.authenticated or record.failed_user or ""
    foreign = (record.helo, user, record.mail_from or "", record.message_id)
    return _storable_row(row, "".join((*foreign, record.subject, record.reply, record.upstream_reply or "")))


def recipient_rows(record: Record) -> list[Row]:
    """For the table ``recipients``."""
    return [
        _storable_row(
            (
                record.id,
                position,
                recipient.address,
                recipient.disposition._value_,  # a subclass of str costs the driver a search
                recipient.action._value_,
                recipient.rule,
                recipient.reason,
                recipient.reply,
            ),
            f"{recipient.address}{recipient.reason}{recipient.reply}",
        )
        for position, recipient in enumerate(record.recipients)
    ]


def _storable_row(row: Row, foreign: str) -> Row:
    """The row with all its text storable; ``foreign`` is its text from outside, looked at as a whole."""
    if foreign.isascii() and "\x00" not in foreign:
        return row
    return tuple([storable(value) if isinstance(value, str) else value for value in row])


def _evaluations(evaluations: tuple[Evaluation, ...]) -> str:
    """JSON in ASCII; ``rule`` and ``result`` are side by side, where `hit_pattern` looks for them."""
    return f"[{','.join([_evaluation_json(evaluation) for evaluation in evaluations])}]"


def _evaluation_json(evaluation: Evaluation) -> str:
    # Formatted by hand: two evaluations take 1 us; with a dict for each and the encoder, 3.6. An enum's
    # `_value_` is its `value` without two Python calls.
    action = f'"{evaluation.action._value_}"' if evaluation.action else "null"
    matches = [(match.where, match.text) for match in evaluation.matches]
    score = f',"score":{evaluation.score:.9g}' if evaluation.score else ""
    return (
        f'{{"rule":{_quoted(evaluation.rule)},"result":"{evaluation.result._value_}"'
        f',"stage":{int(evaluation.stage)},"action":{action}'
        f',"observed":{"true" if evaluation.observed else "false"},"reason":{_quoted(evaluation.reason)}'
        f',"recipients":{_encode(evaluation.recipients) if evaluation.recipients else "[]"}'
        f',"seconds":{evaluation.seconds:.6f},"matches":{_encode(matches) if matches else "[]"}{score}}}'
    )


def hit_pattern(rule: str) -> str:
    """A part of the column ``evaluations`` if that rule hit; quotation marks in texts are escaped there."""
    return _encode({"rule": rule, "result": Result.HIT})[1:-1]


RULE_HIT_PATTERN = r'\{"rule":"([^"]+)","result":"hit"'
"""A regular expression for each rule that hit in the column ``evaluations``."""


def refusal_pattern(rule: str) -> str:
    """A regular expression for ``evaluations`` if that rule was asked last, and its answer refused."""
    refuses = "|".join(action.value for action in Action if action.refuses)
    return (
        rf'\{{"rule":{re.escape(_quoted(rule))},"result":"[a-z]+","stage":[0-9]+,"action":"({refuses})"'
        r',"observed":false,(?!.*\{"rule":")'
    )


def rules_hit(evaluations: str | None) -> list[str]:
    """The rules that hit, also those that were only observed; of the column ``evaluations``."""
    return [found["rule"] for found in json.loads(evaluations or "[]") if found["result"] == Result.HIT]


def record(row: Fields, recipients: Iterable[Fields]) -> Record:
    """From a row of ``transactions`` and its rows of ``recipients``."""
    return Record(
        **{
            **row,
            "received_at": moment(row["received_at"]),
            "evaluations": tuple(_evaluation(found) for found in json.loads(row["evaluations"] or "[]")),
            "recipients": tuple(_recipient(recipient) for recipient in recipients),
        }
    )


def _recipient(row: Fields) -> RecipientRecord:
    return RecipientRecord(
        address=row["address"],
        disposition=Disposition(row["disposition"]),
        action=Action(row["action"]),
        rule=row["rule"],
        reason=row["reason"],
        reply=row["reply"],
    )


def _evaluation(found: dict[str, Any]) -> Evaluation:
    return Evaluation(
        rule=found["rule"],
        stage=Stage(found["stage"]),
        result=Result(found["result"]),
        action=Action(found["action"]) if found["action"] else None,
        observed=found["observed"],
        reason=found["reason"],
        recipients=tuple(found["recipients"]),
        seconds=found["seconds"],
        matches=tuple(Match(where=where, text=text) for where, text in found["matches"]),
        score=found.get("score", 0.0),
    )


def kept_row(kept: Kept, record: Record) -> Row:
    """For the table ``kept``, without its ``number``."""
    prepended, *pieces = kept.pieces
    fields = header_fields(pieces)
    return (
        kept.id,
        kept.box.value,
        State.HELD.value,
        record.id,
        microseconds(record.received_at),
        record.client,
        storable(kept.mail_from),
        kept.rule,
        storable(kept.reason),
        len(prepended) + sum(map(len, pieces)),
        fields[b"subject"],
        fields[b"from"],
        fields[b"message-id"],
        None,
        None,
        "",
        prepended,
        kept.content,
    )


def kept_recipient_rows(kept: Kept) -> Iterable[Row]:
    """For the table ``kept_recipients``."""
    return ((kept.id, position, storable(address)) for position, address in enumerate(kept.recipients))


def kept_edits_row(kept: Kept) -> Row:
    """For the table ``kept_edits``."""
    return (kept.id, edits_to_json(kept.edits))


def _kept_fields(row: Fields, recipients: Iterable[str]) -> dict[str, Any]:
    changed_at = row["changed_at"]
    return {
        **row,
        "box": Box(row["box"]),
        "state": State(row["state"]),
        "created_at": moment(row["created_at"]),
        "recipients": tuple(recipients),
        "changed_at": None if changed_at is None else moment(changed_at),
    }


def kept_summary(row: Fields, recipients: Iterable[str]) -> KeptSummary:
    """From a row of ``kept`` without ``number``, ``prepended`` and ``content``."""
    return KeptSummary(**_kept_fields(row, recipients))


def kept_message(row: Fields, recipients: Iterable[str], rest: bytes) -> KeptMessage:
    """From a row of ``kept`` without ``number``, with its ``edits``, and the rest of its content."""
    edits = edits_from_json(row["edits"] or "[]")
    content = row["content"] + rest if rest else row["content"]
    return KeptMessage(**_kept_fields(row, recipients) | {"edits": edits, "content": content})


def listed(row: Fields, recipients: Iterable[str]) -> Listed:
    """From a row of ``kept`` as for `kept_summary`, with the columns that `Listed` adds.

    Those of the index are NULL while the message is not indexed.
    """
    fields = _kept_fields(row, recipients)
    if fields["shown_subject"] is None:
        fields |= {
            "shown_subject": storable(decode_words(fields["subject"])),
            "shown_from": storable(decode_words(fields["header_from"])),
            "attachments": 0,
            "snippet": "",
        }
    return Listed(**fields)
