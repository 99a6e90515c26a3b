"""The events of one transaction, cut out of a conversation."""

from datetime import UTC, datetime

import pytest
from gatepost.store import Conversation, of_transaction
from gatepost.traffic.events import event_of

NOW = datetime.now(UTC)


BEGIN = "C EHLO x|S 250 x|C MAIL FROM:<a@b>|* transaction one|S 250 ok|"


@pytest.mark.parametrize(
    ("rest", "count"),
    [
        ("C RCPT TO:<c@d>|S 250 ok|C DATA|S 354 go|D text|S 250 ok|C QUIT|S 221 bye|* closed", 6),
        ("C DATA|S 503 no|C NOOP|S 250 ok|C BDAT 1|D t|S 250 ok|C BDAT 0 LAST|S 250 ok|C NOOP|S 250 ok", 9),
        ("C DATA|S 354 go|D text|S 250 ok|C MAIL FROM:<>|S 550 no|C MAIL FROM:<e@f>|* transaction two", 4),
        ("C RCPT TO:<c@d>|S 550 no|C RSET|S 250 ok|C MAIL FROM:<e@f>|* transaction two|S 250 ok", 2),
        ("C RCPT TO:<c@d>|S 250 ok|C DATA|S 354 go|D te|* closed", 6),
        ("C RCPT TO:<c@d>", 1),
        ("", 0),
    ],
    ids=["quit", "bdat", "refused-mail", "rset", "broken-off", "goes-on", "begun"],
)
def test_a_transaction_is_cut_out_whole_and_with_nothing_of_its_neighbours(rest, count, make_session):
    lines = tuple(
        event_of(at=0, session_id="s", direction=line[0], data=line[2:].encode())
        for line in (BEGIN + rest).split("|")
        if line
    )
    whole = Conversation(session=make_session(), lines=lines)
    assert of_transaction(whole, "one") == lines[2 : 5 + count]
    assert of_transaction(whole, "another") == lines
