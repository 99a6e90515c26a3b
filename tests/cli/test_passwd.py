"""``gatepost passwd``: the line that it makes is the one that the server checks against."""

import os
import pty
import pwd
import stat
import subprocess
import sys
import threading
from pathlib import Path

import argon2
import pytest
from gatepost.cli import app
from gatepost.server.auth import Users
from gatepost.server.users_file import read_users, user_line, with_user
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
HASH, NEW = CHEAP.hash("old", salt=b"of the tests"), CHEAP.hash("new", salt=b"of the tests")
NAMES = [
    "alice",
    "alice@example.com",
    "Jörg Ä",
    "no",
    "1",
    "a: b",
    "# x",
    '"q"',
    "- a",
    "😀",
    "a,b",
    "=",
    "~",
]


@pytest.fixture
def gatepost():
    """Run a command; returns status, output and errors."""

    def run(*arguments, **options):
        done = CliRunner().invoke(app, [*map(str, arguments)], **options)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


async def accepts(file, name, password):
    users = Users.load(file)
    try:
        return await users.check(name, password)
    finally:
        users.close()


async def test_the_line_is_all_that_the_file_of_users_needs(gatepost, tmp_path):
    status, output, _ = gatepost("passwd", "alice", input="swordfish\n")
    assert (status, output[:19]) == (0, 'alice: "$argon2id$v')
    (file := tmp_path / "users.yaml").write_text(output)
    assert await accepts(file, "alice", "swordfish")
    assert not await accepts(file, "alice", "swordfish\n")


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_read_as_it_was_typed(name, tmp_path):
    file = tmp_path / "users.yaml"
    file.write_text(f"bob: {HASH}\n{user_line(name, HASH)}\n")
    assert read_users(file) == {"bob": HASH, name: HASH}


@pytest.mark.parametrize("name", ["", "a\nb", "a\x7f", "\udcff"])
def test_a_name_that_nobody_can_send_is_refused(gatepost, name):
    status, _, errors = gatepost("passwd", name, input="x\n")
    assert status == 2
    assert "expected text without control characters" in errors


@pytest.mark.parametrize("typed", ["", "\n", "a\0b\n"])
def test_a_password_that_is_missing_or_cannot_be_sent_is_refused(gatepost, tmp_path, typed):
    file = tmp_path / "users.yaml"
    status, output, errors = gatepost("passwd", "alice", "--file", file, input=typed)
    assert (status, output) == (2, "")
    assert "no password, expected a line of text" in errors
    assert not file.exists()


FILES = [
    ("", True, "{alice}\n"),
    ("# nobody yet\n", True, "# nobody yet\n{alice}\n"),
    (f"bob: {HASH}", True, f"bob: {HASH}\n{{alice}}\n"),
    (f"bob: {HASH} # his\n", True, f"bob: {HASH} # his\n{{alice}}\n"),
    (f"# a\nalice: '{HASH}'  # hers\nbob: {HASH}\n", False, f"# a\n{{alice}}  # hers\nbob: {HASH}\n"),
    (f'"alice": |-\n  {HASH}\nbob: {HASH}\n', False, f"{{alice}}\nbob: {HASH}\n"),
    (f"  bob: {HASH}\n", True, f"  bob: {HASH}\n  {{alice}}\n"),
    (f'{{{{alice: "{HASH}", "bob": "{HASH}"}}}}'.replace("{{", "{").replace("}}", "}"), False, None),
    (f'{{"bob": "{HASH}"}}\n', None, None),
    (f"bob: &same {HASH}\nalice: *same\n", None, None),
    (f"alice: &same {HASH}\nbob: *same\n", None, None),
    (f"alice: {HASH}\nalice: {HASH}\n", None, None),
    (f"---\nbob: {HASH}\n...\n", None, None),
]


@pytest.mark.parametrize(("text", "is_new", "wanted"), FILES)
def test_all_but_the_users_line_stays_or_the_file_is_left_alone(text, is_new, wanted, tmp_path):
    file = tmp_path / "users.yaml"
    if is_new is None:
        with pytest.raises(
            ValueError, match=r'cannot be changed line by line; write into it yourself:  alice: "'
        ):
            with_user(text, "alice", NEW, file)
        return
    changed, added = with_user(text, "alice", NEW, file)
    assert added is is_new
    file.write_text(changed)
    assert read_users(file)["alice"] == NEW
    if wanted is not None:
        assert changed == wanted.replace("{alice}", f'alice: "{NEW}"')


@pytest.mark.parametrize("text", ["- alice\n", "alice: secret\n", "alice: [\n", "\0"])
def test_a_file_of_something_else_is_left_alone(gatepost, tmp_path, text):
    (file := tmp_path / "users.yaml").write_text(text)
    status, _, errors = gatepost("passwd", "bob", "--file", file, input="x\n")
    assert status == 1
    assert f"gatepost: {file}: expected lines like  alice:" in errors
    assert file.read_text() == text


async def test_a_file_keeps_its_owner_mode_and_link(gatepost, tmp_path):
    (real := tmp_path / "real.yaml").write_text(f"bob: {HASH}\r\n", newline="")
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 65534, 65534)
    (file := tmp_path / "users.yaml").symlink_to(real)
    owner = real.stat().st_uid, real.stat().st_gid
    assert gatepost("passwd", "alice", "-f", file, input="one\n")[1] == f"added alice to {file}\n"
    status, output, _ = gatepost("passwd", "alice", "-f", file, input="two\n")
    assert (status, output) == (0, f"changed the password of alice in {file}\n")
    assert file.is_symlink()
    assert (real.stat().st_uid, real.stat().st_gid, real.stat().st_mode & 0o777) == (*owner, 0o640)
    assert real.read_bytes().startswith(f"bob: {HASH}\r\n".encode())
    assert await accepts(file, "alice", "two")
    assert not await accepts(file, "alice", "one")
    assert {*tmp_path.iterdir()} == {real, file}


def test_a_new_file_is_readable_by_its_owner_only(gatepost, tmp_path):
    gatepost("passwd", "alice", "-f", tmp_path / "users.yaml", input="one\n")
    assert (tmp_path / "users.yaml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("again", "status"), [("swordfish", 0), ("swordfisch", 1)])
def test_a_person_types_it_twice_and_it_is_not_shown(again, status):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'proxy'}:{ROOT / 'plugins'}"}
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gatepost", "passwd", "alice"],
        stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    killer = threading.Timer(30, process.kill)
    killer.start()
    answers = {b"New password of alice: ": b"swordfish\n", b"The same again: ": again.encode() + b"\n"}
    try:
        while octets := os.read(main, 1024):
            shown += octets
            for prompt in [prompt for prompt in answers if prompt in shown]:
                os.write(main, answers.pop(prompt))
    except OSError:  # the terminal's other side is closed
        pass
    finally:
        killer.cancel()
        os.close(main)
    assert process.wait(30) == status, shown
    assert b"swordfis" not in shown
    assert (b'alice: "$argon2id$' in shown) is (status == 0)
    assert (b"the two passwords are different" in shown) is (status == 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files that others must read")
@pytest.mark.parametrize(
    ("rules", "group", "mode"),
    [
        ("user: nobody\nlisten: {address: '127.0.0.1:0', auth: {users: new.yaml}}\n", "nobody", 0o640),
        ("hostname: mx.example.com\n", "root", 0o600),
        (None, "root", 0o600),
    ],
)
def test_the_gateway_can_read_a_file_that_root_makes_beside_its_settings(
    gatepost, tmp_path, rules, group, mode
):
    if rules:
        (tmp_path / "rules.yaml").write_text(rules)
    file = tmp_path / "new.yaml"
    assert gatepost("passwd", "alice", "--file", file, input="swordfish\n")[0] == 0
    found = file.stat()
    expected = (0, pwd.getpwnam(group).pw_gid, mode)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == expected
