"""From what the rules say of each recipient, and the route, to a plan."""

import pytest
from gatepost.config.relay import UpstreamServer
from gatepost.gateway.plan import make_plan
from gatepost.model.edits import AddHeader
from gatepost.model.mail import Envelope, Recipient
from gatepost.model.plan import Local, Parcel, Plan, RecipientOutcome, Refused
from gatepost.model.replies import TEMPORARY_FAILURE
from gatepost.model.verdict import Action, Outcome, Reply, ReplyTiming

SERVERS = (
    UpstreamServer.model_validate("smtp://one.example"),
    UpstreamServer.model_validate("smtp://two.example"),
)
MARK = (AddHeader("X-Mark", "yes"),)
NEVER = Reply.parse("550 5.7.1 Never")
LATER = Reply.parse("450 4.2.0 Later")
DIFFERENT = Reply.parse("451 4.5.3 Recipients need different answers, send one by one")

ACCEPT = Outcome(action=Action.ACCEPT)
ALLOWED = Outcome(action=Action.ACCEPT, rule="friends", reason="a friend")
TAGGED = Outcome(action=Action.ACCEPT, edits=MARK)
DISCARD = Outcome(action=Action.DISCARD, rule="out", reason="bulk")
HOLD = Outcome(action=Action.QUARANTINE, rule="hold", reason="a word")
HOLD_EDITED = Outcome(action=Action.QUARANTINE, rule="hold", reason="a word", edits=MARK)
HOLD_ANOTHER = Outcome(action=Action.QUARANTINE, rule="hold", reason="another word")
REJECT = Outcome(action=Action.REJECT, rule="no", reason="spam", reply=NEVER)
DEFER = Outcome(action=Action.DEFER, rule="grey", reason="new", reply=LATER)
REFUSED_WITH_EDITS = Outcome(action=Action.REJECT, rule="no", reason="spam", reply=NEVER, edits=MARK)
SPEECHLESS = Outcome(action=Action.REJECT, rule="no")

WHY_HELD = ("hold", "a word")
NOT_SAID = (None, "")


def plan(outcomes, target=SERVERS, mixed="quarantine"):
    recipients = tuple(Recipient(address=f"{name}@example.com") for name in "abcd"[: len(outcomes)])
    envelope = Envelope(mail_from="s@example.org", recipients=recipients)
    made = make_plan(envelope, outcomes, target, mixed)
    assert made.recipients == recipients
    planned = [one.recipient for parcel in made.parcels for one in parcel.outcomes]
    assert sorted(map(str, planned)) == sorted(map(str, recipients)), "each is in exactly one parcel"
    assert {parcel.mail_from for parcel in made.parcels} == {"s@example.org"}
    return made


def parcels(made):
    """Who gets what where: the first letters of the recipients' addresses, the destination, edits and why."""
    return [
        (
            "".join(recipient.address[0] for recipient in parcel.recipients),
            parcel.destination,
            parcel.edits,
            (parcel.rule, parcel.reason),
        )
        for parcel in made.parcels
    ]


@pytest.mark.parametrize(
    ("outcomes", "target", "expected"),
    [
        ([ACCEPT], SERVERS, [("a", SERVERS, (), NOT_SAID)]),
        ([ACCEPT], "inbox", [("a", Local.INBOX, (), NOT_SAID)]),
        ([ACCEPT], "discard", [("a", Local.DISCARD, (), NOT_SAID)]),
        ([TAGGED], SERVERS, [("a", SERVERS, MARK, NOT_SAID)]),
        ([TAGGED], "inbox", [("a", Local.INBOX, MARK, NOT_SAID)]),
        ([ALLOWED], SERVERS, [("a", SERVERS, (), NOT_SAID)]),
        ([HOLD], SERVERS, [("a", Local.QUARANTINE, (), WHY_HELD)]),
        ([HOLD], "inbox", [("a", Local.QUARANTINE, (), WHY_HELD)]),
        ([HOLD], "discard", [("a", Local.QUARANTINE, (), WHY_HELD)]),
        ([HOLD_EDITED], SERVERS, [("a", Local.QUARANTINE, MARK, WHY_HELD)]),
        ([DISCARD], SERVERS, [("a", Local.DISCARD, (), NOT_SAID)]),
        ([DISCARD], "inbox", [("a", Local.DISCARD, (), NOT_SAID)]),
    ],
)
def test_one_recipient_is_one_parcel(outcomes, target, expected):
    assert parcels(plan(outcomes, target)) == expected


@pytest.mark.parametrize(
    ("outcomes", "target", "expected"),
    [
        # the same octets go together, whichever rule accepted them
        ([ACCEPT, ACCEPT], SERVERS, [("ab", SERVERS, (), NOT_SAID)]),
        ([ACCEPT, ALLOWED], SERVERS, [("ab", SERVERS, (), NOT_SAID)]),
        (
            [ACCEPT, TAGGED, ACCEPT],
            SERVERS,
            [("ac", SERVERS, (), NOT_SAID), ("b", SERVERS, MARK, NOT_SAID)],
        ),
        (
            [TAGGED, ACCEPT],
            "inbox",
            [("a", Local.INBOX, MARK, NOT_SAID), ("b", Local.INBOX, (), NOT_SAID)],
        ),
        # a copy in quarantine names one rule and one reason
        ([HOLD, HOLD], SERVERS, [("ab", Local.QUARANTINE, (), WHY_HELD)]),
        (
            [HOLD, HOLD_ANOTHER],
            SERVERS,
            [
                ("a", Local.QUARANTINE, (), WHY_HELD),
                ("b", Local.QUARANTINE, (), ("hold", "another word")),
            ],
        ),
        (
            [HOLD, HOLD_EDITED],
            SERVERS,
            [("a", Local.QUARANTINE, (), WHY_HELD), ("b", Local.QUARANTINE, MARK, WHY_HELD)],
        ),
        # who is taken out does not hold the others up
        (
            [HOLD, ACCEPT, DISCARD, ACCEPT],
            SERVERS,
            [
                ("a", Local.QUARANTINE, (), WHY_HELD),
                ("bd", SERVERS, (), NOT_SAID),
                ("c", Local.DISCARD, (), NOT_SAID),
            ],
        ),
        (
            [HOLD, DISCARD],
            "inbox",
            [("a", Local.QUARANTINE, (), WHY_HELD), ("b", Local.DISCARD, (), NOT_SAID)],
        ),
    ],
)
def test_recipients_who_get_the_same_octets_share_a_parcel(outcomes, target, expected):
    assert parcels(plan(outcomes, target)) == expected


@pytest.mark.parametrize("mixed", ["quarantine", "defer", "reject"])
@pytest.mark.parametrize("target", [SERVERS, "inbox", "discard"])
@pytest.mark.parametrize(
    ("outcomes", "reply"),
    [
        ([REJECT], NEVER),
        ([DEFER], LATER),
        ([SPEECHLESS], TEMPORARY_FAILURE),
        ([REJECT, REJECT], NEVER),
        ([SPEECHLESS, REJECT], TEMPORARY_FAILURE),
        # temporary if one is only deferred
        ([REJECT, DEFER], LATER),
        ([DEFER, REJECT], LATER),
        ([REJECT, DEFER, REJECT], LATER),
    ],
)
def test_where_all_are_refused_one_parcel_holds_the_reply(outcomes, reply, target, mixed):
    made = plan(outcomes, target, mixed)
    assert parcels(made) == [("abcd"[: len(outcomes)], Refused(reply=reply), (), NOT_SAID)]
    assert [one.outcome for one in made.parcels[0].outcomes] == outcomes, "the journal tells each one's rule"


@pytest.mark.parametrize(
    ("outcomes", "mixed", "expected", "actions"),
    [
        (
            [ACCEPT, REJECT],
            "quarantine",
            [("a", SERVERS, (), NOT_SAID), ("b", Local.QUARANTINE, (), ("no", "spam"))],
            ["accept", "quarantine"],
        ),
        (
            [ACCEPT, REFUSED_WITH_EDITS],
            "quarantine",
            [("a", SERVERS, (), NOT_SAID), ("b", Local.QUARANTINE, MARK, ("no", "spam"))],
            ["accept", "quarantine"],
        ),
        (
            [DEFER, TAGGED],
            "quarantine",
            [("a", Local.QUARANTINE, (), ("grey", "new")), ("b", SERVERS, MARK, NOT_SAID)],
            ["quarantine", "accept"],
        ),
        (
            [DISCARD, REJECT],
            "quarantine",
            [("a", Local.DISCARD, (), NOT_SAID), ("b", Local.QUARANTINE, (), ("no", "spam"))],
            ["discard", "quarantine"],
        ),
        (
            [ACCEPT, REJECT],
            "defer",
            [("ab", Refused(reply=DIFFERENT), (), NOT_SAID)],
            ["defer", "defer"],
        ),
        (
            [HOLD, DEFER],
            "defer",
            [("ab", Refused(reply=DIFFERENT), (), NOT_SAID)],
            ["defer", "defer"],
        ),
        (
            [ACCEPT, REJECT, DEFER],
            "reject",
            [("abc", Refused(reply=NEVER), (), NOT_SAID)],
            ["reject", "reject", "reject"],
        ),
        (
            [ACCEPT, DEFER, REJECT],
            "reject",
            [("abc", Refused(reply=LATER), (), NOT_SAID)],
            ["defer", "defer", "defer"],
        ),
    ],
)
def test_where_only_some_are_refused_the_setting_says_what_one_reply_tells(
    outcomes, mixed, expected, actions
):
    made = plan(outcomes, SERVERS, mixed)
    assert parcels(made) == expected
    planned = {one.recipient: one.outcome for parcel in made.parcels for one in parcel.outcomes}
    assert [str(planned[recipient].action) for recipient in made.recipients] == actions
    assert all((one.reply is not None) == one.action.refuses for one in planned.values())


SLOW = ReplyTiming(delay_seconds=2.0)
DRIPPED = ReplyTiming(drip_seconds=0.1)


def timed(action, timing, **settings):
    return Outcome(action=action, timing=timing, **settings)


@pytest.mark.parametrize(
    ("outcomes", "mixed", "timing"),
    [
        ([ACCEPT], "defer", None),
        ([ACCEPT, ACCEPT], "defer", None),
        ([timed(Action.ACCEPT, SLOW)], "defer", SLOW),
        ([ACCEPT, timed(Action.DISCARD, SLOW)], "defer", SLOW),
        (
            [timed(Action.ACCEPT, DRIPPED), timed(Action.ACCEPT, SLOW)],
            "defer",
            ReplyTiming(delay_seconds=2.0, drip_seconds=0.1),
        ),
        # the one refusal that is told to all is told as its own rule says
        ([timed(Action.ACCEPT, SLOW), timed(Action.REJECT, DRIPPED, reply=NEVER)], "reject", DRIPPED),
        ([timed(Action.ACCEPT, SLOW), timed(Action.REJECT, DRIPPED, reply=NEVER)], "defer", DRIPPED),
        (
            [timed(Action.ACCEPT, SLOW), timed(Action.REJECT, DRIPPED, reply=NEVER)],
            "quarantine",
            ReplyTiming(delay_seconds=2.0, drip_seconds=0.1),
        ),
    ],
)
def test_the_reply_is_sent_as_slowly_as_the_outcomes_say(outcomes, mixed, timing):
    assert plan(outcomes, SERVERS, mixed).timing == timing


def test_a_part_of_a_message_cannot_be_refused():
    """RFC 5321 section 4.1.1.4: the one reply to the end of data cannot tell of a partial failure."""
    recipient = Recipient(address="a@example.com")

    def parcel(destination):
        outcomes = (RecipientOutcome(recipient=recipient, outcome=ACCEPT),)
        return Parcel(destination=destination, mail_from="", outcomes=outcomes)

    refused, discarded = parcel(Refused(reply=NEVER)), parcel(Local.DISCARD)
    assert Plan(recipients=(recipient,), parcels=(refused,)).parcels == (refused,)
    with pytest.raises(ValueError, match="cannot be refused"):
        Plan(recipients=(recipient,), parcels=(discarded, refused))


def test_there_is_one_outcome_for_each_recipient():
    one = Envelope(mail_from="", recipients=(Recipient(address="a@example.com"),))
    for outcomes in ([], [ACCEPT, ACCEPT]):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            make_plan(one, outcomes, SERVERS, "defer")
    both = Envelope(mail_from="", recipients=(*one.recipients, Recipient(address="b@example.com")))
    with pytest.raises(ValueError, match="too many"):
        make_plan(both, [ACCEPT], SERVERS, "defer")
