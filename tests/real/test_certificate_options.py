"""Own certificates of complaints mode and of a gateway's desk: STARTTLS, SMTPS, HTTPS, and their renewal."""

import contextlib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import time

import httpx
import pytest
import trustme
from gatepost.process.certificate import make_certificate

ANY_PORTS = ("--smtp", "127.0.0.1:0", "--web", "127.0.0.1:0")


@pytest.fixture
def issue(tmp_path):
    """Issue a certificate to a file with its key; returns the context of clients that trust only this one."""

    def to(name):
        authority = trustme.CA()
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            tmp_path / name
        )
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    return to


def starttls(port, context):
    with smtplib.SMTP("localhost", port, timeout=60) as client:
        client.starttls(context=context)
        return client.sock.getpeercert(binary_form=True)


def smtps(port, context):
    with smtplib.SMTP_SSL("localhost", port, timeout=60, context=context) as client:
        client.login("ann", "any")
        client.sendmail("ann@example.org", "bob@example.com", "Subject: over TLS\n\nHello\n")
        return client.sock.getpeercert(binary_form=True)


def https(place, context):
    host, port = place.split(":")
    with (
        socket.create_connection((host, int(port)), 60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as protected,
    ):
        return protected.getpeercert(binary_form=True)


def port_of_smtps(running):
    return int(re.search(r"and 127\.0\.0\.1:(\d+) \(TLS\)", running.log)[1])


def test_one_certificate_is_for_starttls_smtps_and_https_and_renewed_by_sigusr2(complaints, tmp_path, issue):
    first = issue("own.pem")
    running = complaints("--tls-cert", "own.pem", "--smtps", "127.0.0.1:0", "--https", *ANY_PORTS[2:])
    implicit, place = port_of_smtps(running), running.desk

    def served(context):
        return {starttls(running.port, context), smtps(implicit, context), https(place, context)}

    assert len(before := served(first)) == 1
    [message] = httpx.get(f"https://{place}/api/v1/messages", verify=first).json()["messages"]
    assert message["subject"] == "over TLS"
    with httpx.stream("GET", f"https://{place}/events", verify=first) as events:
        assert "strict-transport-security" not in events.headers
        assert next(events.iter_lines()) == "event: change"
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{place}/")

    good = (tmp_path / "own.pem").read_text()
    (tmp_path / "own.pem").write_text("-----BEGIN CERTIFICATE-----\nnot yet written\n")
    running.kill(signal.SIGUSR2)
    running.logs("not restarted, nothing changes")
    assert "own.pem: expected a PEM certificate chain" in running.log
    (tmp_path / "own.pem").write_text(good)
    assert served(first) == before

    second = issue("own.pem")
    running.kill(signal.SIGUSR2)
    assert len(after := served_when_ready(served, second)) == 1
    assert after != before
    assert "Traceback" not in running.log


def served_when_ready(served, context):
    """The workers are replaced one by one, the desk after them."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        with contextlib.suppress(ssl.SSLError, ConnectionError, smtplib.SMTPException):
            return served(context)
        time.sleep(0.1)
    return served(context)


def test_a_generated_certificate_names_the_hosts_and_one_of_its_own_is_for_https(complaints, tmp_path, issue):
    running = complaints("--tls", "--https", "--host", "mail.test", "--host", "192.0.2.7", *ANY_PORTS[2:])
    anybody = ssl._create_unverified_context()
    generated = starttls(running.port, anybody)
    assert https(running.desk, anybody) == generated
    (tmp_path / "generated.pem").write_text(ssl.DER_cert_to_PEM_cert(generated))
    trusting = ssl.create_default_context(cafile=tmp_path / "generated.pem")
    assert starttls(running.port, trusting) == generated
    names = ssl._ssl._test_decode_cert(str(tmp_path / "generated.pem"))["subjectAltName"]
    assert {("DNS", "localhost"), ("DNS", "mail.test"), ("IP Address", "192.0.2.7")} <= set(names)


@pytest.mark.long
def test_https_may_have_a_certificate_of_its_own_and_its_cookie_is_secure(complaints, tmp_path, issue):
    web = issue("web.pem")
    (tmp_path / "password").write_text("open sesame\n")
    options = ("--https-cert", "web.pem", "--password-file", "password", "--tls")
    running = complaints(*options, *ANY_PORTS[2:])
    with pytest.raises(ssl.SSLCertVerificationError):
        starttls(running.port, web)
    with httpx.Client(base_url=f"https://{running.desk}", verify=web) as browser:
        entered = browser.post("/login", data={"password": "open sesame"})
        assert "; Secure" in entered.headers["set-cookie"]
        assert browser.get("/api/v1/info").status_code == 200


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tls-cert", "none.pem"], "--tls-cert: {}/none.pem: No such file or directory"),
        (["--tls-cert", "own.pem", "--tls-key", "none"], "--tls-cert with --tls-key: {}/none: No such file"),
        (["--tls-cert", "bad.pem"], "--tls-cert: {0}/bad.pem and {0}/bad.pem: expected a PEM certificate"),
        (["--tls-key", "own.pem"], "--tls-key: a key without --tls-cert"),
        (["--https-key", "own.pem"], "--https-key: a key without --https-cert"),
        (["--https-cert", "bad.pem"], "--https-cert: {0}/bad.pem and"),
        (["--smtps", "2465"], "'--smtps': '2465', expected host:port like 127.0.0.1:2525"),
    ],
)
@pytest.mark.long
def test_what_cannot_be_used_is_named_before_anything_starts(run, tmp_path, issue, options, says):
    issue("own.pem")
    (tmp_path / "bad.pem").write_text("no certificate")
    done = run("complaints", *ANY_PORTS, *options)
    assert done.returncode == 2
    assert f"Invalid value for {says.format(tmp_path)}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gateways_desk_has_https_and_sighup_takes_the_new_certificate(gateway, tmp_path, wait_until):
    (new := tmp_path / "new").mkdir()

    def renew(folder):
        certificate, key = make_certificate(new)
        if folder:
            shutil.copy(certificate, folder / "desk.pem")
            shutil.copy(key, folder / "desk.key")
        return ssl.create_default_context(cafile=certificate)

    first = renew(None)
    files = {"desk.pem": (new / "certificate.pem").read_text(), "desk.key": (new / "key.pem").read_text()}
    rules = "web: {address: '127.0.0.1:0', tls: {certificate: desk.pem, key: desk.key}}\n"
    running = gateway(rules, files=files, errors=["not reloaded"])
    info = f"https://{running.desk}/api/v1/info"
    assert httpx.get(info, headers=running.password, verify=first).status_code == 200
    metrics = httpx.get(f"https://{running.desk}/metrics", headers=running.password, verify=first).text
    assert f'gatepost_certificate_not_after_seconds{{file="{running.folder}/desk.pem"}} 1.' in metrics

    second = renew(running.folder)
    running.kill(signal.SIGHUP)
    running.logs("reloaded")

    def has_the_new_one():
        with contextlib.suppress(httpx.ConnectError):
            return httpx.get(info, headers=running.password, verify=second).status_code == 200
        return False

    wait_until(has_the_new_one, "the desk, which is told after the workers, has it too")
    with pytest.raises(httpx.ConnectError):
        httpx.get(info, headers=running.password, verify=first)

    (running.folder / "desk.pem").write_text("half of it")
    running.kill(signal.SIGHUP)
    running.logs("not reloaded, the old rules stay in force")
    assert re.search(r"rules.yaml:1:\d+: .*desk.pem and ", running.log)
    assert httpx.get(info, headers=running.password, verify=second).status_code == 200
