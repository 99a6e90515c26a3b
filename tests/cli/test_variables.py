"""Every option of `gatepost complaints` and `gatepost serve` can be set by an environment variable."""

import logging
import re
from pathlib import Path

import pytest
import typer
from gatepost.cli import app
from gatepost.process import complaints as complaints_module
from gatepost.process import workers
from typer.testing import CliRunner

DOCS = Path(__file__).parents[2] / "docs"
PREFIX = "GATEPOST_COMPLAINTS_"


def options(command):
    """The options of a command but --help, by the names of their variables."""
    found = typer.main.get_command(app).commands[command]
    prefix = found.context_settings["auto_envvar_prefix"]
    return {f"{prefix}_{one.name.upper()}": one for one in found.params if one.name != "help"}


@pytest.fixture(autouse=True)
def own_log():
    """The commands set the log up; other tests have theirs again."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Run the command with variables and options; returns how it would have run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password").write_text("open sesame\n")
    (tmp_path / "secret").write_text("c3Nz" * 8)
    (tmp_path / "rules.yaml").write_text("listen: 127.0.0.1:0\n")
    authority = pytest.importorskip("trustme").CA()
    issued = authority.issue_cert("localhost").private_key_and_cert_chain_pem
    for name in ("cert.pem", "key.pem"):
        issued.write_to_path(tmp_path / name)
    seen = {}

    def complain(complaints, *, follow, ready):
        seen.update(how=complaints, follow=follow)

    monkeypatch.setattr(complaints_module, "complain", complain)

    def run(*arguments, **variables):
        given = {f"{PREFIX}{name}": text for name, text in variables.items()}
        done = CliRunner().invoke(app, ["complaints", *arguments], env=given)
        assert done.exit_code == 0, done.output
        return seen["how"], seen["follow"]

    return run


SET = {
    "SMTP": ("127.0.0.1:1", lambda how, _: how.smtp == "127.0.0.1:1"),
    "WEB": ("127.0.0.1:2", lambda how, _: how.web.address == "127.0.0.1:2"),
    "NO_WEB": ("true", lambda how, _: how.web is None),
    "HOST": ("mail.test www.mail.test", lambda how, _: how.web.hosts == ("mail.test", "www.mail.test")),
    "BASE_PATH": ("/mail/", lambda how, _: how.web.base_path == "/mail"),
    "PASSWORD_FILE": ("password", lambda how, _: how.web.password == "open sesame"),
    "NO_PASSWORD": ("1", lambda how, _: not how.web.needs_password),
    "STORE": ("mail.db", lambda how, _: how.store == Path("mail.db")),
    "KEEP_FOR": ("7d", lambda how, _: how.keep_seconds == 7 * 86400),
    "FORWARD_TO": ("smtp://m", lambda how, _: how.web.forward is not None),
    "WEBHOOK": ("http://h:1/x", lambda how, _: how.web.webhook and str(how.web.webhook.url) == "http://h:1"),
    "KEEP": ("7", lambda how, _: how.keep == 7),
    "ACCEPT_AUTH": ("none", lambda how, _: how.accept_auth == "none"),
    "TLS": ("1", lambda how, _: how.starttls),
    "TLS_CERT": ("cert.pem", lambda how, _: how.starttls and how.certificate.certificate.name == "cert.pem"),
    "SMTPS": ("127.0.0.1:3", lambda how, _: how.smtps == "127.0.0.1:3"),
    "HTTPS": ("yes", lambda how, _: how.https),
    "HTTPS_CERT": ("cert.pem", lambda how, _: how.https and how.web.tls.key.name == "cert.pem"),
    "RULES": ("rules.yaml", lambda how, _: how.rules == Path("rules.yaml")),
    "HOLD": ("mail message", lambda how, _: [stage.name for stage in how.hold_at] == ["MAIL", "MESSAGE"]),
    "QUIET": ("on", lambda _, follow: follow is None),
    "LINES": ("3", lambda _, follow: follow.__closure__ is not None),
}
"""A value of each variable that makes sense alone, and what it must change."""
FORWARDING = {"FORWARD_TO": "smtp://mail.example.com"}
WITH_ANOTHER = {
    "FORWARD_TLS": ("required", FORWARDING, lambda how: how.web.forward.to[0].tls == "required"),
    "FORWARD_CA": ("cert.pem", FORWARDING, lambda how: how.web.forward.to[0].ca is not None),
    "FORWARD_VERIFY": ("no", FORWARDING, lambda how: not how.web.forward.to[0].verify),
    "FORWARD_FROM": ("a@b.example", FORWARDING, lambda how: how.web.forward.sender == "a@b.example"),
    "FORWARD_ONLY": ("a@b.c *@d.e", FORWARDING, lambda how: how.web.forward.recipients == ("a@b.c", "*@d.e")),
    "WEBHOOK_SECRET_FILE": (
        "secret",
        {"WEBHOOK": "http://h"},
        lambda how: how.web.webhook.secret == b"s" * 24,
    ),
    "TLS_KEY": ("key.pem", {"TLS_CERT": "cert.pem"}, lambda how: how.certificate.key.name == "key.pem"),
    "HTTPS_KEY": ("key.pem", {"HTTPS_CERT": "cert.pem"}, lambda how: how.web.tls.key.name == "key.pem"),
}


TOGETHER = {"FORWARD_USER": "app", "FORWARD_PASSWORD_FILE": "password"}


def test_every_variable_is_tried():
    assert {f"{PREFIX}{name}" for name in SET | WITH_ANOTHER | TOGETHER} == set(options("complaints"))


def test_variables_that_need_each_other_set_their_options(started):
    auth = started(**FORWARDING, **TOGETHER)[0].web.forward.to[0].auth
    assert (auth.username, auth.password_file.name) == ("app", "password")


@pytest.mark.parametrize("name", SET)
def test_a_variable_sets_its_option(started, name):
    value, is_set = SET[name]
    assert is_set(*started(**{name: value}))
    if name != "LINES":
        assert not is_set(*started()), "it is not so by itself"


@pytest.mark.parametrize("name", WITH_ANOTHER)
def test_a_variable_that_needs_another_sets_its_option(started, name):
    value, others, is_set = WITH_ANOTHER[name]
    assert is_set(started(**others, **{name: value})[0])
    assert not is_set(started(**others)[0])


@pytest.mark.parametrize(
    ("variables", "arguments", "holds"),
    [
        ({"SMTP": "127.0.0.1:1"}, ["--smtp", "127.0.0.1:2"], lambda how, _: how.smtp == "127.0.0.1:2"),
        ({"HOST": "a b"}, ["--host", "c"], lambda how, _: how.web.hosts == ("c",)),
        ({"NO_WEB": "1"}, ["--web", "127.0.0.1:2"], lambda how, _: how.web.address == "127.0.0.1:2"),
        ({"FORWARD_TO": "smtp://m"}, ["--no-web"], lambda how, _: how.web is None),
        ({"WEBHOOK": "http://h"}, ["--no-web"], lambda how, _: how.web is None),
        ({"WEB": "127.0.0.1:2"}, ["--no-web"], lambda how, _: how.web is None),
        ({"QUIET": "1"}, ["--no-quiet"], lambda _, follow: follow is not None),
        ({"TLS": "1"}, ["--no-tls"], lambda how, _: not how.starttls),
        ({"TLS_CERT": "cert.pem"}, ["--no-tls"], lambda how, _: not how.starttls),
        ({"HTTPS": "1"}, ["--no-https"], lambda how, _: not how.https),
        ({"TLS": "0", "QUIET": "false"}, [], lambda how, follow: not how.starttls and follow),
        ({"TLS": "", "KEEP": "", "HOST": ""}, [], lambda how, _: how.keep == 10_000 and how.web.hosts == ()),
    ],
    ids=lambda given: "" if callable(given) else None,
)
def test_the_command_line_has_precedence(started, variables, arguments, holds):
    assert holds(*started(*arguments, **variables))


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("KEEP", "many", "Invalid value for '--keep': "),
        ("KEEP", "0", "Invalid value for '--keep': "),
        ("ACCEPT_AUTH", "all", "Invalid value for '--accept-auth': "),
        ("TLS", "perhaps", "Invalid value for '--tls': "),
        ("SMTP", "here", "'here', expected host:port like 127.0.0.1:2525 or [::1]:2525"),
    ],
)
def test_a_wrong_value_is_named(variable, value, says):
    done = CliRunner().invoke(app, ["complaints"], env={f"{PREFIX}{variable}": value})
    assert (done.exit_code, says in done.output) == (2, True), done.output
    assert f" (from {PREFIX}{variable}={value!r})\n" in done.output
    told = CliRunner().invoke(app, ["complaints", "--keep", "x"], env={f"{PREFIX}KEEP": "5"})
    assert (told.exit_code, "(from" in told.output) == (2, False)


def test_a_wrong_webhook_is_named_without_the_url():
    given = {f"{PREFIX}WEBHOOK": "ftp://ann:hunter2@mail.example.com/hunter3"}
    done = CliRunner().invoke(app, ["complaints"], env=given)
    assert done.exit_code == 2
    assert "--webhook: the URL's scheme is neither http nor https" in done.output
    assert "hunter" not in done.output


def test_those_of_serve_too(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(workers, "serve", lambda path, **_: asked.append(path))
    assert set(options("serve")) == {"GATEPOST_SERVE_CONFIG", "GATEPOST_SERVE_QUIET"}
    given = {"GATEPOST_SERVE_CONFIG": "other.yaml", "GATEPOST_SERVE_QUIET": "1"}
    assert CliRunner().invoke(app, ["serve"], env=given).exit_code == 0
    assert CliRunner().invoke(app, ["serve", "-c", "mine.yaml"], env=given).exit_code == 0
    assert asked == [Path("other.yaml"), Path("mine.yaml")]
    operating = (DOCS / "operating.md").read_text()
    assert set(re.findall(r"`(GATEPOST_SERVE_\w+)", operating)) == set(options("serve"))


def test_variables_of_other_commands_do_nothing(tmp_path):
    done = CliRunner().invoke(app, ["--version"], env={"GATEPOST_VERSION": "1.2", "GATEPOST_HELP": "x"})
    assert done.exit_code == 0
    assert done.output.startswith("gatepost ")


def written_row(variable, option):
    """The row of docs/testing.md about an option."""
    names = ", ".join(f"`{name}`" for name in (*option.opts[:1], *option.secondary_opts))
    return f"| {names} | `{variable}` | {option.help} |"


def test_the_table_of_the_docs_is_that_of_the_program():
    text = (DOCS / "testing.md").read_text()
    written = re.findall(rf"^\| `--.*{PREFIX}.*\|$", text, re.MULTILINE)
    expected = [written_row(*one) for one in options("complaints").items()]
    assert written == expected, "docs/testing.md, expected:\n" + "\n".join(expected)
