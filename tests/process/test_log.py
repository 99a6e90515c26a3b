"""How log lines are written, and where they go."""

import asyncio
import io
import json
import logging
import os
import socket
import threading
import warnings
from types import SimpleNamespace

import pytest
from gatepost.config.log import LogSettings
from gatepost.logline import LaterRecord, LogLine, log_later
from gatepost.process import log as module
from gatepost.process.log import announce, log_as, set_up_log, with_priority, write_log

log = logging.getLogger("gatepost.test")


@pytest.fixture(autouse=True)
def own_root(monkeypatch):
    """The handlers of pytest are taken away for the test, and put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    yield root
    log_as(LogSettings())
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture
def stderr(monkeypatch):
    return written(monkeypatch, io.StringIO())


def written(monkeypatch, stream):
    """Standard error as the module sees it; pytest changes that of the program between fixture and test."""
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=stream))
    return stream


def test_text_escapes_what_a_client_sent_and_indents_further_lines(stderr):
    set_up_log(logging.INFO)
    log.error("failed: %s", "a\rb", exc_info=ValueError("\x1b[31m\ufeff"))
    first, *rest = stderr.getvalue().splitlines()
    assert first.endswith(r"ERROR failed: a\rb")
    assert all(line.startswith("    ") for line in rest)
    assert rest[-1] == r"    ValueError: \x1b[31m\ufeff"


def test_json_is_an_object_a_line_with_the_fields_of_the_event(stderr):
    set_up_log(logging.INFO)
    log_as(LogSettings(format="json"))
    log.warning(LogLine("rule x failed", rule="x", transaction="0123", client=None))
    log.error("failed: %s", "\u2028\udcff\x1b", exc_info=ValueError("two\nlines"))
    first, second = stderr.getvalue().split("\n")[:2]
    told = json.loads(first)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "WARNING",
        "message": "rule x failed",
        "logger": "gatepost.test",
        "process": os.getpid(),
        "rule": "x",
        "transaction": "0123",
    }
    assert second.isascii()
    assert second.isprintable()
    failed = json.loads(second)
    assert failed["message"] == "failed: \u2028\udcff\x1b"
    assert failed["exception"].endswith("ValueError: two\nlines")


def test_the_node_is_in_every_line_of_json_and_of_the_audit_log(stderr):
    set_up_log(logging.INFO)
    log_as(LogSettings(format="json"), node="mx-a")
    log.warning("one")
    assert json.loads(stderr.getvalue())["node"] == "mx-a"
    audit = logging.getLogger("gatepost.audit")
    for is_named in (True, False):
        log_as(LogSettings(), node="mx-a", is_named=is_named)
        audit.info("audit message.release ok user='bob'")
        log.info("two")
    named, _, unnamed, _ = lines = stderr.getvalue().splitlines()[1:]
    assert named.endswith("audit message.release ok user='bob' node=mx-a")
    assert unnamed.endswith("user='bob'")
    assert all(line.endswith("INFO two") for line in lines[1::2])


def test_a_quiet_log_has_warnings_and_what_is_announced(stderr):
    set_up_log(logging.WARNING)
    log.info("nothing of interest")
    announce("listens")
    assert [line[20:] for line in stderr.getvalue().splitlines()] == ["INFO listens"]


def test_warnings_of_python_are_events_too(stderr):
    with warnings.catch_warnings():
        set_up_log(logging.WARNING)
        log_as(LogSettings(format="json"))
        warnings.simplefilter("default")
        warnings.warn("an old function", DeprecationWarning, stacklevel=1)
    told = json.loads(stderr.getvalue())
    assert told["logger"] == "py.warnings"
    assert "an old function" in told["message"]


@pytest.fixture
def journal(monkeypatch):
    """Standard error is a stream socket, as systemd makes it."""
    ours, theirs = socket.socketpair()
    with ours, theirs, open(theirs.fileno(), "w", buffering=1, closefd=False) as stream:
        status = os.fstat(theirs.fileno())
        written(monkeypatch, stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        ours.settimeout(30)
        yield lambda: ours.recv(1 << 16).decode().splitlines()


def test_each_line_for_the_journal_begins_with_its_priority(journal):
    set_up_log(logging.DEBUG)
    for level, priority in ((10, 7), (20, 6), (30, 4), (40, 3), (50, 2), (35, 4)):
        log.log(level, "event")
        (line,) = journal()
        assert line.startswith(f"<{priority}>2")
    log.error("two\nlines")
    assert [line[:3] for line in journal()] == ["<3>", "<3>"]
    assert with_priority("two\nlines", logging.ERROR) == "<3>two\n<3>lines"


def test_a_stream_that_is_not_the_journal_has_no_priorities(journal, monkeypatch):
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    set_up_log(logging.INFO)
    log.error("event")
    (line,) = journal()
    assert line.startswith("2")
    assert with_priority("an error", logging.ERROR) == "an error"
    written(monkeypatch, io.StringIO())  # it has no descriptor
    assert with_priority("an error", logging.ERROR) == "an error"


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    """A socket like that of a syslog daemon."""
    path = str(tmp_path / "log")
    monkeypatch.setattr(module, "_SYSLOG", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(path)
        bound.settimeout(30)
        yield lambda: bound.recv(1 << 16).decode()


def test_syslog_gets_facility_priority_and_name(daemon):
    set_up_log(logging.INFO)
    log_as(LogSettings(to="syslog"))
    log.info("event")
    assert daemon() == f"<22>gatepost[{os.getpid()}]: INFO event"
    log_as(LogSettings(to="syslog", format="json"))
    log.critical("event")
    priority, _, told = daemon().partition(": ")
    assert priority == f"<18>gatepost[{os.getpid()}]"
    assert json.loads(told)["level"] == "CRITICAL"


def test_what_syslog_does_not_take_is_written_to_standard_error(tmp_path, monkeypatch, stderr):
    monkeypatch.setattr(module, "_SYSLOG", str(tmp_path / "nobody-listens"))
    set_up_log(logging.INFO)
    log_as(LogSettings(to="syslog"))
    log.info("event")
    assert stderr.getvalue() == f"gatepost[{os.getpid()}]: INFO event\n"


def test_the_setting_is_a_word_or_a_section():
    assert LogSettings.model_validate("json") == LogSettings(format="json", to="stderr")
    assert LogSettings.model_validate({"to": "syslog"}) == LogSettings(format="text", to="syslog")
    with pytest.raises(ValueError, match="json"):
        LogSettings.model_validate("xml")


class Writes(io.StringIO):
    """Notes what is written at once."""

    def __init__(self):
        super().__init__()
        self.pieces = []

    def write(self, text):
        self.pieces.append(text)
        return super().write(text)


@pytest.fixture
def writes(monkeypatch):
    return written(monkeypatch, Writes())


def later(*texts):
    for text in texts:
        log_later(log, LogLine(text, transaction=text))


def messages(stream):
    return [line.partition(" INFO ")[2] or line for line in stream.getvalue().splitlines()]


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def test_lines_that_may_wait_are_written_together_by_the_event_loop(writes):
    set_up_log(logging.INFO)
    for texts in (("one", "two"), ("three", "four", "five")):
        before = len(writes.pieces)
        later(*texts)
        assert writes.pieces[before:] == []
        await until(lambda before=before: len(writes.pieces) > before)
        (written_at_once,) = writes.pieces[before:]
        assert written_at_once.count("\n") == len(texts)
    assert messages(writes) == ["one", "two", "three", "four", "five"]


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
async def test_any_other_line_is_written_at_once_behind_those_that_wait(writes, level):
    set_up_log(logging.INFO)
    later("one", "two")
    log.log(level, "three")
    later("four")
    assert [line.split()[-1] for line in writes.getvalue().splitlines()] == ["one", "two", "three"]
    announce("five")
    assert [line.split()[-1] for line in writes.getvalue().splitlines()][3:] == ["four", "five"]


async def test_the_lines_of_another_thread_keep_their_order_beside_those_that_wait(writes):
    set_up_log(logging.INFO)
    later("one")
    thread = threading.Thread(target=later, args=("two", "three"))
    thread.start()
    thread.join()
    assert messages(writes) == ["one", "two", "three"]


def test_nothing_waits_after_the_event_loop(writes):
    set_up_log(logging.INFO)

    async def one_line(text):
        later(text)

    for number, text in enumerate(("one", "two"), 1):
        asyncio.run(one_line(text))
        assert len(messages(writes)) < number
        write_log()
        assert len(messages(writes)) == number
    asyncio.run(one_line("three"))
    log_as(LogSettings(format="json"))  # closes the handler before
    assert messages(writes) == ["one", "two", "three"]


async def test_another_event_loop_has_a_timer_of_its_own(writes):
    set_up_log(logging.INFO)

    async def one_line():
        later("one")

    thread = threading.Thread(target=asyncio.run, args=(one_line(),))
    thread.start()
    thread.join()  # its timer has ended with it
    later("two")
    await until(lambda: messages(writes) == ["one", "two"])


@pytest.mark.parametrize("text", ["x" * 100, "\u00e9" * 100, "x" * 5000], ids=["short", "non-ASCII", "long"])
async def test_a_pipe_takes_whole_lines_in_each_write(writes, text):
    set_up_log(logging.INFO)
    later(*[text] * 100)
    write_log()
    assert messages(writes) == [text] * 100
    for piece in writes.pieces:
        assert piece.endswith("\n")
        assert len(piece.encode()) <= 4096 or piece.count("\n") == 1
    assert len(writes.pieces) <= 100


async def test_lines_that_may_wait_have_all_that_others_have(writes, caplog):
    set_up_log(logging.INFO)
    log_as(LogSettings(format="json"))
    logging.getLogger().addHandler(caplog.handler)
    later("one\ntwo")
    log.info(LogLine("one\ntwo", transaction="one\ntwo"))
    told, expected = map(json.loads, writes.getvalue().splitlines())
    assert told.pop("time") <= expected.pop("time")
    assert told == expected
    quick, slow = caplog.records
    assert vars(quick).keys() == vars(slow).keys()
    assert quick.relativeCreated <= slow.relativeCreated
    assert quick.msecs < 1000
    log_as(LogSettings())
    later("one\ntwo")
    write_log()
    assert writes.getvalue().splitlines()[-2:] == [writes.getvalue().splitlines()[-2], "    two"]


def test_a_child_process_has_its_own_number_in_its_lines():
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, str(LaterRecord("gatepost", LogLine("one")).process).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == str(child).encode()
    os.close(reading)
    os.close(writing)


async def test_a_line_that_cannot_be_made_fails_alone(writes, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    set_up_log(logging.INFO)

    class Broken(LogLine):
        def __str__(self):
            raise ValueError

    log_later(log, Broken("one"))
    later("two")
    write_log()
    assert messages(writes) == ["two"]


async def test_a_log_that_takes_nothing_does_no_harm(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    written(monkeypatch, Full())
    set_up_log(logging.INFO)
    later("one")
    write_log()


async def test_syslog_gets_each_line_alone(daemon):
    set_up_log(logging.INFO)
    log_as(LogSettings(to="syslog"))
    later("one", "two")
    assert [daemon().split()[-1] for _ in range(2)] == ["one", "two"]


def test_a_quiet_log_makes_no_line(writes):
    set_up_log(logging.WARNING)
    later("one")
    write_log()
    assert writes.pieces == []
