"""What the workers count adds up, whoever is killed when."""

import threading
from dataclasses import replace

import pytest
from gatepost.metrics import METRICS, SharedCounters, Tally
from gatepost.model.mail import Stage
from gatepost.model.record import RecipientRecord
from gatepost.model.verdict import Action, Evaluation, Result
from gatepost.testing import make_message, make_record, make_transaction


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


def test_the_words_that_a_filter_counts_are_bounded_for_each_rule():
    tally = Tally()
    for number in range(60):
        tally.filter_counted("one", f"word {number}")
    tally.filter_counted("one", "word 3")
    tally.filter_counted("two", "word 55")
    counted = {key[1:]: value for key, value in tally.samples().items() if key[0] == "filter"}
    assert len(counted) == 52
    assert (counted["one", "word 3"], counted["one", "other"], counted["two", "word 55"]) == (2, 10, 1)


def test_counts_stay_and_what_is_now_goes_when_a_worker_ends():
    counters = SharedCounters(2)
    first, second = counters.take(), counters.take()
    counters.publish(first, {("sessions",): 3, ("sessions_open",): 2})
    counters.publish(second, {("sessions",): 4, ("sessions_open",): 1})
    assert counters.totals().items() >= {("sessions",): 7, ("sessions_open",): 3, ("workers",): 2}.items()
    counters.leave(first)
    counters.count_restart("died")
    assert counters.take() == first, "the next one sits where it sat"
    assert counters.counted(first) == {("sessions",): 3}
    totals = counters.totals()
    assert (totals["sessions",], totals["sessions_open",], totals["workers",]) == (7, 1, 2)
    assert (totals["worker_restarts", "died"], totals["worker_restarts", "replaced"]) == (1, 0)


def test_what_several_workers_find_out_about_one_server_is_the_newest_and_no_sum():
    counters = SharedCounters(3)
    key = ("filter_data_made_seconds", "virus", "clamd:3310")
    slots = [counters.take() for _ in range(3)]
    for slot, samples in zip(slots, ({key: 1_700_000_000.0}, {key: 1_700_086_400.0}, {}), strict=True):
        counters.publish(slot, samples)
    assert counters.totals()[key] == 1_700_086_400.0
    counters.leave(slots[1])
    assert counters.totals()[key] == 1_700_000_000.0
    counters.leave(slots[0])
    assert key not in counters.totals()


def test_the_time_of_data_that_nobody_states_any_more_goes():
    now = [0.0]
    tally = Tally(clock=lambda: now[0])
    tally.data_made("virus", "a:3310", 1_700_000_000.0)
    now[0] += 1800
    tally.data_made("virus", "b:3310", 1_700_000_001.0)
    for number in range(200):
        tally.data_made("other", f"{number}", 1.0)
    found = {key[1:]: value for key, value in tally.samples().items() if key[0] == "filter_data_made_seconds"}
    assert len(found) == 100, "of a filter without end the first ones"
    assert (found["virus", "a:3310"], found["virus", "b:3310"]) == (1_700_000_000.0, 1_700_000_001.0)
    now[0] += 1800
    assert ("filter_data_made_seconds", "virus", "a:3310") not in tally.samples()
    assert ("filter_data_made_seconds", "virus", "b:3310") in tally.samples()


@pytest.mark.parametrize("octets", [range(30), range(4), range(8, 16)])
def test_what_was_only_half_written_is_not_read(octets):
    """A worker may be killed within a write: what it had published before is there."""
    counters = SharedCounters(1)
    slot = counters.take()
    for count in (1, 2):
        counters.publish(slot, {("sessions",): count})
    latest = max(range(2), key=lambda half: counters._halves(slot)[half][0])
    for at in octets:
        counters._memory[counters._at(slot, latest) + at] ^= 0xFF
    assert counters.totals()["sessions",] == 1
    counters.publish(slot, {("sessions",): 3})
    assert counters.totals()["sessions",] == 3


def test_a_reader_beside_a_writer_sees_whole_numbers_that_grow():
    counters = SharedCounters(1)
    slot = counters.take()
    ended = threading.Event()

    def write():
        count = 0
        while not ended.wait(0.001):
            count += 1
            counters.publish(
                slot, {("sessions",): count, ("message_bytes",): count, ("messages", "x" * 999): count}
            )

    writer = threading.Thread(target=write)
    writer.start()
    last = 0
    try:
        for _ in range(5000):
            read = counters.counted(slot)
            assert len({*read.values()}) <= 1
            last, before = read.get(("sessions",), 0), last
            assert last >= before
    finally:
        ended.set()
        writer.join()
    assert last


def test_too_many_labels_leave_the_rest(caplog):
    counters = SharedCounters(1)
    many = {("rule_evaluations", f"rule-{number}", "pass"): 1.0 for number in range(20_000)}
    counters.publish(counters.take(), {("sessions",): 5, **many})
    assert counters.totals()["sessions",] == 5
    assert "too many metrics" in caplog.text


def test_the_desk_counts_on_where_its_predecessor_ended():
    counters = SharedCounters(1)
    assert counters.desks() == {}
    counters.publish_supervisors({("certificate_not_after_seconds", "a.pem"): 7})
    counters.publish_desks({("webhook_delivered",): 2, ("webhook_backlog",): 1})
    assert counters.totals()["webhook_delivered",] == 2
    assert counters.totals()["certificate_not_after_seconds", "a.pem"] == 7
    assert (counters.workers, counters.take(), counters.workers) == (0, 0, 1)


def test_that_all_end_is_seen_by_all():
    counters = SharedCounters(3)
    counters.publish_supervisors({})
    counters.publish_desks({})
    assert not counters.stopping
    counters.stop()
    assert counters.stopping


def test_all_that_is_counted_is_described():
    names = {metric.name for metric in METRICS}
    assert {key[0] for key in Tally().samples()} < names
    assert {key[0] for key in SharedCounters(1).totals()} < names
