"""Tokens of programs: made, listed and revoked by a command, and what the desk takes them for."""

import os
import pwd
import stat
from datetime import UTC, datetime, timedelta

import pytest
from gatepost.cli import app
from gatepost.config.tokens import hash_of, read_tokens
from gatepost.model.user import Role, User
from gatepost.web.accounts import Accounts
from gatepost.web.known_tokens import KnownTokens
from typer.testing import CliRunner


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tokens.yaml"


@pytest.fixture
def token(tmp_path, monkeypatch):
    """Run ``gatepost token`` over rules.yaml; returns the exit status and what it printed."""
    (tmp_path / "rules.yaml").write_text("web: {address: '127.0.0.1:0', tokens_file: tokens.yaml}\n")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        done = CliRunner().invoke(app, ["token", *arguments])
        return done.exit_code, (done.stdout or done.stderr).strip()

    return run


async def test_a_token_lets_a_program_do_what_its_role_says_until_it_is_revoked(client_of, token, file):
    status, secret = token("new", "backup", "--role", "reader")
    assert (status, secret[:9], len(secret)) == (0, "gatepost_", 52)
    assert secret not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    bearer = {"authorization": f"Bearer {secret}"}
    async with client_of(accounts=Accounts(password="secret", tokens=file)) as http:
        assert (await http.get("/api/v1/info", headers=bearer)).status_code == 200
        assert (await http.delete("/api/v1/messages?all=true", headers=bearer)).status_code == 403
        assert http.cookies == {}
        site = {**bearer, "origin": "https://evil.example"}
        refused = await http.post("/api/v1/messages/seen", headers=site)
        assert refused.json()["type"] == "/api/#problem-foreign"
        wrong = {"authorization": f"Bearer {secret[:-1]}"}
        assert (await http.get("/api/v1/info", headers=wrong)).status_code == 401
        assert (await http.get("/api/v1/info", auth=("", secret + "x"))).status_code == 401
        assert (await http.post("/login", data={"password": secret})).status_code == 403, "not for pages"
        assert token("revoke", "backup") == (0, "revoked: backup")
        assert (await http.get("/api/v1/info", headers=bearer)).status_code == 401


def test_a_token_has_domains_and_an_end(token, file):
    status, secret = token("new", "ci", "--role", "operator", "--domain", "Example.COM", "--expires", "90d")
    assert status == 0
    found = read_tokens(file)["ci"]
    assert (found.sha256, found.role, found.domains) == (hash_of(secret), Role.OPERATOR, ("example.com",))
    later = datetime.now(UTC) + timedelta(days=90)
    assert abs(found.expires - later) < timedelta(minutes=10)
    ci = User(name="token ci", role=Role.OPERATOR, domains=frozenset({"example.com"}))
    assert KnownTokens(file).user(secret) == ci
    assert KnownTokens(file, now=lambda: found.expires).user(secret) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files that others must read")
@pytest.mark.parametrize("told_by", ["user", "group", "store"])
def test_the_gateway_can_read_a_file_that_root_makes_and_cannot_change_it(token, tmp_path, file, told_by):
    rules = tmp_path / "rules.yaml"
    nobody = pwd.getpwnam("nobody")
    if told_by == "store":  # of a gateway that systemd starts as its user
        (tmp_path / "gatepost.db").touch()
        os.chown(tmp_path / "gatepost.db", nobody.pw_uid, nobody.pw_gid)
    else:
        group = "group: nogroup\n" if told_by == "group" else ""
        rules.write_text(f"{rules.read_text()}user: nobody\n{group}")
    for name in ("ci", "backup"):
        assert token("new", name, "--role", "reader")[0] == 0
        found = file.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, nobody.pw_gid, 0o640)


def test_tokens_are_listed_without_what_they_are(token):
    assert token("list") == (0, "")
    _, secret = token("new", "ci", "--role", "operator", "--domain", "example.com", "--domain", "example.net")
    token("new", "old", "--role", "reader", "--expires", "1ms")
    status, shown = token("list")
    first, second = shown.splitlines()
    assert (status, first) == (0, "ci  operator of example.com, example.net")
    assert second.startswith("old  reader  expired ")
    assert secret not in shown


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("new", "ci", "--role", "reader"), 1, "there is a token 'ci' already"),
        (("revoke", "other"), 1, "there is no token 'other'; there are: ci"),
        (("new", "a b", "--role", "reader"), 2, "a name of at most 64 characters"),
        (("new", "b", "--role", "king"), 2, "king"),
        (("new", "b", "--role", "reader", "--domain", "a@b"), 2, "a domain like example.com"),
        (("new", "b", "--role", "reader", "--expires", "soon"), 2, "a time like"),
        (("new", "b", "--role", "reader", "--expires", "999999999d"), 2, "time"),
    ],
)
def test_a_wrong_command_says_what_was_expected_and_changes_nothing(token, file, arguments, status, says):
    token("new", "ci", "--role", "reader")
    before = file.read_text()
    found, text = token(*arguments)
    assert found == status
    assert says in text
    assert file.read_text() == before


def test_settings_without_a_file_of_tokens_say_so(token, tmp_path):
    (tmp_path / "rules.yaml").write_text("web: 127.0.0.1:0\n")
    status, text = token("new", "ci", "--role", "reader")
    assert status == 1
    assert "web: {tokens_file: tokens.yaml}" in text


@pytest.mark.parametrize("text", ["- a", "ci: 7", "ci: {role: reader}", "{", "ci: {role: reader, sha256: x}"])
def test_a_file_that_is_wrong_lets_nobody_in_and_is_named(token, file, text, caplog):
    _, secret = token("new", "ci", "--role", "reader")
    known = KnownTokens(file)
    assert known.user(secret)
    file.write_text(text)
    assert known.user(secret) is None
    assert f"the web desk accepts no token: {file}: " in caplog.text
    status, said = token("list")
    assert (status, str(file) in said) == (1, True)
