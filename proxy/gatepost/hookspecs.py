"""The filter contract: the hooks that a filter class may implement.

A filter implements one or more of the ``filter_*`` hooks and marks each with ``@hookimpl``. It may
ask for fewer arguments than a hook offers. ``async def`` runs on the event loop and must not block;
a plain ``def`` runs in a worker thread. Each returns a `Verdict`, or None for no opinion.

A hook whose rule has a ``when`` that cannot be decided yet is asked as soon as it can: a
`filter_connect` under ``when: {recipient: ...}`` is asked once for each recipient, at RCPT.
"""

import pluggy

from gatepost.mail import Envelope, Recipient, Session, Transaction
from gatepost.record import Record
from gatepost.verdict import Verdict

__all__ = ["hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("gatepost")
hookimpl = pluggy.HookimplMarker("gatepost")
"""Marks a method of a filter class as the implementation of the hook of the same name."""


@hookspec
def filter_connect(session: Session) -> Verdict | None:
    """A client has connected; nothing but its address is known."""


@hookspec
def filter_helo(session: Session) -> Verdict | None:
    """The client has sent EHLO or HELO: ``session.helo`` is set."""


@hookspec
def filter_mail(session: Session, envelope: Envelope) -> Verdict | None:
    """The client has sent MAIL: the reverse-path and its parameters are known."""


@hookspec
def filter_rcpt(session: Session, envelope: Envelope, recipient: Recipient) -> Verdict | None:
    """The client has sent RCPT; ``envelope.recipients`` holds those accepted before this one."""


@hookspec
def filter_message(transaction: Transaction) -> Verdict | None:
    """The whole message is here; asked once, the verdict holds for all recipients in ``when``."""


@hookspec
def report_transaction(record: Record) -> None:
    """A transaction has ended and the client has its reply; whatever this does changes nothing."""
