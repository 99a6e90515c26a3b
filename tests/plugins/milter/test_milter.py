"""The filter milter beside a milter that plays every answer and every fault."""

import smtplib
import socket
import struct

import pytest
from gatepost.testing import make_transaction, run_filter
from gatepost.testing.upstream import Then, Usual
from gatepost_milter import Milter, conversations
from scripted_milter import packet

from .conftest import CONTENT, SENDER, A, B, rule

NO_ANSWERS = 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000 | 0x40000 | 0x80000 | 0x80
NO_STEPS_AT_ALL = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x200
SKIP, LEADING_SPACE = 0x400, 0x100000
ACCEPT, CONTINUE, DISCARD = packet(b"a"), packet(b"c"), packet(b"d")
UNCHANGED = [(SENDER, [A, B], CONTENT)]


def change(letter, *words, number=None):
    start = b"" if number is None else struct.pack("!I", number)
    return packet(letter, start + b"".join(word + b"\0" for word in words))


def test_a_milter_is_told_of_everything_in_order(scripted, gateway):
    milter = scripted()
    reply, got, _ = gateway.send([rule(milter)])
    assert (reply[:3], got) == ("250", UNCHANGED)
    assert milter.commands() == "OCHMRRTLLLNBE"
    assert milter.data(b"O") == [struct.pack("!III", 6, 0x1FF, 0x1FF7FF)]
    (client,) = milter.data(b"C")
    assert client.startswith(b"unknown\0004")
    assert client.endswith(b"192.0.2.1\0")
    assert milter.data(b"H") == [b"client.example\0"]
    assert milter.data(b"M") == [b"<s@example.org>\0"]
    assert milter.data(b"R") == [b"<a@example.com>\0", b"<b@example.com>\0"]
    assert milter.data(b"L") == [b"From\0s@example.org\0", b"X-A\0 1\n\tfolded\0", b"x-a\0002\0"]
    assert milter.data(b"B") == [b"body\r\n.dot\r\n"]
    macros = milter.data(b"D")
    assert macros[0].startswith(b"Cj\0mx.example.net\0{daemon_name}\0mx.example.net\0")
    assert b"_\0unknown [192.0.2.1]\0" in macros[0]
    assert b"M{mail_addr}\0s@example.org\0{mail_host}\0example.org\0{mail_mailer}\0smtp\0" in macros
    assert any(one.startswith(b"Ei\0") for one in macros)


def test_a_user_is_named_in_the_macros_of_mail(scripted, gateway):
    milter = scripted()
    milter.lists = struct.pack("!I", 2) + b"{auth_authen}, i {auth_type}\0"
    gateway.send([rule(milter, macros={"{daemon_name}": "ORIGINATING"})])
    assert not [one for one in milter.data(b"D") if one[:1] == b"M"], "none of them has a value"
    assert b"{daemon_name}\0ORIGINATING\0" in milter.data(b"D")[0]
    gateway.send([rule(milter)], authenticated="ann", tls="TLSv1.3")
    assert b"M{auth_authen}\0ann\0{auth_type}\0PLAIN\0" in milter.data(b"D")


@pytest.mark.parametrize(
    ("steps", "commands"),
    [
        (NO_ANSWERS, "OCHMRRTLLLNBE"),
        (NO_STEPS_AT_ALL, "OE"),
        (0x1 | 0x4 | 0x200, "OHRRLLLNBE"),
        (0x20 | 0x40, "OCHMRRTBE"),
    ],
)
def test_steps_are_left_out_and_not_waited_for_as_negotiated(scripted, gateway, steps, commands):
    milter = scripted()
    milter.steps = steps
    if steps == NO_ANSWERS:
        milter.answers = dict.fromkeys((b"C", b"H", b"M", b"R", b"T", b"L", b"N", b"B"), b"")
    assert gateway.send([rule(milter)])[1] == UNCHANGED
    assert milter.commands() == commands


def test_a_milter_that_skips_gets_no_more_of_the_body(scripted, gateway):
    milter = scripted()
    milter.steps, milter.answers = SKIP, {b"B": packet(b"s")}
    content = b"From: s@example.org\r\n\r\n" + b"x" * 78 + b"\r\n" * 80_000
    assert gateway.send([rule(milter)], content)[1] == [(SENDER, [A, B], content)]
    assert milter.commands().count("B") == 1
    assert len(milter.data(b"B")[0]) == 65_535


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([change(b"h", b"X-N", b"new")], CONTENT.replace(b"\r\n\r\n", b"\r\nX-N: new\r\n\r\n")),
        (
            [change(b"h", b"X-N", b"a;\n\tb\r\n c\n")],
            CONTENT.replace(b"\r\n\r\n", b"\r\nX-N: a;\r\n\tb\r\n c\r\n\r\n"),
        ),
        ([change(b"i", b"X-N", b"new", number=0)], b"X-N: new\r\n" + CONTENT),
        ([change(b"i", b"X-N", b"new", number=1)], b"X-N: new\r\n" + CONTENT),
        ([change(b"i", b"X-N", b"new", number=2)], CONTENT.replace(b"X-A", b"X-N: new\r\nX-A")),
        *(
            (
                [change(b"i", name, b"new", number=number) for number, name in inserted],
                b"X-0: new\r\nX-1: new\r\n" + CONTENT,
            )
            for inserted in (((0, b"X-0"), (1, b"X-1")), ((1, b"X-1"), (0, b"X-0")))
        ),
        (
            [change(b"i", b"X-N", b"new", number=99)],
            CONTENT.replace(b"\r\n\r\n", b"\r\nX-N: new\r\n\r\n"),
        ),
        ([change(b"m", b"X-A", b"new", number=2)], CONTENT.replace(b"x-a : 2", b"X-A: new")),
        ([change(b"m", b"X-A", b"new", number=0)], CONTENT.replace(b"X-A:  1\r\n\tfolded", b"X-A: new")),
        ([change(b"m", b"x-a", b"", number=1)], CONTENT.replace(b"X-A:  1\r\n\tfolded\r\n", b"")),
        (
            [change(b"m", b"To", b"x", number=1)],
            CONTENT.replace(b"\r\n\r\n", b"\r\nTo: x\r\n\r\n"),
        ),
        (
            [packet(b"b", b"new\r\n.li"), packet(b"b", b"ne\nend")],
            CONTENT.partition(b"\r\n\r\n")[0] + b"\r\n\r\nnew\r\n.line\r\nend\r\n",
        ),
        ([packet(b"p"), packet(b"p")], CONTENT),
    ],
)
def test_changes_of_the_message_are_made(scripted, gateway, changes, expected):
    milter = scripted()
    milter.answers = {b"E": b"".join(changes) + ACCEPT}
    reply, got, _ = gateway.send([rule(milter)])
    assert (reply[:3], got) == ("250", [(SENDER, [A, B], expected)])


def test_blanks_after_the_colon_are_the_milters_own_if_it_wants_them(scripted, gateway):
    milter = scripted()
    milter.steps = LEADING_SPACE
    milter.answers = {b"E": change(b"h", b"X-N", b"  new") + change(b"h", b"X-O", b"old") + ACCEPT}
    ((_, _, content),) = gateway.send([rule(milter)])[1]
    assert milter.data(b"L") == [b"From\0 s@example.org\0", b"X-A\0  1\n\tfolded\0", b"x-a\0 2\0"]
    assert content == CONTENT.replace(b"\r\n\r\n", b"\r\nX-N:  new\r\nX-O:old\r\n\r\n")


def test_changes_of_the_envelope_are_made(scripted, gateway):
    milter = scripted()
    milter.answers = {
        b"E": change(b"e", b"<other@example.net>", b"SIZE=1")
        + change(b"+", b"<c@example.com>")
        + change(b"2", b"<d@example.com>", b"NOTIFY=NEVER")
        + change(b"-", b"<a@example.com>")
        + CONTINUE
    }
    _, got, _ = gateway.send([rule(milter)])
    assert got == [("other@example.net", [B, "c@example.com", "d@example.com"], CONTENT)]


REJECTED, LATER = "550 5.7.1 Command rejected", "451 4.7.1 Service unavailable - try again later"


@pytest.mark.parametrize(
    ("command", "answer", "reply"),
    [
        *((command, packet(b"r"), REJECTED) for command in (b"C", b"H", b"M", b"R", b"T", b"L", b"N", b"B")),
        (b"E", packet(b"r"), REJECTED),
        (b"R", packet(b"t"), LATER),
        (b"E", packet(b"t"), LATER),
        (b"L", packet(b"y", b"554 5.7.7 100%% no\0"), "554 5.7.7 100% no"),
        (b"E", packet(b"y", b"450-4.2.0 one\r\n450 4.2.0 two\0"), "450 4.2.0 one / two"),
        (b"M", packet(b"y", b"550 no code\0"), "550 5.0.0 no code"),
        (b"M", packet(b"4"), "421 4.7.0 Server closing connection"),
    ],
)
def test_a_refusal_is_the_clients_reply_at_every_step(scripted, gateway, command, answer, reply):
    milter = scripted()
    milter.answers = {command: answer}
    found, got, _ = gateway.send([rule(milter)])
    assert (found, got) == (reply, [])


@pytest.mark.parametrize("command", [b"M", b"R", b"T", b"L", b"N", b"B", b"E"])
def test_a_message_is_discarded_at_every_step(scripted, gateway, command):
    milter = scripted()
    milter.answers = {command: DISCARD}
    reply, got, record = gateway.send([rule(milter)])
    assert (reply[:3], got) == ("250", [])
    assert {str(one.disposition) for one in record.recipients} == {"discarded"}


@pytest.mark.parametrize(
    ("command", "commands"),
    [
        (b"C", "OC"),
        (b"H", "OCH"),
        (b"M", "OCHMA"),
        (b"R", "OCHMRA"),
        (b"L", "OCHMRRTLA"),
        (b"N", "OCHMRRTLLLNA"),
        (b"B", "OCHMRRTLLLNBA"),
    ],
)
def test_a_milter_that_accepts_is_told_no_more(scripted, gateway, command, commands):
    milter = scripted()
    milter.answers = {command: ACCEPT}
    assert gateway.send([rule(milter)])[1] == UNCHANGED
    assert milter.commands() == commands


def test_one_recipient_is_refused_and_the_others_stay(scripted, gateway):
    milter = scripted()
    milter.answers = {b"R": [packet(b"y", b"550 5.1.1 unknown\0"), CONTINUE]}
    _, got, _ = gateway.send([rule(milter)])
    assert got == [(SENDER, [B], CONTENT)]
    assert milter.commands() == "OCHMRRTLLLNBE"


def test_a_message_is_quarantined_with_its_changes(scripted, gateway):
    milter = scripted()
    milter.answers = {b"E": change(b"q", b"looks bad") + change(b"h", b"X-N", b"new") + ACCEPT}
    reply, got, _ = gateway.send([rule(milter)])
    assert (reply[:3], got) == ("250", [])
    kept = gateway.running.quarantine()[0]
    assert kept.reason == "quarantines: looks bad"
    assert [str(edit) for edit in kept.edits] == ["add X-N: new"]


def test_changes_before_a_refusal_do_nothing(scripted, gateway):
    milter = scripted()
    milter.answers = {b"E": change(b"h", b"X-N", b"new") + packet(b"y", b"550 5.7.1 virus\0")}
    assert gateway.send([rule(milter)])[:2] == ("550 5.7.1 virus", [])


@pytest.mark.parametrize(
    "fault",
    [
        {b"O": None},
        {b"O": packet(b"O", b"\0\0\0\6")},
        {b"O": packet(b"O", struct.pack("!III", 1, 0, 0))},
        {b"O": packet(b"O", struct.pack("!III", 6, 0x400, 0))},
        {b"O": packet(b"O", struct.pack("!III", 6, 0, 0x800))},
        {b"O": packet(b"c")},
        {b"O": b"HTTP/1.1 400 Bad Request\r\n"},
        {b"C": None},
        {b"M": None},
        {b"R": b"\0\0\0\0"},
        {b"R": b"\xff\xff\xff\xff"},
        {b"R": packet(b"z")},
        {b"T": packet(b"s")},
        {b"L": change(b"h", b"X", b"y") + CONTINUE},
        {b"B": packet(b"y", b"250 2.0.0 fine\0")},
        {b"B": packet(b"y", b"nonsense\0")},
        {b"B": packet(b"y", b"550 5.7.1 a\r\n451 4.7.1 b\0")},
        {b"B": packet(b"y", b"550 4.7.1 a\0")},
        {b"E": None},
        {b"E": packet(b"s")},
        {b"E": change(b"h", b"X-N")},
        {b"E": packet(b"m", b"\0\0")},
        {b"E": packet(b"h", b"X-N\0no end")},
        {b"E": change(b"h", b"X N", b"bad name") + ACCEPT},
        {b"E": change(b"h", b"X-N", b"a\nBcc: x") + ACCEPT},
        {b"E": packet(b"b", b"a\rb\r\n") + ACCEPT},
        {b"E": packet(b"b", b"\0\r\n") + ACCEPT},
        {b"E": change(b"+", b"<x@elsewhere.example>") + ACCEPT},
    ],
)
def test_a_fault_at_any_point_defers_and_never_accepts(scripted, gateway, fault):
    milter = scripted()
    milter.answers = fault
    reply, got, record = gateway.send([rule(milter)])
    assert (reply, got) == ("451 4.3.0 Temporary failure, try again later", [])
    assert {str(one.result) for one in record.evaluations if one.result != "pass"} == {"error"}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (change(b"h", b"X N", b"bad name"), "'X N' is not the name of a header field"),
        (change(b"h", b"X-N", b"v" * 70_000), "70001 bytes, expected at most 65536"),
        (change(b"+", b"<a@example.com>\r\nDATA"), "is not an address"),
        (packet(b"b", b"a\rb\r\n"), "body"),
    ],
)
def test_a_change_that_cannot_be_made_is_told_once_with_the_milters_address(
    scripted, gateway, caplog, fault, reason
):
    milter = scripted()
    milter.answers = {b"E": fault + ACCEPT}
    _, _, record = gateway.send([rule(milter)])
    told = record.evaluations[-1].reason
    assert told.startswith(f"ConnectionError: milter at {milter.address}: sent what cannot be done: ")
    assert reason in told
    assert milter.commands().count("E") == 1
    assert "Traceback" not in caplog.text


def test_a_body_that_no_message_can_have_is_not_collected(scripted, gateway):
    milter = scripted()
    milter.answers = {b"E": packet(b"b", b"x" * 60_000) * 600 + ACCEPT}
    reply, _, record = gateway.send([rule(milter)])
    assert reply.startswith("451 4.3.0")
    assert record.evaluations[-1].reason.endswith("sent changes of more than 34,603,008 bytes")


def test_the_journal_has_each_change_once(scripted, gateway):
    milter = scripted()
    of_envelope = change(b"e", b"<other@example.net>") + change(b"-", b"<a@example.com>")
    told = "change sender to <other@example.net>, remove recipient <a@example.com>"
    for more, reason in (
        (b"", f"changes the envelope; {told}"),
        (change(b"h", b"X-N", b"new"), f"changes: add X-N: new; {told}"),
    ):
        milter.answers = {b"E": of_envelope + more + ACCEPT}
        assert gateway.send([rule(milter)])[2].evaluations[-1].reason == reason


def test_a_change_that_was_not_negotiated_is_a_fault(scripted, gateway):
    milter = scripted()
    milter.actions, milter.answers = 0, {b"E": change(b"h", b"X-N", b"new") + ACCEPT}
    reply, _, record = gateway.send([rule(milter)])
    assert reply.startswith("451 4.3.0")
    assert "which it did not negotiate" in record.evaluations[-1].reason


@pytest.mark.parametrize("silent", [{b"O": b""}, {b"N": b""}, {b"E": change(b"h", b"X-N", b"new") + b"\0\0"}])
def test_a_silent_milter_times_out(scripted, gateway, silent):
    milter = scripted()
    milter.answers = silent
    reply, got, record = gateway.send([rule(milter, timeout="300ms")])
    assert (reply[:3], got) == ("451", [])
    assert record.evaluations[-1].reason.endswith("connected, no answer")


def test_an_outage_is_one_line_of_the_log(gateway, caplog):
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        gateway.running.reload({"relay": gateway.relay(), "rules": [rule(address, early=False)]})
        for _ in range(3):
            assert gateway.running.send(make_transaction(recipients=[A])).code == 451
            assert address in gateway.running.journal()[0].evaluations[0].reason
    assert len([one for one in caplog.records if "rule m" in one.getMessage()]) == 1


def test_a_second_milter_gets_what_the_first_has_changed_and_the_envelope_as_it_came(scripted, gateway):
    first, second = scripted(), scripted()
    first.answers = {
        b"E": change(b"h", b"X-N", b"new")
        + packet(b"b", b"new body\r\n")
        + change(b"+", b"<c@example.com>")
        + ACCEPT
    }
    second.answers = {b"E": change(b"m", b"X-N", b"newer", number=1) + ACCEPT}
    _, got, _ = gateway.send([rule(first), rule(second, "n")])
    head = CONTENT.partition(b"\r\n\r\n")[0]
    assert second.data(b"L")[-1] == b"X-N\0new\0"
    assert second.data(b"B") == [b"new body\r\n"]
    assert second.data(b"R") == [b"<a@example.com>\0", b"<b@example.com>\0"]
    assert got == [(SENDER, [A, B, "c@example.com"], head + b"\r\nX-N: newer\r\n\r\nnew body\r\n")]


def test_a_recipient_that_one_milter_refuses_is_not_shown_to_the_next(scripted, gateway):
    first, second = scripted(), scripted()
    first.answers = {b"R": [packet(b"r"), CONTINUE]}
    gateway.send([rule(first), rule(second, "n")])
    assert second.data(b"R") == [b"<b@example.com>\0"]


@pytest.mark.parametrize(
    ("recipients", "commands"),
    [([A, B], "OCH" + "MR" + "A" + "MR" + "TLLLNBE"), ([B, A], "OCH" + "MRR" + "A" + "MR" + "TLLLNBE")],
)
def test_a_recipient_that_upstream_refuses_is_taken_back(scripted, gateway, recipients, commands):
    milter = scripted()
    no, yes = "550 5.1.1 unknown", Usual()
    gateway.upstream.script["rcpt"] = Then(*(no if one == A else yes for one in recipients))
    try:
        assert gateway.send([rule(milter)], recipients=recipients)[1] == [(SENDER, [B], CONTENT)]
    finally:
        del gateway.upstream.script["rcpt"]
    assert milter.commands() == commands
    assert milter.data(b"R")[-1] == b"<b@example.com>\0"


def test_a_session_has_one_connection_for_all_its_messages(scripted, gateway):
    milter = scripted()
    gateway.running.reload({"relay": gateway.relay(), "rules": [rule(milter)]})
    with smtplib.SMTP(gateway.running.host, gateway.running.port) as client:
        for _ in range(3):
            client.sendmail(SENDER, [A], CONTENT)
        client.mail(SENDER)
        client.rcpt(B)
        client.rset()
        client.sendmail("other@example.org", [B], CONTENT)
    assert milter.commands(0) == "OCH" + "MRTLLLNBE" * 3 + "MR" + "A" + "MRTLLLNBE"
    assert len(milter.told) == 1


@pytest.mark.parametrize(
    ("ends", "commands"),
    [
        (lambda client: client.quit(), "OCHMRTLLLNBE"),
        (lambda client: client.close(), "OCHMRTLLLNBE"),
        (lambda client: (client.mail(SENDER), client.close()), "OCHMRTLLLNBEMA"),
    ],
    ids=["QUIT", "the connection is lost", "lost in a transaction"],
)
def test_the_connection_ends_with_its_session(scripted, gateway, monkeypatch, ends, commands):
    monkeypatch.setattr(conversations, "_IDLE_SECONDS", 3600)
    monkeypatch.setattr(conversations, "_SILENT_SECONDS", 3600)
    milter = scripted()
    gateway.running.reload({"relay": gateway.relay(), "rules": [rule(milter)]})
    with smtplib.SMTP(gateway.running.host, gateway.running.port) as client:
        client.sendmail(SENDER, [A], CONTENT)
        ends(client)
    assert milter.commands() == commands
    assert milter.told[0][-1] == (b"Q", b"")


def test_a_connection_that_was_closed_between_two_messages_is_made_again(scripted, gateway):
    milter = scripted()
    milter.answers = {b"M": [CONTINUE, None, CONTINUE]}
    gateway.running.reload({"relay": gateway.relay(), "rules": [rule(milter)]})
    with smtplib.SMTP(gateway.running.host, gateway.running.port) as client:
        client.sendmail(SENDER, [A], CONTENT)
        client.sendmail(SENDER, [A], CONTENT)
    assert milter.commands(1) == "OCHMRTLLLNBE"


def test_only_at_the_end_of_the_message_if_so_set(scripted, gateway):
    milter = scripted()
    milter.answers = {b"R": [packet(b"r"), CONTINUE]}
    reply, _, record = gateway.send([rule(milter, early=False)])
    assert milter.commands() == "OCHMRRTLLLNBE"
    assert reply.startswith("250"), "mixed_recipients"
    assert {one.address: str(one.disposition) for one in record.recipients} == {
        A: "quarantined",
        B: "relayed",
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\nbody\r\n",
        b"no field\r\nX-A: 1\r\n\r\nbody\r\n",
        b"X-A: 1\r\nno field\r\nX-B: 2\r\n\r\nbody\r\n",
        b"X-A:\r\n 1\r\n\r\n",
        b"X-A: 1\r\n",
        b"From a@example.com Sat\r\nX-A: 1\r\n\r\n",
        b"X-A: \xff\xe4\r\n\r\n\xff\r\n",
    ],
)
def test_odd_messages_pass_as_they_are_and_nothing_of_them_is_hidden(scripted, gateway, content):
    milter = scripted()
    ((_, _, got),) = gateway.send([rule(milter)], content)[1]
    assert got.endswith(content)
    told = b"".join(milter.data(b"L") + milter.data(b"B"))
    for word in (b"no field", b"body", b"2", b"1", b"\xff\xe4"):
        assert (word in told) == (word in content), word


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"address": "localhost"}, "expected unix:/path or host:port"),
        ({"address": "127.0.0.1:0"}, "expected unix:/path or host:port"),
        ({"address": "unix:sock"}, "expected unix:/path or host:port"),
        (
            {"address": "127.0.0.1:1", "macros": {"daemon_name": "x"}},
            "expected '{daemon_name}', or one letter",
        ),
        ({"address": "127.0.0.1:1", "macros": {"{daemon_name": "x"}}, "expected '{daemon_name}', or one"),
        ({"address": "127.0.0.1:1", "connections": 0}, "connections: 0, expected at least 1"),
    ],
)
def test_a_wrong_setting_is_an_error_in_words(settings, fault):
    with pytest.raises(ValueError, match=fault):
        run_filter(Milter, None, **settings)
