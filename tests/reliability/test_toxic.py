"""Over a bad line, on either side of the gateway: the message arrives whole and once, or the client knows."""

import smtplib

import pytest

from proxy.testing import FakeUpstream, Toxic, ToxicProxy, running_gateway

CONTENT = b"Subject: over a bad line\r\n\r\n" + b"".join(b"%04d .%060d\r\n" % (n, n) for n in range(600))
SLOW = {
    "latency": Toxic(latency=0.02),
    "bandwidth": Toxic(bandwidth=1 << 19),
    "octet by octet": Toxic(slices=1),
    "slices": Toxic(slices=97),
    "late close": Toxic(late_close=0.2),
}
LEGS = ["client", "upstream"]
DIRECTIONS = ["there", "back"]


@pytest.fixture
def line():
    """What is sent over a line with that toxic: what the client heard, what upstream has, the journal."""

    def sent(leg, direction, toxic, times=1):
        with FakeUpstream() as upstream, ToxicProxy(upstream) as behind:
            with running_gateway({}, upstream=behind) as gateway, ToxicProxy(gateway) as before:
                setattr(before if leg == "client" else behind, direction, toxic)
                heard = [said(before) for _ in range(times)]
                journal = gateway.journal()
            return heard, [message.content for message in upstream.messages], journal

    return sent


def said(before):
    """The code that ended a transaction over that line; None where it broke."""
    try:
        with smtplib.SMTP(
            before.host, before.port, local_hostname="client.example.org", timeout=20
        ) as client:
            client.sendmail("alice@example.org", ["bob@example.com"], CONTENT)
    except smtplib.SMTPResponseException as refused:
        return refused.smtp_code
    except (smtplib.SMTPServerDisconnected, smtplib.SMTPRecipientsRefused, ConnectionError) as error:
        refused = getattr(error, "recipients", {})
        return refused["bob@example.com"][0] if refused else None
    return 250


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("toxic", SLOW.values(), ids=SLOW)
def test_a_slow_line_changes_nothing(line, leg, direction, toxic):
    heard, arrived, journal = line(leg, direction, toxic, times=2)
    assert heard == [250, 250]
    assert len(arrived) == 2
    assert all(content.endswith(CONTENT) for content in arrived)
    assert [str(record.recipients[0].disposition) for record in journal] == ["relayed", "relayed"]


@pytest.mark.parametrize("leg", LEGS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("octets", [1, 40, 100, 150, 200, 300, 20_000, len(CONTENT), len(CONTENT) + 150])
def test_a_line_that_breaks_loses_nothing_and_sends_nothing_twice(line, leg, direction, octets):
    heard, arrived, journal = line(leg, direction, Toxic(reset_after=octets))
    assert len(arrived) <= 1
    assert all(content.endswith(CONTENT) for content in arrived)
    ends = [str(one.disposition) for record in journal for one in record.recipients]
    if heard == [250]:
        assert (len(arrived), ends) == (1, ["relayed"])
    elif arrived:
        assert ends in (["relayed"], ["in-doubt"]), "the client did not hear it, the journal says so"
    else:
        assert "relayed" not in ends
        assert leg == "client" or heard == [451]
