import contextlib

import pytest
from gatepost.server import paths
from gatepost.server.paths import parse_mail, parse_rcpt
from gatepost.server.replies import Refusal
from hypothesis import given
from hypothesis import strategies as st

ALL = frozenset({"SIZE", "8BITMIME", "SMTPUTF8", "AUTH", "DSN"})

ADDRESSES = [
    "a@example.org",
    "first.last+tag@sub.example.org",
    '"a"@example.org',
    '"a b\\"c<>@d"@example.org',
    "=?utf-8?q?x=40y?=@example.org",
    "!#$%&'*+/=?^_`{|}~-@example.org",
    "a@under_score.example.org",
    "a@[192.0.2.1]",
    "a@[IPv6:2001:db8::1]",
    "MixedCase@Example.ORG",
    "a%b@example.org",
    "b!a@example.org",
    "l" * 64 + "@example.org",
    "bounce+" + "l" * 100 + "=example.com@example.org",
    "l" * 64 + "@" + ".".join(["d" * 46] * 4),
    ".a@example.org",
    "a.@example.org",
    "a..b@example.org",
    "...@example.org",
    "a@example.org.",
    "a@under_score.example.org.",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("space", ["", " "], ids=["strict", "one space"])
def test_an_address_is_kept_byte_for_byte(address, space):
    """RELIABILITY 28."""
    assert parse_mail(f"FROM:{space}<{address}>", ()) == (address, ())
    assert parse_rcpt(f"to:{space}<{address}>", (), smtputf8=False) == (address, ())


def test_the_null_reverse_path_and_the_bare_postmaster_are_addresses():
    """RELIABILITY 29."""
    assert parse_mail("FROM:<>", ()) == ("", ())
    assert parse_rcpt("TO:<PostMaster>", (), smtputf8=False) == ("PostMaster", ())


BAD_PATHS = [
    "a@example.org",
    "<",
    '<"',
    "<a@",
    "<a@>",
    "<@example.org>",
    "<a>",
    "<a@b",
    "a@b>",
    "<<a@b>>",
    "<a@b>x",
    "<a@b><c@d>",
    "  <a@b>",
    "<a b@c>",
    "< a@b>",
    "<a@b >",
    "<a(comment)@b>",
    "<a@(comment)b>",
    "<a@b..c>",
    "<a@b..>",
    "<a@.b>",
    "<a@.>",
    "<a@[192.0.2.1].>",
    "<a@-b>",
    "<a@b->",
    "<a@b@c>",
    '<"a"b@c>',
    '<"a@b>',
    '<"user@example.com">',
    "<user!example.com>",
    "<a@[1.2.3]>",
    "<a@[1.2.3.256]>",
    "<a@[IPv6:1.2.3.4]>",
    "<a@[IPv6:::g]>",
    "<a@[tag:x]>",
    "<a@[1.2.3.4>",
    "<a\x00@b>",
    "<a\r@b>",
    "<a\t@b>",
    f"<{'l' * 64}@{'.'.join(['d' * 47] * 4)}>",
    f"<a@{'d' * 64}.org>",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_what_is_no_path_is_refused(path):
    """RELIABILITY 26, 27, 28, 30."""
    with pytest.raises(Refusal, match=r"^501 5\.1\.7 "):
        parse_mail(f"FROM:{path}", ALL)
    with pytest.raises(Refusal, match=r"^501 5\.1\.3 "):
        parse_rcpt(f"TO:{path}", ALL, smtputf8=False)


def test_only_a_recipient_may_lack_its_domain_and_only_a_sender_its_address():
    with pytest.raises(Refusal, match=r"^501 5\.1\.7 "):
        parse_mail("FROM:<postmaster>", ())
    with pytest.raises(Refusal, match=r"^501 5\.1\.3 "):
        parse_rcpt("TO:<>", (), smtputf8=False)


@pytest.mark.parametrize("path", ["<@a:b@c>", "<@a,@b:c@d>", "<@[1.2.3.4]:b@c>"])
def test_a_source_route_is_refused(path):
    """RELIABILITY 28."""
    with pytest.raises(Refusal, match=r"^550 5\.7\.1 "):
        parse_rcpt(f"TO:{path}", (), smtputf8=False)
    with pytest.raises(Refusal, match=r"^501 5\.1\.7 "):
        parse_mail(f"FROM:{path}", ())


@pytest.mark.parametrize(
    "address", ["ü@example.org", "a@exämple.org", '"ü b"@example.org', "अ\u200d@उदाहरण.परीक्षा"]
)
def test_other_than_ascii_needs_smtputf8(address):
    assert parse_mail(f"FROM:<{address}> SMTPUTF8", ALL) == (address, ("SMTPUTF8",))
    assert parse_rcpt(f"TO:<{address}>", ALL, smtputf8=True) == (address, ())
    with pytest.raises(Refusal, match=r"^553 5\.6\.7 "):
        parse_mail(f"FROM:<{address}>", ALL)
    with pytest.raises(Refusal, match=r"^553 5\.6\.7 "):
        parse_rcpt(f"TO:<{address}>", ALL, smtputf8=False)


def test_lengths_are_counted_in_octets():
    with pytest.raises(Refusal, match=r"^501 5\.1\.3 "):
        parse_rcpt(f"TO:<{'ü' * 122}@example.org>", ALL, smtputf8=True)


@pytest.mark.parametrize("argument", ["", "FROM", "FROM <a@b>", "TO:<a@b>", "FROM :<a@b>", "<a@b>"])
def test_the_keyword_is_expected(argument):
    with pytest.raises(Refusal, match=r"^501 5\.5\.4 "):
        parse_mail(argument, ALL)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("SIZE=1000 BODY=8BITMIME SMTPUTF8", None),
        ("size=1 body=7bit", None),
        ("RET=HDRS ENVID=abc+2B AUTH=<>", None),
        ("AUTH=a+40b", None),
        ("SIZE=²", "501"),
        ("SIZE=-1", "501"),
        ("SIZE=+1", "501"),
        ("SIZE=1" + "0" * 30, "501"),
        ("SIZE", "501"),
        ("SIZE=", "501"),
        ("SIZE=1 SIZE=1", "501"),
        ("BODY=BINARYMIME", "501"),
        ("SMTPUTF8=yes", "501"),
        ("RET=ALL", "501"),
        ("ENVID=+zz", "501"),
        ("ENVID=" + "e" * 101, "501"),
        ("=x", "501"),
        ("-A=x", "501"),
        ("A=b=c", "501"),
        ("SIZE=1  BODY=7BIT", "501"),
        (" ".join(f"X{i}" for i in range(21)), "501"),
        ("XFOO=bar", "555"),
        ("NOTIFY=NEVER", "555"),
    ],
)
def test_mail_parameters_are_read_strictly(parameters, code):
    """RELIABILITY 33, 35, 38."""
    if code:
        with pytest.raises(Refusal, match=rf"^{code} 5\.5\.4 "):
            parse_mail(f"FROM:<a@b> {parameters}", ALL)
    else:
        assert parse_mail(f"FROM:<a@b> {parameters}", ALL) == ("a@b", tuple(parameters.split(" ")))


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("NOTIFY=NEVER", None),
        ("NOTIFY=success,FAILURE,delay ORCPT=rfc822;a+2Bb@c", None),
        ("NOTIFY=NEVER,SUCCESS", "501"),
        ("NOTIFY=", "501"),
        ("ORCPT=a@b", "501"),
        ("ORCPT=rfc822;a+b", "501"),
        ("ORCPT=rfc822;" + "a" * 500, "501"),
        ("NOTIFY=NEVER NOTIFY=NEVER", "501"),
        ("SIZE=1", "555"),
    ],
)
def test_rcpt_parameters_are_read_strictly(parameters, code):
    """RELIABILITY 38."""
    if code:
        with pytest.raises(Refusal, match=rf"^{code} 5\.5\.4 "):
            parse_rcpt(f"TO:<a@b> {parameters}", ALL, smtputf8=False)
    else:
        assert parse_rcpt(f"TO:<a@b> {parameters}", ALL, smtputf8=False)[1] == tuple(parameters.split(" "))


@pytest.mark.parametrize(
    ("value", "without_smtputf8", "with_smtputf8"),
    [
        (r"utf-8;u@example.com", True, True),
        (r"UTF-8;\x{FC}@example.com", True, True),
        (r"utf-8;\x{fc}\x{7528}\x{1F600}\x{10FFFF}\x{D7FF}\x{E000}@example.com", True, True),
        (r"utf-8;\x{5C}\x{2B}\x{3D}\x{20}\x{10}\x{7F}\x{01}\x{19}@example.com", True, True),
        (r"utf-8;a+2Bb@example.com", True, True),  # as xtext of any type (RFC 3461 section 4)
        ("utf-8;ü@example.com", False, True),
        ("Utf-8;用户@例え.example", False, True),
        (r"utf-8;\x{FC}ü@example.com", False, True),
        ("utf-8;" + "ü" * 494, False, True),
        ("utf-8;" + "ü" * 495, False, False),
        ("rfc822;ü@example.com", False, False),
        ("utf-8", False, False),
        ("utf-8;", False, False),
        ("utf-8;a+b@example.com", False, False),
        ("utf-8;a=b@example.com", False, False),
        ("utf-8;\u0080@example.com", False, False),
        (r"utf-8;\@example.com", False, False),
        (r"utf-8;\x@example.com", False, False),
        (r"utf-8;\x{}@example.com", False, False),
        (r"utf-8;\x{FC@example.com", False, False),
        (r"utf-8;\xFC@example.com", False, False),
        (r"utf-8;\X{FC}@example.com", False, False),
        (r"utf-8;\x{F}@example.com", False, False),
        (r"utf-8;\x{0A}@example.com", False, False),
        (r"utf-8;\x{0D}@example.com", False, False),
        (r"utf-8;\x{00}@example.com", False, False),
        (r"utf-8;\x{61}@example.com", False, False),
        (r"utf-8;\x{0FC}@example.com", False, False),
        (r"utf-8;\x{D800}@example.com", False, False),
        (r"utf-8;\x{DFFF}@example.com", False, False),
        (r"utf-8;\x{110000}@example.com", False, False),
        (r"utf-8;\x{GG}@example.com", False, False),
    ],
)
def test_an_original_recipient_may_be_internationalised(value, without_smtputf8, with_smtputf8):
    """RFC 6533 section 3: utf-8-addr-xtext, and with SMTPUTF8 utf-8-addr-unitext."""
    for smtputf8, passes in ((False, without_smtputf8), (True, with_smtputf8)):
        if passes:
            parsed = parse_rcpt(f"TO:<a@b> ORCPT={value}", ALL, smtputf8=smtputf8)
            assert parsed == ("a@b", (f"ORCPT={value}",))
        else:
            with pytest.raises(Refusal, match=r"^501 5\.5\.4 "):
                parse_rcpt(f"TO:<a@b> ORCPT={value}", ALL, smtputf8=smtputf8)


@pytest.mark.parametrize("parameter", ["FOO", "BY=120;R", "HOLDFOR=60", "REQUIRETLS", "NOTIFY=NEVER"])
def test_parameters_of_other_extensions_are_unknown(parameter):
    with pytest.raises(Refusal, match=r"^555 "):
        parse_mail(f"FROM:<a@b> {parameter}", ())


@pytest.mark.parametrize(
    ("parameters", "kept"),
    [
        ("SIZE=1", ("SIZE=1",)),
        ("BODY=8BITMIME", ("BODY=8BITMIME",)),
        ("RET=FULL", ()),
        ("AUTH=<>", ()),
        ("SMTPUTF8", ("SMTPUTF8",)),
        ("ENVID=x", ()),
        ("ret=hdrs SIZE=1 envid=x body=7bit", ("SIZE=1", "body=7bit")),
    ],
)
def test_what_postfix_passes_on_needs_no_offer(parameters, kept):
    """A refusal would lose the mail; what upstream may not have is left out."""
    assert parse_mail(f"FROM:<a@b> {parameters}", ()) == ("a@b", kept)
    assert parse_rcpt("TO:<a@b> NOTIFY=NEVER orcpt=rfc822;a@b", (), smtputf8=False) == ("a@b", ())
    with pytest.raises(Refusal, match=r"^501 "):
        parse_mail("FROM:<a@b> RET=NONE", ())
    with pytest.raises(Refusal, match=r"^501 "):
        parse_rcpt("TO:<a@b> NOTIFY=ALWAYS", (), smtputf8=False)


PIECES = st.lists(
    st.sampled_from(["a", "@", "<", ">", '"', "\\", ".", " ", ":", "[", "]", "=", "ü", "SIZE=1", "\r\n"])
)


@given(st.one_of(st.text(), PIECES.map("".join)))
def test_whatever_comes_is_refused_or_taken_unchanged(text):
    for argument in (text, f"FROM:{text}", f"FROM:<{text}>"):
        with contextlib.suppress(Refusal):
            address, parameters = parse_mail(argument, ALL)
            assert " ".join((f"<{address}>", *parameters)) == argument[5:].removeprefix(" ")
            assert not {"\r", "\n", "\0"} & set(argument)


ATEXT = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+/=?^_`{|}~-"
OF_A_LABEL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
OF_A_VALUE = "".join(map(chr, {*range(0x21, 0x7F)} - {ord("=")}))


@pytest.mark.parametrize(
    ("around", "ascii_characters"),
    [
        ("{}@x", ATEXT + "."),
        ("x@a{}a", OF_A_LABEL + "."),
        ('"{}"@x', "".join(map(chr, {*range(0x20, 0x7F)} - {0x22, 0x5C}))),
    ],
)
def test_of_all_characters_these_are_in_an_address(around, ascii_characters):
    found = {
        character
        for character in map(chr, range(0x110000))
        if paths._MAILBOX.fullmatch(around.format(character))
    }
    assert found == {*ascii_characters, *map(chr, range(0xA0, 0x110000))}


def test_of_all_characters_these_are_in_the_value_of_a_parameter():
    found = {
        character for character in map(chr, range(0x110000)) if paths._PARAMETER.fullmatch(f"A={character}")
    }
    assert found == {*OF_A_VALUE, *map(chr, range(0xA0, 0x110000))}
