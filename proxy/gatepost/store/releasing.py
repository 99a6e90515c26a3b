"""One release of a stored message at a time, in all threads and processes."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from gatepost.model.verdict import Reply
from gatepost.store.contract import Archive
from gatepost.store.errors import StoreError, StoreFull, StoreUnavailable
from gatepost.store.kept import CLAIM_TIME, Claim, KeptSummary

__all__ = ["release_once"]

_log = logging.getLogger(__name__)

_NOTE_SECONDS = 30.0
"""How long to try to note that a message was sent while the store is not available; a failover takes less."""
_AGAIN_SECONDS = 0.5
_RENEW_SECONDS = CLAIM_TIME.total_seconds() / 4


def release_once(
    archive: Archive,
    message: KeptSummary,
    deliver: Callable[[], Reply],
    *,
    to: Sequence[str],
    actor: str,
) -> Reply:
    """Deliver a kept message under a claim, and note that it was released; blocks.

    Args:
        archive: of the store that has the message.
        message: as it was read when the decision to release it was made.
        deliver: sends it; a negative reply or an `Exception`: it was not sent. If it is interrupted, that is
            not known: nobody can release the message before the claim has expired.
        to: the recipients.
        actor: the person or program that releases it.

    Returns:
        The reply to the delivery; the message is marked as released if it is positive.

    Raises:
        ConflictError: the message has changed since it was read, or another release is under way; nothing
            was sent.
        StoreError: the store failed before the delivery, or it failed after it for so long that the log names
            the message.
    """
    claim = archive.claim_release(message, actor=actor)
    with _renewed(archive, claim):
        try:
            reply = deliver()
        except Exception:
            _abandon(archive, claim)
            raise
        if reply.positive:
            _note(archive, claim, to=to, reply=reply)
        else:
            _abandon(archive, claim)
    return reply


def _note(archive: Archive, claim: Claim, *, to: Sequence[str], reply: Reply) -> None:
    """Note that a message was sent; while the claim lasts nobody sends it again."""
    until = time.monotonic() + _NOTE_SECONDS
    while True:
        try:
            archive.finish_release(claim, to=to, reply=reply)
        except StoreError as error:
            if not isinstance(error, StoreFull | StoreUnavailable) or time.monotonic() >= until:
                _log.error(
                    "the message %s was released to %s, and the store did not note that: %s;"
                    " do not release it again",
                    claim.kept_id,
                    ", ".join(to),
                    error,
                )
                raise
            time.sleep(_AGAIN_SECONDS)
        else:
            return


@contextlib.contextmanager
def _renewed(archive: Archive, claim: Claim) -> Iterator[None]:
    """Renew the claim while the block lasts: how long a server takes is not known beforehand."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEW_SECONDS):
            with contextlib.suppress(StoreError):
                archive.renew_release(claim)

    thread = threading.Thread(target=renew, name="release-claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _abandon(archive: Archive, claim: Claim) -> None:
    with contextlib.suppress(StoreError):  # then it ends when it expires
        archive.abandon_release(claim)
