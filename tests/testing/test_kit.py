"""The test kit for filter authors."""

import asyncio
import email
import email.policy
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pytest
import uvloop
from gatepost import Action, Envelope, Recipient, Record, Session, Stage, Transaction, Verdict, hookimpl
from gatepost.config import ConfigError
from gatepost.server.session import SmtpSession
from gatepost.testing import (
    ask_all,
    ask_filter,
    make_message,
    make_record,
    make_transaction,
    run_all,
    run_filter,
    running_gateway,
)
from gatepost.testing.sending import send

# --- messages and transactions


def test_a_made_message_is_read_back_as_it_was_asked_for() -> None:
    content = make_message(
        subject="Grüße, and a" + " long" * 30 + " subject",
        text="Hello\nWörld",
        html="<p>Hello</p>",
        headers={"X-Mailer": "Test", "to": "other@example.com"},
        attachments={"report.pdf": b"%PDF", "data": ("application/zip", b"PK"), "naïve.xyzzy": b"\0\r\n"},
    )
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert message["Subject"] == "Grüße, and a" + " long" * 30 + " subject"
    assert message["X-Mailer"] == "Test"
    assert message.get_all("To") == ["other@example.com"]
    assert message["Message-ID"] == "<test@example.org>"
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content() == "Hello\r\nWörld\r\n"
    assert html.get_content() == "<p>Hello</p>\r\n"
    assert [
        (a.get_filename(), a.get_content_type(), a.get_payload(decode=True))
        for a in message.iter_attachments()
    ] == [
        ("report.pdf", "application/pdf", b"%PDF"),
        ("data", "application/zip", b"PK"),
        ("naïve.xyzzy", "application/octet-stream", b"\0\r\n"),
    ]


def test_a_made_message_has_crlf_line_ends_alone() -> None:
    content = make_message(text="one\ntwo\r\nthree", html="a\nb", attachments={"a.txt": b"x\n" * 100})
    assert content.count(b"\r\n") == content.count(b"\n") == content.count(b"\r")


def test_a_header_field_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="linefeed"):
        make_message(headers={"X-Mailer": "a\r\nBcc: b@example.org"})


def test_a_transaction_carries_what_it_is_given() -> None:
    transaction = make_transaction(
        "Subject: Hi\n\nÜ\r\n",
        mail_from="",
        recipients="one@example.com",
        client="2001:db8::1",
        helo="h",
        authenticated="ann",
        tls="TLSv1.3",
    )
    assert transaction.message.content == "Subject: Hi\r\n\r\nÜ\r\n".encode()
    assert transaction.envelope.mail_from == ""
    assert [r.address for r in transaction.envelope.recipients] == ["one@example.com"]
    assert str(transaction.session.client) == "2001:db8::1"
    assert transaction.session.protocol == "ESMTPSA"
    assert transaction.session.authenticated == "ann"


def test_octets_are_taken_as_they_are() -> None:
    assert make_transaction(b"\n\0\xff").message.content == b"\n\0\xff"


@pytest.mark.parametrize(
    "wrong",
    [{"content": b"", "subject": "x"}, {"content": "x", "attachments": {"a": b""}}, {"client": "host"}],
)
def test_what_makes_no_transaction_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        make_transaction(**wrong)


@pytest.mark.parametrize(
    ("disposition", "action", "code"),
    [("relayed", "accept", "250"), ("discarded", "discard", "250"), ("refused", "reject", "550")],
)
def test_a_record_tells_one_end_for_all_recipients(disposition: str, action: str, code: str) -> None:
    record = make_record(make_transaction(recipients=["a@b", "c@d"]), disposition=disposition, rule="r")
    assert [(r.address, r.disposition, r.action, r.rule) for r in record.recipients] == [
        ("a@b", disposition, action, "r"),
        ("c@d", disposition, action, "r"),
    ]
    assert record.reply.startswith(code)


# --- asking a filter


@dataclass
class Everywhere:
    """Writes down what each hook is asked, and answers where it is told to."""

    answer_at: str = ""
    asked: list[tuple[str, Any]] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)
    closed: bool = False

    def _answer(self, hook: str, known: object) -> Verdict | None:
        self.asked.append((hook, known))
        return Verdict(reason=hook) if hook == self.answer_at else None

    @hookimpl
    def filter_connect(self, session: Session) -> Verdict | None:
        return self._answer("connect", (session.helo, session.authenticated))

    @hookimpl
    async def filter_helo(self, session: Session) -> Verdict | None:
        return self._answer("helo", (session.helo, session.authenticated))

    @hookimpl
    def filter_mail(self, session: Session, envelope: Envelope) -> Verdict | None:
        return self._answer("mail", (session.authenticated, envelope.mail_from, envelope.recipients))

    @hookimpl
    async def filter_rcpt(self, envelope: Envelope, recipient: Recipient) -> Verdict | None:
        return self._answer("rcpt", (recipient.address, [r.address for r in envelope.recipients]))

    @hookimpl
    def filter_message(self, transaction: Transaction) -> Verdict | None:
        return self._answer("message", transaction.message.content)

    @hookimpl
    def report_transaction(self, record: Record) -> None:
        self.reported.append(record.id)

    def close(self) -> None:
        self.closed = True


CONVERSATION = [
    ("connect", ("", None)),
    ("helo", ("h", None)),
    ("mail", ("ann", "s@example.org", ())),
    ("rcpt", ("a@example.com", [])),
    ("rcpt", ("b@example.com", ["a@example.com"])),
    ("message", b"x"),
]


@pytest.mark.parametrize(
    ("answer_at", "asked"), [("", 6), ("connect", 1), ("helo", 2), ("mail", 3), ("rcpt", 4), ("message", 6)]
)
def test_hooks_are_asked_in_the_order_of_the_stages_until_one_answers(answer_at: str, asked: int) -> None:
    instance = Everywhere(answer_at=answer_at)
    verdict = run_filter(
        instance,
        make_transaction(
            b"x",
            mail_from="s@example.org",
            helo="h",
            authenticated="ann",
            recipients=["a@example.com", "b@example.com"],
        ),
    )
    assert instance.asked == CONVERSATION[:asked]
    assert verdict == (Verdict(reason=answer_at) if answer_at else None)
    assert not instance.reported


def test_an_instance_stays_open_and_reports_are_called_by_hand() -> None:
    instance = Everywhere()
    run_filter(instance, make_transaction())
    assert not instance.closed
    record = make_record()
    instance.report_transaction(record)
    assert instance.reported == [record.id]


EVENTS: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_events() -> None:
    EVENTS.clear()


class Threaded:
    """Has settings and a close of its own, without being a dataclass."""

    def __init__(self, *, fails: bool = False, wrong: bool = False) -> None:
        self.fails = fails
        self.wrong = wrong

    @hookimpl
    def filter_message(self) -> Any:
        EVENTS.append("main" if threading.current_thread() is threading.main_thread() else "thread")
        if self.fails:
            raise LookupError("of the filter")
        return "yes" if self.wrong else None

    def close(self) -> None:
        EVENTS.append("closed")


@pytest.mark.parametrize(
    ("settings", "error"), [({}, None), ({"fails": True}, LookupError), ({"wrong": True}, TypeError)]
)
def test_a_class_is_made_asked_in_a_thread_and_closed(
    settings: dict[str, bool], error: type[Exception] | None
) -> None:
    if error:
        with pytest.raises(error):
            run_filter(Threaded, make_transaction(), **settings)
    else:
        assert run_filter(Threaded, make_transaction(), **settings) is None
    assert EVENTS == ["thread", "closed"]


@dataclass
class Misspelt:
    @hookimpl
    def filter_mesage(self, transaction: Transaction) -> None: ...


@dataclass
class Asking:
    @hookimpl
    def filter_message(self, message: object) -> None: ...


class Hookless:
    pass


@pytest.mark.parametrize(
    ("filter_or_class", "settings", "said"),
    [
        pytest.param(Misspelt, {}, "filter_mesage", id="a misspelt hook"),
        pytest.param(Misspelt(), {}, "filter_mesage", id="a misspelt hook of an instance"),
        pytest.param(Asking, {}, "message", id="an argument that the hook does not offer"),
        pytest.param(Hookless, {}, "Hookless", id="no hook"),
    ],
)
def test_what_rules_yaml_would_refuse_is_refused(
    filter_or_class: object, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        run_filter(filter_or_class, make_transaction(), **settings)


@dataclass
class Server:
    host: str
    port: int = 25


@dataclass(kw_only=True)
class Settings(Everywhere):
    words: list[str] = field(default_factory=list)
    limit: int | str = 5
    servers: list[Server] = field(default_factory=list)


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({"wrods": []}, ["unknown key 'wrods' (did you mean 'words'?), expected one of: answer_at, asked, "]),
        ({"words": "a"}, ["words: 'a', expected a list"]),
        (
            {"words": ["a", 5], "closed": "yes"},
            ["closed: 'yes', expected true or false", "words[1]: 5, expected text (write it in quotes)"],
        ),
        ({"limit": []}, ["limit"]),
        ({"servers": [{"host": "a"}, {"prot": 1}]}, [
            "servers[1].host: the key 'host' is missing under servers",
            "servers[1]: unknown key 'prot' (did you mean 'port'?), expected one of: host, port",
        ]),
        ({"servers": [{"host": "a", "port": "x"}]}, ["servers[0].port: 'x', expected a whole number"]),
        ({"words": [object()]}, ["a setting that rules.yaml cannot hold: "]),
    ],
)  # fmt: skip
def test_wrong_settings_are_named_as_check_names_them(settings: dict[str, Any], lines: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        run_filter(Settings, make_transaction(), **settings)
    found = str(caught.value).splitlines()
    assert len(found) == len(lines) or lines == ["limit"]
    for line, expected in zip(found, lines, strict=False):
        assert line.startswith(f"Settings: {expected}")
    assert "pydantic" not in str(caught.value).replace("PydanticSerializationError", "")


@dataclass
class Opinionated(Everywhere):
    """Answers everywhere, at RCPT for one recipient of two."""

    def _answer(self, hook: str, known: object) -> Verdict | None:
        super()._answer(hook, known)
        return None if "a@example.com" in str(known) else Verdict(reason=hook, action=Action.REJECT)


def test_all_verdicts_come_with_their_stages_and_recipients() -> None:
    instance = Opinionated()
    two = make_transaction("x", recipients=["a@example.com", "b@example.com", "c@example.org"])
    hits = run_all(instance, two)
    assert [(hit.stage, hit.recipient, hit.verdict.reason) for hit in hits] == [
        (Stage.CONNECT, None, "connect"),
        (Stage.HELO, None, "helo"),
        (Stage.MAIL, None, "mail"),
        (Stage.MESSAGE, None, "message"),
    ]
    # those accepted before a recipient are known to it, although the rule would have refused the session
    assert instance.asked[-2] == ("rcpt", ("c@example.org", ["a@example.com", "b@example.com"]))


class OneOfThem:
    @hookimpl
    async def filter_rcpt(self, envelope: Envelope) -> Verdict | None:
        """Takes no recipient; the hit has it all the same."""
        return Verdict(reason="the second") if len(envelope.recipients) == 1 else None


async def test_a_hit_at_rcpt_has_its_recipient_whatever_the_hook_asks_for() -> None:
    [hit] = await ask_all(OneOfThem, make_transaction(recipients=["a@example.com", "b@example.com"]))
    assert (hit.stage, hit.recipient, hit.verdict) == (
        Stage.RCPT, "b@example.com", Verdict(reason="the second")
    )  # fmt: skip


@pytest.mark.parametrize("run", [run_filter, run_all])
def test_an_error_of_the_filter_reaches_the_test_and_the_filter_is_closed(run: Callable[..., Any]) -> None:
    with pytest.raises(LookupError):
        run(Threaded, make_transaction(), fails=True)
    assert EVENTS == ["thread", "closed"]


def test_settings_beside_an_instance_are_a_mistake() -> None:
    with pytest.raises(TypeError, match="an instance has its own"):
        run_filter(Everywhere(), make_transaction(), answer_at="mail")


async def test_ask_filter_does_the_same_inside_an_event_loop() -> None:
    assert await ask_filter(Everywhere, make_transaction(), answer_at="rcpt") == Verdict(reason="rcpt")


def test_a_filter_is_asked_about_a_message_to_nobody_too() -> None:
    assert run_filter(Everywhere, make_transaction(recipients=[]), answer_at="message") == Verdict(
        reason="message"
    )


class Leaving:
    """Ends the program, after a while."""

    @hookimpl
    async def filter_rcpt(self, recipient: Recipient) -> None:
        await asyncio.sleep(0.001)
        raise SystemExit(recipient.address)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_whatever_a_filter_raises_reaches_the_test(run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
    with pytest.raises(SystemExit, match=r"a@example\.com"):
        run(ask_filter(Leaving, make_transaction(recipients=["a@example.com", "b@example.com"])))


# --- a whole gateway


def test_a_gateway_takes_mail_into_its_inbox_and_its_journal() -> None:
    with running_gateway("") as gateway:
        assert gateway.send().code == 250
        two = make_transaction(b"Subject: two\r\n\r\n..\r\n", mail_from="", recipients=["a@b", "c@d"])
        assert gateway.send(two).code == 250
        assert [[r.address for r in record.recipients] for record in gateway.journal()] == [
            ["a@b", "c@d"],
            ["recipient@example.com"],
        ]
        assert {r.disposition for record in gateway.journal() for r in record.recipients} == {"inbox"}
        assert [message.recipients for message in gateway.inbox()] == [
            ("a@b", "c@d"),
            ("recipient@example.com",),
        ]
        assert gateway.inbox()[0].content == two.message.content
        assert gateway.quarantine() == []


class Nowhere(NamedTuple):
    """An upstream where nobody listens."""

    host: str = "127.0.0.1"
    port: int = 1


WITNESS = """
from gatepost import Action, Verdict, hookimpl

class Witness:
    @hookimpl
    def filter_connect(self, session):
        return Verdict(reason=f"{session.client} {session.client_port}", action=Action.TAG)

    @hookimpl
    def filter_mail(self, session):
        facts = (session.helo, session.protocol, session.tls, session.authenticated)
        return Verdict(reason=repr(facts), action=Action.TAG)
"""
WITNESSED = "rules: [{name: witness, filter: ./witness.py:Witness}]"
SESSIONS: list[tuple[dict[str, Any], str]] = [
    ({}, "('client.example.org', 'ESMTP', None, None)"),
    ({"client": "2001:db8::7", "helo": "[IPv6:2001:db8::7]"}, "('[IPv6:2001:db8::7]', 'ESMTP', None, None)"),
    ({"authenticated": "ann"}, "('client.example.org', 'ESMTPA', None, 'ann')"),
    ({"authenticated": "änn", "tls": "TLSv1.2"}, "('client.example.org', 'ESMTPSA', 'TLSv1.2', 'änn')"),
    ({"tls": "TLSv1.3"}, "('client.example.org', 'ESMTPS', 'TLSv1.3', None)"),
]


def test_the_journal_has_what_was_refused_however_late_it_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give_up = SmtpSession._give_up_whatever_happens

    async def give_up_late(session: SmtpSession) -> None:
        await asyncio.sleep(0.2)
        await give_up(session)

    monkeypatch.setattr(SmtpSession, "_give_up_whatever_happens", give_up_late)
    with running_gateway({"relay": [{"recipients": "*@example.com", "to": "inbox"}]}) as gateway:
        assert gateway.send(make_transaction(recipients=["bob@example.net"])).code == 550
        assert [record.recipients[0].address for record in gateway.journal()] == ["bob@example.net"]


def test_a_transaction_is_sent_as_its_client_would() -> None:
    with running_gateway(WITNESSED, files={"witness.py": WITNESS}) as gateway:
        for facts, expected in SESSIONS:
            transaction = make_transaction(**facts)
            assert gateway.send(transaction).code == 250
            session = transaction.session
            record = gateway.journal()[0]
            assert [evaluation.reason for evaluation in record.evaluations] == [
                f"{session.client} {session.client_port}",
                expected,
            ]
            assert (record.client, record.tls) == (str(session.client), session.tls)
        helo = make_transaction(helo="old.example")
        assert gateway.send(replace(helo, session=replace(helo.session, extended=False))).code == 250
        assert gateway.journal()[0].evaluations[1].reason == "('old.example', 'SMTP', None, None)"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"tls": "TLSv1.1"}, "tls='TLSv1.1' cannot be sent: expected TLSv1.2 or TLSv1.3, or None"),
        ({"tls": "TLSv1.3", "extended": False}, "HELO"),
        ({"authenticated": "ann", "extended": False}, "HELO"),
    ],
)
def test_what_no_client_can_be_is_not_sent_as_something_else(facts: dict[str, Any], said: str) -> None:
    transaction = make_transaction()
    impossible = replace(transaction, session=replace(transaction.session, **facts))
    with pytest.raises(ValueError, match=said):
        send(("127.0.0.1", 1), impossible, timeout_seconds=1)


def test_a_rule_about_users_and_routes_about_clients_hold_for_what_is_sent() -> None:
    rules = """
      relay:
        - {recipients: "*@example.com", clients: [198.51.100.0/24, authenticated], to: inbox}
      rules:
        - {name: plain, filter: match, when: {authenticated: true, tls: false}, action: reject}
    """
    with running_gateway(rules) as gateway:
        assert gateway.send(make_transaction()).enhanced == "5.7.1"
        assert gateway.send(make_transaction(client="198.51.100.1")).code == 250
        assert gateway.send(make_transaction(authenticated="ann")).code == 550
        assert gateway.send(make_transaction(authenticated="ann", tls="TLSv1.3")).code == 250
        gateway.reload("rules: []")
        assert gateway.send(make_transaction(authenticated="ann")).code == 250


def test_an_upstream_gets_what_is_for_its_domain() -> None:
    with running_gateway("", upstream=Nowhere()) as gateway:
        assert gateway.send(make_transaction(recipients="a@example.com")).code == 451
        assert gateway.send(make_transaction(recipients="a@example.org")).enhanced == "5.7.1"
        assert gateway.inbox() == []


def test_what_the_rules_say_themselves_is_kept() -> None:
    rules = {"hostname": "other.example.net", "relay": [{"recipients": "*@example.com", "to": "discard"}]}
    with running_gateway(rules) as gateway:
        assert gateway.send(make_transaction(recipients="a@example.org")).enhanced == "5.7.1"
        assert gateway.send(make_transaction(recipients=["a@example.org", "b@example.com"])).code == 250
        assert gateway.inbox() == []


def test_mail_that_is_not_decided_by_a_filter_can_be_kept_in_quarantine() -> None:
    rules = """
      rules:
        - name: broken
          filter: ./filters/broken.py:Broken
          on_error: quarantine
    """
    code = """
from gatepost import hookimpl

class Broken:
    @hookimpl
    def filter_message(self):
        raise LookupError("secret")
"""
    with running_gateway(rules, files={"filters/broken.py": code}) as gateway:
        reply = gateway.send()
        assert reply.code == 250
        assert "secret" not in str(reply)
        assert len(gateway.quarantine()) == 1


def test_rules_that_cannot_be_loaded_are_reported_to_the_test() -> None:
    with pytest.raises(ConfigError, match="rulez"), running_gateway("rulez: []"):
        pass


def test_a_gateway_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with running_gateway("") as gateway:
        gateway.send()
    assert threading.active_count() == before
