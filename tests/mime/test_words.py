"""The value of a header field is what mail programs show of it."""

from base64 import b64encode
from urllib.parse import quote_from_bytes

import pytest
from gatepost.mime import read_message
from gatepost.mime.words import decode_value, decode_words
from hypothesis import given
from hypothesis import strategies as st

ROWS = {
    "Q": (b"=?utf-8?q?a_b=C3=A4?=", "a bä"),
    "B": (b"=?UTF-8?B?w6Q=?=", "ä"),
    "a latin-1 octet within": (b"=?iso-8859-1?q?caf\xe9_=E9?=", "café é"),
    "UTF-8 octets within": ("=?utf-8?q?café?=".encode(), "café"),
    "an octet that is not of the charset": (b"=?utf-8?q?a=E4?=", "a\ufffd"),
    "a character in two": (b"=?UTF-8?Q?=C3?=\t=?utf-8?q?=A4?=", "ä"),
    "a character in two, once B": (b"=?UTF-8?B?ww==?= =?utf-8?q?=A4?=", "ä"),
    "a character in two, labels of one charset": (b"=?UTF8?Q?=C3?= =?utf-8*de?q?=A4?=", "ä"),
    "a group of base64 in two": (b"=?utf-8?b?dmlhZ3?= =?utf-8?b?Jh?=", "viagra"),
    "a sequence in two": (b"=?utf-8?q?via=?=\r\n =?utf-8?q?67ra?=", "viagra"),
    "a sequence in two, after a digit": (b"=?utf-8?q?via=6?= =?utf-8?Q?7ra?=", "viagra"),
    "a sequence in three": (b"=?utf-8?q?via=?= =?utf-8?q?6?= =?utf-8?q?7ra?=", "viagra"),
    "a character and a sequence in two": (b"=?utf-8?q?=C3=?= =?utf-8?q?A4?=", "ä"),
    "a sequence in two, and B": (
        b"=?utf-8?b?dmk=?= =?utf-8?q?=?= =?utf-8?q?61g?= =?utf-8?b?cmE=?=",
        "viagra",
    ),
    "an equals sign at the end": (b"=?utf-8?q?via=?= =?utf-8?q?gra?=", "viagra"),
    "and hexadecimal digits that are no character": (b"=?utf-8?q?a=?= =?utf-8?q?e9?=", "ae9"),
    "no padding in two": (b"=?utf-8?b?dmlh?= =?utf-8?b?Z3I?= =?utf-8?b?YQ?=", "viagra"),
    "two charsets": (b"=?utf-8?q?=C3=A4?= =?iso-8859-1?q?=E4?=", "ää"),
    "no blank between": (b"=?utf-8?q?via?==?utf-8?q?gra?=", "viagra"),
    "a fold between": (b"=?utf-8?q?via?=\r\n =?utf-8?q?gra?=", "viagra"),
    "text between": (b"=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
    "text right before and after": (b"via=?utf-8?q?gr?=a", "viagra"),
    "in a quoted string": (b'"=?utf-8?q?=C3=A4?=" <a@example.com>', '"ä" <a@example.com>'),
    "in parentheses": (b"(=?utf-8?q?=C3=A4?=)", "(ä)"),
    "blanks within": (b"=?utf-8?q?a b  c?=", "a b  c"),
    "blanks within B": (b"=?utf-8?b?dml hZ3Jh?=", "viagra"),
    "folded within": (b"=?utf-8?q?a\r\n b?=", "a b"),
    "folded within B": (b"=?utf-8?b?dmlh\r\n\tZ3Jh?=", "viagra"),
    "question marks within": (b"=?utf-8?q?what?_really??=", "what? really?"),
    "equals signs within": (b"=?utf-8?q?a==62?=", "a=b"),
    "no end": (b"=?utf-8?q?via=67ra", "viagra"),
    "half of an end": (b"=?utf-8?b?dmlhZ3Jh?", "viagra"),
    "no end, and another one": (b"=?utf-8?q?via =?utf-8?q?gra?=", "via gra"),
    "no padding": (b"=?utf-8?b?w6Q?=", "ä"),
    "too much padding": (b"=?utf-8?b?w6Q====?=", "ä"),
    "padding where none is due": (b"=?utf-8?b?dmlhZ=3Jh?=", "viagra"),
    "and more of it": (b"=?utf-8?b?d=mlhZ=3JhIQ==?=", "viagra!"),
    "padding in the middle": (b"=?utf-8?b?dg==aWE=Z3Jh?=", "viagra"),
    "padding, and no whole group": (b"=?utf-8?b?dmlhZ3JhIQ==YWI?=", "viagra!"),
    "a digit too many": (b"=?utf-8?b?YWJjZ?=", "abc"),
    "base64 and rubbish after it": (b"=?utf-8?b?YWI=!?=", "ab"),
    "a language": (b"=?utf-8*en-GB?q?=C3=A4?=", "ä"),
    "an unknown charset": (b"=?undefined?q?=C3=A4?=", "ä"),
    "an unknown charset and latin-1": (b"=?undefined?q?=E4?=", "ä"),
    "a blank in the label": (b"=?utf-8 ?q?=C3=A4?=", "ä"),
    "an unknown encoding": (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
    "UTF-7": (b"=?utf-7?q?+BDY-?=", "ж"),
    "UTF-16": (b"=?utf-16be?b?BDY=?=", "ж"),
    "ASCII as UTF-16": (b"=?utf-16be?q?viagra?=", "viagra"),
    "ASCII as UTF-16LE in B": (b"=?utf-16le?b?dmlhZ3Jh?=", "viagra"),
    "ASCII as UTF-32": (b"=?utf-32?q?viagra!!?=", "viagra!!"),
    "ASCII as EBCDIC": (b"=?cp037?q?viagra?=", "viagra"),
    "ASCII as EBCDIC, another label": (b"=?ibm500?q?via_gra?=", "via gra"),
    "latin-1 as EBCDIC": (b"=?cp1140?q?viagra_=E9?=", "viagra é"),
    "EBCDIC": (b"=?cp037?q?=A5=89=81=87=99=81?=", "viagra"),
    "EBCDIC, blanks and a slash": (b"=?cp500?q?=81=40a=82?=", "a /b"),
    "Russian in UTF-16": (b"=?utf-16be?b?BDYERAQ6?=", "жфк"),
    "a control character, as UTF-16": (b"=?utf-16be?q?a=01?=", "愁"),
    "ISO-2022-KR without an escape": (b"=?iso-2022-kr?q?=0Eviagra=0F?=", "viagra"),
    "ISO-2022-JP": (b"=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
    "ISO-2022-JP, cut between": (b"=?iso-2022-jp?b?GyRCRnw=?= =?iso-2022-jp?b?S1wbKEI=?=", "日本"),
    "ISO-2022-JP as it is": (b"\x1b$BF|K\\\x1b(B a", "日本 a"),
    "UTF-8": ("Grüße".encode(), "Grüße"),
    "latin-1": (b"caf\xe9", "café"),
    "windows-1252": (b"\x80 5", "€ 5"),
    "UTF-8 and an octet": ("Grüße Jürgen".encode() + b" \xff", "Grüße Jürgen \ufffd"),
    "UTF-8, cut": ("Grüße".encode()[:-2], "Grü\ufffd"),
    "a word and UTF-8": ("=?utf-8?q?=C3=A4?= ß".encode(), "ä ß"),
    "a word and latin-1": (b"=?utf-8?q?=C3=A4?= \xe4", "ä ä"),
    "folds": (b" a\r\n b\n\tc \r\n", "a b\tc"),
    "empty": (b"=?utf-8?q??=", ""),
    "empty, and text": (b"a =?utf-8?q??= b", "a  b"),
    "nothing": (b"=?", "=?"),
    # what a sender encodes never ends the line
    "CRLF in Q": (b"=?utf-8?q?a=0D=0ABcc:_b?=", "a Bcc: b"),
    "CRLF in B": (b"=?utf-8?b?YQ0KQmNjOiBi?=", "a Bcc: b"),
    "CR and LF alone": (b"=?utf-8?q?a=0Db=0Ac?=", "a b c"),
    "CRLF in two words": (b"=?utf-8?q?a=0D?= =?utf-8?q?=0Ab?=", "a b"),
    "LF in UTF-16": (b"=?utf-16be?b?AGEACgBi?=", "a b"),
    "LF in UTF-7": (b"=?utf-7?q?a+AAo-b?=", "a b"),
    "a bare CR": (b"a\rb", "a b"),
    "a bare CR and a word": (b"a\rb =?utf-8?q?c?=", "a b c"),
}


@pytest.mark.parametrize(("value", "shown"), ROWS.values(), ids=ROWS)
def test_a_value_is_what_mail_programs_show(value, shown):
    assert decode_value(value) == shown
    assert read_message(b"Subject: " + value + b"\r\n\r\n").subject == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(value, shown) for value, shown in ROWS.values() if value.isascii() and not {10, 27} & set(value)],
)
def test_words_in_text_that_is_kept_are_decoded_alike(value, shown):
    assert decode_words(value.decode()) == shown


@given(
    st.binary(max_size=60) | st.binary(max_size=40).map(lambda code: b"=?utf-16?b?" + b64encode(code) + b"?=")
)
def test_no_value_and_no_file_name_has_a_line_end(octets):
    content = (
        b"Subject: " + octets + b'\r\nContent-Disposition: attachment; filename="' + octets + b'"; '
        b"filename*=utf-8''" + quote_from_bytes(octets).encode() + b"\r\n\r\nbegin 644 a\rb\r\n`\r\nend\r\n"
    )
    view = read_message(content)
    names = [name for attachment in view.attachments for name in attachment.filenames]
    headers = [text for header in view.headers for text in (header.name, header.value)]
    texts = (*names, *headers, decode_words(octets.decode("latin-1")))
    assert not any(character in text for character in "\r\n" for text in texts)


MIB = 1 << 20
HOSTILE = [
    b"=?", b"=?utf-8?q?a ", b"=?a?q?", b"=?a?q?x?=", b"=?a?q?x?= ", b"=?utf-8?b?YQ==?=\xff", b"?", b"=",
    b"?=", b"=?=", b"=?a?b?YQ?= ",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.long
def test_the_time_stays_linear_on_hostile_values(piece, within_yardsticks):
    with within_yardsticks(500):
        decode_value(piece * (MIB // len(piece)))
        decode_value(b"=?utf-8?q?" + piece * (MIB // len(piece)))
