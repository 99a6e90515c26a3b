"""How a reply is sent, as a value."""

from math import inf, nan

import pytest
from gatepost import Reply, Sending


@pytest.mark.parametrize("seconds", [-1, inf, nan])
@pytest.mark.parametrize("field", ["delay_seconds", "drip_seconds"])
def test_a_time_that_cannot_be_waited_cannot_be_built(field, seconds):
    with pytest.raises(ValueError, match="not negative"):
        Sending(**{field: seconds})


LATE, SLOW, LOST = Sending(delay_seconds=2), Sending(delay_seconds=1, drip_seconds=0.1), Sending(drop=True)


@pytest.mark.parametrize(
    ("sendings", "words"),
    [
        ([], "None"),
        ([None], "None"),
        ([None, LATE, None], "after 2 s"),
        ([LATE, SLOW], "after 2 s, an octet each 0.1 s"),
        ([SLOW, LOST], "after 1 s, not sent, connection dropped"),
        ([LOST, LOST], "not sent, connection dropped"),
        ([Sending()], "at once"),
    ],
)
def test_together_the_longest_times_hold_and_one_drop_is_enough(sendings, words):
    assert str(Sending.joined(sendings)) == str(Sending.joined(reversed(sendings))) == words


def test_how_a_reply_is_sent_is_said_to_the_operator_and_is_not_on_the_wire():
    reply = Reply.parse("250 2.0.0 Ok")
    assert reply.sent(None) is reply
    lost = reply.sent(LOST)
    assert str(lost) == "250 2.0.0 Ok (not sent, connection dropped)"
    assert lost.to_bytes() == reply.to_bytes() == b"250 2.0.0 Ok\r\n"
