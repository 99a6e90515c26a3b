"""aiosmtpd's handlers, as people write them, answer behind Gatepost as they do in aiosmtpd's own server."""

import asyncio
import mailbox
import re
import socket
import sys
from contextlib import contextmanager
from importlib import import_module
from textwrap import dedent

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope, LoginPassword, Session
from gatepost import Action
from gatepost.config import ConfigError
from gatepost.model.mail import Stage
from gatepost.pipeline.filter_settings import make_filter
from gatepost.pipeline.hooks import hooks_of
from gatepost.testing import ask_filter, make_transaction, run_filter, running_gateway
from gatepost_aiosmtpd import Aiosmtpd
from ports import free_port

HANDLERS = '''
import asyncio

SEEN = []


class OnlyOurDomain:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if not address.endswith("@example.com"):
            return "550 not relaying to that domain"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        SEEN.append((envelope.mail_from, list(envelope.rcpt_tos), envelope.content))
        return "250 Message accepted for delivery"


class Terse:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return "250"

    async def handle_DATA(self, server, session, envelope):
        if b"big" in envelope.content:
            return "452-4.2.2 The mailbox is full\\r\\n452 4.2.2 Try later"
        return "250"


class Polite:
    """All hooks; the session and the envelope are written to, as handlers do."""

    def __init__(self, unwanted="spam"):
        self.unwanted = unwanted

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        SEEN.append((type(session).__name__, hostname, session.extended_smtp, session.host_name))
        session.host_name = hostname
        session.started = True
        if self.unwanted in hostname:
            return ["550 5.7.1 Go away"]
        return responses

    async def handle_HELO(self, server, session, envelope, hostname):
        session.host_name = hostname
        session.started = True
        return f"250 {server.hostname}" if self.unwanted not in hostname else "450 Use EHLO"

    async def handle_MAIL(self, server, session, envelope, address, mail_options):
        assert session.started
        await asyncio.sleep(0)
        if self.unwanted in address:
            return "553 5.1.8 Unwanted sender"
        envelope.mail_from = address
        envelope.mail_options.extend(mail_options)
        envelope.marks = ["mail"]
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if self.unwanted in address:
            envelope.marks.append("refused")
            return "451 4.7.1 Greylisted"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        envelope.marks.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        SEEN.append((session.host_name, envelope.mail_from, envelope.mail_options, envelope.rcpt_tos,
                     envelope.marks, envelope.content, envelope.original_content, envelope.smtp_utf8))
        if b"virus" in envelope.content:
            return "554 5.7.1 Infected"
        return "250 Message accepted"


class Ends:
    """Would end the event loop at the first message."""

    def __init__(self, how):
        self.how = how

    async def handle_DATA(self, server, session, envelope):
        how, self.how = self.how, ""
        if how == "exits":
            raise SystemExit(3)
        if how == "interrupts":
            raise KeyboardInterrupt
        if how == "a task exits":
            self.task = server.loop.create_task(self.exit())
        if how == "the loop is stopped":
            server.loop.stop()
        return "250 OK"

    async def exit(self):
        raise SystemExit(3)


class OldHello:
    async def handle_EHLO(self, server, session, envelope, hostname):
        session.host_name = hostname
        return "250 HELP" if hostname != "spam.example" else "550 No"


class OldDelivery:
    def process_message(self, peer, mail_from, rcpt_tos, data):
        SEEN.append((len(peer), mail_from, rcpt_tos, data))
        return "554 No" if b"virus" in data else None


class Changes:
    """Does what Gatepost cannot do."""

    def __init__(self, what):
        self.what = what

    async def handle_MAIL(self, server, session, envelope, address, mail_options):
        envelope.mail_from = "other@example.org" if self.what == "sender" else address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if self.what != "forgets":
            envelope.rcpt_tos.append("boss@example.com" if self.what == "redirect" else address)
        if self.what == "more":
            envelope.rcpt_tos.append("copy@example.com")
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.what == "content":
            envelope.content = b"Subject: other\\r\\n\\r\\n"
        if self.what == "recipients":
            envelope.rcpt_tos.clear()
        if self.what == "push":
            await server.push("250 OK")
        if self.what == "raises":
            raise RuntimeError("broken")
        return {"none": None, "354": "354 go on", "words": "fine"}.get(self.what, "250 OK")


class Authenticates:
    async def auth_MAGIC(self, server, args): ...
    async def handle_AUTH(self, server, session, envelope, args): ...
    async def handle_QUIT(self, server, session, envelope): return "221 Bye"


class Blocks:
    def __init__(self):
        import threading
        self.go, self.waits = threading.Event(), threading.Event()

    async def handle_DATA(self, server, session, envelope):
        self.waits.set()
        self.go.wait(20)
        return "250 OK"
'''


@pytest.fixture
def people(tmp_path, monkeypatch):
    """The module of handlers, which can be imported."""
    (tmp_path / "people.py").write_text(HANDLERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "people", raising=False)
    yield import_module("people")
    sys.modules.pop("people")


@contextmanager
def in_aiosmtpd(handler, **options):
    port = free_port()
    controller = Controller(handler, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@contextmanager
def in_gatepost(handler, **settings):
    rule = {"name": "handler", "filter": "aiosmtpd", "with": {"handler": handler, **settings}}
    with running_gateway({"rules": [rule]}) as gateway:
        yield gateway.port


def play(port, transcript):
    """The replies to the lines; an enhanced code is left out, of a positive reply all but the code."""
    replies = []
    with socket.create_connection(("127.0.0.1", port), 60) as client, client.makefile("rb") as lines:

        def reply():
            whole = []
            while True:
                line = lines.readline().decode().rstrip()
                whole.append(re.sub(r"^(\d{3}.)[245]\.\d+\.\d+ ", r"\1", line))
                if line[3:4] != "-":
                    break
            replies.append(whole if whole[0][:1] in "45" else whole[0][:3])

        reply()
        for line in transcript:
            client.sendall(line.encode() + b"\r\n")
            reply()
    return replies


MESSAGE = "Subject: lunch\r\n\r\nHello\r\n."
SMTP = ["MAIL FROM:<ann@example.org>", "RCPT TO:<bob@example.com>", "DATA", MESSAGE]
EHLO = "EHLO client.example"
TRANSCRIPTS = {
    "accepted": [EHLO, *SMTP, "QUIT"],
    "helo": ["HELO client.example", *SMTP],
    "two in one session": [EHLO, *SMTP, "MAIL FROM:<eve@example.org>", *SMTP[1:]],
    "another domain": [EHLO, SMTP[0], "RCPT TO:<x@example.net>", *SMTP[1:]],
    "spam sender": [EHLO, "MAIL FROM:<spam@example.org>", *SMTP],
    "spam recipient": [EHLO, SMTP[0], "RCPT TO:<spam@example.com>", *SMTP[1:]],
    "spam client": ["EHLO spam.example"],
    "spam client's helo": ["HELO spam.example"],
    "virus": [EHLO, *SMTP[:3], MESSAGE.replace("Hello", "virus"), *SMTP],
    "big": [EHLO, *SMTP[:3], MESSAGE.replace("Hello", "big"), *SMTP],
    "null reverse-path and options": [EHLO, "MAIL FROM:<> size=100 BODY=8bitmime", *SMTP[1:]],
    "reset": [EHLO, *SMTP[:2], "RSET", "MAIL FROM:<eve@example.org>", *SMTP[1:]],
}
CASES = [
    ("OnlyOurDomain", ["accepted", "helo", "another domain", "two in one session", "reset"]),
    ("Terse", ["accepted", "big"]),
    ("Polite", list(TRANSCRIPTS)),
    ("OldHello", ["accepted"]),
    ("OldDelivery", ["accepted", "virus"]),
]


@pytest.mark.filterwarnings("ignore:Use :DeprecationWarning")
@pytest.mark.parametrize(("name", "transcript"), [(name, one) for name, some in CASES for one in some])
def test_a_handler_answers_and_sees_the_same_as_in_aiosmtpd(people, name, transcript):
    with in_aiosmtpd(getattr(people, name)()) as port:
        expected = play(port, TRANSCRIPTS[transcript])
    seen_by_it, people.SEEN[:] = list(people.SEEN), []
    with in_gatepost(f"people:{name}") as port:
        assert play(port, TRANSCRIPTS[transcript]) == expected
    assert seen_by_it == people.SEEN


@pytest.mark.parametrize("class_name", ["Debugging", "Sink"])
def test_aiosmtpds_own_handlers_run(class_name, capsys):
    handlers = import_module("aiosmtpd.handlers")
    with in_aiosmtpd(getattr(handlers, class_name)()) as port:
        expected = play(port, TRANSCRIPTS["accepted"])
    printed = capsys.readouterr().out
    with in_gatepost(f"aiosmtpd.handlers:{class_name}") as port:
        assert play(port, TRANSCRIPTS["accepted"]) == expected
    without_port = re.compile(r"X-Peer: .*")
    assert without_port.sub("", capsys.readouterr().out) == without_port.sub("", printed)
    assert ("Subject: lunch" in printed) is (class_name == "Debugging")


def test_a_maildir_is_filled_as_by_aiosmtpd(tmp_path):
    handlers = import_module("aiosmtpd.handlers")
    with in_aiosmtpd(handlers.Mailbox(tmp_path / "theirs")) as port:
        expected = play(port, TRANSCRIPTS["accepted"])
    with in_gatepost("aiosmtpd.handlers:Mailbox", arguments={"mail_dir": str(tmp_path / "ours")}) as port:
        assert play(port, TRANSCRIPTS["accepted"]) == expected
    [theirs], [ours] = (list(mailbox.Maildir(tmp_path / name)) for name in ("theirs", "ours"))
    for field in ("Subject", "X-MailFrom", "X-RcptTo"):
        assert ours[field] == theirs[field]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("sender", "handle_MAIL"),
        ("redirect", "handle_RCPT"),
        ("more", "handle_RCPT"),
        ("forgets", "handle_RCPT"),
        ("content", "handle_DATA"),
        ("recipients", "handle_DATA"),
        ("none", "handle_DATA returned None"),
        ("354", "handle_DATA returned '354 go on'"),
        ("words", "handle_DATA returned 'fine'"),
    ],
)
def test_what_cannot_be_honoured_is_a_failure_and_never_ignored(people, what, words):
    with pytest.raises(ValueError, match=words):
        run_filter(Aiosmtpd, make_transaction(), handler="people:Changes", arguments={"what": what})


def test_a_failure_is_decided_by_on_error(people):
    settings = {"handler": "people:Changes", "arguments": {"what": "content"}}
    rule = {"name": "x", "filter": "aiosmtpd", "with": settings}
    with running_gateway({"rules": [rule]}) as gateway:
        assert gateway.send().code == 451
    with running_gateway({"rules": [rule | {"on_error": "quarantine"}]}) as gateway:
        assert gateway.send().code == 250
        assert len(gateway.quarantine()) == 1


def test_what_the_server_object_lacks_is_named(people):
    with pytest.raises(AttributeError, match=r"server\.push does not exist where Gatepost runs the handler"):
        run_filter(Aiosmtpd, make_transaction(), handler="people:Changes", arguments={"what": "push"})


def test_the_operator_s_action_and_reply_come_first(people):
    rule = {
        "name": "x", "filter": "aiosmtpd", "with": {"handler": "people:OnlyOurDomain"},
        "action": "reject", "reply": "550 5.7.1 Ours ({reason})",
    }  # fmt: skip
    with running_gateway({"rules": [rule]}) as gateway:
        reply = gateway.send(make_transaction(recipients="x@example.net"))
    assert str(reply) == "550 5.7.1 Ours (handle_RCPT: 550 not relaying to that domain)"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{handler: people}", "'people', expected module:Class"),
        (
            "{handler: 'nowhere:At'}",
            "cannot be imported: No module named 'nowhere': it is neither installed in ",
        ),
        ("{handler: 'people:Nobody'}", "cannot be imported: module 'people' has no attribute 'Nobody'"),
        ("{handler: 'people:SEEN'}", "is not a class"),
        ("{handler: 'aiosmtpd.smtp:SMTP'}", "is an SMTP server class, expected a handler class"),
        ("{handler: 'people:Authenticates'}", "Gatepost never calls auth_MAGIC, handle_AUTH, handle_QUIT"),
        ("{handler: 'people:Changes'}", "missing 1 required positional argument: 'what'"),
        ("{}", "the key 'handler' is missing"),
    ],
)
def test_a_handler_that_cannot_run_is_refused_at_the_start(people, settings, words):
    rules = f"""
        rules:
          - name: x
            filter: aiosmtpd
            with: {settings}
    """
    with pytest.raises(ConfigError) as error, running_gateway(dedent(rules)):
        pass
    assert words in str(error.value)


def test_hooks_that_the_operator_names_need_not_be_called(people):
    ignored = {"auth_MAGIC", "handle_AUTH", "handle_QUIT"}
    assert run_filter(Aiosmtpd, make_transaction(), handler="people:Authenticates", ignore=ignored) is None


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("OldDelivery", {Stage.MESSAGE}),
        ("OnlyOurDomain", {Stage.MAIL, Stage.RCPT, Stage.MESSAGE}),
        ("OldHello", {Stage.HELO, Stage.MESSAGE}),
    ],
)
def test_only_the_stages_that_the_handler_needs_are_asked(people, name, stages):
    made = make_filter(Aiosmtpd, {"handler": f"people:{name}"})
    hooks, report = hooks_of(made).stages, hooks_of(made).report
    assert set(hooks) == stages
    assert report is None
    made.close()


@pytest.mark.parametrize("when", [None, {"recipient": "*@example.com"}])
def test_one_envelope_goes_through_a_transaction_whether_the_rule_is_asked_early_or_at_rcpt(people, when):
    rule = {"name": "x", "filter": "aiosmtpd", "with": {"handler": "people:Polite"}}
    recipients = [f"{name}@example.com" for name in ("one", "spam", "two", "three")]
    people.SEEN.clear()
    with running_gateway({"rules": [rule | ({"when": when} if when else {})]}) as gateway:
        reply = gateway.send(make_transaction(recipients=recipients[::2] if when else recipients))
        assert reply.code == 250
        [kept] = gateway.inbox()
    *_, (_, _, _, rcpt_tos, marks, *_) = people.SEEN
    assert rcpt_tos == list(kept.recipients)
    assert [mark for mark in marks if mark != "refused"] == ["mail", *rcpt_tos]
    assert [one[0] for one in people.SEEN].count("Session") <= 1, "EHLO is asked once"


def test_under_a_condition_on_the_message_each_recipient_has_a_transaction_of_its_own(people):
    rule = {"name": "x", "filter": "aiosmtpd", "with": {"handler": "people:Polite"}, "when": {"size": ">1B"}}
    rule["on_error"] = "skip"
    recipients = ["one@example.com", "spam@example.com", "two@example.com"]
    people.SEEN.clear()
    with running_gateway({"rules": [rule], "mixed_recipients": "quarantine"}) as gateway:
        assert gateway.send(make_transaction(recipients=recipients)).code == 250
        [kept] = gateway.inbox()
    assert kept.recipients == ("one@example.com", "two@example.com")
    assert [one[0] for one in people.SEEN].count("Session") == 1
    assert [one[3:5] for one in people.SEEN[1:]] == [
        ([address], ["mail", address]) for address in ("one@example.com", "two@example.com")
    ]


def test_a_refusal_of_the_older_handle_ehlo_is_the_whole_reply(people):
    """aiosmtpd sends its own lines first, and so a reply of two codes."""
    with in_gatepost("people:OldHello") as port:
        assert play(port, ["EHLO spam.example"]) == ["220", ["550 No"]]


@pytest.mark.parametrize(
    ("responses", "words"),
    [
        ("[*responses[:-1], '250-X-OURS', responses[-1]]", "handle_EHLO"),
        ("None", "handle_EHLO"),
        ("[]", "found"),
    ],
)
def test_extensions_that_a_handler_adds_or_takes_away_are_a_failure(people, responses, words):
    source = f"async def hello(self, server, session, envelope, name, responses): return {responses}"
    exec(source, vars(people))
    people.Polite.handle_EHLO = people.hello
    with pytest.raises(ValueError, match=words):
        run_filter(Aiosmtpd, make_transaction(), handler="people:Polite")


async def test_the_session_is_aiosmtpds_own_with_all_that_is_known(people):
    seen = []

    class Looks:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802 - its name in aiosmtpd
            seen.append((session, envelope, server.hostname, asyncio.get_running_loop() is session.loop))
            return "250 OK"

    people.Looks = Looks
    transaction = make_transaction(client="2001:db8::7", helo="laptop", tls="TLSv1.3", authenticated="ann")
    assert transaction.session.extended
    assert await ask_filter(Aiosmtpd, transaction, handler="people:Looks") is None
    [(session, envelope, hostname, is_its_loop)] = seen
    assert type(session) is Session
    assert type(envelope) is Envelope
    assert session.peer == ("2001:db8::7", transaction.session.client_port, 0, 0)
    assert (session.host_name, session.extended_smtp) == ("laptop", True)
    assert session.ssl == {"version": "TLSv1.3"}
    assert session.authenticated is True
    assert session.auth_data == LoginPassword(login=b"ann", password=b"")
    assert hostname == socket.getfqdn()
    assert is_its_loop


def test_content_is_text_where_that_is_asked_for(people):
    people.SEEN.clear()
    people.OldDelivery.process_message = lambda self, peer, sender, recipients, data: people.SEEN.append(data)
    transaction = make_transaction(content=b"Subject: x\r\n\r\n\xff\r\n")
    run_filter(Aiosmtpd, transaction, handler="people:OldDelivery", decode_data=True)
    assert people.SEEN == ["Subject: x\r\n\r\n\udcff\r\n"]


async def test_many_sessions_leave_nothing_behind_but_a_bounded_number(people, monkeypatch):
    monkeypatch.setattr("gatepost_aiosmtpd._SESSIONS", 5)
    made = make_filter(Aiosmtpd, {"handler": "people:Polite"})
    for _ in range(20):
        assert await ask_filter(made, make_transaction()) is None
    assert len(made._dialogues) <= 5
    assert all(dialogue.envelope is None for dialogue in made._dialogues.values())
    made.close()


async def test_sessions_at_the_same_time_have_their_own_envelopes(people):
    made = make_filter(Aiosmtpd, {"handler": "people:Polite"})
    people.SEEN.clear()
    many = [make_transaction(recipients=f"b{number}@example.com") for number in range(30)]
    assert not any(await asyncio.gather(*(ask_filter(made, one) for one in many)))
    of_data = [one for one in people.SEEN if len(one) == 8]
    assert sorted(one[4][1] for one in of_data) == sorted(f"b{number}@example.com" for number in range(30))
    assert all(one[3] == [one[4][1]] for one in of_data)
    made.close()


@pytest.mark.parametrize("how", ["exits", "interrupts", "a task exits", "the loop is stopped"])
async def test_a_handler_that_would_end_its_event_loop_fails_alone(people, caplog, how):
    made = make_filter(Aiosmtpd, {"handler": "people:Ends", "arguments": {"how": how}})
    first = asyncio.wait_for(ask_filter(made, make_transaction()), 30)
    if how in ("exits", "interrupts"):
        with pytest.raises(RuntimeError, match=r"the handler raised (SystemExit|KeyboardInterrupt)"):
            await first
    else:
        assert await first is None
    assert await asyncio.wait_for(ask_filter(made, make_transaction()), 30) is None
    assert ("tried to end the process" in caplog.text) == (how == "a task exits")
    made.close()
    assert made._started.loop.is_closed()


async def test_a_handler_that_blocks_holds_nobody_else_up(people):
    made = make_filter(Aiosmtpd, {"handler": "people:Blocks"})
    asked = asyncio.create_task(ask_filter(made, make_transaction()))
    turns = 0
    while not made._handler.waits.is_set() or turns < 20:
        await asyncio.sleep(0)
        turns += 1
    assert not asked.done()
    made._handler.go.set()
    assert await asked is None
    made.close()
    assert made._started.loop.is_closed()


def test_an_enhanced_code_that_does_not_fit_stays_as_text(people):
    people.OldDelivery.process_message = lambda *_: "550 4.7.1 Odd"
    verdict = run_filter(Aiosmtpd, make_transaction(), handler="people:OldDelivery")
    assert (verdict.action, verdict.reply.code, verdict.reply.text) == (Action.REJECT, 550, "4.7.1 Odd")
