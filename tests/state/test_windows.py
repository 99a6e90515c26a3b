"""What is counted within a sliding window."""

import math

import pytest
from gatepost.state import Amount
from gatepost.state.windows import SLICES, fitted
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_700_000_000.25


def one(amount=1, seconds=120, limit=10):
    return Amount(key="k", amount=amount, seconds=seconds, limit=limit)


@given(
    events=st.lists(st.tuples(st.floats(0, 100), st.integers(0, 4)), max_size=60),
    seconds=st.sampled_from([1, 7.5, 60, 3600]),
)
def test_never_more_than_the_limit_is_added_within_a_window(events, seconds):
    slices, now, added = {}, NOW, []
    for pause, amount in events:
        now += pause * seconds / 60
        slices, counted = fitted(slices, one(amount, seconds), now)
        if not counted.wait_seconds:
            added.append((now, amount))
        within = sum(amount for when, amount in added if when > now - seconds)
        assert within <= counted.total <= 10
        assert len(slices) <= SLICES + 1


@given(events=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 4)), max_size=60))
def test_after_the_time_to_wait_there_is_room_and_just_before_it_there_is_none(events):
    slices, now = {}, NOW
    for pause, amount in events:
        now += pause
        slices, counted = fitted(slices, one(amount), now)
        if wait := counted.wait_seconds:
            assert wait <= 120 * (SLICES + 1) / SLICES + 0.001
            assert fitted(slices, one(amount), now + wait + 0.001)[1].wait_seconds == 0
            if wait > 0.01:
                assert fitted(slices, one(amount), now + wait - 0.01)[1].wait_seconds > 0


def test_an_amount_above_the_limit_never_has_room():
    assert fitted({}, one(11), NOW)[1].wait_seconds == math.inf


@pytest.mark.parametrize("jump", [-1e6, -86400, -121, 121, 86400, 1e6])
def test_a_clock_that_is_set_locks_nobody_out_for_longer_than_a_window(jump):
    slices, _ = fitted({}, one(10), NOW)
    slices, counted = fitted(slices, one(), NOW + jump)
    assert counted.wait_seconds <= 120 * (SLICES + 1) / SLICES
    if jump < 0:
        assert counted.wait_seconds > 0, "nor does it forget what was counted"


def test_nothing_is_counted_for_less_than_no_time():
    for wrong in ({"amount": -1}, {"seconds": 0}, {"seconds": -1}, {"seconds": math.nan}):
        with pytest.raises(ValueError, match="expected an amount of at least 0"):
            one(**wrong)
