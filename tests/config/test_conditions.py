from dataclasses import replace

import pytest
from gatepost import Envelope, Header, Message, MimeView, Recipient
from gatepost.config.conditions import Condition
from gatepost.config.rules import RuleSettings
from gatepost.model.mail import Stage


def message(size: int = 100, **headers: str) -> Message:
    made = Message(content=b"x" * size)
    fields = tuple(
        Header(name=name.rstrip("_").replace("_", "-"), value=value) for name, value in headers.items()
    )
    made._view.append(MimeView(headers=fields, subject="", texts=(), attachments=(), warnings=()))
    return made


def condition(when: object) -> Condition:
    made = RuleSettings.model_validate({"name": "a", "filter": "match", "when": when}).when
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        ({"sender": "*@example.com"}, ["a@example.com", "A@EXAMPLE.COM"], ["", "a@example.org"]),
        ({"sender": ["a@b.c", "*@*.b.c"]}, ["a@b.c", "x@y.b.c"], ["b@b.c"]),
        ({"sender": ""}, [""], ["a@b.c"]),
        ({"sender": "<>"}, [""], ["a@b.c"]),
        ({"sender": "*"}, ["", "a@b.c"], []),
        ({"sender": []}, [], ["", "a@b.c"]),
        ({"not": {"sender": ["<>", "a@b.c"]}}, ["x@y.z"], ["", "a@b.c"]),
        ({"any": [{"sender": "a@b.c"}, {"sender": "<>"}]}, ["", "a@b.c"], ["x@y.z"]),
        ({"all": [{"sender": "a@*"}, {"sender": "*@b.c"}]}, ["a@b.c"], ["a@x.y", "x@b.c"]),
        ({"sender": "a@*", "not": {"sender": "*@b.c"}}, ["a@x.y"], ["a@b.c", "x@x.y"]),
    ],
)
def test_sender_patterns_and_their_combinations(session, when, yes, no):
    made = condition(when)
    assert (made.known_at, made.per_recipient) == (Stage.MAIL, False)
    for address in yes:
        assert made.holds(session(), Envelope(mail_from=address)), address
    for address in no:
        assert not made.holds(session(), Envelope(mail_from=address)), address


@pytest.mark.parametrize(
    ("when", "facts", "other"),
    [
        ({"client": "192.0.2.0/24"}, {"client": "192.0.2.1"}, {"client": "192.0.3.1"}),
        ({"client": ["::1", "10.0.0.0/8"]}, {"client": "10.2.3.4"}, {"client": "::2"}),
        ({"helo": "*.example.com"}, {"helo": "MX.example.com"}, {"helo": "example.com"}),
        ({"helo": ["[*]", "localhost"]}, {"helo": "[192.0.2.1]"}, {"helo": "mx"}),
        ({"authenticated": True}, {"authenticated": "u"}, {}),
        ({"authenticated": False}, {}, {"authenticated": "u"}),
        ({"authenticated": ["admin*"]}, {"authenticated": "Admin2"}, {"authenticated": "u"}),
        ({"authenticated": "*"}, {"authenticated": "u"}, {}),
        ({"tls": True}, {"tls": "TLSv1.3"}, {}),
        ({"tls": False}, {}, {"tls": "TLSv1.3"}),
        ({"early_talker": True}, {"early_talker": True}, {}),
        ({"early_talker": False}, {}, {"early_talker": True}),
    ],
)
def test_what_a_session_knows(session, when, facts, other):
    assert condition(when).holds(session(**facts))
    assert not condition(when).holds(session(**other))


@pytest.mark.parametrize(
    ("when", "yes", "no"),
    [
        ({"header": {"x-mailer": "*BULK*"}}, message(X_Mailer="The bulk mailer"), message(X_Mailer="mutt")),
        ({"header": {"X-Mailer": ["a", "b"]}}, message(X_Mailer="B"), message(X_Mailer="c")),
        ({"header": {"X-A": True}}, message(X_A=""), message(X_B="")),
        ({"header": {"X-A": False}}, message(X_B=""), message(X_A="")),
        ({"header": {"A": "1", "B": "2"}}, message(A="1", B="2"), message(A="1", B="1")),
        ({"header": {"A": "2"}}, message(A="1", a="2"), message(A="1")),
        ({"size": ">1KB"}, message(1001), message(1000)),
        ({"size": ">=1KB"}, message(1000), message(999)),
        ({"size": "<1KiB"}, message(1023), message(1024)),
        ({"size": ["<= 10", ">100B"]}, message(10), message(50)),
    ],
)
def test_what_a_message_knows(session, when, yes, no):
    made = condition(when)
    assert (made.known_at, made.per_recipient) == (Stage.MESSAGE, False)
    assert made.holds(session(), message=yes)
    assert not made.holds(session(), message=no)


@pytest.mark.parametrize(
    ("when", "known_at", "per_recipient"),
    [
        ({"client": "::1"}, Stage.CONNECT, False),
        ({"client": "::1", "helo": "a"}, Stage.HELO, False),
        ({"client": "::1", "tls": True}, Stage.MAIL, False),
        ({"early_talker": True}, Stage.HELO, False),
        ({"authenticated": True}, Stage.MAIL, False),
        ({"recipient": "a@b.c"}, Stage.RCPT, True),
        ({"not": {"recipient": "a@b.c"}}, Stage.RCPT, True),
        (
            {"any": [{"client": "::1"}, {"all": [{"recipient": "a@b.c"}, {"size": ">1"}]}]},
            Stage.MESSAGE,
            True,
        ),
    ],
)
def test_a_condition_is_known_as_soon_as_all_of_it_is(when, known_at, per_recipient):
    made = condition(when)
    assert (made.known_at, made.per_recipient) == (known_at, per_recipient)


def test_a_recipient_is_looked_at_one_by_one(session):
    made = condition({"recipient": "*@b.c", "sender": "x@y.z"})
    facts = {"session": session(), "envelope": Envelope(mail_from="x@y.z")}
    assert made.holds(**facts, recipient=Recipient(address="A@B.C"))
    assert not made.holds(**facts, recipient=Recipient(address="a@b.d"))
    assert not made.holds(session(), replace(facts["envelope"], mail_from=""), Recipient(address="a@b.c"))


@pytest.mark.parametrize(
    "when", [{"sender": "*"}, {"recipient": "*"}, {"size": ">1"}, {"header": {"A": "b"}}]
)
def test_to_ask_too_early_is_a_mistake_of_the_program_and_never_a_silent_no(session, when):
    with pytest.raises(TypeError):
        condition({"not": when}).holds(session())
