"""A gateway's desk is not open to other users of the machine; that of complaints mode is, and says so."""

import grp
import http.client
import os
import socket
import stat
import time
from base64 import b64encode

import argon2
import pytest
import yaml

PATHS = ("/api/v1/messages", "/api/v1/info", "/metrics", "/", "/journal", "/sessions", "/events")


def status(running, path, headers):
    connection = http.client.HTTPConnection(*running.desk.split(":"), timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.long
def test_on_loopback_too_a_password_is_required_which_is_generated_and_stays(gateway, gateway_class, run):
    running = gateway("web: 127.0.0.1:0\n")
    found = {path: status(running, path, {}) for path in PATHS}
    assert found == dict.fromkeys(PATHS, 401) | dict.fromkeys(("/", "/journal", "/sessions"), 303)
    wrong = {"Authorization": "Bearer guess"}
    assert status(running, "/api/v1/info", wrong) == 401
    for path in PATHS[:-1]:
        assert status(running, path, running.password) == 200
    file = running.folder / "gatepost.db-desk-password"
    password = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert running.log.count(password) == 1
    assert running.stop() == 0

    again = gateway_class(running.folder, "serve", "--quiet")
    try:
        assert status(again, "/api/v1/info", {"Authorization": f"Bearer {password}"}) == 200
        assert password not in again.log
    finally:
        assert again.stop() == 0


@pytest.mark.long
def test_users_of_the_settings_and_tokens_are_those_of_the_running_gateway(gateway, run, wait_until):
    hashed = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash
    users = "".join(f'{name}: "{hashed(name)}"\n' for name in ("ann", "bob"))
    web = """
        web:
          address: 127.0.0.1:0
          users_file: users.yaml
          tokens_file: tokens.yaml
          users:
            - {name: ann, role: administrator}
            - {name: bob, role: reader, domains: example.net}
        """
    running = gateway(web, files={"users.yaml": users})
    assert not (running.folder / "gatepost.db-desk-password").exists()
    ann, bob = (
        {"Authorization": f"Basic {b64encode(f'{name}:{name}'.encode()).decode()}"} for name in ("ann", "bob")
    )
    assert [status(running, "/metrics", one) for one in ({}, ann, bob)] == [401, 200, 403]
    rules = running.folder / "rules.yaml"
    made = run("token", "new", "prometheus", "--role", "reader", "-c", str(rules))
    token = {"Authorization": f"Bearer {made.stdout.strip()}"}
    assert status(running, "/metrics", token) == 200
    assert " INFO " in running.log
    assert "audit GET /metrics refused client=127.0.0.1 role=reader user='bob'" in running.log
    assert run("token", "revoke", "prometheus", "-c", str(rules)).returncode == 0
    assert status(running, "/metrics", token) == 401

    changed = yaml.safe_load(rules.read_text())
    changed["web"]["users"] = [{"name": "bob", "role": "reader"}]
    watching = http.client.HTTPConnection(*running.desk.split(":"), timeout=60)
    watching.request("GET", "/events", headers=ann)
    events = watching.getresponse()
    assert events.readline().startswith(b"event: ")
    waiting = http.client.HTTPConnection(*running.desk.split(":"), timeout=60)
    waiting.request("GET", "/api/v1/wait?timeout=300&query=subject:absent", headers=ann)
    rules.write_text(yaml.safe_dump(changed))
    assert run("reload", "-c", str(rules)).returncode == 0
    wait_until(lambda: status(running, "/metrics", bob) == 200, "the desk has the new users")
    assert status(running, "/metrics", ann) == 401
    began = time.monotonic()
    events.read()  # to its end: ann is no user any more
    assert waiting.getresponse().status == 403
    assert time.monotonic() - began < 10, "it is two seconds on a machine that does nothing else"
    watching.close()
    waiting.close()


@pytest.mark.long
def test_single_sign_on_is_that_of_the_running_gateway_and_a_dead_provider_stops_nothing(
    gateway, run, wait_until, closed_port
):
    pytest.importorskip("joserfc")
    web = f"""
        web:
          address: 127.0.0.1:0
          hosts: other.example
          oidc:
            issuer: http://127.0.0.1:{closed_port}
            client_id: desk
            client_secret_file: secret
            redirect_uri: http://desk.example/login/oidc/callback
            roles: {{groups: helpdesk, role: operator}}
        """
    running = gateway(web, files={"secret": "s3cret"})
    assert status(running, "/login", {"Host": "desk.example"}) == 200
    assert status(running, "/login/oidc", {"Host": "desk.example"}) == 502
    assert running.log.count("web desk: log-in with OpenID Connect failed client=127.0.0.1: discovery: ") == 1
    assert status(running, "/", running.password) == 200
    rules = running.folder / "rules.yaml"
    changed = yaml.safe_load(rules.read_text())
    del changed["web"]["oidc"]
    rules.write_text(yaml.safe_dump(changed))
    assert run("reload", "-c", str(rules)).returncode == 0
    wait_until(lambda: status(running, "/login/oidc", {}) == 404, "the desk has no provider any more")
    assert status(running, "/journal", {}) == 303


class UnixClient(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)

    def status(self, path):
        self.request("GET", path)
        answer = self.getresponse()
        answer.read()
        return answer.status


@pytest.mark.long
def test_a_unix_socket_is_for_its_owner_and_a_group(gateway, gateway_class):
    group = grp.getgrgid(os.getgid()).gr_name
    running = gateway("web: unix:desk.sock\nworkers: 2\n")
    path = running.folder / "desk.sock"
    assert f"web desk: unix:{path}" in running.log
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    client = UnixClient(str(path))
    assert [client.status(one) for one in PATHS[:-1]] == [200] * 6
    client.close()
    running.crash()
    assert path.exists(), "it is left behind"
    rules = running.folder / "rules.yaml"
    rules.write_text(
        rules.read_text().replace("unix:desk.sock", f"{{address: unix:desk.sock, socket_group: {group}}}")
    )
    again = gateway_class(running.folder, "serve")
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        client = UnixClient(str(path))
        assert client.status("/api/v1/info") == 200
        client.close()
    finally:
        assert again.stop() == 0
    assert not path.exists()


def test_complaints_mode_is_open_and_says_so(complaints):
    running = complaints("--web", "127.0.0.1:0")
    assert "(no password: every user of this machine can read it)" in running.log
    assert status(running, "/api/v1/info", {}) == 200
    assert not list(running.folder.glob("*desk-password"))


@pytest.mark.long
def test_other_machines_can_read_it_if_an_option_says_so(complaints):
    running = complaints("--web", "0.0.0.0:0", "--no-password")
    assert "(no password: everybody who can connect can read it)" in running.log
    assert status(running, "/api/v1/info", {}) == 200


@pytest.mark.parametrize("others", [(), pytest.param(("--no-password",), marks=pytest.mark.long)])
def test_with_a_password_of_its_own_it_does_not_say_so(complaints, tmp_path, others):
    (tmp_path / "password").write_text("open sesame\n")
    running = complaints("--web", "127.0.0.1:0", "--password-file", "password", *others)
    assert "no password" not in running.log
    assert status(running, "/api/v1/info", {}) == 401
