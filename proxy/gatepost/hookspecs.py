"""The filter contract: the hooks that a filter class may implement.

A filter implements one or more of the ``filter_*`` hooks and marks each with ``@hookimpl``. It may leave
out arguments. ``async def`` runs on the event loop and must not block; a plain ``def`` runs in a worker
thread. Each returns a `Verdict`, or None for no opinion, or `Passed` to tell the journal why there is no hit.

Each ``filter_*`` hook may also take ``earlier``: the evaluations of the rules that were asked before it about
this session and transaction, each with its score and the recipients that it applies to.

If the rule's ``when`` cannot be decided yet, the hook is called at the first stage at which it can: a
`filter_connect` under ``when: {recipient: ...}`` is called once for each recipient, at RCPT.
"""

from typing import Literal

import pluggy

from gatepost.model.mail import Envelope, Recipient, Session, Transaction
from gatepost.model.record import Record, SessionRecord
from gatepost.model.verdict import Evaluation, Passed, PerRecipient, Verdict

__all__ = ["UnreachableError", "hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("gatepost")
hookimpl = pluggy.HookimplMarker("gatepost")
"""Marks a method of a filter class as the implementation of the hook of the same name."""


class UnreachableError(ConnectionError):
    """A filter raises it if there is no connection to the service that it asks; the text names the address.

    After five times in a row the rule is not asked for 10 seconds, and its ``on_error`` decides at once. A
    filter that is cancelled because its time is over, before it was connected, may raise it too.
    """


@hookspec
def filter_connect(session: Session, earlier: tuple[Evaluation, ...]) -> Verdict | Passed | None:
    """A client has connected; nothing but its address is known."""


@hookspec
def filter_helo(session: Session, earlier: tuple[Evaluation, ...]) -> Verdict | Passed | None:
    """The client has sent EHLO or HELO: ``session.helo`` is set."""


@hookspec
def filter_mail(
    session: Session, envelope: Envelope, earlier: tuple[Evaluation, ...]
) -> Verdict | Passed | None:
    """The client has sent MAIL: the reverse-path and its parameters are known."""


@hookspec
def filter_rcpt(
    session: Session, envelope: Envelope, recipient: Recipient, earlier: tuple[Evaluation, ...]
) -> Verdict | Passed | None:
    """The client has sent RCPT; ``envelope.recipients`` holds those accepted before this one."""


@hookspec
def filter_message(
    transaction: Transaction,
    recipients: tuple[Recipient, ...],
    content: bytes,
    earlier: tuple[Evaluation, ...],
) -> Verdict | PerRecipient | Passed | None:
    """The message is complete; called once, for the recipients that fit ``when`` and are not decided yet.

    A verdict applies to all of ``recipients``; with `PerRecipient` they may have different ones. ``content``
    has the edits of earlier rules, while ``transaction.message`` is as received. A hook that takes it is
    called once for each form of the message that differs by them.
    """


@hookspec
def finish_message(transaction: Transaction, content: bytes) -> bytes | None:
    """The message will leave, or be kept: return header fields to put before it, for example a signature.

    Called after all rules have decided, once for each form of the message. ``content`` has all edits and the
    fields of earlier rules that finish it; only this server's Received field is added later. The answer is
    complete header fields, each line with its CRLF (RFC 5322 section 2.2), at most 64 KiB; None for none. The
    rule's ``when`` may not look at recipients. If it fails, ``on_error`` decides about the message.
    """


@hookspec
def learn_message(
    content: bytes, kind: Literal["spam", "ham"], recipients: tuple[Recipient, ...]
) -> str | None:
    """A person says that a stored message is spam, or that it is not: learn it.

    Called if the rule has ``learn: true``, by ``gatepost learn`` or the web desk, in a process of its own.
    ``content`` is the message as received; "ham" is mail that is not spam. The answer is one line for that
    person if there is something to say, for example ``already learned``; a failure is shown too.
    """


@hookspec
def report_transaction(record: Record) -> None:
    """A transaction has ended and the client has its reply; this hook cannot change the result."""


@hookspec
def report_session(record: SessionRecord) -> None:
    """A session has ended, however it did; this hook cannot change anything.

    A connection on which a trusted source speaks for several clients is one session for each client in turn.
    """
