"""Clients that people use: swaks and Python's smtplib, plain, with attachments, with STARTTLS and AUTH."""

import base64
import smtplib
import ssl
import subprocess
from dataclasses import dataclass
from email.message import EmailMessage

import pytest
import trustme
from gatepost.server.auth import hash_password

SUBMISSION = """
    listen:
      - address: 127.0.0.1:0
        tls: {certificate: mx.pem, key: mx.key, required: true}
        auth: {users: users.yaml, required: true}
    relay:
      - recipients: "*"
        clients: authenticated
        to: smtp://127.0.0.1:%d
"""


@dataclass
class Submission:
    files: dict[str, str]
    """For a listener with a certificate for localhost, and one user."""
    authority: str
    """The file of the authority to trust."""


def swaks(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    addresses = ("--from", "alice@example.org", "--to", "bob@example.com", "--helo", "client.example.org")
    return subprocess.run(
        ["swaks", "--server", "localhost", "--port", str(port), *addresses, *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def submission(tmp_path_factory):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    trusted = tmp_path_factory.mktemp("trusted") / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    files = {
        "mx.pem": b"".join(blob.bytes() for blob in certificate.cert_chain_pems).decode(),
        "mx.key": certificate.private_key_pem.bytes().decode(),
        "users.yaml": f'alice: "{hash_password("open sesame")}"\n',
    }
    return Submission(files=files, authority=str(trusted))


@pytest.mark.real("swaks")
def test_swaks_sends_plain_and_with_an_attachment(gateway, sink, tmp_path):
    behind = sink()
    running = gateway(upstream=behind.port)
    attachment = bytes(range(256)) * 40
    (tmp_path / "data.bin").write_bytes(attachment)
    plain = swaks(running.port, "--header", "Subject: plain", "--body", ".\n..two\n")
    attached = swaks(running.port, "--header", "Subject: attached", "--attach", f"@{tmp_path}/data.bin")
    assert (plain.returncode, attached.returncode) == (0, 0), plain.stdout + attached.stdout
    first, second = sorted(behind.messages(), key=lambda message: len(message.content))
    assert b"Subject: plain\r\n" in first.content
    assert b"\r\n\r\n.\r\n..two\r\n" in first.content
    assert base64.b64encode(attachment) in second.content.replace(b"\r\n", b"")


@pytest.mark.real("swaks")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks_submits_with_auth(gateway, sink, submission, mechanism):
    behind = sink()
    rules = SUBMISSION.replace(
        "required: true}\n        auth: {", "required: false}\n        auth: {without_tls: true, "
    )
    running = gateway(rules % behind.port, files=submission.files)
    user = ("--auth", mechanism, "--auth-user", "alice", "--auth-password")
    assert swaks(running.port, *user, "open sesame").returncode == 0
    assert "<** 535 5.7.8 " in swaks(running.port, *user, "open says me").stdout
    assert "<** 530 5.7.0 Authentication required" in swaks(running.port).stdout
    (message,) = behind.messages()
    assert b"with ESMTPA id " in message.trace


@pytest.mark.real("swaks")
@pytest.mark.long
def test_swaks_submits_with_starttls_and_auth(gateway, sink, submission):
    if "TLS supported" not in swaks(0, "--support").stdout:
        pytest.skip("swaks has no TLS here (Debian: libnet-ssleay-perl)")
    behind = sink()
    running = gateway(SUBMISSION % behind.port, files=submission.files)
    options = ("--tls", "--tls-verify", "--tls-ca-path", submission.authority)
    user = ("--auth", "PLAIN", "--auth-user", "alice", "--auth-password", "open sesame")
    assert swaks(running.port, *options, *user).returncode == 0
    assert "530 5.7.0 Issue STARTTLS first" in swaks(running.port).stdout
    (message,) = behind.messages()
    assert b"with ESMTPSA id " in message.trace


def test_smtplib_submits_with_starttls_and_auth(gateway, sink, submission):
    behind = sink()
    running = gateway(SUBMISSION % behind.port, files=submission.files)
    with running.smtp() as smtp:
        with pytest.raises(smtplib.SMTPSenderRefused, match="Issue STARTTLS first"):
            smtp.sendmail("alice@example.org", ["bob@example.com"], "")
        smtp.ehlo()
        assert not smtp.has_extn("auth")
        smtp._host = "localhost"
        smtp.starttls(context=ssl.create_default_context(cafile=submission.authority))
        assert smtp.transact("\r\n").startswith("530 5.7.0 Authentication required")
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("alice", "open says me")
        smtp.login("alice", "open sesame")
        assert smtp.transact("Subject: mine\r\n\r\n").startswith("250 2.")
    (message,) = behind.messages()
    assert b"with ESMTPSA id " in message.trace
    record, *refused = running.journal(5)
    assert (record.authenticated, record.tls) == ("alice", "TLSv1.3")
    assert [one.reply[:3] for one in refused] == ["535", "535", "530", "530"]  # it tries two mechanisms
    assert "sesame" not in running.log


def test_smtplib_sends(gateway, sink):
    behind = sink()
    running = gateway(upstream=behind.port)
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = (
        "alice@example.org",
        "bob@example.com",
        "Gr\u00fc\u00dfe",
    )
    message.set_content(".\n.. dots\n\u00c4\n")
    with running.smtp() as smtp:
        assert smtp.sendmail("alice@example.org", ["bob@example.com"], "Subject: plain\n\n.\n.dot\n") == {}
        assert smtp.send_message(message) == {}
    assert {m.content for m in behind.messages()} == {
        b"Subject: plain\r\n\r\n.\r\n.dot\r\n",
        message.as_bytes(policy=message.policy.clone(linesep="\r\n")),
    }
