"""``gatepost explain`` lists what the rules would change in the message, in the order of the changes."""

import base64
import json

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from dnslib.server import DNSLogger, DNSServer
from dnslib.zoneresolver import ZoneResolver
from gatepost.cli import app
from typer.testing import CliRunner

RULES = """
relay: [{recipients: "*@a.example", to: inbox}]
rules:
  - name: clean
    filter: match
    action: tag
    tag: {remove: [Authentication-Results], add: {X-Kind: "täg"}, subject: "[held] "}
  - {name: hold, filter: match, action: quarantine, when: {recipient: "held@*"}}
  - {name: refuse, filter: match, action: reject, when: {recipient: "refused@*", size: ">1B"}}
  - {name: wrong, filter: "./wrong.py:Wrong", when: {recipient: "wrong@*"}}
  - {name: move, filter: "./move.py:Move", when: {recipient: ["old@*", "kept@*"]}}
"""
WRONG = """\
from gatepost import Verdict, hookimpl


class Wrong:
    @hookimpl
    def filter_message(self, transaction):
        return Verdict(reason="r", action="reject")
"""
MOVE = """\
from gatepost import Action, AddRecipient, ChangeSender, RemoveRecipient, Verdict, hookimpl


class Move:
    @hookimpl
    def filter_message(self, transaction):
        moved = (RemoveRecipient("old@a.example"), AddRecipient("new@a.example"))
        edits = (ChangeSender("new@b.example"), *moved)
        return Verdict(reason="moved", action=Action.TAG, edits=edits)
"""
EDITS = ["remove Authentication-Results", "add X-Kind: täg", 'put "[held] " before the subject']


@pytest.fixture
def explain(tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "move.py").write_text(MOVE)

    def run(*arguments, mail="Subject: x\n\ny\n"):
        command = ["explain", "-", "-c", str(tmp_path / "rules.yaml"), *arguments]
        done = CliRunner().invoke(app, command, input=mail, env={"COLUMNS": "200"})
        assert (done.exit_code, done.exception) == (0, None)
        return done.stdout

    return run


def test_the_edits_of_what_is_delivered_or_held_are_listed_in_order(explain):
    recipients = [
        word for name in ("free", "held", "refused") for word in ("--recipient", f"{name}@a.example")
    ]
    lines = explain(*recipients).splitlines()
    edits = [f"  edit: {edit}" for edit in EDITS]
    assert lines[-9:] == [
        "free@a.example: accept, to inbox",
        *edits,
        "held@a.example: quarantine by hold at message",
        *edits,
        "refused@a.example: reject by refuse at message, reply 550 5.7.1 Refused by policy",
    ]
    ends = json.loads(explain(*recipients, "--json"))["recipients"]
    assert [end["outcome"]["edits"] for end in ends] == [EDITS] * 3


def test_recipients_and_a_sender_that_rules_change_are_shown_as_they_would_be(explain):
    recipients = ("--recipient", "old@a.example", "--recipient", "kept@a.example")
    lines = explain(*recipients).splitlines()
    changed = ["  edit: change sender to <new@b.example>", *(f"  edit: {edit}" for edit in EDITS)]
    assert lines[-11:] == [
        "old@a.example: discard by move at message",
        "kept@a.example: accept, to inbox",
        *changed,
        "new@a.example: accept, to inbox",
        *changed,
    ]
    ends = json.loads(explain(*recipients, "--json"))["recipients"]
    assert [(end["address"], end["outcome"]["action"], end["route"]) for end in ends] == [
        ("old@a.example", "discard", "inbox"),
        ("kept@a.example", "accept", "inbox"),
        ("new@a.example", "accept", "inbox"),
    ]


def test_a_verdict_of_wrong_types_is_a_failure_that_says_what_is_wrong(explain):
    told = explain("--recipient", "wrong@a.example")
    assert "Verdict.action is 'reject' (str), expected an Action like Action.REJECT, or None" in told
    assert "wrong@a.example: defer by wrong at message, reply 451 4.3.0" in told


SIGNED = b"From: a@shop.example\r\nSubject: x\r\n\r\ny\r\n"


@pytest.fixture(scope="module")
def signed():
    """A message signed by a domain whose key a name server on loopback has: its settings, and the message."""
    key = generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = f"v=DKIM1; p={base64.b64encode(public).decode()}"
    pieces = " ".join(f'"{text[start : start + 200]}"' for start in range(0, len(text), 200))
    zone = ZoneResolver(f"sel._domainkey.shop.example. 60 IN TXT {pieces}")
    server = DNSServer(zone, port=0, address="127.0.0.1", logger=DNSLogger(logf=lambda _: None))
    server.start_thread()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    signature = dkim.sign(SIGNED, b"sel", b"shop.example", private, include_headers=[b"from", b"subject"])
    port = server.server.server_address[1]
    yield f"dns: {{servers: ['127.0.0.1:{port}'], timeout: 5s}}\n", (signature + SIGNED).decode()
    server.stop()
    server.server.server_close()


DEAD = "dns: {servers: ['127.0.0.1:1'], timeout: 300ms}\n"
NOT_KNOWN = (
    "the DKIM signature of shop.example (sel) covers what is changed: subject; "
    "whether it was valid could not be checked"
)
VERIFY = "\n  - {name: auth, filter: authentication, with: {authserv_id: mx.example.com}}\n"


@pytest.mark.parametrize("verify", ["", VERIFY], ids=["no rule verifies", "a rule verifies"])
@pytest.mark.parametrize(
    ("change", "dns", "warning"),
    [
        (
            ("", ""),
            None,
            "the edits break a valid DKIM signature of shop.example (sel), which covers: subject",
        ),
        (("\ny", "\nz"), None, ""),
        (("s=sel", "s=other"), None, ""),
        (("", ""), DEAD, NOT_KNOWN),
        (("DKIM", "DKIM-Signature: v=0\nDKIM-Signature: v=0\n" * 5 + "DKIM"), None, NOT_KNOWN),
    ],
    ids=["a valid one", "an invalid one", "one without a key", "DNS is dead", "one too many"],
)
def test_it_warns_of_a_signature_that_the_edits_break(
    explain, tmp_path, signed, verify, change, dns, warning
):
    settings, mail = signed
    rules = RULES.replace("\nrules:", f"\nrules:{verify}".rstrip()) + (dns or settings)
    (tmp_path / "rules.yaml").write_text(rules)
    recipients = [word for name in ("free", "refused") for word in ("--recipient", f"{name}@a.example")]
    shown = json.loads(explain(*recipients, "--json", mail=mail.replace(*change)))
    assert shown["broken_signatures"] == ([warning] if warning else [])
    asked = any(one["name"].endswith("_domainkey.shop.example") for one in shown["look_ups"])
    assert asked == (change[0] not in ("\ny", "DKIM")), "a changed body is seen without DNS"
    told = explain(*recipients, mail=mail.replace(*change))
    assert (f"warning: {warning}\n" in told) if warning else ("warning: " not in told)


def test_a_signature_that_covers_nothing_of_the_edits_is_not_verified(explain):
    mail = "DKIM-Signature: v=1; d=shop.example; s=sel; h=from; b=x\nSubject: x\n\ny\n"
    shown = json.loads(explain("--recipient", "free@a.example", "--json", mail=mail))
    assert (shown["broken_signatures"], shown["look_ups"]) == ([], [])
