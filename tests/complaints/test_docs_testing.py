"""What docs/testing.md shows is run as it stands there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
FILES = {found[1]: text for text in PYTHON if (found := re.match(r"# (\w+\.py)\n", text))}
CONFTESTS = [text for text in PYTHON if re.match(r"# conftest\.py \w", text)]
TIMEOUT_SECONDS = 120


@pytest.fixture
def run(tmp_path):
    """Run pytest over the page's files and these, as a developer would; gives what it prints."""

    def run_pytest(**files):
        for name, text in (FILES | {f"{name}.py": text for name, text in files.items()}).items():
            (tmp_path / name).write_text(text)
        paths = os.pathsep.join((str(ROOT), str(ROOT / "plugins")))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "."],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return done.stdout + done.stderr

    return run_pytest


def test_every_block_is_of_a_language_that_is_tested():
    assert {language for language, _ in BLOCKS} == {"python", "sh", "text"}
    assert (len(FILES), len(CONFTESTS), len(PYTHON)) == (3, 2, 6)


def test_the_tests_of_the_page_pass_and_one_that_waits_in_vain_says_so(run):
    fails = (
        "from test_signup import sign_up\n"
        "def test_goodbye(mailbox):\n"
        "    sign_up(mailbox.address('bob'), mailbox.smtp_host, mailbox.smtp_port)\n"
        "    mailbox.wait_for(timeout_seconds=20)\n"
        "    mailbox.wait_for(subject='Goodbye', timeout_seconds=0.1)\n"
    )
    said = run(test_goodbye=fails)
    assert "1 failed, 3 passed" in said, said
    (block,) = [text for language, text in BLOCKS if language == "text"]
    for line in re.sub(r"t[0-9a-f]{12}|\d\d:\d\d:\d\d|\d{5}|5 s", "VARIES", block).splitlines():
        pattern = re.escape(line).replace("VARIES", r"[\w.:]+( s)?")
        # Other mailboxes have what the other tests of the page sent.
        assert re.search(pattern, said) or line.startswith("In other mailboxes"), (line, said)
    assert "complaints.py:" not in said, "it is shown where the test waits, not inside of the kit"


def test_an_application_that_reads_the_environment_is_told(run):
    reads = (
        "import os, smtplib\n"
        "def test_user(mailbox):\n"
        "    with smtplib.SMTP(os.environ['SMTP_HOST'], int(os.environ['SMTP_PORT'])) as smtp:\n"
        "        smtp.login(os.environ['SMTP_USER'], os.environ['SMTP_PASSWORD'])\n"
        "        smtp.sendmail('a@example.org', 'customer@example.net', 'Subject: x\\n\\n')\n"
        "    assert mailbox.wait_for(timeout_seconds=20).recipients == ('customer@example.net',)\n"
    )
    said = run(conftest=CONFTESTS[0], test_user=reads)
    assert "4 passed" in said, said


def test_a_server_that_runs_already_is_used(run, complaints_server):
    conftest = CONFTESTS[1].replace("2525", str(complaints_server.smtp_port))
    before = complaints_server.get_json("messages")["messages"]
    said = run(conftest=conftest.replace("http://127.0.0.1:8025", complaints_server.url))
    assert "3 passed" in said, said
    assert len(complaints_server.get_json("messages")["messages"]) == len(before) + 5


def test_without_pytest_a_block_starts_one():
    (block,) = [text for text in PYTHON if not text.startswith("# ")]
    exec(block, {})


@pytest.mark.real("curl")
def test_the_commands_work(complaints_server):
    answers = []
    for language, text in BLOCKS:
        if language == "sh":
            command = text.replace("http://127.0.0.1:8025", complaints_server.url)
            command = command.replace("127.0.0.1:2525", f"127.0.0.1:{complaints_server.smtp_port}")
            done = subprocess.run(
                ["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done
            answers.append(done.stdout)
    waited, listed, deleted = (json.loads(answer) for answer in answers[1:])
    assert waited["messages"][0]["codes"] == ["482913"]
    assert listed["messages"][0]["id"] == waited["messages"][0]["id"]
    assert deleted == {"deleted": 1}
