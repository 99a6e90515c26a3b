"""Gatepost, a filtering SMTP proxy.

This module exports the public API for filter authors. docs/architecture.md describes the other modules, and
the path of a message through them; docs/words.md explains the terms.

A name is imported when it is first used, so that commands that need none of them start fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatepost.connecting import connect
    from gatepost.dns import Answer, DnsStatus, Resolver
    from gatepost.hookspecs import UnreachableError, hookimpl
    from gatepost.mime import Address, Attachment, Header, MimeView, Text, visible_text
    from gatepost.model.addresses import mailbox_key
    from gatepost.model.edits import AddHeader, ChangeHeader, Edit, PrefixSubject, RemoveHeader, ReplaceBody
    from gatepost.model.envelope_edits import AddRecipient, ChangeSender, EnvelopeEdit, RemoveRecipient
    from gatepost.model.mail import Envelope, Message, Recipient, Session, Stage, Transaction
    from gatepost.model.record import Disposition, EarlyEnd, RecipientRecord, Record, SessionRecord
    from gatepost.model.verdict import (
        Action,
        Evaluation,
        Match,
        Passed,
        PerRecipient,
        Reply,
        ReplyTiming,
        Result,
        Verdict,
        total_score,
    )
    from gatepost.place import Place
    from gatepost.state import Amount, Counted, State
    from gatepost.units import Bytes, Seconds

__all__ = [
    "Action",
    "AddHeader",
    "AddRecipient",
    "Address",
    "Amount",
    "Answer",
    "Attachment",
    "Bytes",
    "ChangeHeader",
    "ChangeSender",
    "Counted",
    "Disposition",
    "DnsStatus",
    "EarlyEnd",
    "Edit",
    "Envelope",
    "EnvelopeEdit",
    "Evaluation",
    "Header",
    "Match",
    "Message",
    "MimeView",
    "Passed",
    "PerRecipient",
    "Place",
    "PrefixSubject",
    "Recipient",
    "RecipientRecord",
    "Record",
    "RemoveHeader",
    "RemoveRecipient",
    "ReplaceBody",
    "Reply",
    "ReplyTiming",
    "Resolver",
    "Result",
    "Seconds",
    "Session",
    "SessionRecord",
    "Stage",
    "State",
    "Text",
    "Transaction",
    "UnreachableError",
    "Verdict",
    "connect",
    "hookimpl",
    "mailbox_key",
    "total_score",
    "visible_text",
]

_NAMES = {
    "gatepost.connecting": "connect",
    "gatepost.dns": "Answer DnsStatus Resolver",
    "gatepost.hookspecs": "UnreachableError hookimpl",
    "gatepost.mime": "Address Attachment Header MimeView Text visible_text",
    "gatepost.model.addresses": "mailbox_key",
    "gatepost.model.edits": "AddHeader ChangeHeader Edit PrefixSubject RemoveHeader ReplaceBody",
    "gatepost.model.envelope_edits": "AddRecipient ChangeSender EnvelopeEdit RemoveRecipient",
    "gatepost.model.mail": "Envelope Message Recipient Session Stage Transaction",
    "gatepost.model.record": "Disposition EarlyEnd RecipientRecord Record SessionRecord",
    "gatepost.model.verdict": "Action Evaluation Match Passed PerRecipient Reply ReplyTiming Result Verdict"
    " total_score",
    "gatepost.place": "Place",
    "gatepost.state": "Amount Counted State",
    "gatepost.units": "Bytes Seconds",
}
"""The names by the modules that they are of."""
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a public name (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
