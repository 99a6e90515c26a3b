"""Releasing a message: of all desks and commands one sends it on, and no crash loses or blocks it."""

import contextlib
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from gatepost.model.verdict import Reply
from gatepost.store import ConflictError, State, StoreFull, StoreUnavailable, claims, release_once, releasing
from gatepost.store.query import parse_query

TAKEN = Reply(code=250, enhanced="2.0.0", text="Ok: queued")
REFUSED = Reply(code=550, enhanced="5.1.1", text="No such user")
TO = ("dave@example.org",)


@pytest.fixture
async def held(store, make_record, make_kept):
    """The id of a message in quarantine."""
    kept = make_kept()
    await store.commit(make_record(), (kept,))
    return kept.id


@pytest.fixture
def desks(store, backend, settings, tmp_path):
    """Two that have the store open, as two processes do."""
    with (
        backend.open_archive(settings, tmp_path) as first,
        backend.open_archive(settings, tmp_path) as second,
    ):
        yield first, second


async def test_of_many_who_release_at_once_one_delivers(held, desks):
    seen = desks[0].kept_message(held)
    together = threading.Barrier(16)
    sent = []

    def try_it(number):
        together.wait()
        try:
            return release_once(
                desks[number % 2], seen, lambda: sent.append(number) or TAKEN, to=TO, actor=f"actor {number}"
            )
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(try_it, range(16)))
    assert len(sent) == 1
    assert [type(answer) for answer in answers].count(ConflictError) == 15
    released = desks[0].kept_message(held)
    assert (released.state, released.changed_by) == (State.RELEASED, f"actor {sent[0]}")
    assert released.note == "dave@example.org: 250 2.0.0 Ok: queued"


async def test_the_loser_is_told_who_releases_and_until_when_that_holds(held, desks):
    first, second = desks
    seen = first.kept_message(held)
    claim = first.claim_release(seen, actor="ann")
    until = f"{claim.expires_at.astimezone():%H:%M:%S}"
    told = f"ann has been releasing the message {held} since .*released after {until}"
    with pytest.raises(ConflictError, match=told):
        second.claim_release(seen, actor="bob")


async def test_a_message_that_was_released_since_it_was_read_is_not_released_again(held, desks):
    first, second = desks
    seen = second.kept_message(held)
    release_once(first, seen, lambda: TAKEN, to=TO, actor="ann")
    with pytest.raises(ConflictError, match="was released by ann meanwhile"):
        release_once(second, seen, pytest.fail, to=TO, actor="bob")
    again = second.kept_message(held)
    assert release_once(second, again, lambda: TAKEN, to=TO, actor="bob") == TAKEN
    with pytest.raises(ConflictError, match="released by bob meanwhile"):
        release_once(first, again, pytest.fail, to=TO, actor="ann")


async def test_a_message_is_not_deleted_while_it_is_released(held, desks, backend, settings, tmp_path):
    first, second = desks
    claim = first.claim_release(first.kept_message(held), actor="ann")
    assert second.delete([held], actor="bob") == []
    with backend.open_mailbox(settings, tmp_path) as mailbox:
        assert mailbox.delete([held], actor="bob") == []
        assert mailbox.remove(held, actor="bob") is None
        assert mailbox.delete_matching(parse_query("is:quarantined"), actor="bob") == 0
        assert first.kept_message(held).state is State.HELD
        first.abandon_release(claim)
        assert mailbox.remove(held, actor="bob").message.id == held
    with pytest.raises(ConflictError, match="was deleted by bob"):
        first.claim_release(first.kept_message(held), actor="ann")


async def test_a_message_can_be_deleted_when_the_claim_of_a_crash_has_expired(held, desks, monkeypatch):
    first, second = desks
    monkeypatch.setattr(claims, "CLAIM_TIME", timedelta(0))
    first.claim_release(first.kept_message(held), actor="ann")
    assert second.delete([held], actor="bob") == [held]


async def test_a_message_that_is_gone_is_not_released(held, desks, store):
    seen = desks[0].kept_message(held)
    await store.withdraw([held])
    with pytest.raises(ConflictError, match="not in the store any more"):
        release_once(desks[0], seen, pytest.fail, to=TO, actor="ann")


def fail():
    raise StoreUnavailable("on purpose")


def fail_full():
    raise StoreFull("on purpose")


@pytest.mark.parametrize("deliver", [lambda: REFUSED, fail], ids=["refused", "failed"])
async def test_a_message_that_was_not_sent_stays_held_and_can_be_released_at_once(held, desks, deliver):
    first, second = desks
    seen = first.kept_message(held)
    with contextlib.suppress(StoreUnavailable):
        assert release_once(first, seen, deliver, to=TO, actor="ann") == REFUSED
    assert second.kept_message(held) == seen
    assert release_once(second, seen, lambda: TAKEN, to=TO, actor="bob") == TAKEN


async def test_a_message_whose_release_was_interrupted_is_not_released_at_once(held, desks):
    def interrupt():
        raise KeyboardInterrupt

    first, second = desks
    with pytest.raises(KeyboardInterrupt):
        release_once(first, first.kept_message(held), interrupt, to=TO, actor="ann")
    with pytest.raises(ConflictError, match=r"ann has been releasing .* if that was interrupted"):
        release_once(second, second.kept_message(held), pytest.fail, to=TO, actor="bob")


async def test_what_was_sent_is_noted_when_the_store_is_back(held, desks, monkeypatch):
    first, second = desks
    monkeypatch.setattr(releasing, "_AGAIN_SECONDS", 0.001)
    outages = iter([fail, fail_full])
    finish = type(first).finish_release
    monkeypatch.setattr(
        type(first),
        "finish_release",
        lambda *given, **named: next(outages, lambda: finish(*given, **named))(),
    )
    seen = first.kept_message(held)
    assert release_once(first, seen, lambda: TAKEN, to=TO, actor="ann") == TAKEN
    assert second.kept_message(held).state is State.RELEASED


async def test_what_was_sent_and_could_not_be_noted_is_named_and_not_released_at_once(
    held, desks, monkeypatch, caplog
):
    first, second = desks
    monkeypatch.setattr(releasing, "_NOTE_SECONDS", 0.0)
    monkeypatch.setattr(type(first), "finish_release", lambda *_, **__: fail())
    seen = first.kept_message(held)
    with pytest.raises(StoreUnavailable):
        release_once(first, seen, lambda: TAKEN, to=TO, actor="ann")
    assert (
        f"the message {held} was released to dave@example.org, and the store did not note that" in caplog.text
    )
    with pytest.raises(ConflictError, match="ann has been releasing"):
        release_once(second, seen, pytest.fail, to=TO, actor="bob")


async def test_a_claim_that_cannot_be_ended_hides_no_reply(held, desks, monkeypatch):
    first, _ = desks
    monkeypatch.setattr(type(first), "abandon_release", lambda *_: fail())
    assert release_once(first, first.kept_message(held), lambda: REFUSED, to=TO, actor="ann") == REFUSED


async def test_a_claim_is_renewed_as_long_as_the_delivery_takes(held, desks, monkeypatch):
    first, _ = desks
    monkeypatch.setattr(releasing, "_RENEW_SECONDS", 0.001)
    renewals = Counter()
    often = threading.Event()

    def renew(archive, claim):
        renewals[claim.actor] += 1
        if renewals[claim.actor] > 1:
            often.set()
        raise StoreUnavailable("on purpose: the next renewal may succeed")

    monkeypatch.setattr(type(first), "renew_release", renew)

    def deliver():
        assert often.wait(30)
        return TAKEN

    assert release_once(first, first.kept_message(held), deliver, to=TO, actor="ann") == TAKEN
    assert set(renewals) == {"ann"}
    assert not [thread for thread in threading.enumerate() if thread.name == "release-claim"]


async def test_a_renewed_claim_holds_longer(held, desks, monkeypatch):
    first, second = desks
    seen = first.kept_message(held)
    monkeypatch.setattr(claims, "CLAIM_TIME", timedelta(0))
    claim = first.claim_release(seen, actor="ann")
    monkeypatch.setattr(claims, "CLAIM_TIME", timedelta(minutes=2))
    first.renew_release(claim)
    with pytest.raises(ConflictError, match="ann has been releasing"):
        second.claim_release(seen, actor="bob")


async def test_a_crash_while_the_clock_was_ahead_does_not_block_a_release(held, desks, monkeypatch):
    first, second = desks
    seen = first.kept_message(held)
    monkeypatch.setattr(claims, "CLAIM_TIME", timedelta(days=400))
    first.claim_release(seen, actor="ann")
    monkeypatch.setattr(claims, "CLAIM_TIME", timedelta(minutes=2))
    second.claim_release(seen, actor="bob")
    with pytest.raises(ConflictError, match="bob has been releasing"):
        first.claim_release(seen, actor="carol")


async def test_a_release_whose_claim_expired_is_noted_and_ends_no_claim_but_its_own(held, desks, monkeypatch):
    first, second = desks
    seen = first.kept_message(held)
    monkeypatch.setattr(claims, "CLAIM_TIME", timedelta(0))
    old = first.claim_release(seen, actor="ann")
    monkeypatch.setattr(claims, "CLAIM_TIME", timedelta(minutes=2))
    new = second.claim_release(seen, actor="bob")
    first.renew_release(old)
    assert first.finish_release(old, to=TO, reply=TAKEN)
    noted = first.kept_message(held)
    assert (noted.state, noted.changed_by) == (State.RELEASED, "ann")
    with pytest.raises(ConflictError, match="bob has been releasing"):
        first.claim_release(noted, actor="carol")
    second.abandon_release(new)
    first.claim_release(noted, actor="carol")
