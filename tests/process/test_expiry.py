"""Certificates that are not valid, or soon will not be, are reported at their place in the settings."""

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gatepost.cli import app
from gatepost.config import load
from gatepost.process.expiry import ExpiryWatch, certificate_warnings
from typer.testing import CliRunner

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
LISTENER = "listen: {address: '127.0.0.1:0', tls: {certificate: mx.pem, key: mx.key}}\n"
SERVER = (
    "relay: [{recipients: '*@example.com', to: [{host: mail.example.com, tls: required, ca: roots.pem}]}]\n"
)
OIDC = (
    "{issuer: 'https://sso.example.com', client_id: gatepost, client_secret_file: secret,"
    " redirect_uri: 'https://desk.example.com/login/oidc/callback', roles: {groups: mail, role: reader},"
    " ca: roots.pem}"
)
VALID = (-10, 80)


def certificate(begins, ends, name="mx.example.com", since=NOW):
    """A certificate that is valid from so many days after now to so many, as PEM."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since + timedelta(days=begins))
        .not_valid_after(since + timedelta(days=ends))
        .sign(KEY, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def settings(tmp_path):
    """Settings with these certificates, given as days from now."""
    (tmp_path / "mx.key").write_bytes(
        KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )

    def written(text, since=NOW, **files):
        for name, days in files.items():
            pem = [certificate(*one, name=f"{name}{n}.example", since=since) for n, one in enumerate(days)]
            (tmp_path / f"{name}.pem").write_bytes(b"".join(pem))
        (tmp_path / "rules.yaml").write_text(text)
        return load(tmp_path / "rules.yaml")

    return written


@pytest.mark.parametrize(
    ("days", "fault"),
    [
        ([VALID], ""),
        ([(-10, 21)], ""),
        ([(-10, 20.99)], "mx0.example in {}/mx.pem expires in 20 days, on 2026-12-19 11:45 UTC"),
        ([(-10, 0.5)], "mx0.example in {}/mx.pem expires in less than a day, on 2026-11-29 00:00 UTC"),
        ([(-10, 0)], "mx0.example in {}/mx.pem expired on 2026-11-28 12:00 UTC"),
        ([(-10, -3)], "mx0.example in {}/mx.pem expired on 2026-11-25 12:00 UTC"),
        ([(0, 80)], ""),
        ([(2, 80)], "mx0.example in {}/mx.pem is not valid before 2026-11-30 12:00 UTC"),
        ([VALID, (-10, -1)], "mx1.example in {}/mx.pem expired on 2026-11-27 12:00 UTC"),
        ([(-10, 5), (-10, 9)], "mx0.example in {}/mx.pem expires in 5 days, on 2026-12-03 12:00 UTC"),
        ([VALID, (1, 80)], "mx1.example in {}/mx.pem is not valid before 2026-11-29 12:00 UTC"),
    ],
    ids=str,
)
def test_every_certificate_of_a_chain_counts(settings, tmp_path, days, fault):
    found = [str(problem) for problem in certificate_warnings(settings(LISTENER, mx=days), NOW)]
    place = f"{tmp_path}/rules.yaml:1:53: the certificate of CN="
    remedy = ", expected one that is valid now and in 21 days; then run gatepost reload"
    assert found == ([f"{place}{fault.format(tmp_path)}{remedy}"] if fault else [])


@pytest.mark.parametrize(
    ("days", "fault"),
    [
        ([(-10, -1), VALID], ""),
        ([VALID, (5, 80)], ""),
        ([(-10, -5), (-10, -1)], "roots1.example in {}/roots.pem expired on 2026-11-27 12:00 UTC"),
        ([(-10, 3)], "roots0.example in {}/roots.pem expires in 3 days, on 2026-12-01 12:00 UTC"),
    ],
    ids=str,
)
def test_of_authorities_one_that_is_valid_is_enough(settings, tmp_path, days, fault):
    found = [str(problem) for problem in certificate_warnings(settings(SERVER, roots=days), NOW)]
    assert [line.partition("CN=")[2].partition(", expected")[0] for line in found] == (
        [fault.format(tmp_path)] if fault else []
    )


@pytest.mark.parametrize(
    "text",
    [
        SERVER,
        "web: {forward: {to: {host: mail.example.com, tls: required, ca: roots.pem}}}\n",
        f"web: {{oidc: {OIDC}}}\n",
        "state: {url: 'rediss://redis.example.com:6379/0', ca: roots.pem}\n",
    ],
)
def test_authorities_are_looked_at_wherever_the_settings_name_them(settings, tmp_path, text):
    (tmp_path / "secret").write_text("secret")
    found = [str(problem) for problem in certificate_warnings(settings(text, roots=[(-10, 3)]), NOW)]
    place = f"{tmp_path}/rules.yaml:1:{text.index('roots.pem') + 1}"
    assert [line.partition(" in ")[0] for line in found] == [f"{place}: the certificate of CN=roots0.example"]


def test_check_warns_and_goes_on(settings, tmp_path):
    settings(LISTENER, since=datetime.now(UTC), mx=[(-10, -1)])
    done = CliRunner().invoke(app, ["check", "-c", str(tmp_path / "rules.yaml")])
    assert done.exit_code == 0
    assert "rules.yaml:1:53: warning: the certificate of CN=mx0.example in" in done.stderr
    done = CliRunner().invoke(app, ["check", "--json", "-c", str(tmp_path / "rules.yaml")])
    (warning,) = json.loads(done.stdout)["warnings"]
    assert (warning["line"], "expired on" in warning["what"]) == (1, True)


def test_while_it_runs_it_is_logged_once_a_day_for_the_certificates_that_were_loaded(settings, caplog):
    clock, now, published = 0.0, NOW, []
    watch = ExpiryWatch(published.append, clock=lambda: clock, now=lambda: now)
    loaded = settings(LISTENER, mx=[(-1, 22)])
    watch.take(loaded)
    assert caplog.records == []
    settings(LISTENER, mx=[(-1, 90)])  # renewed on the disk, and not reloaded
    clock, now = 2 * 86_400, NOW + timedelta(days=2)
    watch.look()
    watch.look()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "expires in 20 days" in caplog.text
    clock, now = clock + 86_399, NOW + timedelta(days=30)
    watch.look()
    assert len(caplog.records) == 1
    clock += 1
    watch.look()
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]
    caplog.clear()
    watch.take(load(loaded.document.path))
    assert caplog.records == []
    ends = [sample["certificate_not_after_seconds", str(loaded.base / "mx.pem")] for sample in published]
    assert ends == [(NOW + timedelta(days=days)).timestamp() for days in (22, 90)]
