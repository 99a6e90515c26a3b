"""A reload takes new certificates, users and authorities; with a broken one the old ones stay in use."""

import shutil
import signal
import smtplib
import ssl
import urllib.request

import pytest
from gatepost.process.certificate import make_certificate
from gatepost.server import hash_password
from gatepost.testing import FakeUpstream

RULES = """
    workers: 2
    web: 127.0.0.1:0
    listen:
      - {address: "127.0.0.1:0", tls: {certificate: mx.pem, key: mx.key}, auth: {users: users.yaml}}
"""
BROKEN = "not reloaded, the old rules stay in force"


def served(port):
    """The certificate that a new client sees after STARTTLS."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.starttls(context=anybody)
        return client.sock.getpeercert(binary_form=True)


def logs_in(port, password):
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.starttls(context=anybody)
        try:
            return client.login("ann", password)[0] == 235
        except smtplib.SMTPAuthenticationError:
            return False


@pytest.fixture
def renew(tmp_path):
    """Write a new certificate and key over those of a folder; returns the certificate."""

    def write(folder):
        (new := tmp_path / "new").mkdir(exist_ok=True)
        certificate, key = make_certificate(new)
        shutil.copy(certificate, folder / "mx.pem")
        shutil.copy(key, folder / "mx.key")
        return ssl.PEM_cert_to_DER_cert(certificate.read_text())

    return write


@pytest.mark.long
def test_sighup_takes_a_new_certificate_and_new_users_in_every_worker(gateway, renew, tmp_path, wait_until):
    first = renew(tmp_path)
    names = ("mx.pem", "mx.key")
    files = {name: (tmp_path / name).read_text() for name in names}
    running = gateway(RULES, files={**files, "users.yaml": users("old")}, errors=[BROKEN])
    assert {served(running.port) for _ in range(10)} == {first}
    with running.smtp() as open_session:
        open_session.ehlo()
        second = renew(running.folder)
        (running.folder / "users.yaml").write_text(users("new"))
        running.kill(signal.SIGHUP)
        running.logs("reloaded", times=2)
        assert {served(running.port) for _ in range(20)} == {second}, "the workers share the clients"
        assert (logs_in(running.port, "old"), logs_in(running.port, "new")) == (False, True)
        assert open_session.noop()[0] == 250

    (running.folder / "mx.pem").write_text("-----BEGIN CERTIFICATE-----\nnot yet written\n")
    running.kill(signal.SIGHUP)
    running.logs(BROKEN)
    assert "rules.yaml:5:35: " in running.log
    assert "mx.pem and " in running.log
    assert {served(running.port) for _ in range(10)} == {second}

    request = urllib.request.Request(f"http://{running.desk}/metrics", headers=running.password)
    with urllib.request.urlopen(request, timeout=60) as answer:
        metrics = answer.read().decode()
    assert f'gatepost_certificate_not_after_seconds{{file="{running.folder}/mx.pem"}} 1.' in metrics
    assert "gatepost_workers 2.0\n" in metrics
    assert running.stop() == 0


def users(password):
    return f'ann: "{hash_password(password)}"\n'


def test_after_sighup_an_authority_that_was_taken_out_is_no_longer_trusted(gateway, tmp_path, wait_until):
    (other := tmp_path / "other").mkdir()
    right, key = make_certificate(tmp_path)
    wrong, _ = make_certificate(other)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(right, key)
    with FakeUpstream(tls=tls) as upstream:
        server = f"{{host: localhost, port: {upstream.port}, tls: required, ca: roots.pem}}"
        running = gateway(
            f"relay: [{{recipients: '*@example.com', to: [{server}]}}]\nlimits: {{idle_time: 100ms}}\n",
            files={"roots.pem": right.read_text()},
        )
        assert running.send(b"Subject: x\r\n\r\n").startswith("250 ")
        (running.folder / "roots.pem").write_text(wrong.read_text())
        running.kill(signal.SIGHUP)
        running.logs("reloaded")
        wait_until(lambda: not upstream.open_connections, "the connection of before is closed")
        assert running.send(b"Subject: x\r\n\r\n").startswith("451 4.4.1 ")
        assert running.stop() == 0
