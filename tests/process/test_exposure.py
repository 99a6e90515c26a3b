"""A secret that every user of the machine can read is reported at its place in the settings."""

import tempfile
from pathlib import Path

import pytest
from gatepost.config import load
from gatepost.process.exposure import exposed_files

RULES = """\
listen:
  - address: 127.0.0.1:0
    tls: {certificate: mx.pem, key: mx.key}
    auth: {users: users.yaml}
  - {address: "127.0.0.1:1", auth: {users: any, without_tls: true}}
relay:
  - recipients: "*@example.com"
    to: inbox
  - recipients: "*@example.org"
    to: inbox
web: {password_file: desk}
"""
ROUTE = """\
relay:
  - recipients: "*"
    clients: authenticated
    to: [smtp://127.0.0.1:9, {host: mail.example.com, auth: {username: gw, password_file: upstream}}]
"""
FILTERS = """\
rules:
  - {name: a, filter: rspamd, with: {controller: "127.0.0.1:1", password_file: desk}}
  - {name: b, filter: web_service, with: {url: "https://a.example/", token_file: desk, ca_file: mx.pem}}
  - {name: c, filter: dkim_sign, with: {keys: [{domain: a.example, selector: s, file: mx.key}]}}
  - {name: d, filter: "./own.py:Own", with: {file: mx.pem, more: [{secret_file: desk}, 5]}}
"""
SERVERS = """\
store: {url: "postgresql://gatepost@127.0.0.1/mail", password_file: desk}
state: {url: "redis://127.0.0.1", password_file: upstream}
web:
  password_file: desk
  forward: {to: {host: mail.example.com, auth: {username: gw, password_file: upstream}}}
"""
EVERYBODY = " every user of this machine can read "


@pytest.fixture
def folder():
    """A folder that every user may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="gatepost-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for secret in ("mx.pem", "mx.key", "users.yaml", "desk", "upstream"):
            (folder / secret).write_text("secret\n")
            (folder / secret).chmod(0o644)
        yield folder


def places(folder, rules):
    (folder / "rules.yaml").write_text(rules)
    found = [
        str(problem).removeprefix(f"{folder}/rules.yaml:")
        for problem in exposed_files(load(folder / "rules.yaml"))
    ]
    assert all(EVERYBODY in line for line in found)
    return [line.partition(":" + EVERYBODY)[0] for line in found]


def test_each_kind_of_secret_is_named(folder):
    assert places(folder, RULES) == ["3:37", "4:19", "11:22"]
    assert places(folder, ROUTE) == ["4:91"]
    assert places(folder, FILTERS) == ["2:80", "3:82", "4:87", "5:81"]
    assert places(folder, SERVERS) == ["1:69", "2:50", "5:78", "4:18"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660])
def test_a_file_for_owner_and_group_is_not(folder, mode):
    for secret in folder.iterdir():
        secret.chmod(mode)
    assert places(folder, RULES) == []


def test_nor_is_one_in_a_folder_that_others_cannot_enter(folder):
    folder.chmod(0o750)
    assert places(folder, RULES) == []


def test_so_is_the_secret_of_single_sign_on(folder):
    pytest.importorskip("joserfc")
    (folder / "rules.yaml").write_text(
        "web:\n"
        "  oidc:\n"
        "    {issuer: 'https://sso.example.com', client_id: desk, client_secret_file: desk,\n"
        "     redirect_uri: 'https://a.example/login/oidc/callback', roles: {groups: a, role: reader}}\n"
    )
    (found,) = exposed_files(load(folder / "rules.yaml"))
    assert (found.line, found.column) == (3, 78)
    assert EVERYBODY in str(found)
