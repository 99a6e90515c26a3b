"""Transfer encodings are undone to what was sent, and to nothing more."""

import base64

import pytest
from gatepost.mime.transfer import (
    decode_b,
    decode_base64,
    decode_q,
    decode_quoted_printable,
    decode_transfer,
    other_readings,
)
from hypothesis import given
from hypothesis import strategies as st

BASE64 = {
    "plain": (b"YWJj", b"abc"),
    "in lines": (b"YWJj\r\nZGVm\r\n", b"abcdef"),
    "noise": (b"Y!W\0J\xffj", b"abc"),
    "blanks": (b" YW Jj\t", b"abc"),
    "no padding": (b"YWI", b"ab"),
    "half of the padding": (b"YQ=", b"a"),
    "a single digit at the end": (b"YWJjZ", b"abc"),
    "too much padding": (b"YWJj====\r\n", b"abc"),
    "a footer": (b"YWI=\r\nfooter ignored\r\n", b"ab"),
    "a footer after whole groups": (b"YWJj=\r\nfooter ignored\r\n", b"abc"),
    "a signature": (b"YQ==\r\n-- \r\nlist\r\n", b"a"),
    "a footer of one word that is no whole group": (b"YQ==\r\nfooter\r\n", b"a"),
    "a footer with dots": (b"YQ==\r\nhttps://list.example/info\r\n", b"a"),
    "two padded chunks": (b"YWI=\r\nY2Q=\r\n", b"abcd"),
    "two in one line": (b"YWI=Y2Q=", b"abcd"),
    "two with a blank": (b"YWI= Y2Q=", b"abcd"),
    "three, the last one without padding": (b"YQ==\r\nYg==\r\nY2Rl\r\n", b"abcde"),
    "of several lines": (b"YQ==\r\nYmNk\r\n\r\nZWY=\r\n", b"abcdef"),
    "two and a footer": (b"YWI=\r\nY2Q=\r\n\r\n-- \r\nlist\r\n", b"abcd"),
    "a broken chunk after it": (b"YWI=\r\nY2Q\r\n", b"ab"),
    "noise in the second": (b"YWI=\r\nY2!Q=\r\n", b"ab"),
    "empty": (b"", b""),
    "nothing but padding": (b"====", b""),
}


def others(body, encoding):
    """The other readings of a body that stands between others like it."""
    return other_readings(b"=x=" + body + b"-_=", 3, 3 + len(body), encoding)


@pytest.mark.parametrize(("encoded", "decoded"), BASE64.values(), ids=BASE64)
def test_base64_ends_at_its_padding(encoded, decoded):
    assert decode_base64(encoded) == decoded
    assert decoded not in others(encoded, "base64")


@pytest.mark.parametrize(
    ("encoded", "shown"),
    [
        (b"YQ==\r\n!\r\ndmlhZ3Jh", b"aviagra"),
        (b"YQ==\r\ndmlh Z3Jh\r\n-- \r\n", b"aviagra"),
        (b"YWJj=ZGVm!", b"abcdef"),
        (b"YQ==!YWJ~jZGVm", b"aabcdef"),
        (b"_-8_", base64.b64decode(b"/+8/")),
        (b"dmlhZ3Jh=\r\nYWJj", b"viagra"),
        (b"dmlhZ3JhIQ==\r\nYWJj", b"viagra!"),
        (b"dmlhZ=3Jh", b"viagra"),
        (b"dml=hZ3Jh", b"viagra"),
        (b"dm==lhZ3Jh", b"viagra"),
        (b"dm=lhZ3Jh=", b"via" + b"gra"),
        (b"d==mlhZ3Jh", b"viagra"),
        (b"dm=lhZ=3JhIQ==", b"viagra!"),
        (b"YQ==\r\ndmlhZ=3Jh", b"aviagra"),
        (b"dmlhZ=3JhIQ==YWJj", b"viagra!"),
        (b"dmlhZ=3JhIQ==YWJj", b"viagra!abc"),
    ],
)
def test_what_some_readers_find_after_the_padding_is_another_reading(encoded, shown):
    assert shown in others(encoded, "base64")


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "7bit", ""])
def test_what_is_sound_has_one_reading(encoding):
    encoded = {"base64": b"YWI=\r\n", "quoted-printable": b"ab"}.get(encoding, b"a-_b=\r\nx")
    assert others(encoded, encoding) == ()


@given(st.binary(max_size=200), st.binary(max_size=100))
def test_base64_comes_back(first, second):
    code = base64.encodebytes(first)
    assert decode_base64(code) == first
    assert decode_base64(code.replace(b"\n", b"\r\n")) == first
    if code.rstrip().endswith(b"="):
        assert decode_base64(code + base64.encodebytes(second)) == first + second


QUOTED_PRINTABLE = {
    "plain": (b"a=3Db\r\nc", b"a=b\r\nc"),
    "lower case": (b"=c3=a4", "ä".encode()),
    "a soft break": (b"via=\r\ngra", b"viagra"),
    "of a bare LF": (b"via=\ngra", b"viagra"),
    "of a bare CR": (b"via=\rgra\r\nx", b"viagra\r\nx"),
    "and blanks": (b"via= \t\r\ngra", b"viagra"),
    "and blanks at a bare LF": (b"via= \ngra", b"viagra"),
    "blanks at a line end": (b"a \t\r\nb  \nc ", b"a\r\nb\nc"),
    "blanks that are encoded": (b"a=20\r\nb", b"a \r\nb"),
    "blanks within": (b"a  b", b"a  b"),
    "an end in the middle": (b"a=", b"a"),
    "an end and a blank": (b"a= ", b"a"),
    "an end in a sequence": (b"a=4", b"a=4"),
    "no sequence": (b"=zz=C =", b"=zz=C "),
    "two equals signs": (b"==76iagra", b"=viagra"),
    "three equals signs": (b"===76iagra", b"==viagra"),
    "an equals sign and a soft break": (b"a==\r\nb", b"a=b"),
    "8-bit": (b"\xe4=E4", b"\xe4\xe4"),
    "an underscore": (b"a_b", b"a_b"),
}


@pytest.mark.parametrize(("encoded", "decoded"), QUOTED_PRINTABLE.values(), ids=QUOTED_PRINTABLE)
def test_quoted_printable(encoded, decoded):
    assert decode_quoted_printable(encoded) == decoded


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [(b"a_b=5F", b"a b_"), (b"==41", b"=A"), (b"a ", b"a "), (b"\xe4", b"\xe4"), (b"=", b"")],
)
def test_q_of_an_encoded_word(encoded, decoded):
    assert decode_q(encoded) == decoded


@pytest.mark.parametrize(
    ("encoding", "decoded"),
    [
        ("base64", b"abc"),
        ("x-base64", b"abc"),
        ("quoted-printable", b"YWJj"),
        ("quoted_printable", b"YWJj"),
        ("7bit", b"YW=4Aj"),
        ("undefined", b"YW=4Aj"),
    ],
)
def test_a_transfer_encoding_has_the_names_that_mail_programs_know(encoding, decoded):
    octets = b"YWJj" if decoded == b"abc" else b"YW=4Aj"
    assert decode_transfer(octets, encoding) == decoded


@pytest.mark.parametrize(
    ("encoding", "octets", "shown"),
    [
        ("x-base64", b"dmlhZ=3Jh", b"viagra"),
        ("quoted_printable", b"via= \r\ngra", b"via= \r\ngra"),
    ],
)
def test_its_other_names_have_the_other_readings_too(encoding, octets, shown):
    plain = {"x-base64": "base64", "quoted_printable": "quoted-printable"}[encoding]
    assert others(octets, encoding) == others(octets, plain)
    assert shown in others(octets, encoding)


MIB = 1 << 20
HOSTILE = [
    b"=",
    b"A=",
    b"AAA=",
    b"A=A=A=AA=",
    b"YQ==\n",
    b"YQ",
    b" ",
    b" \n",
    b"\t \r",
    b"=\r",
    b"= ",
    b"==a",
    b"\xff",
    b"YQ==\nYWJj ",
]


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.long
def test_the_time_stays_linear_on_hostile_octets(piece, within_yardsticks):
    octets = piece * (2 * MIB // len(piece))
    with within_yardsticks(500):
        decode_base64(octets)
        others(octets, "base64")
        others(octets, "quoted-printable")
        others(b"YQ==\n" + octets, "base64")
        decode_b(octets)
        decode_quoted_printable(octets)
        decode_quoted_printable(octets + b".")
        decode_q(octets)
