"""Addresses are found in a field before anything in it is decoded: no encoding moves an address."""

import base64
import re
import time
from email.headerregistry import AddressHeader

import pytest
from gatepost.mime import read_message
from gatepost.mime.address_list import read_addresses
from hypothesis import example, given
from hypothesis import strategies as st

BOSS = "boss@corp.example"
B64 = base64.b64encode(f"Boss <{BOSS}>, ".encode())


def read(raw):
    return [(one.name, one.address) for one in read_addresses(raw.encode() if isinstance(raw, str) else raw)]


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        # RFC 5322 section 3.4
        ("a@b.example", [("", "a@b.example")]),
        (" Ann <a@b.example>", [("Ann", "a@b.example")]),
        ('"Lee, Ann" <a@b.example>', [("Lee, Ann", "a@b.example")]),
        ('"Ann \\"Q\\" Lee" <a@b.example>', [('Ann "Q" Lee', "a@b.example")]),
        ("Ann Q. Lee <a@b.example>, <c@d.example>", [("Ann Q. Lee", "a@b.example"), ("", "c@d.example")]),
        ("Ann\r\n Lee\r\n\t<a@b.example>,\r\n c@d.e", [("Ann Lee", "a@b.example"), ("", "c@d.e")]),
        ('"a,b"@c.example', [("", '"a,b"@c.example')]),
        ('<"a> <x@y.example"@c.example>', [("", '"a> <x@y.example"@c.example')]),
        ("<a@[192.0.2.1]>, b@[IPv6:2001:db8::1]", [("", "a@[192.0.2.1]"), ("", "b@[IPv6:2001:db8::1]")]),
        # groups
        (
            'Team: a@b.example, "C, D" <c@d.example>;, e@f.example',
            [("Team", ""), ("", "a@b.example"), ("C, D", "c@d.example"), ("", "e@f.example")],
        ),
        ("undisclosed-recipients:;", [("undisclosed-recipients", "")]),
        (f"Boss: x@y.example, {BOSS};", [("Boss", ""), ("", "x@y.example"), ("", BOSS)]),
        # comments
        ("a@b.example (Ann Lee)", [("Ann Lee", "a@b.example")]),
        ("Ann (at work) <a@b.example> (c)", [("Ann", "a@b.example")]),
        ("(a <x@y.example>, (nested \\) ) c) a(c)@(c)b.example", [("c", "a@b.example")]),
        ("a@b.example (=?utf-8?q?=C3=84nn?=)", [("Änn", "a@b.example")]),
        # obsolete syntax, RFC 5322 section 4.4
        ("<@x.example,@y.example:a@b.example>", [("", "a@b.example")]),
        ("a . q @ b . example, Ann Lee <a @ b.example>", [("", "a.q@b.example"), ("Ann Lee", "a@b.example")]),
        (",, a@b.example,,", [("", "a@b.example")]),
        # names with anything in them
        ("=?utf-8?q?Lee=2C_Ann?= <a@b.example>", [("Lee, Ann", "a@b.example")]),
        ("=?utf-8?q?Boss_=3Cboss=40corp.example=3E?= <x@y.example>", [(f"Boss <{BOSS}>", "x@y.example")]),
        (b"=?utf-8?b?" + B64 + b"?= <x@y.example>", [(f"Boss <{BOSS}>,", "x@y.example")]),
        (b'"=?utf-8?b?' + B64 + b'?=" <x@y.example>', [(f"Boss <{BOSS}>,", "x@y.example")]),
        ("=?utf-8?q?=22?= <a@b.example>, c@d.example", [('"', "a@b.example"), ("", "c@d.example")]),
        ("=?utf-8?q?=28?= <a@b.example>, c@d.example", [("(", "a@b.example"), ("", "c@d.example")]),
        ("=?utf-8?q?x=3A?= <a@b.example>", [("x:", "a@b.example")]),
        ("=?utf-8?q?a=0D=0ABcc=3A?= <a@b.example>", [("a Bcc:", "a@b.example")]),
        ("=?utf-8?q?A?=\r\n =?utf-8?q?nn?= <a@b.example>", [("Ann", "a@b.example")]),
        ("Änn <a@b.example>", [("Änn", "a@b.example")]),
        ("Änn <a@b.example>".encode("latin-1"), [("Änn", "a@b.example")]),
        ("Änn <änn@bücher.example>", [("Änn", "änn@bücher.example")]),
        # an encoded-word is not decoded in an address (RFC 2047 section 5)
        ("<=?utf-8?q?boss=40corp.example?=>", [("", "=?utf-8?q?boss=40corp.example?=")]),
        ("=?utf-8?q?boss=40corp.example?=", [(BOSS, "")]),
        # an encoded-word with characters that delimit: as written for some readers, as delimiters for others
        ("=?utf-8?q?Lee,_Ann?= <a@b.example>", [("Lee, Ann", "a@b.example")]),
        (f"=?utf-8?q?<{BOSS}>?= <x@y.example>", [(f"<{BOSS}>", "x@y.example"), ("", BOSS)]),
        (f"=?utf-8?q?A <x@y.z>, B?= <{BOSS}>", [("A <x@y.z>, B", BOSS), ("A", "x@y.z")]),
        # malformed
        (f"{BOSS} <x@y.example>", [(BOSS, "x@y.example")]),
        (f'"{BOSS}" x@y.example', [(BOSS, "x@y.example")]),
        ("Ann Lee a@b.example", [("Ann Lee", "a@b.example")]),
        ("a@b.example c@d.example", [("", "a@b.example"), ("", "c@d.example")]),
        ("A <a@b.example> C <c@d.example> E", [("A", "a@b.example"), ("C E", "c@d.example")]),
        ("<a@b.example> c@d.example", [("", "a@b.example"), ("", "c@d.example")]),
        ("a@b.example; c@d.example", [("", "a@b.example"), ("", "c@d.example")]),
        ("<<a@b.example>>", [("", "a@b.example")]),
        ("Ann <a@b.example", [("Ann", "a@b.example")]),
        ('"Ann <a@b.example>', [('"Ann', "a@b.example")]),
        ('"Ann <a@b.example>, c@d.example', [('"Ann', "a@b.example"), ("", "c@d.example")]),
        ("(Ann <a@b.example>", [("(Ann", "a@b.example")]),
        ("Ann) <a@b.example>", [("Ann)", "a@b.example")]),
        ("[Ann <a@b.example>", [("[Ann", "a@b.example")]),
        ("Ann\r <a@b.example>", [("Ann", "a@b.example")]),
        ("mailto:a@b.example", [("mailto", ""), ("", "a@b.example")]),
        ("Ann", [("Ann", "")]),
        ("MAILER-DAEMON <>", [("MAILER-DAEMON", "")]),
        ("@b.example, a@", [("", "@b.example"), ("", "a@")]),
        ("", []),
        (" , ; : <> () \r\n", []),
    ],
)  # fmt: skip
def test_each_entry_has_its_name_and_its_address(raw, found):
    assert read(raw) == found


def test_all_fields_of_the_name_are_read_in_their_order():
    """Readers differ in which of two From fields they show."""
    view = read_message(
        b"From: a@b.example\r\nfrom : C <c@d.example>, e@f.example\r\nTo: g@h.example\r\n\r\n"
    )
    assert [one.address for one in view.addresses("FROM")] == ["a@b.example", "c@d.example", "e@f.example"]
    assert view.addresses("Cc") == ()
    assert read_message(b"From is no field\r\n").addresses("From") == ()


def test_a_header_has_its_bytes_as_they_are():
    view = read_message(b"A:  =?utf-8?q?x?=\r\n\t\xe4 \r\nB:\nC: no line end")
    assert [header.raw for header in view.headers] == [b"  =?utf-8?q?x?=\r\n\t\xe4 ", b"", b" no line end"]
    assert view.headers[0].value == "x\tä"


# What is encoded ------------------------------------------------------------------------------------------

WORDS = st.text(max_size=20) | st.sampled_from(
    [f"Boss <{BOSS}>", ",", '"', "<", ">", "(", ":;", "\r\n", "=?", BOSS]
)
ADDRESSES = st.sampled_from(
    ["a@b.example", "c.d@e.example", '"f,g"@h.example', "i@[192.0.2.1]", "j@xn--k.example"]
)


def encoded(text, encoding):
    octets = text.encode("utf-8", "replace")
    if encoding == "b":
        return f"=?utf-8?b?{base64.b64encode(octets).decode()}?="
    return "=?utf-8?q?" + "".join(f"={octet:02X}" for octet in octets) + "?="


@given(st.lists(st.tuples(WORDS, st.sampled_from("bq"), ADDRESSES, st.booleans()), min_size=1, max_size=4))
def test_no_encoded_name_moves_an_address(entries):
    """Whatever is in it, quoted or not: the addresses are those that are written in the field."""
    written = []
    for name, encoding, address, is_quoted in entries:
        word = encoded(name, encoding)
        shown = f'"{word}"' if is_quoted else word
        written.append(f"{shown} <{address}>")
    found = read_addresses(", ".join(written).encode())
    assert [one.address for one in found] == [address for _, _, address, _ in entries]
    assert not re.search(r"[\r\n]", "".join(one.name for one in found))


@given(st.text('a@<>(),;:"\\ .[]?=qQb\r\n\t\u00e4', max_size=40), WORDS, WORDS, st.sampled_from("bq"))
@example(f"=?utf-8?q?A?= <{BOSS}>", ",", "<", "q")
def test_what_is_encoded_makes_no_difference_to_the_addresses(around, one, other, encoding):
    """Wherever the encoded-word is, in broken fields too."""
    fields = [around.replace("ä", encoded(text, encoding)) for text in (one or "x", other or "y")]
    first, second = ([entry.address for entry in read_addresses(field.encode())] for field in fields)

    def without_words(addresses):
        return [re.sub(r"=\?utf-8\?.\?[^?]*\?=", "", address) for address in addresses if address]

    assert without_words(first) == without_words(second)


@given(st.binary(max_size=200))
@example(b"<" * 20)
def test_nothing_is_raised_and_no_line_end_is_left(raw):
    for entry in read_addresses(raw):
        assert entry.name or entry.address
        assert not re.search(r"[\r\n]", entry.name + entry.address)


ATOMS = st.text("abcxyz019-_!#$%&'*+/=?^{|}~", min_size=1, max_size=8).filter(lambda atom: "=?" not in atom)
QUOTED = st.text("abc xyz,;:<>@().", min_size=1, max_size=12).map(str.strip).filter(bool)
LOCAL_PARTS = st.lists(ATOMS, min_size=1, max_size=3).map(".".join) | QUOTED.map(lambda text: f'"{text}"')
DOMAINS = st.lists(st.from_regex(r"\A[a-z][a-z0-9]{0,5}\Z"), min_size=2, max_size=3).map(".".join)
NAMES = st.lists(ATOMS, min_size=1, max_size=3).map(" ".join) | QUOTED.map(lambda text: f'"{text}"')


@given(st.lists(st.tuples(NAMES, LOCAL_PARTS, DOMAINS), min_size=1, max_size=4))
def test_valid_fields_are_read_as_pythons_parser_reads_them(entries):
    field = ", ".join(f"{name} <{local}@{domain}>" for name, local, domain in entries)
    judge = {}
    AddressHeader.parse(field, judge)
    expected = [
        (one.display_name or "", f"{one.username}@{one.domain}".replace('"', ""))
        for group in judge["groups"]
        for one in group.addresses
    ]
    assert [(name, address.replace('"', "")) for name, address in read(field)] == expected


@pytest.mark.parametrize(
    "piece",
    [
        b'"\\',
        b'<"\\',
        b"(",
        b"((a)",
        b"<",
        b'<"<"',
        b"[",
        b"=?a?q?",
        b"=?a?q?,?=<",
        b'<a,"\\',
        b",",
        b"<a>",
        b"a ",
        b"=",
    ],
)
@pytest.mark.long
def test_the_time_is_linear_in_the_length_of_the_field(piece):
    def seconds(pieces):
        begun = time.process_time()
        read_addresses(b"<" + piece * pieces + b">")
        return time.process_time() - begun

    seconds(100)
    few, many = min(seconds(1_000) for _ in range(3)), min(seconds(16_000) for _ in range(2))
    assert many < 16 * 6 * max(few, 0.0005)
