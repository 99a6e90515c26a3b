"""Values to rows and back; whatever came from mail is made safe for a text column here."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from gatepost.mail import Message, Stage
from gatepost.mime.words import decode_words
from gatepost.record import Disposition, RecipientRecord, Record
from gatepost.store.kept import Box, Kept, KeptMessage, KeptSummary, Listed, State
from gatepost.verdict import Action, Evaluation, Match, Result

__all__ = [
    "hit_pattern",
    "kept_message",
    "kept_recipient_rows",
    "kept_row",
    "kept_summary",
    "listed",
    "microseconds",
    "moment",
    "recipient_rows",
    "record",
    "rules_hit",
    "storable",
    "transaction_row",
]

Row = tuple[Any, ...]
"""One row for a driver, in the order of the table's columns."""


class Fields(Protocol):
    """One row of a result, by the columns' names."""

    def __getitem__(self, name: str, /) -> Any: ...
    def keys(self) -> Iterable[str]: ...


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_FIELD = re.compile(
    rb"^(from|subject|message-id)[ \t]*:([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)", re.IGNORECASE | re.MULTILINE
)
_FOLD = re.compile(rb"\r?\n[ \t]+")
_HEADER_LIMIT = 128 << 10
"""Octets of a message in which its header section is looked for."""
_VALUE_LIMIT = 200
"""Characters of a header field's value that are kept for lists."""

_encode = json.JSONEncoder(separators=(",", ":")).encode
_quoted = json.encoder.encode_basestring_ascii


def storable(text: str) -> str:
    """The text with U+FFFD for what no database takes: NUL and lone surrogates."""
    return text if text.isascii() and "\x00" not in text else _UNSTORABLE.sub("\ufffd", text)


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
    )
    said = (record.helo, record.authenticated or "", record.mail_from or "", record.message_id)
    return _storable_row(row, "".join((*said, record.subject, record.reply, record.upstream_reply or "")))


def recipient_rows(record: Record) -> list[Row]:
    """For the table ``recipients``."""
    return [
        _storable_row(
            (
                record.id,
                position,
                recipient.address,
                recipient.disposition.value,  # the driver looks long for what a subclass of str is
                recipient.action.value,
                recipient.rule,
                recipient.reason,
                recipient.reply,
            ),
            f"{recipient.address}{recipient.reason}{recipient.reply}",
        )
        for position, recipient in enumerate(record.recipients)
    ]


def _storable_row(row: Row, said: str) -> Row:
    """The row with all its text storable; ``said`` is what of it others have said: one look for all of it."""
    if said.isascii() and "\x00" not in said:
        return row
    return tuple([storable(value) if isinstance(value, str) else value for value in row])


def _evaluations(evaluations: tuple[Evaluation, ...]) -> str:
    """JSON in ASCII; ``rule`` and ``result`` stand side by side, `hit_pattern` looks for them."""
    return f"[{','.join([_evaluation_json(evaluation) for evaluation in evaluations])}]"


def _evaluation_json(evaluation: Evaluation) -> str:
    # Put together by hand: two evaluations take 1.4 us, with a dict for each and the encoder 3.6.
    action = f'"{evaluation.action.value}"' if evaluation.action else "null"
    matches = [(match.where, match.text) for match in evaluation.matches]
    return (
        f'{{"rule":{_quoted(evaluation.rule)},"result":"{evaluation.result.value}"'
        f',"stage":{int(evaluation.stage)},"action":{action}'
        f',"observed":{"true" if evaluation.observed else "false"},"reason":{_quoted(evaluation.reason)}'
        f',"recipients":{_encode(evaluation.recipients) if evaluation.recipients else "[]"}'
        f',"seconds":{evaluation.seconds:.6f},"matches":{_encode(matches) if matches else "[]"}}}'
    )


def hit_pattern(rule: str) -> str:
    """What the column ``evaluations`` holds if that rule hit; quotes inside of texts are escaped there."""
    return _encode({"rule": rule, "result": Result.HIT})[1:-1]


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
    )


def kept_row(kept: Kept, record: Record) -> Row:
    """For the table ``kept``, without its ``number``."""
    fields = _header_fields(kept.content)
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
        len(kept.prepended) + len(kept.content),
        fields.get(b"subject", ""),
        fields.get(b"from", ""),
        fields.get(b"message-id", ""),
        None,
        None,
        "",
        kept.prepended,
        kept.content,
    )


def kept_recipient_rows(kept: Kept) -> Iterable[Row]:
    """For the table ``kept_recipients``."""
    return ((kept.id, position, storable(address)) for position, address in enumerate(kept.recipients))


def _header_fields(content: bytes) -> dict[bytes, str]:
    """The first From, Subject and Message-ID, for lists; what the message means is not decided here."""
    fields: dict[bytes, str] = {}
    for found in _FIELD.finditer(Message(content=content[:_HEADER_LIMIT]).header_section):
        value = _FOLD.sub(b" ", found[2]).strip().decode("utf-8", "replace")
        fields.setdefault(found[1].lower(), storable(value[:_VALUE_LIMIT]))
    return fields


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
    """From a row of ``kept`` without ``number`` and octets."""
    return KeptSummary(**_kept_fields(row, recipients))


def kept_message(row: Fields, recipients: Iterable[str]) -> KeptMessage:
    """From a row of ``kept`` without ``number``."""
    return KeptMessage(**_kept_fields(row, recipients))


def listed(row: Fields, recipients: Iterable[str]) -> Listed:
    """From a row of ``kept`` without ``number`` and octets, with the columns that `Listed` adds.

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
