"""The order in which a plan is carried out, and what each recipient's result is then."""

from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from gatepost.config.relay import UpstreamServer
from gatepost.gateway.execute import PlanExecutor
from gatepost.gateway.records import make_record
from gatepost.gateway.result import Owner
from gatepost.model.edits import AddHeader
from gatepost.model.mail import Recipient, Session
from gatepost.model.plan import Local, Parcel, Plan, RecipientOutcome, Refused
from gatepost.model.verdict import Action, Outcome, Reply, ReplyTiming
from gatepost.relay import Delivered, DeliveryState
from gatepost.store import StoreError

SERVERS = (UpstreamServer.model_validate("smtp://one.example"),)
MARK = (AddHeader("X-Mark", "yes"),)
CONTENT = b"A: 1\r\n\r\nbody"
SENT = {
    b"Trace: 1\r\n" + CONTENT: "trace body",
    b"Trace: 1\r\nX-Mark: yes\r\n" + CONTENT: "trace X-Mark body",
}
"""What is sent, in the words of the steps."""
OK = Reply.parse("250 2.0.0 Taken")
STATES = {"2": DeliveryState.ACCEPTED, "4": DeliveryState.REFUSED, "5": DeliveryState.REFUSED}
IN_DOUBT = Delivered(
    state=DeliveryState.IN_DOUBT, replies=(Reply.parse("451 4.4.2 Lost"),), server=None, upstream_reply=""
)
UNSENT = Delivered(
    state=DeliveryState.UNSENT, replies=(Reply.parse("451 4.4.1 Down"),), server=None, upstream_reply=""
)


def parcel(letters, destination, edits=()):
    outcomes = [
        RecipientOutcome(
            recipient=Recipient(address=f"{letter}@example.com"), outcome=Outcome(action=Action.ACCEPT)
        )
        for letter in letters
    ]
    return Parcel(destination=destination, mail_from="s@example.org", outcomes=tuple(outcomes), edits=edits)


class Outside:
    """Upstream and the store: each step is written down, in one list."""

    def __init__(self, *answers, store_fails=()):
        self.steps = []
        self.answers = list(answers)
        self.store_fails = store_fails

    async def send(self, recipients, pieces, *, deadline, mail_from):
        self.steps.append(f"send {letters(recipients)} {SENT[b''.join(pieces)]}")
        answer = self.answers.pop(0)
        if isinstance(answer, Delivered):
            return answer
        replies = [Reply.parse(text) for text in ([answer] if isinstance(answer, str) else answer)]
        if len(replies) == 1:
            replies *= len(recipients)
        state = STATES[str(replies[0].code)[0]]
        return Delivered(state=state, replies=tuple(replies), server="one.example:25", upstream_reply="")

    async def abandon(self):
        self.steps.append("abandon")

    async def commit_first(self, result):
        if "commit" in self.store_fails:
            raise StoreError("disk full")
        self.ids = {copy.id: number for number, copy in enumerate(result.kept)}
        self.steps.append(f"commit {copies(result.kept)}; {ends(result)}")

    async def withdraw(self, ids):
        self.steps.append(f"withdraw {[self.ids[one] for one in ids]}")
        if "withdraw" in self.store_fails:
            raise StoreError("disk full")


def letters(recipients):
    return "".join(getattr(recipient, "address", recipient)[0] for recipient in recipients)


def copies(kept):
    return " ".join(f"{copy.box}:{letters(copy.recipients)}" for copy in kept)


def ends(result):
    return " ".join(f"{one.recipient.address[0]}={one.disposition}" for one in result.recipients)


async def carry_out(parcels, outside, order, timing=None):
    recipients = tuple(Recipient(address=f"{letter}@example.com") for letter in order)
    executor = PlanExecutor(
        plan=Plan(recipients=recipients, parcels=tuple(parcels), timing=timing),
        trace=lambda: b"Trace: 1\r\n",
        content=CONTENT,
        ok_text="Ok: 1",
        delivery=outside,
        upstream_seconds=60,
        store=outside,
        commit_first=outside.commit_first,
    )
    return await executor.run()


ONE = [parcel("a", SERVERS)]
TWO = [parcel("ac", SERVERS), parcel("b", SERVERS, MARK)]
SPLIT = [parcel("b", Local.QUARANTINE), parcel("ad", SERVERS), parcel("c", Local.DISCARD)]
NO = "550 5.7.1 No"
LATER = "451 4.2.0 Later"


@pytest.mark.parametrize(
    ("parcels", "answers", "steps", "end"),
    [
        # what all get goes upstream at once, without a commit before
        (ONE, [str(OK)], ["send a trace body"], "a=relayed"),
        (ONE, [NO], ["send a trace body"], "a=refused"),
        (ONE, [LATER], ["send a trace body"], "a=deferred"),
        (ONE, [IN_DOUBT], ["send a trace body"], "a=in-doubt"),
        (ONE, [UNSENT], ["send a trace body"], "a=deferred"),
        # what the store owns is committed before upstream is sent anything, and withdrawn if it refuses
        (
            SPLIT,
            [str(OK)],
            ["commit quarantine:b; a=in-doubt b=in-doubt c=discarded d=in-doubt", "send ad trace body"],
            "a=relayed b=quarantined c=discarded d=relayed",
        ),
        (
            SPLIT,
            [NO],
            [
                "commit quarantine:b; a=in-doubt b=in-doubt c=discarded d=in-doubt",
                "send ad trace body",
                "withdraw [0]",
            ],
            "a=refused b=refused c=refused d=refused",
        ),
        (
            SPLIT,
            [IN_DOUBT],
            [
                "commit quarantine:b; a=in-doubt b=in-doubt c=discarded d=in-doubt",
                "send ad trace body",
                "withdraw [0]",
            ],
            "a=in-doubt b=in-doubt c=in-doubt d=in-doubt",
        ),
        # that somebody's message is discarded is committed first, too
        (
            [parcel("a", SERVERS), parcel("b", Local.DISCARD)],
            [str(OK)],
            ["commit ; a=in-doubt b=discarded", "send a trace body"],
            "a=relayed b=discarded",
        ),
        # later parcels have a spare copy, until upstream has taken them
        (
            TWO,
            [str(OK), str(OK)],
            [
                "commit quarantine:b; a=in-doubt b=in-doubt c=in-doubt",
                "send ac trace body",
                "send b trace X-Mark body",
                "withdraw [0]",
            ],
            "a=relayed b=relayed c=relayed",
        ),
        (
            TWO,
            [str(OK), NO],
            [
                "commit quarantine:b; a=in-doubt b=in-doubt c=in-doubt",
                "send ac trace body",
                "send b trace X-Mark body",
            ],
            "a=relayed b=quarantined c=relayed",
        ),
        (
            TWO,
            [str(OK), IN_DOUBT],
            [
                "commit quarantine:b; a=in-doubt b=in-doubt c=in-doubt",
                "send ac trace body",
                "send b trace X-Mark body",
            ],
            "a=relayed b=quarantined c=relayed",
        ),
        (
            TWO,
            [LATER],
            [
                "commit quarantine:b; a=in-doubt b=in-doubt c=in-doubt",
                "send ac trace body",
                "withdraw [0]",
            ],
            "a=deferred b=deferred c=deferred",
        ),
        (
            [*SPLIT, parcel("e", SERVERS, MARK)],
            [str(OK), NO],
            [
                "commit quarantine:b quarantine:e; a=in-doubt b=in-doubt c=discarded d=in-doubt e=in-doubt",
                "send ad trace body",
                "send e trace X-Mark body",
            ],
            "a=relayed b=quarantined c=discarded d=relayed e=quarantined",
        ),
    ],
)
async def test_the_store_has_its_part_before_upstream_has_the_first_octet(parcels, answers, steps, end):
    outside = Outside(*answers)
    order = sorted("".join(letters(parcel.recipients) for parcel in parcels))
    result = await carry_out(parcels, outside, order)
    assert outside.steps == steps
    assert ends(result) == end
    relayed = "relayed" in end
    assert result.owner is (Owner.UPSTREAM if relayed else Owner.CLIENT)
    assert result.reply.positive == relayed
    assert {one.reply for one in result.recipients} == {result.reply}
    assert result.kept == (), "all of it is committed already"


async def test_a_recipient_named_twice_has_its_result_twice_in_the_clients_order():
    parcels = [parcel("aa", SERVERS, MARK), parcel("b", SERVERS), parcel("c", Local.QUARANTINE)]
    result = await carry_out(parcels, Outside(str(OK), NO), order="abca")
    assert ends(result) == "a=relayed b=quarantined c=quarantined a=relayed"


@pytest.mark.parametrize(
    ("parcels", "kept", "end"),
    [
        ([parcel("a", Local.INBOX)], "inbox:a", "a=inbox"),
        ([parcel("ab", Local.QUARANTINE)], "quarantine:ab", "a=quarantined b=quarantined"),
        ([parcel("a", Local.DISCARD)], "", "a=discarded"),
        (
            [parcel("b", Local.INBOX), parcel("ac", Local.QUARANTINE), parcel("d", Local.DISCARD)],
            "inbox:b quarantine:ac",
            "a=quarantined b=inbox c=quarantined d=discarded",
        ),
    ],
)
async def test_what_stays_here_is_left_to_be_committed_with_its_record(parcels, kept, end):
    outside = Outside()
    result = await carry_out(parcels, outside, "abcd")
    assert outside.steps == ["abandon"], "upstream's transaction is not needed any more"
    assert (copies(result.kept), ends(result), str(result.reply)) == (kept, end, "250 2.0.0 Ok: 1")
    assert result.owner is Owner.STORE
    assert all(SENT[b"".join(copy.pieces)] == "trace body" for copy in result.kept)


@pytest.mark.parametrize("place", [Local.INBOX, Local.QUARANTINE])
async def test_a_copy_has_the_message_as_received_and_its_edits(place):
    (copy,) = (await carry_out([parcel("a", place, MARK)], Outside(), "a")).kept
    assert (copy.prepended, copy.content, copy.edits) == (b"Trace: 1\r\n", CONTENT, MARK)
    assert SENT[b"".join(copy.pieces)] == "trace X-Mark body"


async def test_the_spare_copy_of_a_later_parcel_has_its_edits():
    outside = Outside(str(OK), NO)
    committed = []

    async def commit_first(result):
        committed.extend(result.kept)
        await Outside.commit_first(outside, result)

    outside.commit_first = commit_first
    await carry_out(TWO, outside, "abc")
    assert [(copy.content, copy.edits) for copy in committed] == [(CONTENT, MARK)]


@pytest.mark.parametrize(("text", "end"), [(NO, "refused"), (LATER, "deferred")])
async def test_a_refused_plan_only_gives_upstreams_transaction_up(text, end):
    outside = Outside()
    result = await carry_out([parcel("ab", Refused(reply=Reply.parse(text)))], outside, "ab")
    assert (outside.steps, ends(result), str(result.reply)) == (["abandon"], f"a={end} b={end}", text)
    assert (result.owner, result.kept) == (Owner.CLIENT, ())


async def test_nothing_goes_upstream_where_the_store_cannot_commit_its_part():
    outside = Outside(store_fails={"commit"})
    with pytest.raises(StoreError):
        await carry_out(SPLIT, outside, "abcd")
    assert outside.steps == []


async def test_a_copy_that_cannot_be_withdrawn_changes_no_result():
    outside = Outside(str(OK), str(OK), store_fails={"withdraw"})
    result = await carry_out(TWO, outside, "abc")
    assert ends(result) == "a=relayed b=relayed c=relayed"


async def test_parcels_to_servers_need_a_delivery():
    executor = PlanExecutor(
        plan=Plan(recipients=ONE[0].recipients, parcels=tuple(ONE)),
        trace=lambda: b"",
        content=b"",
        ok_text="",
        delivery=None,
        upstream_seconds=60,
        store=Outside(),
        commit_first=Outside().commit_first,
    )
    with pytest.raises(RuntimeError, match="no delivery"):
        await executor.run()


@pytest.mark.parametrize(
    ("parcels", "answers"),
    [(ONE, [str(OK)]), (ONE, [NO]), ([parcel("a", Local.DISCARD)], []), (TWO, [str(OK), NO])],
)
async def test_the_reply_is_sent_as_the_plan_says(parcels, answers):
    timing = ReplyTiming(delay_seconds=2.0)
    result = await carry_out(parcels, Outside(*answers), "abc", timing)
    assert result.reply.timing == timing
    assert {one.reply for one in result.recipients} == {result.reply}


async def test_a_recipient_has_the_reply_that_upstream_gave_for_it():
    """Where upstream answers for each recipient; the client that is told one reply is told the first."""
    answers = ["250 2.1.5 First", "250 2.1.5 Second"]
    outside = Outside(answers)
    result = await carry_out([parcel("ab", SERVERS), parcel("c", Local.DISCARD)], outside, "abc")
    assert [str(one.reply) for one in result.recipients] == [*answers, answers[0]]
    session = Session(
        id="1", client=ip_address("192.0.2.1"), client_port=1, listener="", connected_at=datetime.now(UTC)
    )
    record = make_record(
        node="a",
        transaction_id="1",
        session=session,
        received_at=datetime.now(UTC),
        mail_from="",
        result=result,
        evaluations=(),
    )
    assert record.reply == answers[0]
    assert [one.reply for one in record.recipients] == [*answers, answers[0]]
