"""One table of spellings: what a strict, a lenient and an all-taking server answer, and what they keep."""

import pytest
from gatepost.server.odd_paths import read_mail, read_rcpt
from gatepost.server.paths import is_mailbox
from gatepost.server.replies import Refusal
from gatepost.traffic.events import Odd
from gatepost.traffic.oddity import Oddity
from hypothesis import given
from hypothesis import strategies as st

ALL = frozenset({"SIZE", "8BITMIME", "SMTPUTF8", "AUTH", "DSN"})
TOLERANCES = ("strict", "lenient", "everything")
LONG = b"l" * 300 + b"@example.com"

# After the colon; the reply, or the address that is kept, of a strict, a lenient and an all-taking server;
# what the last one finds odd.
SPELLINGS = [
    (b"<b@example.com>", "b@example.com", "b@example.com", "b@example.com", ""),
    (b" <b@example.com>", "b@example.com", "b@example.com", "b@example.com", "command-spaces"),
    (b"<a..b@example.com>", "a..b@example.com", "a..b@example.com", "a..b@example.com", "local-part-dots"),
    (b"<.a@example.com>", ".a@example.com", ".a@example.com", ".a@example.com", "local-part-dots"),
    (b"<a.@example.com>", "a.@example.com", "a.@example.com", "a.@example.com", "local-part-dots"),
    (b"<...@example.com>", "...@example.com", "...@example.com", "...@example.com", "local-part-dots"),
    (b'<"a..b"@example.com>', '"a..b"@example.com', '"a..b"@example.com', '"a..b"@example.com', ""),
    (b"<b@example.com.>", "b@example.com.", "b@example.com.", "b@example.com.", "domain-dot"),
    (b"<b@example.com..>", "501", "501", "b@example.com..", "path-syntax"),
    (b"<b@.example.com>", "501", "501", "b@.example.com", "path-syntax"),
    (b"<b@[192.0.2.1].>", "501", "501", "b@[192.0.2.1].", "path-syntax"),
    (b"b@example.com", "501", "b@example.com", "b@example.com", "path-brackets"),
    (b"\t b@example.com ", "501", "b@example.com", "b@example.com", "command-spaces path-brackets"),
    (b"b@example.com>", "501", "b@example.com", "b@example.com", "path-brackets"),
    (b"<<b@example.com>>", "501", "b@example.com", "b@example.com", "path-brackets"),
    (b"  <b@example.com>", "501", "b@example.com", "b@example.com", "command-spaces"),
    (b"< b@example.com\t>", "501", "b@example.com", "b@example.com", "command-spaces"),
    (b'"a b"@example.com', "501", '"a b"@example.com', '"a b"@example.com', "path-brackets"),
    (b'"<b>"@example.com', "501", '"<b>"@example.com', '"<b>"@example.com', "path-brackets"),
    (b"<bob>", "501", "bob", "bob", "path-domain"),
    (b"bob", "501", "bob", "bob", "path-brackets path-domain"),
    (b"<PostMaster>", "PostMaster", "PostMaster", "PostMaster", ""),
    (b"postmaster", "501", "postmaster", "postmaster", "path-brackets"),
    ("<ü@example.com>".encode(), "553", "ü@example.com", "ü@example.com", "path-utf8"),
    ("<b@exämple.com>".encode(), "553", "b@exämple.com", "b@exämple.com", "path-utf8"),
    ("ü".encode(), "501", "ü", "ü", "path-brackets path-domain path-utf8"),
    (b"<\xfc@example.com>", "500", "500", r"\xfc@example.com", "command-characters path-syntax"),
    (b"<b\x01@example.com>", "501", "501", r"b\x01@example.com", "command-characters path-syntax"),
    (b"<b\0@example.com>", "501", "501", r"b\x00@example.com", "command-characters path-syntax"),
    (b"<b@example.com", "501", "501", "b@example.com", "path-syntax"),
    (b"<b@example.com SIZE=1", "501", "501", "b@example.com", "parameter path-syntax"),
    (b"<b@example.com>x", "501", "501", "b@example.com", "parameter path-syntax"),
    (b"Bob <b@example.com>", "501", "501", "b@example.com", "path-syntax"),
    (b'"Bob" <b@example.com>', "501", "501", "b@example.com", "path-syntax"),
    (b"<Bob Smith <b@example.com>>", "501", "501", "b@example.com", "path-syntax"),
    (b"<b@example.com>, <c@example.com>", "501", "501", "b@example.com", "parameter path-syntax"),
    (b"Bob Smith", "501", "501", "Bob Smith", "path-syntax"),
    (b"<a b@example.com>", "501", "501", "a b@example.com", "path-syntax"),
    (b"<b@ example.com>", "501", "501", "b@ example.com", "path-syntax"),
    (b"<a(c)@example.com>", "501", "501", "a(c)@example.com", "path-syntax"),
    (b"<a\\b@example.com>", "501", "501", "a\\b@example.com", "path-syntax"),
    (b"<a,b@example.com>", "501", "501", "a,b@example.com", "path-syntax"),
    (b"<a@b@example.com>", "501", "501", "a@b@example.com", "path-syntax"),
    (b'<"b@example.com">', "501", "501", '"b@example.com"', "path-syntax"),
    (b"<b@>", "501", "501", "b@", "path-syntax"),
    (b"<@example.com>", "501", "501", "@example.com", "path-syntax"),
    (b'"', "501", "501", '"', "path-syntax"),
    (b"<" + LONG + b">", "501", "501", LONG.decode(), "path-syntax"),
    (b"<@relay.example:b@example.com>", "550", "550", "@relay.example:b@example.com", "source-route"),
    (b"<b@example.com> FOO=bar", "555", "555", "b@example.com", "parameter"),
    (b"b@example.com FOO=bar", "501", "555", "b@example.com", "parameter path-brackets"),
    (b"<b@example.com> =", "501", "501", "b@example.com", "parameter"),
    (b"<>", "501", "501", "", "path-syntax"),
    (b"<", "501", "501", "", "path-syntax"),
    (b"", "501", "501", "", "path-syntax"),
]
AT_MAIL = {b"<>": "", b"<PostMaster>": "501", b"<@relay.example:b@example.com>": "501"}
"""Where a strict server answers MAIL otherwise than RCPT."""
ODD_AT_MAIL = {b"<>": "", b"<PostMaster>": "path-domain", b"postmaster": "path-brackets path-domain"}


@pytest.mark.parametrize("tolerance", TOLERANCES)
async def test_each_spelling_has_its_reply_and_is_kept_as_it_came(start, tolerance):
    odd = []
    mx = await start(tolerance=tolerance, tap=odd.append)
    for path, *expected, oddities in SPELLINGS:
        wanted = expected[TOLERANCES.index(tolerance)]
        client = await mx.ready()
        await client.send(b"MAIL FROM:<>\r\n")
        assert (await client.reply()).startswith("250 ")
        odd.clear()
        await client.send(b"RCPT TO:" + path + b"\r\n")
        reply = await client.reply()
        if wanted[:3].isdigit():
            assert reply.startswith(f"{wanted} 5."), (path, reply)
            continue
        assert reply.startswith("250 "), (path, reply)
        await client.talk("""
            C: DATA
            S: 354
            C: .
            S: 250
        """)
        [recipient] = mx.script.messages[-1][0].recipients
        assert recipient.address == wanted, path
        if tolerance == "everything":
            told = [event.oddity for event in odd if isinstance(event, Odd)]
            assert told == oddities.split(), path


@pytest.mark.parametrize("tolerance", TOLERANCES)
async def test_a_sender_is_read_as_a_recipient_is(start, tolerance):
    mx = await start(tolerance=tolerance)
    for path, *expected, _ in SPELLINGS:
        wanted = expected[TOLERANCES.index(tolerance)]
        if tolerance == "strict" or path == b"<>":
            wanted = AT_MAIL.get(path, wanted)
        if tolerance == "lenient" and wanted == "550":
            wanted = "501"
        client = await mx.ready()
        await client.send(b"MAIL FROM:" + path + b"\r\n")
        reply = await client.reply()
        if wanted[:3].isdigit():
            assert reply.startswith(f"{wanted} 5."), (path, reply)
            continue
        assert reply.startswith("250 "), (path, reply)
        await client.talk("""
            C: RCPT TO:<b@example.com>
            S: 250
            C: DATA
            S: 354
            C: .
            S: 250
        """)
        assert mx.script.messages[-1][0].mail_from == wanted, path


@pytest.mark.parametrize(
    ("path", "oddities"),
    [(path, row[-1]) for path, *row in SPELLINGS if b"SIZE=" not in path and "characters" not in row[-1]],
)
def test_what_is_odd_of_a_recipient_is_odd_of_a_sender(path, oddities):
    found = read_mail(f"FROM:{path.decode()}", ALL, everything=True).oddities
    assert {*found} == {*ODD_AT_MAIL.get(path, oddities).split()}


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        ("", ""),
        ("TO", ""),
        ("TO:", ""),
        ("to : <b@example.com>", "b@example.com"),
        ("TO b@example.com", "b@example.com"),
        ("b@example.com", "b@example.com"),
        ("<b@example.com>", "b@example.com"),
        ("FROM:<b@example.com>", "b@example.com"),
        ("top@example.com", "top@example.com"),
    ],
)
def test_without_its_keyword_the_address_is_found_where_everything_is_taken(argument, address):
    path = read_rcpt(argument, ALL, smtputf8=False, everything=True)
    assert path.address == address
    assert Oddity.PATH in path.oddities
    with pytest.raises(Refusal, match=r"^501 5\.5\.4 "):
        read_rcpt(argument, ALL, smtputf8=False, everything=False)


@pytest.mark.parametrize(
    ("words", "kept", "odd"),
    [
        ("SIZE=1", ("SIZE=1",), False),
        ("SIZE=1  BODY=8BITMIME", ("SIZE=1", "BODY=8BITMIME"), True),
        ("SIZE=x", ("SIZE=x",), True),
        ("SIZE=1 SIZE=2", ("SIZE=1", "SIZE=2"), True),
        ("X Y=Z <c@d>", ("X", "Y=Z", "<c@d>"), True),
        (" ".join("X" * 30), tuple("X" * 30), True),
    ],
)
def test_parameters_are_kept_as_they_came_where_everything_is_taken(words, kept, odd):
    path = read_mail(f"FROM:<a@example.org> {words}", ALL, everything=True)
    assert path.parameters == kept
    assert bool(path.oddities) is odd


PIECES = st.lists(
    st.sampled_from(
        ["a", "@", "<", ">", '"', "\\", ".", " ", "\t", ":", "[", "]", "=", "ü", "SIZE=1", "FROM:"]
    )
)


@given(st.one_of(st.text(), PIECES.map("".join)))
def test_everything_is_taken_and_a_lenient_server_keeps_addresses_alone(text):
    for argument in (text, f"FROM:{text}", f"FROM:<{text}>"):
        everything = read_mail(argument, ALL, everything=True)
        assert everything.address in argument.replace("\t", " ") or len(everything.address.split()) > 1
        try:
            lenient = read_mail(argument, ALL, everything=False)
        except Refusal:
            continue
        assert lenient == everything
        address = lenient.address
        assert address in argument
        assert not address or is_mailbox(address) or not set(address) & set('@<>()\\",:; \t')


@pytest.mark.parametrize("piece", ["<", ">", '"', '"a', "\\", " ", "a ", "<a", '<"', "a=b ", "@a:", "."])
def test_a_long_argument_is_read_in_linear_time(piece, within_yardsticks):
    with within_yardsticks(200):
        for text in (piece * 32_000, f"<{piece * 32_000}", f"{piece * 32_000}>"):
            read_mail(f"FROM:{text}", ALL, everything=True)
