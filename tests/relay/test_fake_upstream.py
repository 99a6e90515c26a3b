"""The scripted server of the test kit, asked by the standard library's client."""

import smtplib
import socket

import pytest
from gatepost.model.mail import Recipient
from gatepost.testing.upstream import (
    Close,
    FakeUpstream,
    OnConnection,
    OnTransaction,
    Reset,
    Stall,
    Then,
    Usual,
)


@pytest.fixture
def client():
    clients = []

    def connect(upstream):
        clients.append(
            smtplib.SMTP(upstream.host, upstream.port, local_hostname="client.example", timeout=30)
        )
        return clients[-1]

    yield connect
    for smtp in clients:
        smtp.close()


def test_without_a_script_it_takes_mail_and_shows_it(client):
    with FakeUpstream() as upstream:
        smtp = client(upstream)
        smtp.ehlo()
        smtp.docmd("MAIL", "FROM:<a@example.com> SIZE=10")
        smtp.docmd("RCPT", 'TO:<"b>c"@example.com> NOTIFY=NEVER')
        assert smtp.data(b".x\r\ny")[0] == 250
        smtp.quit()
        (message,) = upstream.messages
        assert (message.mail_from, message.parameters) == ("a@example.com", ("SIZE=10",))
        assert message.recipients == (Recipient(address='"b>c"@example.com', parameters=("NOTIFY=NEVER",)),)
        assert (message.content, message.wire) == (b".x\r\ny\r\n", b"..x\r\ny\r\n.\r\n")
        assert (message.connection, message.tls) == (1, False)
        assert upstream.commands == (
            (
                "ehlo client.example",
                "MAIL FROM:<a@example.com> SIZE=10",
                'RCPT TO:<"b>c"@example.com> NOTIFY=NEVER',
                "data",
                "quit",
            ),
        )
        assert upstream.wait_until(lambda u: u.open_connections == 0)


def test_it_takes_chunks_where_it_offers_them(client):
    script = {"bdat": Then(None, "452 4.3.1 No room")}
    with FakeUpstream(script, extensions=["CHUNKING"]) as upstream:
        smtp = client(upstream)
        smtp.ehlo()
        begin = "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com>"
        said = [
            *begin,
            "BDAT 4\r\n.x\r\n",
            "BDAT 3 LAST\r\ny\r\n",
            *begin,
            "BDAT 1\r\nz",
            "RSET",
            "BDAT 1 LAST\r\nz",
        ]
        codes = []
        for command in said:
            smtp.send(command if command.startswith("BDAT") else f"{command}\r\n")
            codes.append(smtp.getreply()[0])
        assert codes == [250, 250, 250, 250, 250, 250, 452, 250, 503]
        (message,) = upstream.messages
        assert message.content == message.wire == b".x\r\ny\r\n"
    with FakeUpstream() as upstream:
        assert client(upstream).docmd("BDAT", "0 LAST")[0] == 500


@pytest.mark.parametrize(
    ("behaviour", "codes"),
    [
        ("550 5.7.1 No", [550, 550, 550]),
        ("550-5.7.1 No,\n550 5.7.1 never", [550, 550, 550]),
        (b"451 later\r\n", [451, 451, 451]),
        (None, [250, 250, 250]),
        (Usual(), [250, 250, 250]),
        ([Stall(0.01), "450 late"], [450, 450, 450]),
        (Then("450 first", "451 second"), [450, 451, 250]),
        (lambda argument: "550 No" if "1@" in argument else None, [250, 550, 250]),
        (OnConnection(1, "550 No"), [550, 550, 550]),
        (OnConnection(2, "550 No"), [250, 250, 250]),
        (OnTransaction(2, "550 No"), [250, 550, 250]),
    ],
)
def test_a_script_says_what_it_does_instead(client, behaviour, codes):
    with FakeUpstream({"mail": behaviour}) as upstream:
        smtp = client(upstream)
        assert [(smtp.docmd("MAIL", f"FROM:<{n}@example.com>"), smtp.rset())[0][0] for n in range(3)] == codes


@pytest.mark.parametrize("behaviour", [Close(), Reset()])
def test_it_ends_connections(client, behaviour):
    with FakeUpstream({"mail": behaviour}) as upstream:
        with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
            client(upstream).docmd("MAIL", "FROM:<>")
        assert upstream.wait_until(lambda u: u.open_connections == 0)


def test_release_ends_a_stall_and_so_does_the_end(client):
    with FakeUpstream({"mail": [Stall(), "450 late"]}) as upstream:
        smtp = client(upstream)
        smtp.putcmd("MAIL", "FROM:<>")
        assert upstream.wait_until(lambda u: u.commands == (("MAIL FROM:<>",),))
        upstream.release.set()
        assert smtp.getreply() == (450, b"late")
        upstream.release.clear()
        smtp.putcmd("MAIL", "FROM:<>")


def test_extensions_may_differ_from_connection_to_connection(client):
    with FakeUpstream(extensions=lambda number: ["SIZE 5"] if number == 1 else []) as upstream:
        assert [client(upstream).ehlo()[1] for _ in range(2)] == [b"fake.example\nSIZE 5", b"fake.example"]


def test_commands_out_of_order_and_unknown_ones_are_refused(client):
    with FakeUpstream() as upstream:
        smtp = client(upstream)
        lines = [
            "RCPT TO:<b@example.com>",
            "DATA",
            "MAIL FROM:<>",
            "MAIL FROM:<>",
            "DATA",
            "STARTTLS",
            "BDAT 1",
            "",
        ]
        assert [smtp.docmd(line)[0] for line in lines] == [503, 503, 250, 503, 503, 502, 500, 500]


def test_a_step_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="unknown step: recpt; known steps: connect, ehlo"):
        FakeUpstream({"recpt": Close()})


def test_after_the_end_the_port_is_free(client):
    with FakeUpstream() as upstream:
        client(upstream)
    with socket.create_server((upstream.host, upstream.port)), pytest.raises(OSError, match="in use"):
        FakeUpstream(port=upstream.port).__enter__()
