"""``isolation: process``: whatever a filter does to its process, only its own message fails."""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from gatepost import (
    Action,
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    Match,
    Passed,
    PerRecipient,
    PrefixSubject,
    RemoveHeader,
    RemoveRecipient,
    ReplaceBody,
    Reply,
    ReplyTiming,
    Stage,
    Verdict,
)
from gatepost.config import ConfigError, load
from gatepost.model.verdict import Result
from gatepost.pipeline import Pipeline, Threads, rehearse
from gatepost.pipeline.closing import close_filters
from gatepost.pipeline.loader import load_rules
from gatepost.pipeline.plain import from_plain, to_plain
from gatepost.pipeline.provided import Provided
from gatepost.testing import make_transaction, running_gateway

ODD = """
import asyncio, ctypes, json, os, signal, socket, sys, time
from pathlib import Path
from gatepost import *

leaked = []
WHOLE = Verdict(
    reason="whole",
    action=Action.REJECT,
    reply=Reply(code=554, text="no", enhanced="5.7.1", timing=ReplyTiming(delay_seconds=0.001)),
    edits=(AddHeader("X-A", "b"), RemoveHeader("X-B"), PrefixSubject("[c] ")),
    timing=ReplyTiming(delay_seconds=0.001),
    matches=(Match(where="subject", text="whole"),),
    score=2.5,
    auth=("spf=pass",),
)


class Everywhere:
    # One is that of the worker, the others are the event loop's own.

    def sendall(self, data):
        for name in os.listdir("/proc/self/fd"):
            if Path(f"/proc/self/fd/{name}").is_socket():
                os.write(int(name), data)


channel = Everywhere


def framed(text):
    return len(text).to_bytes(4) + text


class Odd:
    side_by_side = True

    def __init__(self, place: Place, resolver: Resolver, word: str = "", file: Path = Path("x")):
        if word == "bad":
            raise ValueError("word: bad, expected another")
        if word == "odd":
            place.logger.warning("word: odd, %s is usual", "another")
        if word == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "ends":  # as at the end of an interpreter: first the connection, then the process
            for name in os.listdir("/proc/self/fd"):
                if Path(f"/proc/self/fd/{name}").is_socket():
                    os.close(int(name))
            time.sleep(0.3)
            os._exit(7)
        if word == "wrong":
            {}["key"]
        self.place, self.file = place, file

    async def open(self):
        if self.file.name == "closed":
            raise ConnectionError("not open")
        if self.file.name.startswith("task"):
            self.task = asyncio.create_task(self.work())

    async def work(self):
        for number in range(1000 if self.file.name == "tasks" else 3):
            await asyncio.sleep(0.001)
            self.place.count("worked")
        self.place.logger.warning("done")
        self.file.write_text("done")

    def close(self):
        if self.file.name == "closing":
            self.file.write_text("closed")

    @hookimpl
    def finish_message(self, transaction: Transaction, content: bytes):
        return b"X-Size: %d\\r\\n" % len(content)

    @hookimpl
    def filter_message(self, transaction: Transaction, recipients, earlier):
        match transaction.message.view.subject:
            case "loop":
                while True:
                    pass
            case "sleep":
                time.sleep(1000)
            case "segv":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "raise":
                raise ValueError("bad \\x1b value")
            case "os":
                raise TimeoutError("slow")
            case "unreachable":
                raise UnreachableError("no server")
            case "SystemExit":
                raise SystemExit(1)
            case "memory":
                bytearray(1 << 31)
            case "leak":
                leaked.append(bytearray(60 << 20))
                return Passed(reason=str(os.getpid()))
            case "place":
                return Passed(reason=f"{self.place.message_size} {self.place.timeout_seconds}")
            case "pid":
                return Passed(reason=str(os.getpid()))
            case "wrong":
                return object()
            case "log":
                self.place.logger.warning("a %s", "warning")
                self.place.count("seen")
                self.place.data_made("clamd:3310", 1.7e9)
                print("not seen")
            case "lines":
                for number in range(1000):
                    self.place.count("seen")
            case "per recipient":
                return PerRecipient(verdicts={recipients[0].address: Verdict(reason="first")})
            case "whole":
                return WHOLE
            case "garbage":
                channel().sendall(b"220 hello there, this is no frame\\r\\n" * 10)
            case "huge":
                channel().sendall((1 << 31).to_bytes(4) + b"x" * 1000)
            case "no json":
                channel().sendall(framed(b"\\xff\\xfe"))
            case "deep":
                channel().sendall(framed(b"[" * 100_000))
            case "no object":
                channel().sendall(framed(b"[]"))
            case "forged":
                channel().sendall(framed(json.dumps({"number": 99, "answer": None}).encode()))
            case "forged log":
                channel().sendall(framed(json.dumps({"log": ["x", {}]}).encode()))
            case "twice":
                said = framed(json.dumps({"number": 1, "answer": None}).encode())
                channel().sendall(said + said)
            case "class":
                answer = {"is": "Action", "value": "reject"}
                channel().sendall(framed(json.dumps({"number": 1, "answer": answer}).encode()))
            case "hold":
                answer = {"is": "Verdict", "reason": "x", "action": "hold"}
                channel().sendall(framed(json.dumps({"number": 1, "answer": answer}).encode()))
        return None


class Early:
    @hookimpl
    async def filter_connect(self, session: Session):
        return Verdict(reason=f"client {session.client}", score=1.0)

    @hookimpl
    def filter_message(self, transaction: Transaction, earlier):
        return Verdict(reason=" ".join(one.reason for one in earlier))


class Remembers:
    def __init__(self, state: State): ...

    @hookimpl
    async def filter_message(self, transaction: Transaction): ...


class ByItself:
    isolation = "process"

    @hookimpl
    async def filter_message(self, transaction: Transaction):
        return Passed(reason=str(os.getpid()))
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    return tmp_path


def loaded(folder, settings="{}", filter_class="Odd", more="isolation: process, timeout: 20s"):
    (folder / "rules.yaml").write_text(
        f'rules: [{{name: odd, filter: "./odd.py:{filter_class}", with: {settings}, {more}}}]\n'
    )
    return load(folder / "rules.yaml")


@asynccontextmanager
async def pipeline_of(settings):
    """A pipeline with the rule, closed at the end, and what was counted."""
    counted = []
    provided = replace(
        Provided.of(settings),
        counter=lambda rule, what: counted.append((rule, what)),
        data_made=lambda *what: counted.append(what),
    )
    threads = Threads()
    rules = load_rules(settings, provided)
    pipeline = Pipeline(rules, filter_seconds=60, threads=threads)
    try:
        yield pipeline, counted
    finally:
        await close_filters(rules, threads)
        threads.close()


def children():
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def opened():
    return len([*Path("/proc/self/fd").iterdir()])


async def evaluation(pipeline, subject, **fields):
    """What the rule says of a message."""
    found = [
        one
        async for step in rehearse(pipeline, make_transaction(subject=subject, **fields))
        for one in step.evaluations
    ]
    return found[-1]


async def answer_of(pipeline, subject):
    """What the hook returns, without a pipeline around it; raises what it raises."""
    letter = make_transaction(subject=subject)
    hook = pipeline.rules[0].hooks[Stage.MESSAGE].function
    return await hook(transaction=letter, recipients=letter.envelope.recipients, earlier=())


async def said(pipeline, subject):
    return (await evaluation(pipeline, subject)).reason


CASES = {
    "nothing": (Result.PASS, ""),
    "per recipient": (Result.HIT, "first"),
    "whole": (Result.HIT, "whole"),
    "segv": (Result.ERROR, "its process was killed by SIGSEGV"),
    "kill": (Result.ERROR, "its process was killed by SIGKILL"),
    "exit": (Result.ERROR, "its process exited with 3"),
    "raise": (Result.ERROR, r"ValueError: bad \x1b value"),
    "os": (Result.ERROR, "TimeoutError: slow"),
    "unreachable": (Result.ERROR, "UnreachableError: no server"),
    "SystemExit": (Result.ERROR, "SystemExit: 1"),
    "memory": (Result.ERROR, "MemoryError"),
    "wrong": (Result.ERROR, "TypeError: returned object, expected Verdict or None"),
    "lines": (Result.ERROR, "its process wrote more than 100 log lines for one answer"),
    "garbage": (Result.ERROR, "its process answered with 842,149,920 bytes"),
    "huge": (Result.ERROR, "its process answered with 2,147,483,648 bytes"),
    "no json": (Result.ERROR, "its process answered no JSON"),
    "deep": (Result.ERROR, "its process answered no JSON"),
    "no object": (Result.ERROR, "its process answered no JSON object"),
    "forged": (Result.ERROR, "its process answered another question"),
    "forged log": (Result.ERROR, "its process answered no verdict"),
    "class": (Result.ERROR, "its process answered"),
    "hold": (Result.ERROR, "its process answered"),
}


async def test_each_failure_concerns_its_message_alone(folder):
    async with pipeline_of(loaded(folder)) as (pipeline, _):
        await pipeline.open()
        for subject, (result, reason) in CASES.items():
            found = await evaluation(pipeline, subject)
            assert found.result is result, (subject, found)
            assert found.reason.removeprefix("ProcessEndedError: ").startswith(reason), subject
            if result is Result.ERROR:
                assert found.action is Action.DEFER
            assert (await evaluation(pipeline, "nothing")).result is Result.PASS, subject


async def test_a_verdict_comes_back_whole(folder):
    async with pipeline_of(loaded(folder)) as (pipeline, _):
        found = await evaluation(pipeline, "whole")
        assert found.matches == (Match(where="subject", text="whole"),)
        assert (found.score, found.action) == (2.5, Action.REJECT)
        [outcome] = [
            outcome
            async for step in rehearse(pipeline, make_transaction(subject="whole"))
            for _, outcome in step.decided
        ]
        assert str(outcome.reply).startswith("554 5.7.1 no")


WHOLE = Verdict(
    reason="whole",
    action=Action.REJECT,
    reply=Reply(code=554, text="no", enhanced="5.7.1", timing=ReplyTiming(delay_seconds=1)),
    edits=(
        AddHeader("X-A", "b"),
        AddHeader("X-A", b" raw\xff", None),
        ChangeHeader("X-B", "c", 2),
        RemoveHeader("X-B", "v"),
        PrefixSubject("[c] "),
        ReplaceBody(b"\xff\r\n"),
        AddRecipient("ann@example.com"),
        RemoveRecipient("bob@example.com"),
        ChangeSender(""),
    ),
    timing=ReplyTiming(drip_seconds=1, drop=True),
    matches=(Match(where="subject", text="ü\n"),),
    score=2.5,
    auth=("spf=pass",),
)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        WHOLE,
        Verdict(reason="x"),
        Passed(reason="why"),
        PerRecipient(verdicts={"a@b": None, "c@d": WHOLE}),
        b"X-A: b\r\n",
    ],
)
def test_answers_survive_json(answer):
    assert from_plain(json.loads(json.dumps(to_plain(answer)))) == answer


@pytest.mark.parametrize("answer", [object(), {"a": 1}, Action, [WHOLE], Stage.MESSAGE.__class__, {1}])
def test_what_is_no_answer_is_not_sent(answer):
    with pytest.raises(TypeError, match="expected Verdict or None"):
        to_plain(answer)


@pytest.mark.parametrize(
    "data",
    [
        {"is": "os.system", "command": "true"},
        {"is": "Session"},
        {"is": "Verdict"},
        {"is": "Verdict", "reason": 5, "action": None},
        {"is": "Verdict", "reason": "x", "action": "hold"},
        {"is": "Verdict", "reason": "x", "action": "bounce"},
        {"is": "Verdict", "reason": "x", "action": None, "other": 1},
        {"is": "Verdict", "reason": "x", "action": None, "edits": ["x"]},
        {"is": "AddHeader", "name": "A:", "value": "x"},
        {"is": "AddHeader", "name": "A", "value": "x\r\nB: c"},
        {"is": "Reply", "code": 99, "text": ""},
        {"is": "PerRecipient", "verdicts": []},
        {"is": "base64", "data": "*"},
        {"is": []},
        {"reason": "x"},
    ],
)
def test_what_is_no_answer_is_not_made(data):
    with pytest.raises((TypeError, ValueError, KeyError, AttributeError)):
        from_plain(data)


async def test_a_second_answer_is_not_that_to_the_next_question(folder):
    async with pipeline_of(loaded(folder)) as (pipeline, _):
        await answer_of(pipeline, "twice")
        answers = set()
        for _ in range(4):
            try:
                answers.add((await answer_of(pipeline, "whole")).reason)
            except ChildProcessError as error:
                answers.add(str(error))
        assert answers == {"whole", "its process answered another question"}


async def test_early_hooks_work_and_what_they_said_is_known_later(folder):
    async with pipeline_of(loaded(folder, filter_class="Early")) as (pipeline, _):
        assert await said(pipeline, "x") == "client 192.0.2.1"


async def test_a_process_that_does_not_answer_is_killed_at_the_deadline(folder):
    async with pipeline_of(loaded(folder)) as (pipeline, _):
        await pipeline.open()
        for subject in ("loop", "sleep"):
            asked = asyncio.ensure_future(answer_of(pipeline, subject))
            for _ in range(10):
                await asyncio.sleep(0)
            asked.cancel()
            with pytest.raises(ChildProcessError, match="its process was killed"):
                await asked
            assert await answer_of(pipeline, "nothing") is None


async def test_while_some_hang_others_are_answered(folder):
    async with pipeline_of(loaded(folder)) as (pipeline, _):
        await pipeline.open()
        hanging = [asyncio.ensure_future(evaluation(pipeline, "sleep")) for _ in range(3)]
        for _ in range(10):
            assert (await evaluation(pipeline, "nothing")).result is Result.PASS
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_processes_are_used_again_and_a_leak_ends_one_between_messages(folder):
    async with pipeline_of(loaded(folder, more="isolation: process, memory: 300MB")) as (pipeline, _):
        await pipeline.open()
        used = {await said(pipeline, "pid") for _ in range(6)}
        assert len(used) <= 3
        leaking = [await evaluation(pipeline, "leak") for _ in range(16)]
        assert {one.result for one in leaking} == {Result.PASS}, "none has failed"
        assert len({one.reason for one in leaking}) > 3, "several processes were used up"


async def test_log_lines_and_counts_come_from_the_process(folder, caplog):
    async with pipeline_of(loaded(folder)) as (pipeline, counted):
        with caplog.at_level(logging.INFO, logger="gatepost.filter.odd"):
            await evaluation(pipeline, "log")
        assert ("gatepost.filter.odd", logging.WARNING, "a warning") in caplog.record_tuples
        assert counted == [("odd", "seen"), ("odd", "clamd:3310", 1.7e9)]


async def test_what_a_filter_warns_of_when_it_is_made_is_logged_once_for_all_processes(folder, caplog):
    async with pipeline_of(loaded(folder, "{word: odd}")) as (pipeline, _):
        assert [record.getMessage() for record in caplog.records] == ["word: odd, another is usual"]
        await pipeline.open()
        assert (await evaluation(pipeline, "log")).result is Result.PASS
    assert [record.getMessage() for record in caplog.records][1:] == ["a warning"]


async def test_the_traceback_of_a_mistake_is_logged(folder, caplog):
    async with pipeline_of(loaded(folder)) as (pipeline, _):
        await evaluation(pipeline, "raise")
    assert re.search(r'odd.py", line \d+, in filter_message', caplog.text)


async def test_no_process_and_no_descriptor_is_left(folder):
    before, descriptors = children(), opened()
    async with pipeline_of(loaded(folder)) as (pipeline, _):
        await pipeline.open()
        for subject in ("nothing", "segv", "exit"):
            await evaluation(pipeline, subject)
        assert children() - before
    assert children() <= before
    assert opened() <= descriptors + 1


async def test_the_place_in_the_process_is_that_of_the_settings(folder):
    settings = loaded(folder)
    text = (folder / "rules.yaml").read_text()
    (folder / "rules.yaml").write_text(f"limits: {{message_size: 5MB}}\n{text}")
    async with pipeline_of(load(settings.base / "rules.yaml")) as (pipeline, _):
        assert await said(pipeline, "place") == "5000000 20.0"


@pytest.mark.parametrize(("name", "counts"), [("task", 3), ("tasks", 40)])
async def test_tasks_of_a_filter_run_between_messages_and_what_they_say_fails_none(
    folder, caplog, name, counts
):
    async with pipeline_of(loaded(folder, f"{{file: {name}}}")) as (pipeline, counted):
        await pipeline.open()
        async with asyncio.timeout(60):
            while not (folder / name).exists():
                await asyncio.sleep(0.01)
        assert (await evaluation(pipeline, "nothing")).result is Result.PASS
        assert counted.count(("odd", "worked")) == counts
        assert ("done" in caplog.text) == (name == "task")


async def test_close_is_called_in_the_process(folder):
    async with pipeline_of(loaded(folder, "{file: closing}")) as (pipeline, _):
        await pipeline.open()
        await evaluation(pipeline, "nothing")
    assert (folder / "closing").read_text() == "closed"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (ODD.replace('word == "bad"', "True"), "filter './odd.py:Odd': word: bad, expected another"),
        ("", "no class 'Odd' in ./odd.py"),
    ],
)
async def test_what_keeps_a_new_process_from_making_the_filter_is_named(folder, content, reason):
    async with pipeline_of(loaded(folder)) as (pipeline, _):
        (folder / "odd.py").write_text(content)
        found = await said(pipeline, "nothing")
        assert f"ProcessEndedError: the filter cannot be made any more: {reason}" in found


async def test_an_open_that_fails_is_the_answer_until_it_succeeds(folder):
    async with pipeline_of(loaded(folder, "{file: closed}")) as (pipeline, _):
        await pipeline.open()
        found = await evaluation(pipeline, "nothing")
        assert (found.result, found.reason) == (Result.ERROR, "open failed: ConnectionError: not open")


def test_the_event_loop_of_the_gateway_behaves_alike(folder):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_no_process_and_no_descriptor_is_left(folder))


async def test_a_filter_may_ask_for_isolation_and_the_rule_may_refuse_it(folder):
    for more, elsewhere in (("timeout: 20s", True), ("isolation: none", False)):
        settings = loaded(folder, filter_class="ByItself", more=more)
        async with pipeline_of(settings) as (pipeline, _):
            assert (await said(pipeline, "x") != str(os.getpid())) is elsewhere


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ("{word: bad}", "filter './odd.py:Odd': word: bad, expected another"),
        ("{word: 5}", "rules.yaml:1:58: 5, expected text (write it in quotes)"),
        ("{wort: x}", "unknown key 'wort' (did you mean 'word'?)"),
        ("{word: wrong}", "could not be made: KeyError: 'key' (odd.py:"),
        ("{word: crash}", "in a process of its own: its process was killed by SIGSEGV"),
        ("{word: ends}", "in a process of its own: its process exited with 7"),
    ],
)
def test_check_says_what_is_wrong_as_without_isolation(folder, settings, error):
    before = children()
    with pytest.raises(ConfigError) as raised:
        load_rules(loaded(folder, settings))
    assert error in str(raised.value)
    if "crash" not in settings and "ends" not in settings:
        with pytest.raises(ConfigError) as here:
            load_rules(loaded(folder, settings, more="isolation: none"))
        assert str(here.value) == str(raised.value)
    assert children() <= before


def test_too_little_memory_for_the_filter_itself_is_named(folder):
    with pytest.raises(ConfigError, match=r"MemoryError: .*, expected a larger memory of the rule"):
        load_rules(loaded(folder, more="isolation: process, memory: 1MB"))


@pytest.mark.parametrize(
    ("filter_class", "error"),
    [
        (
            "Remembers",
            "which it cannot in a process of its own, expected isolation: none",
        ),
        ("Missing", "no class"),
        ("sys", "expected"),
    ],
)
def test_what_cannot_be_isolated_is_refused_when_the_rules_are_loaded(folder, filter_class, error):
    with pytest.raises(ConfigError, match=re.escape(error)):
        load_rules(loaded(folder, filter_class=filter_class))


@pytest.mark.parametrize("more", ["isolation: thread", "isolation: process, memory: 0", "isolation: true"])
def test_wrong_settings_are_refused(folder, more):
    with pytest.raises(ConfigError):
        loaded(folder, more=more)


WORKER = """
import asyncio, sys
from pathlib import Path
from gatepost.config import load
from gatepost.pipeline import Pipeline, Threads
from gatepost.pipeline.loader import load_rules
from gatepost.model.mail import Stage
from gatepost.testing import make_transaction


async def main():
    rules = load_rules(load(Path("rules.yaml")))
    pipeline = Pipeline(rules, filter_seconds=60, threads=Threads())
    await pipeline.open()
    letter = make_transaction(subject="loop")
    hook = rules[0].hooks[Stage.MESSAGE].function
    asked = hook(transaction=letter, recipients=letter.envelope.recipients, earlier=())
    task = asyncio.ensure_future(asked)
    await asyncio.sleep(0.1)  # it loops, or will
    print("ready", flush=True)
    await task


asyncio.run(main())
"""


def test_processes_end_with_a_worker_that_is_killed(folder):
    loaded(folder)
    with subprocess.Popen([sys.executable, "-c", WORKER], cwd=folder, stdout=subprocess.PIPE) as worker:
        assert worker.stdout.readline() == b"ready\n"
        started = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        worker.kill()
    assert started
    for pid in started:
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists())


def until(holds):
    for _ in range(300):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("30 s")


def test_in_a_gateway_a_hanging_message_is_deferred_and_fields_are_put_before_others(folder):
    loaded(folder, more="isolation: process, timeout: 5s")
    rules = (folder / "rules.yaml").read_text()
    with running_gateway(rules, files={"odd.py": ODD}) as gateway:
        assert gateway.send(make_transaction(subject="nothing")).code == 250
        reasons = [one.reason for one in gateway.journal()[0].evaluations]
        assert "puts X-Size before the message" in reasons
        assert gateway.send(make_transaction(subject="loop")).code == 451
        assert gateway.send(make_transaction(subject="segv")).code == 451
        assert gateway.send(make_transaction(subject="nothing")).code == 250
