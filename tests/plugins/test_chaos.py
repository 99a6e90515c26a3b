"""Which attempts the filter fails and with what verdict, and that the same ones fail in every run."""

import pytest
from gatepost import Action
from gatepost.config import ConfigError
from gatepost.model.mail import Stage
from gatepost.pipeline.filter_settings import make_filter
from gatepost.pipeline.hooks import hooks_of
from gatepost.testing import ask_filter, make_transaction, run_filter, running_gateway
from gatepost_chaos import Chaos
from hypothesis import given
from hypothesis import strategies as st

BUSY = {"at": "rcpt", "reply": "450 4.2.0 Try again"}
STAGES = ("connect", "helo", "mail", "rcpt", "message")


def to(*recipients, mail_from="a@example.org", **settings):
    return make_transaction(recipients=recipients or ("b@example.com",), mail_from=mail_from, **settings)


async def failing(settings, transactions):
    """The places of the attempts that fail."""
    chaos = make_filter(Chaos, settings)
    return [n for n, one in enumerate(transactions) if await ask_filter(chaos, one)]


@pytest.mark.parametrize("stage", STAGES)
def test_it_has_the_hook_of_its_stage_and_no_other(stage):
    hooks = hooks_of(Chaos(at=stage, do="drop")).stages
    assert list(hooks) == [Stage[stage.upper()]]


@pytest.mark.parametrize(
    ("settings", "action", "reply", "timing"),
    [
        ({"reply": "450 4.2.0 Try again"}, Action.DEFER, "450 4.2.0 Try again", None),
        ({"reply": "550 No"}, Action.REJECT, "550 No", None),
        ({"reply": "550 No", "drip": 2}, Action.REJECT, "550 No", "one byte every 2 s"),
        (
            {"do": "drop"},
            Action.DEFER,
            "421 4.3.2 Connection dropped on purpose",
            "not sent, connection dropped",
        ),
        ({"do": "drop-before-reply"}, Action.TAG, None, "not sent, connection dropped"),
        (
            {"do": "drop-before-reply", "delay": "1m"},
            Action.TAG,
            None,
            "after 60 s, not sent, connection dropped",
        ),
        ({"delay": "1.5s", "drip": "100ms"}, Action.TAG, None, "after 1.5 s, one byte every 0.1 s"),
    ],
)
def test_what_a_failure_is(settings, action, reply, timing):
    verdict = run_filter(Chaos, to(), at="message", **settings)
    assert verdict.action is action
    assert (verdict.reply and str(verdict.reply)) == reply
    assert (verdict.timing and str(verdict.timing)) == timing


A, B = to("b@example.com"), to("c@example.com")


@pytest.mark.parametrize(
    ("settings", "attempts", "fail"),
    [
        (BUSY, [A, A, B], [0, 1, 2]),
        (BUSY | {"first": 2}, [A, B, A, A, B, B, A], [0, 1, 2, 4]),
        (BUSY | {"first": 1}, [to("b@EXAMPLE.com"), A, to(mail_from="B@example.org"), A], [0, 2]),
        (BUSY | {"first": 1}, [to('"\\b"@example.com'), A, to("b@example.com.")], [0]),
        (BUSY | {"first": 1}, [to("b@bücher.example"), to("B@XN--bcher-kva.example")], [0]),
        (BUSY | {"every": 3}, [A, B, A, A, B, B, A], [2, 5]),
        (BUSY | {"every": 2, "first": 1}, [A, B, A, A], [1]),
        ({"at": "connect", "do": "drop", "first": 1}, [A, to(client="192.0.2.2"), B], [0, 1]),
        (
            {"at": "helo", "do": "drop", "first": 1},
            [A, to(helo="other"), B, to(client="192.0.2.2")],
            [0, 1, 3],
        ),
        ({"at": "mail", "do": "drop", "first": 1}, [A, B, to(mail_from="")], [0, 2]),
        (
            {"at": "message", "do": "drop", "first": 1},
            [A, to("b@example.com", "c@example.com"), A, B],
            [0, 1, 3],
        ),
    ],
)
async def test_which_attempts_fail(settings, attempts, fail):
    assert await failing(settings, attempts) == fail


@pytest.mark.long
async def test_chance_is_about_its_part_of_the_attempts_and_the_seed_says_which():
    many = [to(f"{number % 100}@example.com") for number in range(2000)]
    first, again, other = [await failing(BUSY | {"chance": 0.1, "seed": seed}, many) for seed in (42, 42, 43)]
    assert first == again
    assert first != other
    assert 150 < len(first) < 250
    assert len({number % 100 for number in first}) > 50, "not always the same recipients"


async def test_chance_does_not_depend_on_what_others_send_in_between():
    a, b = [A] * 40, [B] * 40
    alone = await failing(BUSY | {"chance": 0.5}, a)
    mixed = await failing(BUSY | {"chance": 0.5}, [one for pair in zip(a, b, strict=True) for one in pair])
    assert [number // 2 for number in mixed if number % 2 == 0] == alone


async def test_only_so_many_senders_and_recipients_are_remembered(monkeypatch):
    monkeypatch.setattr("gatepost_chaos._REMEMBERED", 2)
    last = to("d@example.com")
    assert await failing(BUSY | {"first": 1}, [A, B, A, last, A, B]) == [0, 1, 3, 5]


ANY = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just("2s"))
GOOD = st.fixed_dictionaries(
    {"at": st.sampled_from(STAGES)},
    optional={
        "reply": st.sampled_from(["450 4.2.0 Try again", "550 No", "421 Bye"]),
        "do": st.sampled_from(["drop", "drop-before-reply"]),
        "delay": st.sampled_from([1, 0.5, "2s", "100ms", "1m"]),
        "drip": st.sampled_from([1, "100ms"]),
        "first": st.integers(1, 4),
        "every": st.integers(1, 4),
        "chance": st.floats(0, 1, exclude_min=True),
        "seed": st.integers(-(2**63), 2**63 - 1),
    },
)
BAD = st.dictionaries(st.sampled_from([*Chaos.__dataclass_fields__, "until"]), ANY)


@given(GOOD, BAD)
def test_settings_are_refused_or_make_a_filter_whatever_they_are(good, bad):
    try:
        chaos = make_filter(Chaos, good | bad)
    except ValueError:
        return
    hooks = hooks_of(chaos).stages
    assert len(hooks) == 1
    assert not {"until", "_attempts", "_attempts_of", "_failure"} & set(bad)


@given(GOOD, st.lists(st.sampled_from("abc"), max_size=30))
async def test_the_same_settings_and_attempts_fail_alike_and_first_and_every_are_kept(settings, who):
    transactions = [to(f"{one}@example.com", client=f"192.0.2.{ord(one)}", mail_from=one) for one in who]
    try:
        fail = await failing(settings, transactions)
    except ValueError:
        assert "do" not in settings or {"reply", "drip"} & set(settings)
        return
    assert await failing(settings, transactions) == fail
    assert all((number + 1) % settings.get("every", 1) == 0 for number in fail)
    assert all(who[:number].count(who[number]) < settings.get("first", 99) for number in fail)
    if "chance" not in settings:
        expected = [
            number
            for number, one in enumerate(who)
            if (number + 1) % settings.get("every", 1) == 0
            and who[:number].count(one) < settings.get("first", 99)
        ]
        assert fail == expected


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{at: data, do: drop}", ":5:16: 'data', expected 'connect', 'helo', 'mail', 'rcpt' or 'message'"),
        ("{at: rcpt, do: dorp}", ":5:26: 'dorp' (did you mean 'drop'?), expected"),
        ("{at: rcpt, delay: 2 days}", ":5:29: '2 days', expected a time like 10s, 5m or 250ms"),
        ("{at: rcpt, drip: 0}", ":5:28: 0, expected a time"),
        ("{at: rcpt, delay: 2h}", ":5:29: 7200 seconds, expected at most an hour"),
        ("{at: rcpt, reply: 250 Ok}", ":5:29: '250 Ok' does not refuse: expected 4xx or 5xx"),
        ("{at: rcpt, reply: No}", ":5:29: 'No' is not a reply: expected like"),
        ("{at: rcpt, do: drop, first: 0}", ":5:39: 0, expected at least 1"),
        ("{at: rcpt, do: drop, every: two}", ":5:39: 'two', expected a whole number"),
        ("{at: rcpt, do: drop, chance: 1.5}", ":5:40: 1.5, expected at most 1"),
        ("{do: drop}", ":5:11: the key 'at' is missing"),
        ("{at: rcpt}", ":5:11: filter 'chaos': nothing to do: expected reply, do, delay or drip"),
        ("{at: rcpt, do: drop, drip: 1s}", ":5:11: filter 'chaos': do: drop sends no reply"),
    ],
)
def test_a_wrong_setting_is_named_at_its_line(line, problem):
    rules = f"""
        rules:
          - name: x
            filter: chaos
            with: {line}
    """
    with pytest.raises(ConfigError) as error, running_gateway(rules):
        pass
    assert problem in str(error.value)
