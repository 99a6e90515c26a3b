"""What the workers count adds up, whoever is killed when."""

import threading
from dataclasses import replace

import pytest
from gatepost.mail import Stage
from gatepost.metrics import METRICS, Board, Tally
from gatepost.record import RecipientRecord
from gatepost.testing import make_message, make_record, make_transaction
from gatepost.verdict import Action, Evaluation, Result


def record(*dispositions, **changes):
    recipients = tuple(
        RecipientRecord(address="bob@example.com", disposition=end, action=Action.ACCEPT)
        for end in dispositions
    )
    transaction = make_transaction(make_message(subject="hello"))
    return replace(make_record(transaction), recipients=recipients, **changes)


@pytest.mark.parametrize(
    ("ended", "counted"),
    [
        (record("relayed", size=10, seconds=0.003), {"messages relayed", "transaction_seconds 0.005"}),
        (
            record("relayed", "relayed", size=10, seconds=99.0),
            {"messages relayed", "transaction_seconds +Inf"},
        ),
        (record("inbox", "quarantined", size=10), {"messages inbox", "messages quarantined"}),
        (record(size=10, reply="550 no"), {"messages refused"}),
        (record(size=10, reply="451 later"), {"messages deferred"}),
        (record(size=10, reply=""), {"messages abandoned"}),
    ],
)
def test_a_transaction_counts_under_what_became_of_it(ended, counted):
    tally = Tally()
    tally.ended(replace(ended, seconds=ended.seconds if "seconds" in str(counted) else 0.0))
    found = {" ".join(key) for key, value in tally.samples().items() if value == 1}
    assert found == counted
    assert tally.samples()["message_bytes",] == 10


def test_each_answer_of_a_rule_counts():
    tally = Tally()
    for result in (Result.HIT, Result.PASS, Result.PASS):
        tally.evaluated(
            Evaluation(
                rule="words",
                stage=Stage.MESSAGE,
                result=result,
                action=None,
                observed=False,
                reason="",
                recipients=(),
                seconds=0.25,
            )
        )
    samples = tally.samples()
    assert samples["rule_evaluations", "words", "pass"] == 2
    assert samples["rule_evaluations", "words", "hit"] == 1
    assert samples["rule_seconds", "words"] == 0.75


def test_counts_stay_and_what_is_now_goes_when_a_worker_ends():
    board = Board(2)
    first, second = board.take(), board.take()
    board.publish(first, {("sessions",): 3, ("sessions_open",): 2})
    board.publish(second, {("sessions",): 4, ("sessions_open",): 1})
    assert board.totals().items() >= {("sessions",): 7, ("sessions_open",): 3, ("workers",): 2}.items()
    board.leave(first)
    board.count_restart("died")
    assert board.take() == first, "the next one sits where it sat"
    assert board.counted(first) == {("sessions",): 3}
    totals = board.totals()
    assert (totals["sessions",], totals["sessions_open",], totals["workers",]) == (7, 1, 2)
    assert (totals["worker_restarts", "died"], totals["worker_restarts", "replaced"]) == (1, 0)


@pytest.mark.parametrize("octets", [range(30), range(4), range(8, 16)])
def test_what_was_only_half_written_is_not_read(octets):
    """A worker may be killed within a write: what it had published before is there."""
    board = Board(1)
    seat = board.take()
    for count in (1, 2):
        board.publish(seat, {("sessions",): count})
    latest = max(range(2), key=lambda half: board._halves(seat)[half][0])
    for at in octets:
        board._memory[board._at(seat, latest) + at] ^= 0xFF
    assert board.totals()["sessions",] == 1
    board.publish(seat, {("sessions",): 3})
    assert board.totals()["sessions",] == 3


def test_a_reader_beside_a_writer_sees_whole_numbers_that_grow():
    board = Board(1)
    seat = board.take()
    ended = threading.Event()

    def write():
        count = 0
        while not ended.wait(0.001):
            count += 1
            board.publish(
                seat, {("sessions",): count, ("message_bytes",): count, ("messages", "x" * 999): count}
            )

    writer = threading.Thread(target=write)
    writer.start()
    last = 0
    try:
        for _ in range(5000):
            read = board.counted(seat)
            assert len({*read.values()}) <= 1
            last, before = read.get(("sessions",), 0), last
            assert last >= before
    finally:
        ended.set()
        writer.join()
    assert last


def test_too_many_labels_leave_the_rest(caplog):
    board = Board(1)
    many = {("rule_evaluations", f"rule-{number}", "pass"): 1.0 for number in range(20_000)}
    board.publish(board.take(), {("sessions",): 5, **many})
    assert board.totals()["sessions",] == 5
    assert "too many metrics" in caplog.text


def test_all_that_is_counted_is_described():
    names = {metric.name for metric in METRICS}
    assert {key[0] for key in Tally().samples()} < names
    assert {key[0] for key in Board(1).totals()} < names
