"""What docs/testing.md shows is run as it stands there."""

import json
import os
import re
import shlex
import smtplib
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from gatepost.cli import app
from gatepost.process import complaints
from gatepost.testing.complaints import running_complaints
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
FILES = {found[1]: text for text in PYTHON if (found := re.match(r"# (\w+\.py)\n", text))}
CONFTESTS = [text for text in PYTHON if re.match(r"# conftest\.py \w", text)]
TIMEOUT_SECONDS = 120
JARS = [
    Path("/usr/share/java", f"{name}.jar")
    for name in (
        "jackson-annotations",
        "jackson-core",
        "jackson-databind",
        "jakarta-activation",
        "jakarta-mail",
        "junit-jupiter-api",
        "junit-jupiter-engine",
        "junit-platform-console",
    )
]
CLASS_PATH = ":".join((".", *map(str, JARS)))
JUNIT = "org.junit.platform.console.ConsoleLauncher --disable-banner"
EXAMPLES = {
    "javascript": ("signup.test.mjs", "node --test"),
    "java": (
        "SignupTest.java",
        f"javac -cp {CLASS_PATH} SignupTest.java && java -cp {CLASS_PATH} {JUNIT} --select-class SignupTest",
    ),
    "ruby": ("signup_spec.rb", "rspec signup_spec.rb"),
}
"""For each language the file of the page that is a test, and the command that runs it."""
NODE_MODULES = ROOT / "tests" / "node_modules"


@pytest.fixture
def run(tmp_path):
    """Run pytest over the page's files and these, as a developer would; gives what it prints."""

    def run_pytest(**files):
        for name, text in (FILES | {f"{name}.py": text for name, text in files.items()}).items():
            (tmp_path / name).write_text(text)
        paths = os.pathsep.join((str(ROOT / "proxy"), str(ROOT / "plugins")))
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
    assert {language for language, _ in BLOCKS} == {*EXAMPLES, "python", "sh", "text"}
    assert (len(FILES), len(CONFTESTS), len(PYTHON)) == (6, 2, 9)


def test_the_tests_of_the_page_pass_and_one_that_waits_in_vain_says_so(run):
    fails = (
        "from test_signup import sign_up\n"
        "def test_goodbye(mailbox):\n"
        "    sign_up(mailbox.address('bob'), mailbox.smtp_host, mailbox.smtp_port)\n"
        "    mailbox.wait_for(timeout_seconds=20)\n"
        "    mailbox.wait_for(subject='Goodbye', timeout_seconds=0.1)\n"
    )
    said = run(test_goodbye=fails)
    assert "1 failed, 6 passed" in said, said
    (block,) = [text for language, text in BLOCKS if text.startswith("NoMessageError")]
    for line in re.sub(r"t[0-9a-f]{12}|\d\d:\d\d:\d\d|\d{5}|5 s", "VARIES", block).splitlines():
        pattern = re.escape(line).replace("VARIES", r"[\w.:]+( s)?")
        # Other mailboxes have what the other tests of the page sent.
        assert re.search(pattern, said) or line.startswith("In other mailboxes"), (line, said)
    assert "complaints.py:" not in said, "it is shown where the test waits, not inside of the kit"


@pytest.mark.long
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
    assert "7 passed" in said, said


@pytest.mark.long
def test_a_server_that_runs_already_is_used(run, complaints_server):
    conftest = CONFTESTS[1].replace("2525", str(complaints_server.smtp_port))
    before = complaints_server.get_json("messages")["messages"]
    said = run(conftest=conftest.replace("http://127.0.0.1:8025", complaints_server.url))
    assert "6 passed" in said, said
    assert len(complaints_server.get_json("messages")["messages"]) == len(before) + 7


@pytest.mark.long
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
    waited, listed, latest, deleted = (json.loads(answer) for answer in answers[1:])
    assert waited["messages"][0]["codes"] == ["482913"]
    assert latest == waited["messages"][0]
    assert listed["messages"][0]["id"] == waited["messages"][0]["id"]
    assert deleted == {"deleted": 1}


@pytest.mark.long
@pytest.mark.parametrize(
    "language",
    [
        pytest.param(name, marks=pytest.mark.real(command.split()[0]))
        for name, (_, command) in EXAMPLES.items()
    ],
)
def test_a_test_of_the_page_in(language, tmp_path, complaints_server):
    if not NODE_MODULES.exists() or not all(map(Path.exists, JARS)):
        pytest.skip("a library of an example is not installed")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    name, command = EXAMPLES[language]
    (text,) = [text for _, text in BLOCKS if re.match(rf"(//|#) {re.escape(name)}\n", text)]

    def run_it(text):
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    text = text.replace("http://127.0.0.1:8025", complaints_server.url)
    text = text.replace("2525", str(complaints_server.smtp_port))
    passes, said = run_it(text)
    assert passes == 0, said
    fails, said = run_it(
        re.sub(r"(timeout\W+)10", r"\g<1>0.2", text).replace("subject:welcome", "subject:goodbye")
    )
    assert fails == 1, said
    assert "newest" in said, "the answer of the API shows what is there instead"


def test_the_options_to_forward_are_those_of_the_command(monkeypatch, tmp_path):
    (command,) = [text for _, text in BLOCKS if text.startswith("gatepost complaints --forward-to")]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password.txt").write_text("secret\n")
    started = []
    monkeypatch.setattr(complaints, "complain", lambda one, **_: started.append(one))
    done = CliRunner().invoke(app, shlex.split(command.replace("\\\n", " "))[1:])
    assert done.exit_code == 0, done.output
    assert str(started[0].web.forward) == "mail.example.com:587"


@pytest.mark.real("node")
def test_the_breakpoint_in_javascript_holds_and_refuses(tmp_path):
    (script,) = [text for language, text in BLOCKS if text.startswith("// breakpoint.mjs")]
    (tmp_path / "breakpoint.mjs").write_text(script)
    (tmp_path / "try.mjs").write_text(
        """
import { connect } from "node:net";
import { refuse } from "./breakpoint.mjs";

const lines = ["EHLO app", "MAIL FROM:<a@example.org>", "RCPT TO:<bob@example.com>", "QUIT"];
const send = () => new Promise((done) => {
  const socket = connect(Number(process.env.SMTP_PORT), "127.0.0.1");
  let said = "";
  socket.on("data", (data) => {
    for (const line of String(data).split("\\r\\n").filter((line) => line[3] === " ")) {
      said += line + "\\n";
      if (lines.length) socket.write(lines.shift() + "\\r\\n");
    }
  });
  socket.on("end", () => { socket.end(); done(said); });
});
const [held, said] = await refuse("bob@example.com", send, "550 5.1.1 No such user");
console.log(held.recipient, said.includes("\\n550 5.1.1 No such user\\n"));
"""
    )
    with running_complaints() as server:
        done = subprocess.run(
            ["node", "try.mjs"],
            cwd=tmp_path,
            env={**os.environ, "GATEPOST_URL": server.url, "SMTP_PORT": str(server.smtp_port)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout == "bob@example.com true\n", done.stderr


def test_the_options_of_the_webhook_are_those_of_the_command(monkeypatch, tmp_path):
    (commands,) = [text for _, text in BLOCKS if "complaints --webhook" in text]
    make_secret, command = commands.splitlines()
    monkeypatch.chdir(tmp_path)
    subprocess.run(["/bin/sh", "-c", make_secret], check=True, timeout=60)
    started = []
    monkeypatch.setattr(complaints, "complain", lambda one, **_: started.append(one))
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    webhook = started[0].web.webhook
    assert (str(webhook.url), len(webhook.secret)) == ("http://127.0.0.1:9000", 32)


def test_a_request_of_the_webhook_is_genuine_and_a_changed_or_old_one_is_not(tmp_path):
    secret = "c2VjcmV0" * 4
    (tmp_path / "secret.txt").write_text(f"{secret}\n")
    example = {}
    exec(FILES["webhook.py"], example)
    requests = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        options = ("--webhook", f"http://127.0.0.1:{server.server_address[1]}/mail")
        with running_complaints(*options, "--webhook-secret-file", str(tmp_path / "secret.txt")) as running:
            with smtplib.SMTP(running.smtp_host, running.smtp_port) as smtp:
                smtp.sendmail("a@example.org", "bob@example.com", "Subject: Hello\n\nHi Bob\n")
            server.timeout = 60
            server.handle_request()
            (listed,) = running.get_json("messages")["messages"]
    ((headers, body),) = requests
    is_genuine = example["is_genuine"]
    assert json.loads(body) == listed
    assert headers["webhook-id"] == listed["id"]
    assert is_genuine(headers, body, secret)
    assert not is_genuine(headers, body + b" ", secret)
    assert not is_genuine(headers, body, secret[::-1])
    for name, value in (
        ("webhook-id", "x"),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", "v1,"),
    ):
        assert not is_genuine({**headers, name: value}, body, secret), name
