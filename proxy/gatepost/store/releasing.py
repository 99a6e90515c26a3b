"""One release of a stored message at a time, in all threads and processes."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from gatepost.model.verdict import Reply
from gatepost.store.contract import Archive
from gatepost.store.errors import StoreError
from gatepost.store.kept import CLAIM_TIME, Claim, KeptSummary

__all__ = ["release_once"]

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
        deliver: sends it; a negative reply or an exception: it was not sent.
        to: the recipients.
        actor: the person or program that releases it.

    Returns:
        The reply to the delivery; the message is marked as released if it is positive.

    Raises:
        ConflictError: the message has changed since it was read, or another release is under way; nothing
            was sent.
        StoreError: the store failed before or after the delivery.
    """
    claim = archive.claim_release(message, actor=actor)
    try:
        with _renewed(archive, claim):
            reply = deliver()
    except BaseException:
        _abandon(archive, claim)
        raise
    if reply.positive:
        archive.finish_release(claim, to=to, reply=reply)
    else:
        _abandon(archive, claim)
    return reply


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
