"""The filter rspamd, against Debian's rspamd and against one that plays every fault."""

import asyncio
import base64
import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from gatepost import (
    Action,
    AddHeader,
    AddRecipient,
    ChangeSender,
    Place,
    RemoveHeader,
    RemoveRecipient,
    UnreachableError,
    Verdict,
)
from gatepost.model.edits import apply
from gatepost.testing import ask_filter, make_message, make_transaction, run_filter
from gatepost_rspamd import Rspamd

sys.path.insert(0, str(Path(__file__).parent))
from scanner_servers import GTUBE, Daemon, Script, scripted

RSPAMD = pytest.mark.real("rspamd")


def asked_real(rspamd: Daemon, headers: dict[str, str] | None = None, **settings: Any) -> Verdict | None:
    transaction = make_transaction(make_message(headers=headers or {}))
    return run_filter(Rspamd, transaction, address=rspamd.addresses["tcp"], **settings)


# --- the real one


@RSPAMD
@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"text": f"Look:\n{GTUBE}"}, id="plain"),
        pytest.param({"html": f"<p>Look: {GTUBE}</p>"}, id="html"),
        pytest.param(
            {
                "content": b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
                + base64.encodebytes(f"{GTUBE}\r\n".encode()).replace(b"\n", b"\r\n")
            },
            id="base64",
        ),
        pytest.param(
            {
                "content": b"Content-Type: message/rfc822\r\n\r\n"
                b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
                b"Content-Type: text/plain\r\n\r\n" + GTUBE.encode() + b"\r\n--b--\r\n"
            },
            id="nested",
        ),
    ],
)
def test_the_public_test_string_is_refused_in_every_form(
    rspamd: Daemon, kind: str, message: dict[str, Any]
) -> None:
    verdict = run_filter(Rspamd, make_transaction(**message), address=rspamd.addresses[kind], messages=True)
    assert verdict is not None
    assert (verdict.action, verdict.score) == (Action.REJECT, 15.0)
    assert verdict.reason.startswith("rspamd: reject, score 15 of 15, skipped: GTUBE(0)")
    assert str(verdict.reply) == "550 5.7.1 Gtube pattern"


@RSPAMD
@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("reject", Action.REJECT),
        ("soft reject", Action.DEFER),
        ("add header", Action.TAG),
        ("rewrite subject", Action.TAG),
        ("quarantine", Action.QUARANTINE),
        ("discard", Action.DISCARD),
        ("greylist", None),
        ("no action", None),
    ],
)
def test_each_action_of_rspamd_is_done(rspamd: Daemon, action: str, expected: Action | None) -> None:
    verdict = asked_real(rspamd, {"X-Action": action})
    assert (verdict and verdict.action) == expected


@RSPAMD
def test_an_invented_action_is_a_failure_until_the_settings_say_what_it_means(rspamd: Daemon) -> None:
    with pytest.raises(
        ConnectionError, match="has the action 'invented', which `actions` of this rule lacks"
    ):
        asked_real(rspamd, {"X-Action": "invented"})
    for then, expected in [("discard", Action.DISCARD), ("tag", Action.TAG), ("nothing", None)]:
        verdict = asked_real(rspamd, {"X-Action": "invented"}, actions={"invented": then})
        assert (verdict and verdict.action) == expected
    other = asked_real(rspamd, {"X-Action": "reject"}, actions={"reject": "quarantine"})
    assert other is not None
    assert other.action is Action.QUARANTINE


@RSPAMD
def test_a_refusal_has_rspamds_text_only_on_request(rspamd: Daemon) -> None:
    for action, reply in [
        ("reject", "550 5.7.1 as the test wants"),
        ("soft reject", "451 4.7.1 as the test wants"),
        ("add header", "None"),
    ]:
        verdict = asked_real(rspamd, {"X-Action": action}, messages=True)
        plain = asked_real(rspamd, {"X-Action": action})
        assert verdict is not None
        assert plain is not None
        assert (str(verdict.reply), plain.reply) == (reply, None)


@RSPAMD
def test_symbols_have_their_scores_and_options(rspamd: Daemon) -> None:
    verdict = asked_real(rspamd, {"X-Pills": "1", "X-Action": "add header"})
    assert verdict is not None
    assert verdict.reason == "rspamd: add header, score 0 of 15"  # which ends the scan
    counted = asked_real(rspamd, {"X-Pills": "1"}, hits="all")
    assert counted is not None
    assert (counted.action, counted.score) == (Action.TAG, 3.5)
    assert counted.reason == "rspamd: no action, score 3.5 of 15: PILLS(3.5)"
    assert [(one.where, one.text) for one in counted.matches] == [("symbol", "PILLS 3.5 [cheap, blue]")]
    assert asked_real(rspamd, {"X-Pills": "1"}) is None


@RSPAMD
def test_the_changes_that_rspamd_asks_for_are_made(rspamd: Daemon) -> None:
    old = {"X-Old": "gone", "x-two": "stays", "X-Two": "gone", "Subject": "Prize"}
    assert asked_real(rspamd, {**old, "X-Milter": "1"}) is None
    verdict = asked_real(rspamd, {"X-Milter": "1"}, hits="changes")
    assert verdict is not None
    assert verdict.action is Action.TAG
    assert {
        edit for edit in verdict.edits if isinstance(edit, ChangeSender | AddRecipient | RemoveRecipient)
    } == {
        ChangeSender("other@example.org"),
        AddRecipient("more@example.com"),
        RemoveRecipient("less@example.com"),
    }
    message = b"X-Old: gone\r\nX-Two: 1\r\nX-OLD: gone\r\nSubject: a\r\nx-two: gone\r\n\r\nbody\r\n"
    edits = tuple(e for e in verdict.edits if isinstance(e, AddHeader | RemoveHeader))
    lines = b"".join(apply(message, edits)).decode().split("\r\n")
    assert lines[:4] == ["X-First: two", "\tfolded", "X-Two: 1", "Subject: a"]
    assert sorted(lines[4:7]) == ["X-Both: four", "X-Both: three", "X-Last: one"]
    assert lines[7:] == ["", "body", ""]
    assert asked_real(rspamd, {"X-Pills": "1"}, hits="changes") is None


@RSPAMD
def test_fields_come_where_postfix_puts_those_of_rspamds_proxy(rspamd: Daemon) -> None:
    """Its order counts the Received field of the server."""
    message = b"X-Order: 1\r\nTo: b\r\nSubject: a\r\n\r\n"
    verdict = run_filter(Rspamd, make_transaction(message), address=rspamd.addresses["tcp"], hits="changes")
    assert verdict is not None
    lines = b"".join(apply(message, verdict.edits)).split(b"\r\n")
    assert lines[:2] == [b"X-Above: Received", b"X-Below: Received"]
    assert b"X-Next: field" in lines[2:5]  # rspamd has no order among the three
    assert lines[5] == b"Subject: a"


@RSPAMD
def test_add_header_and_rewrite_subject_do_so(rspamd: Daemon) -> None:
    added = asked_real(rspamd, {"X-Action": "add header"})
    assert added is not None
    assert added.edits == (RemoveHeader("X-Spam"), AddHeader("X-Spam", "Yes"))
    message = make_message(subject="Größe", headers={"X-Action": "rewrite subject"})
    verdict = run_filter(Rspamd, make_transaction(message), address=rspamd.addresses["tcp"])
    assert verdict is not None
    edited = make_transaction(b"".join(apply(message, verdict.edits)))
    assert edited.message.view.subject == "*** SPAM *** Größe"


@RSPAMD
def test_a_field_with_what_is_not_utf_8_is_added_and_fails_nothing(rspamd: Daemon) -> None:
    """rspamd copies it into its JSON as it is."""
    message = make_transaction(b"X-Copy: Gr\xfc\xc3\x9fe\r\n\r\n")
    verdict = run_filter(Rspamd, message, address=rspamd.addresses["tcp"], hits="changes")
    assert verdict is not None
    assert verdict.edits == (AddHeader("X-Copied", " Gr\ufffd\u00dfe".encode(), None),)


@RSPAMD
@pytest.mark.parametrize("instead", [Action.QUARANTINE, Action.DISCARD])
def test_what_rspamd_rejects_is_kept_or_dropped_if_it_says_so(rspamd: Daemon, instead: Action) -> None:
    verdict = asked_real(rspamd, {"X-Action": "reject", "X-Instead": str(instead)})
    assert verdict is not None
    assert verdict.action == instead


@RSPAMD
def test_the_proxy_worker_in_milter_mode_is_a_failure(rspamd: Daemon) -> None:
    with pytest.raises(ConnectionError, match="rspamd at "):
        run_filter(Rspamd, make_transaction(), address=rspamd.addresses["milter"])


@RSPAMD
@pytest.mark.parametrize(
    ("mail_from", "recipients", "shown"),
    [
        ("", ["b@example.com", "c@example.com"], "from= to=b@example.com c@example.com #2"),
        ("a+x@example.org", ["b@example.com"], "from=a+x@example.org to=b@example.com #1"),
        ("postmaster", ["postmaster", "b@example.com"], "from= to=b@example.com #1"),
        ("bücher@example.org", ["büro@example.com"], "from= to= #0"),
        ("a..b@example.org", [".c@example.com", "d.@example.com"], "from= to= #0"),
        ('"a b"@example.org', ["b@[192.0.2.1]", "b@example.com"], "from= to=b@example.com #1"),
        (
            "a@example.org",
            [f"r{number}@example.com" for number in range(5000)],
            "from=a@example.org to=r0@example.com r1@example.com",
        ),
    ],
)
def test_rspamd_learns_of_the_envelope_what_it_does_not_misread(
    rspamd: Daemon, mail_from: str, recipients: list[str], shown: str
) -> None:
    transaction = make_transaction(
        headers={"X-Seen": "1"},
        mail_from=mail_from,
        recipients=recipients,
        client="192.0.2.7",
        helo="mx.test",
    )
    verdict = run_filter(Rspamd, transaction, address=rspamd.addresses["tcp"], hits="all")
    assert verdict is not None
    options = verdict.matches[0].text.removeprefix("SEEN 0.1 [").replace(", ", " ")
    assert options.startswith(f"ip=192.0.2.7 helo=mx.test {shown}")
    assert options.endswith(f" user= id={transaction.id} broken=false]")
    assert ("#" in shown) or 1000 < int(re.search(r"#(\d+)", options)[1]) < 5000


@RSPAMD
def test_a_scan_that_was_cut_off_is_a_failure(rspamd: Daemon) -> None:
    with pytest.raises(ConnectionError, match="has cut its scan off"):
        asked_real(rspamd, {"X-Slow": "1"}, task_timeout="3s")


@RSPAMD
def test_what_is_too_large_for_rspamd_is_a_failure(rspamd: Daemon) -> None:
    large = make_transaction(bytes(2 << 20))
    with pytest.raises(ConnectionError, match="rspamd at"):
        run_filter(Rspamd, large, address=rspamd.addresses["tcp"])
    with pytest.raises(ConnectionError, match="2,097,152 bytes, max_size of this rule is 1,048,576"):
        run_filter(Rspamd, large, address=rspamd.addresses["tcp"], max_size="1MiB")


@RSPAMD
@pytest.mark.parametrize("content", [b"", b"\r\n", b"Subject: a\n\nbare line ends\n", b"x" * 500_000])
def test_other_mail_is_no_hit(rspamd: Daemon, content: bytes) -> None:
    assert run_filter(Rspamd, make_transaction(content), address=rspamd.addresses["tcp"]) is None


# --- bad answers

RESULT = {
    "is_skipped": False,
    "score": 7.5,
    "required_score": 15.0,
    "action": "add header",
    "symbols": {"A": {"name": "A", "score": 5.0}, "B": {"name": "B", "score": -0.5, "options": ["x"]}},
    "messages": {},
    "time_real": 0.1,
}


def answer(body: Any = None, *, status: str = "200 OK", length: int | None = None, **changed: Any) -> bytes:
    if body is None:
        body = json.dumps({**RESULT, **changed}).encode()
    length = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + bytes(body)


async def read_request(reader: asyncio.StreamReader) -> tuple[list[str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    (length,) = [int(line.partition(":")[2]) for line in head if line.lower().startswith("content-length:")]
    return head, await reader.readexactly(length)


def answering(reply: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(reply)
        await writer.drain()

    return script


async def asked(reply: bytes, content: bytes | None = None, **settings: Any) -> Verdict | None:
    async with scripted(answering(reply)) as server:
        transaction = make_transaction() if content is None else make_transaction(content)
        return await ask_filter(Rspamd, transaction, address=server.address, **settings)


@pytest.mark.parametrize("size", [0, 1, 65536, 1 << 20])
async def test_the_whole_message_is_sent_once(size: int) -> None:
    received = asyncio.Queue[tuple[list[str], bytes]]()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.put_nowait(await read_request(reader))
        writer.write(answer())
        await writer.drain()

    content = (b"\0\r\n.\r\n\xff" * (size // 6 + 1))[:size]
    async with scripted(script) as server:
        assert await ask_filter(Rspamd, make_transaction(content), address=server.address)
        assert server.connections == 1
    head, message = received.get_nowait()
    assert head[0] == "POST /checkv2 HTTP/1.1"
    assert message == content


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="closing"),
        pytest.param(answer()[:-1], id="closing early"),
        pytest.param(answer()[:20], id="closing in the header"),
        pytest.param(answer() + b"x", id="too long"),
        pytest.param(answer() + answer(), id="twice"),
        pytest.param(answer(length=5), id="length too small"),
        pytest.param(answer(status="500 Internal"), id="its own error"),
        pytest.param(answer(b'{"error": "x", "error_domain": "y"}'), id="an error with 200"),
        pytest.param(answer(b"{}"), id="nothing in it"),
        pytest.param(answer(b""), id="empty"),
        pytest.param(answer(b"[" * 100_000), id="nested"),
        pytest.param(answer(b"\xff\xfe"), id="not UTF-8"),
        pytest.param(answer(b"<html>"), id="not JSON"),
        pytest.param(answer(action=None), id="no action"),
        pytest.param(answer(action=5), id="a number for an action"),
        pytest.param(answer(action="no such action"), id="unknown action"),
        pytest.param(answer(score=float("nan")), id="not a number"),
        pytest.param(answer(score=None), id="no score"),
        pytest.param(answer(time_real=None), id="no time"),
        pytest.param(answer(time_real=8.1), id="cut off"),
        pytest.param(answer(symbols={"A": 5}), id="no symbol"),
        pytest.param(answer(milter={"add_headers": {"X Y": "a"}}), id="no field name"),
        pytest.param(answer(milter={"add_headers": {"X": "a\0b"}}), id="NUL in a field"),
        pytest.param(answer(milter={"remove_headers": {"X": -1}}), id="number from the end"),
        pytest.param(answer(milter={"add_headers": {"X": ["a"] * 1000}}), id="a thousand fields"),
        pytest.param(answer(milter={"add_rcpt": [""]}), id="no address"),
        pytest.param(answer(action="rewrite subject", subject="a\r\nBcc: x"), id="a line end in the subject"),
        pytest.param(b"SPAMD/1.1 0 EX_OK\r\n\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, id="endless header"),
        pytest.param(answer(bytes(5 << 20)), id="endless"),
    ],
)
async def test_only_a_whole_answer_is_an_answer(reply: bytes) -> None:
    with pytest.raises(ConnectionError, match="rspamd"):
        await asked(reply)


async def test_a_field_cannot_smuggle_another_one_in() -> None:
    verdict = await asked(answer(milter={"add_headers": {"X-A": "one\nX-Evil: two\r\n\r\nbody"}}))
    assert verdict is not None
    head = b"".join(apply(b"Subject: a\r\n\r\n", verdict.edits)).decode()
    assert "\r\nX-Evil" not in head
    assert "X-A: one\r\n\tX-Evil: two" in head


@pytest.mark.parametrize("reads_on", [False, True])
async def test_an_answer_before_the_end_of_the_message_is_no_answer(
    reads_on: bool,  # noqa: FBT001
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(answer(action="no action"))
        await writer.drain()
        if reads_on:
            with contextlib.suppress(asyncio.LimitOverrunError):
                await reader.readexactly(8 << 20)

    async with scripted(script) as server:
        with pytest.raises(ConnectionError, match="before it had the whole message"):
            await ask_filter(Rspamd, make_transaction(bytes(8 << 20)), address=server.address)


async def test_a_slow_answer_is_waited_for_byte_by_byte() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in answer():
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with scripted(script) as server:
        verdict = await ask_filter(Rspamd, make_transaction(), address=server.address)
    assert verdict is not None
    assert verdict.reason == "rspamd: add header, score 7.5 of 15: A(5), B(-0.5)"


async def test_empty_tables_may_be_lists_and_an_interim_response_is_passed_over() -> None:
    reply = b"HTTP/1.1 100 Continue\r\n\r\n" + answer(symbols=[], messages=[], milter={"add_headers": []})
    verdict = await asked(reply)
    assert verdict is not None
    assert verdict.score == 7.5


async def test_rspamd_may_want_quarantine_in_place_of_a_rejection() -> None:
    for instead, action in [
        ("quarantine", Action.QUARANTINE),
        ("discard", Action.DISCARD),
        (None, Action.REJECT),
    ]:
        verdict = await asked(answer(action="reject", milter={"reject": instead}))
        assert verdict is not None
        assert verdict.action is action


async def test_the_end_of_the_rules_time_says_which_server_was_waited_for(tmp_path: Path) -> None:
    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with scripted(script) as server:
        rspamd = Rspamd(place=Place(rule="r", folder=tmp_path), address=server.address)
        asking = asyncio.ensure_future(rspamd.filter_message(make_transaction()))
        async with asyncio.timeout(30):
            while not server.connections:
                await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(TimeoutError, match=f"rspamd at {server.address}: connected, no answer"):
            await asking


def test_a_dead_rspamd_is_unreachable() -> None:
    with pytest.raises(UnreachableError, match=r"rspamd at 127\.0\.0\.1:1: "):
        run_filter(Rspamd, make_transaction(), address="127.0.0.1:1")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"address": []}, "expected at least one"),
        ({"address": "http://127.0.0.1:11333"}, "expected unix:/path or host:port"),
        ({"actions": {"invented": "accept"}}, "actions.invented"),
        ({"actions": {"add_header": "nothing"}}, "actions: 'add_header', expected 'add header'"),
        ({"actions": {"Soft-Reject": "reject"}}, "actions: 'Soft-Reject', expected 'soft reject'"),
        ({"hits": "spam"}, "hits"),
        ({"password_file": "secret"}, "password_file without controller, expected the controller's address"),
        ({"controller": "127.0.0.1"}, "controller '127.0.0.1': expected unix:/path or host:port"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_the_rules_are_loaded(
    settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        run_filter(Rspamd, make_transaction(), **settings)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file or directory"),
        (b"", "no password in .*, expected the controller's on its first line"),
        (b"\nsecret\n", "no password in "),
        (b"se\x00cret", "no password in "),
    ],
)
def test_a_file_without_a_password_is_refused_when_the_rules_are_loaded(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=f"password_file: .*{expected}") as raised:
        run_filter(Rspamd, make_transaction(), controller="127.0.0.1:1", password_file=file)
    assert "cret" not in str(raised.value)
