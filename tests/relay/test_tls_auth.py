"""TLS and AUTH towards upstream."""

import ssl

import pytest
import trustme
from gatepost.config.relay import UpstreamAuth, UpstreamServer
from gatepost.relay import DeliveryState
from gatepost.testing.upstream import Close, FakeUpstream, Handshake, OnTransaction, Reset, Stall

ACCEPTED = DeliveryState.ACCEPTED
UNAVAILABLE = (451, "4.4.1")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="module")
def contexts(authority):
    """Of servers, by what their certificates are like."""

    def context(issuer, name):
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issuer.issue_cert(name).configure_cert(made)
        return made

    return {
        "good": context(authority, "127.0.0.1"),
        "for localhost": context(authority, "localhost"),
        "other name": context(authority, "mail.example.com"),
        "unknown authority": context(trustme.CA(), "127.0.0.1"),
        None: None,
    }


def server_of(upstream, mode, *, ca=None, host=None, **settings):
    return UpstreamServer(host=host or upstream.host, port=upstream.port, tls=mode, ca=ca, **settings)


@pytest.mark.parametrize(
    ("mode", "certificate", "verify", "over_tls"),
    [
        ("none", "good", True, False),
        ("opportunistic", "good", True, True),
        ("opportunistic", "other name", True, True),
        ("opportunistic", "unknown authority", True, True),
        ("opportunistic", None, True, False),
        ("required", "good", True, True),
        ("required", "other name", True, None),
        ("required", "unknown authority", True, None),
        ("required", None, True, None),
        ("required", "other name", False, True),
        ("implicit", "good", True, True),
        ("implicit", "other name", True, None),
        ("implicit", "unknown authority", True, None),
        ("implicit", "unknown authority", False, True),
    ],
)
async def test_tls_is_what_the_settings_say(post, contexts, ca_file, mode, certificate, verify, over_tls):
    """None: no mail goes there."""
    with FakeUpstream(tls=contexts[certificate], implicit_tls=mode == "implicit") as upstream:
        for _ in range(2):  # the second time on the same connection
            posted = await post(server_of(upstream, mode, ca=ca_file, verify=verify))
            if over_tls is None:
                assert posted.end == UNAVAILABLE
            else:
                assert posted.state is ACCEPTED
                assert upstream.messages[-1].tls is over_tls
        assert len(upstream.messages) == (0 if over_tls is None else 2)
        if over_tls is not None:
            assert upstream.connections == 1


@pytest.mark.parametrize("mode", ["required", "implicit"])
@pytest.mark.parametrize(("certificate", "proves"), [("for localhost", True), ("good", False)])
async def test_a_server_that_is_given_by_name_proves_its_name(
    post, contexts, ca_file, mode, certificate, proves
):
    with FakeUpstream(tls=contexts[certificate], implicit_tls=mode == "implicit") as upstream:
        posted = await post(server_of(upstream, mode, ca=ca_file, host="localhost"))
        assert posted.state is ACCEPTED if proves else posted.end == UNAVAILABLE
        assert [message.tls for message in upstream.messages] == [True] * proves


async def test_without_ca_the_systems_authorities_count(post, contexts):
    with FakeUpstream(tls=contexts["good"]) as upstream:
        assert (await post(server_of(upstream, "required"))).end == UNAVAILABLE


async def test_a_ca_file_that_is_missing_is_temporary_and_seen_when_it_comes(
    make_post, contexts, ca_file, tmp_path
):
    path = tmp_path / "ca.pem"
    with FakeUpstream(tls=contexts["good"]) as upstream:
        post = make_post()
        assert (await post(server_of(upstream, "required", ca=path))).end == UNAVAILABLE
        path.write_bytes(ca_file.read_bytes())
        assert (await post(server_of(upstream, "required", ca=path))).state is ACCEPTED


STARTTLS_FAULTS = [
    "454 4.7.0 Not now",
    ["220 Go ahead", Close()],
    ["220 Go ahead", Reset()],
    ["220 Go ahead", Stall(0.05), "what?"],
]


@pytest.mark.parametrize("fault", STARTTLS_FAULTS, ids=str)
@pytest.mark.parametrize("mode", ["opportunistic", "required"])
async def test_starttls_that_fails_is_done_without_only_where_it_is_opportunistic(
    post, contexts, ca_file, mode, fault
):
    with FakeUpstream({"starttls": fault}, tls=contexts["good"]) as upstream:
        posted = await post(server_of(upstream, mode, ca=ca_file))
        if mode == "required":
            assert posted.end == UNAVAILABLE
        else:
            assert posted.state is ACCEPTED
            assert "STARTTLS" not in upstream.commands[1], "a fresh connection, since the first one is spoilt"


INJECTED = b"250-evil.example\r\n250 AUTH PLAIN\r\n"


@pytest.mark.parametrize("mode", ["opportunistic", "required"])
async def test_what_is_said_before_the_handshake_is_no_answer_behind_it(post, contexts, ca_file, mode):
    """RFC 3207 section 4.2, on the client's side."""
    script = {"starttls": [b"220 Go ahead\r\n" + INJECTED, Handshake()]}
    with FakeUpstream(script, tls=contexts["good"]) as upstream:
        assert (await post(server_of(upstream, mode, ca=ca_file))).state is ACCEPTED
        assert upstream.messages[0].tls
        assert upstream.connections == 1
        assert [line.partition(" ")[0] for line in upstream.commands[0]] == [
            "EHLO",
            "STARTTLS",
            "EHLO",
            "MAIL",
            "RCPT",
            "DATA",
        ]
        assert upstream.messages[0].recipients[0].address == "b@example.com"


async def test_nor_is_a_password_sent_because_of_it(post, contexts, ca_file, auth):
    script = {"starttls": [b"220 Go ahead\r\n" + INJECTED, Handshake()]}
    with FakeUpstream(script, tls=contexts["good"]) as upstream:
        assert (await post(server_of(upstream, "required", ca=ca_file, auth=auth))).end == UNAVAILABLE
        assert not any(line.startswith("AUTH") for lines in upstream.commands for line in lines)


@pytest.mark.parametrize("mode", ["opportunistic", "required"])
async def test_what_is_said_within_the_handshake_breaks_it(post, contexts, ca_file, mode):
    script = {"starttls": [b"220 Go ahead\r\n", Stall(0.05), INJECTED, Handshake()]}
    with FakeUpstream(script, tls=contexts["good"]) as upstream:
        posted = await post(server_of(upstream, mode, ca=ca_file))
        assert upstream.commands[0] == ("EHLO gateway.example", "STARTTLS")
        if mode == "required":
            assert posted.end == UNAVAILABLE
        else:
            assert posted.state is ACCEPTED
            assert upstream.messages[0].connection == 2, "a fresh one, without TLS"
            assert "STARTTLS" not in upstream.commands[1]


async def test_a_fault_over_tls_is_told_as_it_is(post, contexts):
    script = {"dot": OnTransaction(2, Reset())}
    with FakeUpstream(script, tls=contexts["good"]) as upstream:
        assert (await post(upstream)).state is ACCEPTED
        assert (await post(upstream)).state is DeliveryState.IN_DOUBT
        large = b"x" * 998 + b"\r\n" * 1_000_000
        assert (await post(upstream, content=large)).state is ACCEPTED
        assert upstream.messages[-1].content == large


@pytest.fixture
def auth(tmp_path):
    path = tmp_path / "password"
    path.write_text("sécret word\nnot this line\n", encoding="utf-8")
    return UpstreamAuth(username="gateway", password_file=path)


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "PLAIN", "LOGIN"])
async def test_the_first_line_of_the_password_file_is_the_password(post, auth, mechanisms):
    with FakeUpstream(users={"gateway": "sécret word"}, mechanisms=mechanisms) as upstream:
        assert (await post(server_of(upstream, "none", auth=auth))).state is ACCEPTED


@pytest.mark.parametrize(
    "script",
    [{}, {"auth": "454 4.7.0 Later"}, {"auth": Close()}, {"auth": "235"}],
    ids=["wrong password", "temporary", "close", "accepted, but not for MAIL"],
)
async def test_auth_that_fails_is_temporary_and_keeps_the_password_secret(post, auth, script):
    with FakeUpstream(script, users={"gateway": "another"}) as upstream:
        posted = await post(server_of(upstream, "none", auth=auth))
        assert posted.state is None
        assert posted.end == ((530, "5.7.0") if script.get("auth") == "235" else UNAVAILABLE)
        assert upstream.messages == ()


async def test_auth_that_is_not_offered_or_has_no_password_file_is_temporary(post, auth, tmp_path):
    missing = UpstreamAuth(username="gateway", password_file=tmp_path / "missing")
    with FakeUpstream() as upstream:
        assert (await post(server_of(upstream, "none", auth=auth))).end == UNAVAILABLE
        assert (await post(server_of(upstream, "none", auth=missing))).end == UNAVAILABLE


async def test_no_password_goes_in_the_clear_where_tls_was_broken(post, auth, contexts):
    script = {"starttls": "454 4.7.0 Not now"}
    with FakeUpstream(script, tls=contexts["good"], users={"gateway": "sécret word"}) as upstream:
        assert (await post(server_of(upstream, "opportunistic", auth=auth))).end == UNAVAILABLE
        assert not any(line.startswith("AUTH") for lines in upstream.commands for line in lines)
