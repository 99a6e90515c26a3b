"""Which of many equal log lines are written."""

from gatepost import throttle
from gatepost.throttle import Throttle


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_the_first_line_is_written_at_once_then_one_a_period_with_the_number_left_out():
    clock = Clock()
    lines = Throttle(60, clock=clock)
    assert lines.admit("a") == 0
    assert [lines.admit("a") for _ in range(3)] == [None] * 3
    clock.now += 59.9
    assert lines.admit("a") is None
    clock.now += 0.1
    assert lines.admit("a") == 4
    assert lines.admit("a") is None


def test_each_trouble_has_its_own_lines():
    lines = Throttle(60, clock=Clock())
    assert [lines.admit(trouble) for trouble in ("a", "b", "a")] == [0, 0, None]


def test_troubles_without_end_take_no_memory_without_end(monkeypatch):
    monkeypatch.setattr(throttle, "_TROUBLES", 3)
    lines = Throttle(60, clock=Clock())
    for number in range(10):
        assert lines.admit(number) == 0
    assert len(lines._troubles) == 3
    assert [lines.admit(number) for number in (9, 8, 7)] == [None] * 3
    assert lines.admit(0) == 0, "it was forgotten"
