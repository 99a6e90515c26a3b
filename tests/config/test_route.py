import pytest
from gatepost import Recipient
from gatepost.config.patterns import AddressPatterns, Glob, names_a_domain
from gatepost.config.relay import Route, UpstreamServer
from gatepost.config.settings import Config
from pydantic import ValidationError

OURS, THEIRS, LITERAL = "mail.example.com", "nmap.scanme.org", "[192.0.2.25]"
# (reverse-path, forward-path) in the order of nmap's smtp-open-relay script.
OPEN_RELAY_TESTS = [
    ("", f"relaytest@{THEIRS}"),
    (f"antispam@{THEIRS}", f"relaytest@{THEIRS}"),
    (f"antispam@{OURS}", f"relaytest@{THEIRS}"),
    (f"antispam@{LITERAL}", f"relaytest@{THEIRS}"),
    (f"antispam@{LITERAL}", f"relaytest%{THEIRS}@{LITERAL}"),
    (f"antispam@{LITERAL}", f"relaytest%{THEIRS}@{OURS}"),
    (f"antispam@{LITERAL}", f'"relaytest@{THEIRS}"'),
    (f"antispam@{LITERAL}", f'"relaytest%{THEIRS}"'),
    (f"antispam@{LITERAL}", f"relaytest@{THEIRS}@{LITERAL}"),
    (f"antispam@{LITERAL}", f'"relaytest@{THEIRS}"@{LITERAL}'),
    (f"antispam@{LITERAL}", f"relaytest@{THEIRS}@{OURS}"),
    (f"antispam@{LITERAL}", f"@{LITERAL}:relaytest@{THEIRS}"),
    (f"antispam@{LITERAL}", f"@{OURS}:relaytest@{THEIRS}"),
    (f"antispam@{LITERAL}", f"{THEIRS}!relaytest"),
    (f"antispam@{LITERAL}", f"{THEIRS}!relaytest@{LITERAL}"),
    (f"antispam@{LITERAL}", f"{THEIRS}!relaytest@{OURS}"),
]
GATEWAY = Config(
    relay=(
        Route(
            recipients=(f"*@{OURS}", f"*@*.{OURS}", f"*@{LITERAL}"), to=(UpstreamServer(host="127.0.0.1"),)
        ),
        Route(recipients=("*",), to=(UpstreamServer(host="127.0.0.1"),)),
    )
)


@pytest.mark.parametrize(
    "forward_path", [pair[1] for pair in OPEN_RELAY_TESTS], ids=[f"RELIABILITY {n}" for n in range(57, 73)]
)
def test_no_stranger_relays_through_a_gateway(session, forward_path):
    assert GATEWAY.route(session(), Recipient(address=forward_path)) is None
    assert GATEWAY.route(session("127.0.0.1"), Recipient(address=forward_path)) is not None


@pytest.mark.parametrize(
    "address", [f"a@{THEIRS}@{OURS}", f'"a b"%x@{OURS}', f"{THEIRS}!a@x.{OURS}", f"@{THEIRS}:a@{OURS}"]
)
def test_the_senders_own_route_is_followed_for_listed_clients_only(session, address):
    route = Route(
        recipients=(f"*@{OURS}", f"*@*.{OURS}"), clients=("192.0.2.0/24", "authenticated"), to="inbox"
    )
    recipient = Recipient(address=address)
    assert route.matches(session("192.0.2.77"), recipient)
    assert route.matches(session("198.51.100.1", authenticated="u"), recipient)
    assert not route.matches(session("198.51.100.1"), recipient)
    assert not route.matches(session("127.0.0.1"), recipient), "loopback is not in the list"


@pytest.mark.parametrize(
    ("patterns", "address", "stranger", "trusted"),
    [
        ("*@example.com", "a@example.com", True, True),
        ("*@Example.COM", "A@eXample.com", True, True),
        ("*@example.com", "a@sub.example.com", False, False),
        ("*@example.com", "a@badexample.com", False, False),
        ("*@*.example.com", "a@x.y.example.com", True, True),
        ("*@*.example.com", "a@example.com", False, False),
        ("*@*.example.com", "a@.example.com", False, False),
        ("Sales@example.com", "sales@example.com", True, True),
        ("sales-*@example.com", "sales-eu@example.com", True, True),
        ("sales-*@example.com", "sales@example.com", False, False),
        ("*@mail*.example.com", "a@mail7.example.com", True, True),
        ("*@[192.0.2.1]", "a@[192.0.2.1]", True, True),
        ("*@[192.0.2.1]", "a@1", False, False),
        ("*", "a@example.com", False, True),
        ("*", "a", False, True),
        ("*@*", "a@example.com", False, True),
        ("boss@*", "boss@example.com", False, True),
        ("*@*.com", "a@example.com", False, True),
        ("*@*example.com", "a@badexample.com", False, True),
        ("*@example.*", "a@example.org", False, True),
        (["*@example.com", "*"], "a@example.com", True, True),
        (["*@example.com", "*"], "a@example.org", False, True),
        ("*@example.com", "postmaster", True, True),
        ("*@example.com", "PostMaster", True, True),
        ("*@example.com", "root", False, False),
        ("*", "postmaster", False, True),
        ("postmaster", "postmaster", True, True),
        ("postmaster", "postmaster@example.com", False, False),
    ],
)
def test_a_route_takes(session, patterns, address, stranger, trusted):
    route, recipient = Route(recipients=patterns, to="inbox"), Recipient(address=address)
    assert route.matches(session(), recipient) is stranger
    for client in (
        session("127.0.0.1"),
        session("::1"),
        session("::ffff:127.0.0.1"),
        session(authenticated="u"),
    ):
        assert route.matches(client, recipient) is trusted


@pytest.mark.parametrize(
    ("clients", "client", "user", "taken"),
    [
        ("192.0.2.0/24", "192.0.2.9", None, True),
        ("192.0.2.0/24", "::ffff:192.0.2.9", None, True),
        ("192.0.2.0/24", "192.0.3.9", None, False),
        ("192.0.2.0/24", "192.0.3.9", "u", False),
        ("192.0.2.0/24", "127.0.0.1", None, False),
        (["2001:db8::/32", "10.0.0.1"], "2001:db8:1::1", None, True),
        (["2001:db8::/32", "10.0.0.1"], "10.0.0.1", None, True),
        (["2001:db8::/32", "10.0.0.1"], "10.0.0.2", None, False),
        ("authenticated", "192.0.2.9", "u", True),
        ("authenticated", "127.0.0.1", None, False),
        (["0.0.0.0/0", "::/0"], "203.0.113.1", None, True),
    ],
)
def test_clients_say_who_may_use_a_route(session, clients, client, user, taken):
    for pattern in ("*", "*@example.com"):
        route = Route(recipients=pattern, clients=clients, to="discard")
        assert route.matches(session(client, authenticated=user), Recipient(address="a@example.com")) is taken


def test_the_first_route_that_matches_wins_and_postmaster_goes_to_the_first_that_names_a_domain(session):
    config = Config(
        relay=(
            Route(recipients="*", clients="10.0.0.0/8", to="discard"),
            Route(recipients="*@example.com", to="inbox"),
            Route(recipients=["*@example.com", "*@example.org"], to=["smtp://a"]),
        )
    )
    first, second, third = config.relay
    assert config.route(session("10.1.1.1"), Recipient(address="a@example.com")) is first
    assert config.route(session(), Recipient(address="a@example.com")) is second
    assert config.route(session(), Recipient(address="a@example.org")) is third
    assert config.route(session(), Recipient(address="postmaster")) is second
    assert config.route(session(), Recipient(address="a@example.net")) is None


def test_a_route_cannot_be_made_without_recipients():
    with pytest.raises(ValidationError):
        Route(recipients=(), to="inbox")


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*b*", "abc", True),
        ("*b*b*", "abc", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*bc*c", "abc", False),
        ("A?[B]", "a?[b]", True),
        ("A?[B]", "axb", False),
        ("**", "x", True),
    ],
)
def test_only_the_star_is_special_in_a_pattern(pattern, text, fits):
    assert Glob.of(pattern).matches(text) is fits


def test_a_pattern_of_many_stars_is_no_trap():
    assert not Glob.of("*a" * 500 + "*b").matches("a" * 100_000)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("a@b", True),
        ("*@b.c", True),
        ("*@*.b.c", True),
        ("*@*.b.", False),
        ("*@*.b", False),
        ("*@*", False),
        ("*@b.*", False),
    ],
)
def test_a_pattern_names_a_domain_or_takes_any(pattern, named):
    assert names_a_domain(pattern) is named


def test_the_null_reverse_path_is_taken_by_its_own_pattern_and_by_star():
    for patterns, taken in ((["<>"], True), ([""], True), (["*"], True), (["*@*", "a@b"], False)):
        assert AddressPatterns(patterns).matches("") is taken
