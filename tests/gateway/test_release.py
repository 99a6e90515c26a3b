"""A message that leaves quarantine goes upstream as it would have gone at once."""

from dataclasses import replace

import pytest
from gatepost.config import Config
from gatepost.release import release
from gatepost.testing import make_transaction, running_gateway
from gatepost.testing.upstream import FakeUpstream

HOLD = [{"name": "hold", "filter": "match", "action": "quarantine", "when": {"size": ">1B"}}]


def hold(parameters=(), **settings):
    made = make_transaction(**settings)
    transaction = replace(made, envelope=replace(made.envelope, parameters=parameters))
    with running_gateway({"rules": HOLD, "relay": [{"recipients": "*", "to": "inbox"}]}) as gateway:
        assert gateway.send(transaction).code == 250
        (kept,) = gateway.quarantine()
    return kept


def let_go(kept, upstream, folder):
    settings = {"relay": [{"recipients": "*@*", "to": upstream.url}]}
    return release(Config.model_validate(settings), folder, kept, None)


@pytest.mark.parametrize(
    ("sender", "recipient", "parameters"),
    [
        ("a@example.com", "b@example.com", ()),
        ("ü@example.com", "b@example.com", ("SMTPUTF8",)),
        ("a@example.com", "ü@example.com", ("SMTPUTF8",)),
    ],
)
def test_internationalised_addresses_ask_for_smtputf8(tmp_path, sender, recipient, parameters):
    """RFC 6531 section 3.4: without it no server may take them."""
    with FakeUpstream() as upstream:
        kept = hold(parameters, mail_from=sender, recipients=(recipient,))
        assert let_go(kept, upstream, tmp_path).code == 250
        (message,) = upstream.messages
        declared = [one for one in message.parameters if not one.startswith("SIZE=")]
        assert (message.mail_from, tuple(declared)) == (sender, parameters)


def test_a_body_without_a_header_section_stays_a_body(tmp_path):
    content = b"Hello\r\nSubject: no\r\n"
    with FakeUpstream() as upstream:
        assert let_go(hold(content=content), upstream, tmp_path).code == 250
        assert upstream.messages[0].content.endswith(b"\r\n\r\n" + content)
