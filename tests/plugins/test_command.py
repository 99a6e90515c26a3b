"""The filter command: a program's exit status decides, and nothing that it does holds up other mail."""

import asyncio
import os
import re
import stat
import textwrap
import time
from pathlib import Path

import pytest
from gatepost import Action, Place
from gatepost.config import ConfigError, load
from gatepost.pipeline.loader import load_rules
from gatepost.testing import ask_filter, make_transaction, run_filter, running_gateway
from gatepost_command import Command, CommandError

PAGE = Path(__file__).parents[2] / "docs" / "filters" / "command.md"


@pytest.fixture
def place(tmp_path):
    return Place(rule="ours", folder=tmp_path)


@pytest.fixture
def script(tmp_path):
    """Write a shell script; returns its path relative to rules.yaml."""

    def written(text, name="check.sh"):
        path = tmp_path / name
        path.write_text("#!/bin/sh\n" + textwrap.dedent(text))
        path.chmod(0o755)
        return f"./{name}"

    return written


def state_of(pid):
    """As in proc(5); empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


async def gone(pid):
    """Wait until a process has ended; a zombie of another parent counts."""
    for _ in range(300):
        if state_of(pid) in ("", "Z"):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{pid} runs")


@pytest.mark.parametrize(
    ("settings", "status", "expected"),
    [
        ({}, 0, None),
        ({}, 69, (None, "./check.sh exited with 69")),
        ({}, 75, (Action.DEFER, "./check.sh exited with 75")),
        ({"exits": {"hit": 1}}, 1, (None, "./check.sh exited with 1")),
        ({"exits": {"hit": 0, "pass": [1, 3]}}, 0, (None, "./check.sh exited with 0")),
        ({"exits": {"hit": 0, "pass": [1, 3]}}, 3, None),
        *(
            ({"exits": {action: [7, 8]}}, 8, (Action(action), "./check.sh exited with 8"))
            for action in ("accept", "reject", "defer", "discard", "quarantine")
        ),
    ],
)
def test_the_exit_status_decides(script, place, settings, status, expected):
    command = [script(f"exit {status}")]
    verdict = run_filter(Command, make_transaction(), command=command, place=place, **settings)
    assert (verdict and (verdict.action, verdict.reason)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo 'no way' >&2; exit 69", "no way"),
        ("echo first >&2; printf 'last' >&2; exit 69", "last"),
        (r"printf 'a\033[2Jb\r\n\n \n' >&2; exit 69", "a?[2Jb"),
        (r"printf '\377\n' >&2; exit 69", r"\xff"),
        (r"printf 'ein B\303\244r\n' >&2; exit 69", "ein Bär"),
        ("head -c 900000 /dev/zero | tr '\\0' x >&2; exit 69", "x" * 500),
        ("echo out; exit 69", "./check.sh exited with 69"),
        (r"printf '\342\200\256evil\000\n' >&2; exit 69", "?evil?"),
    ],
)
def test_the_last_line_of_standard_error_is_the_reason(script, place, text, reason):
    verdict = run_filter(Command, make_transaction(), command=[script(text)], place=place)
    assert verdict.reason == reason


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("exit 1", "exited with 1"),
        ("echo broken >&2; exit 2", "exited with 2: broken"),
        ("kill -9 $$", "was killed by SIGKILL"),
        ("kill -SEGV $$", "was killed by SIGSEGV"),
        ("kill -40 $$", "was killed by signal 40"),
        ("yes >&2", "wrote more than 1 MiB to standard error"),
        ("head -c 2000000 /dev/zero >&2; exit 0", "wrote more than 1 MiB to standard error"),
    ],
)
def test_what_has_no_meaning_is_a_failure(script, place, text, error):
    with pytest.raises(CommandError, match=re.escape(error)):
        run_filter(Command, make_transaction(), command=[script(text)], place=place)


def test_a_file_that_the_system_cannot_run_is_a_failure_in_words(place, tmp_path):
    (tmp_path / "check.sh").write_text("exit 0\n")
    (tmp_path / "check.sh").chmod(0o755)
    with pytest.raises(CommandError, match="is no program, expected one, or a script whose first line"):
        run_filter(Command, make_transaction(), command=["./check.sh"], place=place)


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 5_000_000])
def test_the_message_comes_byte_for_byte(script, place, size, tmp_path):
    content = (b"\0\xff\r\n.\r\n\r" * (size // 8 + 1))[:size]
    run_filter(Command, make_transaction(content=content), command=[script("cat > got; exit 0")], place=place)
    assert (tmp_path / "got").read_bytes() == content


def test_a_program_need_not_read_the_message(script, place):
    transaction = make_transaction(content=bytes(5_000_000))
    for text in ("exit 69", "exec <&-; exit 69", "head -c 10 >/dev/null; exit 69"):
        assert run_filter(Command, transaction, command=[script(text)], place=place)


def test_the_envelope_is_in_the_environment_and_nothing_else(script, place, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    transaction = make_transaction(
        mail_from='"a b; rm -rf $HOME `id`"@exämple.org',
        recipients=["ünï@example.com", '"$(touch hacked)"@example.com'],
        client="2001:db8::1",
        helo="mx.example.org",
        authenticated="ann",
        tls="TLSv1.3",
    )
    run_filter(Command, transaction, command=[script("env -0 > got")], place=place)
    got = dict(
        one.split("=", 1) for one in (tmp_path / "got").read_bytes().decode().split("\0") if "=" in one
    )
    got = {name: value for name, value in got.items() if name not in ("PWD", "_", "SHLVL", "OLDPWD")}
    assert got == {
        "GATEPOST_RULE": "ours",
        "GATEPOST_ID": transaction.id,
        "GATEPOST_RECEIVED_AT": transaction.received_at.isoformat(),
        "GATEPOST_SIZE": str(len(transaction.message.content)),
        "GATEPOST_SENDER": transaction.envelope.mail_from,
        "GATEPOST_RECIPIENTS": "\n".join(one.address for one in transaction.envelope.recipients),
        "GATEPOST_SESSION": transaction.session.id,
        "GATEPOST_CLIENT": "2001:db8::1",
        "GATEPOST_LISTENER": transaction.session.listener,
        "GATEPOST_HELO": "mx.example.org",
        "GATEPOST_PROTOCOL": transaction.session.protocol,
        "GATEPOST_TLS": "TLSv1.3",
        "GATEPOST_USER": "ann",
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
    }
    assert not (tmp_path / "hacked").exists()
    table = PAGE.read_text().partition("| variable |")[2].partition("\n\n")[0]
    first_cells = "".join(re.findall(r"^\|([^|]+)", table, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", first_cells)) == set(got)


def test_arguments_are_no_shell(script, place, tmp_path):
    script('printf "%s|" "$@" > got')
    run_filter(Command, make_transaction(), command=["./check.sh", "a b", "$HOME", "; exit 69"], place=place)
    assert (tmp_path / "got").read_text() == "a b|$HOME|; exit 69|"


@pytest.mark.parametrize("variable", ["mail_from", "helo"])
def test_a_nul_is_a_failure_and_not_another_address(script, place, variable):
    with pytest.raises(CommandError, match="NUL"):
        run_filter(Command, make_transaction(**{variable: "a\0b@example.org"}), command=["true"], place=place)


def test_an_envelope_that_is_too_large_is_a_failure(place):
    with pytest.raises(OSError, match="too long"):
        run_filter(
            Command,
            make_transaction(recipients=[f"{'x' * 60}{n}@example.com" for n in range(2000)]),
            command=["true"],
            place=place,
        )


async def test_at_its_deadline_the_program_is_killed_with_all_that_it_has_started(script, place, tmp_path):
    command = [script("sleep 1000 & echo $! > child; echo $$ > self; wait")]
    transaction = make_transaction()
    hook = Command(command=command, place=place).filter_message
    asked = asyncio.ensure_future(hook(transaction, transaction.envelope.recipients))
    while not (tmp_path / "self").exists() or not (tmp_path / "self").read_text():
        await asyncio.sleep(0.01)
    asked.cancel()
    with pytest.raises(CommandError, match="has not ended"):
        await asked
    await gone(int((tmp_path / "self").read_text()))
    await gone(int((tmp_path / "child").read_text()))


async def test_what_a_program_leaves_in_the_background_neither_lives_on_nor_holds_up_the_answer(
    script, place, tmp_path
):
    command = [script("sleep 1000 & echo $! > child; echo done >&2; exit 69")]
    verdict = await ask_filter(Command, make_transaction(), command=command, place=place)
    assert verdict.reason == "done"
    await gone(int((tmp_path / "child").read_text()))


@pytest.mark.real("setsid")
def test_a_process_that_left_the_group_does_not_hold_up_the_answer(script, place, tmp_path):
    command = [script("setsid sleep 1000 & echo $! > child; echo done >&2; exit 69")]
    try:
        assert run_filter(Command, make_transaction(), command=command, place=place).reason == "done"
    finally:
        os.kill(int((tmp_path / "child").read_text()), 9)


@pytest.mark.real("perl")
def test_memory_is_limited(script, place):
    needs_80_mb = "undef $/; my $x = <STDIN>; $x x= 80; exit 69"
    command, transaction = ["perl", "-e", needs_80_mb], make_transaction(content=bytes(1_000_000))
    assert run_filter(Command, transaction, command=command, place=place)
    with pytest.raises(CommandError, match="Out of memory"):
        run_filter(Command, transaction, command=command, place=place, memory="64MiB")


async def test_only_so_many_run_at_a_time(script, place, tmp_path):
    script("echo x >> started; while [ ! -e go ]; do sleep 0.02; done")
    program = Command(command=["./check.sh"], place=place, at_once=2)
    asked = [asyncio.ensure_future(ask_filter(program, make_transaction())) for _ in range(5)]

    def started():
        path = tmp_path / "started"
        return path.read_text().count("x") if path.exists() else 0

    while started() < 2:
        await asyncio.sleep(0.01)
    for _ in range(20):
        await asyncio.sleep(0)
    assert started() == 2
    (tmp_path / "go").write_text("")
    assert await asyncio.gather(*asked) == [None] * 5
    assert started() == 5


async def test_no_descriptor_and_no_zombie_is_left(script, place):
    program = Command(command=[script("echo x >&2; exit 69")], place=place)
    before = descriptors()
    for _ in range(20):
        await ask_filter(program, make_transaction(content=bytes(200_000)))
    assert descriptors() <= before
    assert zombies() == []


def descriptors():
    return len([*Path("/proc/self/fd").iterdir()])


def zombies():
    """The children of this process that have ended and were not reaped."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in children if state_of(pid) == "Z"]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ("command: []", "expected a program and its arguments"),
        ("command: ['']", "expected a program and its arguments"),
        ("command: [no-such-program-anywhere]", "there is no program 'no-such-program-anywhere' in PATH"),
        ("command: [./missing]", "is not a file"),
        ("command: [./]", "is not a file"),
        ("command: [./plain.txt]", "is not executable, expected a program (chmod +x)"),
        ("command: [./crlf.sh]", "is for the interpreter '/bin/sh\\r', expected one that exists, and LF at"),
        ("command: [./other.sh]", "is for the interpreter '/no/such/python', expected one that exists"),
        ("command: /bin/true", "a list"),
        ('command: ["/bin/true", "a\\0b"]', "a NUL"),
        ("command: [/bin/true]\n      exits: {hit: 256}", "at most 255"),
        ("command: [/bin/true]\n      exits: {hit: 1, reject: [2, 1]}", "1 is both hit and reject"),
        ("command: [/bin/true]\n      exits: {hit: 0}", "0 is both pass and hit"),
        ("command: [/bin/true]\n      exits: {bounce: 3}", "bounce"),
        ("command: [/bin/true]\n      at_once: 0", "at least 1"),
    ],
)
def test_check_says_what_is_wrong(tmp_path, settings, error):
    (tmp_path / "plain.txt").write_text("")
    for name, first_line in (("crlf.sh", b"#!/bin/sh\r\n"), ("other.sh", b"#! /no/such/python -E\n")):
        (tmp_path / name).write_bytes(first_line)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "rules.yaml").write_text(
        f"rules:\n  - name: ours\n    filter: command\n    with:\n      {settings}\n"
    )
    with pytest.raises(ConfigError) as raised:
        load_rules(load(tmp_path / "rules.yaml"))
    assert error in str(raised.value)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.real("perl")
def test_the_example_of_the_page_runs_in_a_gateway(tmp_path):
    [rules], [program] = blocks("yaml"), blocks("perl")
    # files of `running_gateway` are not executable
    path = tmp_path / "check.pl"
    path.write_text(program)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    with running_gateway(rules.replace("./check.pl", str(path))) as gateway:
        assert gateway.send(make_transaction(text="HELLO YOU\r\n", mail_from="ann@example.org")).code == 550
        assert gateway.journal()[0].evaluations[0].reason == "ann@example.org shouts"
        assert gateway.send(make_transaction(text="Hello you\r\n")).code == 250


def test_a_program_that_hangs_defers_its_message_and_no_other(tmp_path, script):
    script("case $GATEPOST_SENDER in hang*) exec sleep 1000;; esac; exit 0")
    rules = {
        "rules": [
            {
                "name": "ours",
                "filter": "command",
                "with": {"command": [str(tmp_path / "check.sh")]},
                "timeout": "2s",
            }
        ]
    }
    with running_gateway(rules) as gateway:
        assert gateway.send(make_transaction(mail_from="hang@example.org")).code == 451
        assert "has not ended" in gateway.journal()[0].evaluations[0].reason
        assert gateway.send(make_transaction(mail_from="ann@example.org")).code == 250


async def test_a_program_that_is_removed_is_a_failure_until_it_is_back(script, place, tmp_path):
    command = Command(command=[script("exit 69")], place=place)
    (tmp_path / "check.sh").rename(tmp_path / "away")
    with pytest.raises(OSError, match=r"check\.sh"):
        await ask_filter(command, make_transaction())
    (tmp_path / "away").rename(tmp_path / "check.sh")
    assert await ask_filter(command, make_transaction())


@pytest.mark.parametrize(
    "text",
    [
        "while :; do echo x >&2; sleep 0.1; done",  # byte by byte
        "exec yes",  # to standard output, which is ignored
        "exec >&- 2>&- <&-; exec sleep 1000",
    ],
)
def test_a_program_that_goes_on_and_on_is_late(tmp_path, script, text):
    script(f"case $GATEPOST_SENDER in hang*) ;; *) exit 0;; esac\n{text}")
    where = {"command": [str(tmp_path / "check.sh")]}
    with running_gateway(
        {"rules": [{"name": "ours", "filter": "command", "with": where, "timeout": "1s"}]}
    ) as gateway:
        assert gateway.send(make_transaction(mail_from="hang@example.org")).code == 451
        assert str(gateway.journal()[0].evaluations[0].result) == "timeout"
        until = time.monotonic() + 30
        while gateway.send(make_transaction(mail_from="ann@example.org")).code != 250:
            assert time.monotonic() < until


def test_programs_are_found_in_path(place):
    with pytest.raises(CommandError, match="false exited with 1"):
        run_filter(Command, make_transaction(), command=["false"], place=place)
