"""Where the web desk listens, and what guards it there."""

import grp
import os
from ipaddress import ip_network

import pytest
from gatepost.cli import app
from gatepost.config import ConfigError, load
from typer.testing import CliRunner

GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture
def loaded(tmp_path):
    def write(text):
        (tmp_path / "rules.yaml").write_text(text)
        return load(tmp_path / "rules.yaml")

    return write


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ("web: unix:desk.sock\n", "{}/desk.sock"),
        ("web: 'unix:/run/gatepost/desk.sock'\n", "/run/gatepost/desk.sock"),
        (f"web: {{address: unix:desk.sock, socket_group: {GROUP}}}\n", "{}/desk.sock"),
        ("web: 127.0.0.1:8025\n", None),
        ("web: '[::1]:8025'\n", None),
        ("web: {}\n", None),
    ],
)
def test_it_listens_on_a_port_or_on_a_socket_beside_the_settings(loaded, tmp_path, settings, path):
    found = loaded(settings).config.web.socket
    assert (found and str(found)) == (path and path.format(tmp_path))


def test_proxies_are_addresses_and_networks(loaded):
    web = loaded("web: {forwarded_from: [10.0.0.10, '2001:db8::/32']}\n").config.web
    assert web.forwarded_from == (ip_network("10.0.0.10"), ip_network("2001:db8::/32"))
    assert loaded("web: {forwarded_from: 10.0.0.10}\n").config.web.forwarded_from == web.forwarded_from[:1]
    assert loaded("web: {}\n").config.web.forwarded_from == ()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("web: 'unix:'\n", "1:6: 'unix:', expected host:port like 127.0.0.1:8025, or unix:/path"),
        ("web: {forwarded_from: proxy.example}\n", "1:23: 'proxy.example', expected"),
        ("web: unix\n", "1:6: 'unix', expected host:port like 127.0.0.1:8025, or unix:/path"),
        (f"web: unix:/{'x' * 107}\n", "expected a path of at most 107 bytes"),
        ("web: {socket_group: root}\n", "socket_group without a Unix socket, expected address: unix:/path"),
        (
            "web: {address: unix:x, socket_group: no-such-group}\n",
            "1:38: 'no-such-group', expected a group of this machine",
        ),
        ("web: {needs_password: false}\n", "1:7: unknown key 'needs_password'"),
        ("web: 0.0.0.0:8025\n", "is open to other machines without a password, expected password_file"),
        ("web: {users: [{name: ann, role: reader}]}\n", "users without users_file, expected both"),
        ("web: {users_file: rules.yaml}\n", "users_file without users, expected both"),
        (
            "web: {users_file: rules.yaml, users: [{name: ann, role: reader}, {name: ann, role: reader}]}\n",
            "the user 'ann' twice in users",
        ),
        ("web: {users_file: rules.yaml, users: [{name: ann, role: king}]}\n", "'king'"),
        ("web: {users_file: rules.yaml, users: [{name: 'a:b', role: reader}]}\n", "a name of at most 64"),
    ],
)
def test_a_mistake_is_named(loaded, settings, problem):
    with pytest.raises(ConfigError) as caught:
        loaded(settings)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("web: 127.0.0.1:8025\n", "web desk with the generated password in {}/gatepost.db-desk-password"),
        ("web: unix:desk.sock\n", "web desk at unix:{}/desk.sock"),
        ("web: {password_file: secret}\n", "web desk with the password in {}/secret"),
    ],
)
def test_check_says_what_guards_it_and_makes_no_password(loaded, tmp_path, settings, said):
    (tmp_path / "secret").write_text("open sesame\n")
    loaded(settings)
    done = CliRunner().invoke(app, ["check", "-c", str(tmp_path / "rules.yaml")])
    assert done.exit_code == 0
    assert done.stdout.endswith(f", {said.format(tmp_path)}\n")
    assert {one.name for one in tmp_path.iterdir()} == {"rules.yaml", "secret"}


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ("web: unix:no/where/desk.sock\n", "1:6: the folder {}/no/where does not exist"),
        ("pid_file: no/where/pid\n", "1:11: the folder {}/no/where does not exist"),
    ],
)
def test_check_names_a_folder_that_is_missing(loaded, tmp_path, settings, place):
    loaded(settings)
    done = CliRunner().invoke(app, ["check", "-c", str(tmp_path / "rules.yaml")])
    assert (done.exit_code, place.format(tmp_path) in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/", ""),
        ("/mail", "/mail"),
        ("/mail/", "/mail"),
        ("/a/b-c.d_e~1/", "/a/b-c.d_e~1"),
        ("/.well", "/.well"),
    ],
)
def test_a_base_path_has_no_slash_at_its_end(loaded, written, path):
    assert loaded(f"web: {{base_path: {written}}}\n").config.web.base_path == path


@pytest.mark.parametrize(
    "written",
    [
        "mail",
        "''",
        "//mail",
        "/mail//",
        "/a//b",
        "/a b",
        "/a/../b",
        "/..",
        "/./",
        "/a?b",
        "/a%20b",
        "'/a#b'",
        "/ä",
        "5",
    ],
)
def test_what_is_no_path_is_named(loaded, written):
    with pytest.raises(ConfigError) as caught:
        loaded(f"web: {{base_path: {written}}}\n")
    assert "1:18: " in str(caught.value)
    assert "expected a path like /mail/ of letters, digits, '-', '.', '_' and '~'" in str(caught.value)
