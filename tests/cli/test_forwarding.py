"""The options of `gatepost complaints` that name the server to forward to, and the age limit."""

import pytest
from gatepost.cli import app
from gatepost.process import complaints
from typer.testing import CliRunner


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the command as far as it starts the server; returns its result and what would be started."""
    started = []
    monkeypatch.setattr(complaints, "complain", lambda one, **_: started.append(one))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password").write_text("secret\n")

    def run_command(*options):
        return CliRunner().invoke(app, ["complaints", *options]), (started or [None])[-1]

    return run_command


@pytest.mark.parametrize(
    ("options", "server"),
    [
        (["--forward-to", "smtp://mail.example.com"], ("mail.example.com", 25, "opportunistic", True)),
        (["--forward-to", "smtps://mail.example.com"], ("mail.example.com", 465, "implicit", True)),
        (["--forward-to", "smtp://[::1]:2526", "--forward-tls", "none"], ("::1", 2526, "none", True)),
        (
            ["--forward-to", "smtp://m:587", "--forward-tls", "required", "--forward-no-verify"],
            ("m", 587, "required", False),
        ),
    ],
)
def test_the_server_is_written_as_in_relay(run, options, server):
    done, started = run(*options)
    assert done.exit_code == 0, done.output
    (found,) = started.web.forward.to
    assert (found.host, found.port, found.tls, found.verify) == server


def test_login_sender_and_recipients(run, tmp_path):
    login = ["--forward-user", "app", "--forward-password-file", "password"]
    only = ["--forward-only", "*@example.com", "--forward-only", "me@example.net"]
    done, started = run("--forward-to", "smtp://m", *login, *only, "--forward-from", "<>")
    assert done.exit_code == 0, done.output
    forward = started.web.forward
    assert forward.to[0].auth.password_file == tmp_path / "password"
    assert (forward.recipients, forward.sender) == (("*@example.com", "me@example.net"), "")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--forward-to", "mail.example.com"],
            "--forward-to: 'mail.example.com', expected a server like",
        ),
        (
            ["--forward-to", "http://m"],
            "--forward-to: 'http://m', expected a server like smtp://mail.example",
        ),
        (
            ["--forward-to", "smtp://m", "--no-web"],
            "--forward-to: a message is forwarded in the web desk, so",
        ),
        (["--webhook", "http://m", "--no-web"], "--webhook: the web desk does it, so not with --no-web"),
        (["--webhook", "ftp://a:hunter2@m"], "--webhook: the URL's scheme is neither http nor https, exp"),
        (["--webhook-secret-file", "password"], "--webhook-secret-file: needs --webhook URL"),
        (
            ["--webhook", "http://m", "--webhook-secret-file", "password"],
            "--webhook-secret-file: no secret in",
        ),
        (["--forward-only", "*@example.com"], "--forward-only: needs --forward-to smtp://HOST:PORT"),
        (["--forward-no-verify"], "--forward-no-verify: needs --forward-to"),
        (
            ["--forward-to", "smtp://m", "--forward-user", "x"],
            "--forward-user: needs --forward-pass",
        ),
        (
            ["--forward-to", "smtp://m", "--forward-user", "x", "--forward-password-file", "none"],
            "--forward-password-file: 'none', expected a file that exists",
        ),
        (
            ["--forward-to", "smtp://m", "--forward-ca", "password"],
            "--forward-ca: 'password', expected a",
        ),
        (["--forward-to", "smtp://m", "--forward-from", "bob"], "--forward-from: 'bob', expected an address"),
        (["--forward-to", "smtp://m", "--forward-from", "*@x.y"], "--forward-from: '*@x.y', expected an add"),
        (
            ["--forward-to", "smtp://m", "--forward-only", "x.y"],
            "--forward-only: 'x.y', expected an",
        ),
        (["--keep-for", "soon"], "--keep-for: 'soon', expected a time like 90m, 12h or 7d"),
        (["--keep-for", "0d"], "--keep-for: '0d', expected a time like"),
    ],
)
def test_a_mistake_names_the_option(run, options, says):
    done, started = run(*options)
    assert (done.exit_code, started) == (2, None)
    assert says in " ".join(done.output.replace("\n", " ").split()), done.output


def test_without_the_options_nothing_is_forwarded_and_age_does_not_matter(run):
    _, started = run()
    assert started.web.forward is None
    assert started.keep_seconds is None
    _, started = run("--keep-for", "7d")
    assert started.keep_seconds == 7 * 86400
