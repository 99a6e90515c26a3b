"""How a reply is sent, as a value."""

import pytest
from gatepost import Action, Reply, ReplyTiming, Verdict

LATE = ReplyTiming(delay_seconds=2)
SLOW = ReplyTiming(delay_seconds=1, drip_seconds=0.1)
LOST = ReplyTiming(drop=True)


@pytest.mark.parametrize(
    ("timings", "words"),
    [
        ([], "None"),
        ([None], "None"),
        ([None, LATE, None], "after 2 s"),
        ([LATE, SLOW], "after 2 s, one byte every 0.1 s"),
        ([SLOW, LOST], "after 1 s, not sent, connection dropped"),
        ([LOST, LOST], "not sent, connection dropped"),
        ([ReplyTiming()], "at once"),
    ],
)
def test_together_the_longest_times_hold_and_one_drop_is_enough(timings, words):
    assert str(ReplyTiming.joined(timings)) == str(ReplyTiming.joined(reversed(timings))) == words


def test_how_a_reply_is_sent_is_said_to_the_operator_and_is_not_on_the_wire():
    reply = Reply.parse("250 2.0.0 Ok")
    assert reply.with_timing(None) is reply
    lost = reply.with_timing(LOST)
    assert str(lost) == "250 2.0.0 Ok (not sent, connection dropped)"
    assert lost.to_bytes() == reply.to_bytes() == b"250 2.0.0 Ok\r\n"


@pytest.mark.parametrize(
    ("action", "code", "message"),
    [
        (Action.REJECT, 450, "Verdict.reply has the code 450, expected 5xx for reject"),
        (Action.DEFER, 550, "Verdict.reply has the code 550, expected 4xx for defer"),
        (Action.REJECT, 250, "Verdict.reply has the code 250, expected 5xx for reject"),
        (None, 250, "Verdict.reply has the code 250, expected 4xx or 5xx"),
        (Action.TAG, 354, "Verdict.reply has the code 354, expected 4xx or 5xx"),
    ],
)
def test_a_reply_that_could_never_be_sent_is_an_error(action, code, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Verdict(reason="r", action=action, reply=Reply(code=code, text="t"))


@pytest.mark.parametrize(
    ("action", "code"), [(Action.REJECT, 550), (Action.DEFER, 450), (Action.TAG, 450), (None, 450)]
)
def test_a_reply_that_may_be_sent_is_kept(action, code):
    assert Verdict(reason="r", action=action, reply=Reply(code=code, text="t")).reply.code == code
