"""What Outlook packs into winmail.dat is seen: names, contents and texts."""

import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from gatepost.mime.tnef import is_tnef, read_tnef

sys.path.insert(0, str(Path(__file__).parent))
import writing_tnef as tnef

CONTENT = bytes(range(256)) + bytes(10)
"""It ends with zeros, as many files do."""


def only(*parts: bytes):
    (found,) = read_tnef(tnef.tnef(tnef.attachment(*parts))).files
    return found


NAMES = {
    "title": ([tnef.title(b"evil.exe")], ["evil.exe"]),
    "transport name": ([tnef.transport_name(b"evil.exe")], ["evil.exe"]),
    "long name": (
        [
            tnef.title(b"EVILFI~1.EXE"),
            tnef.attachment_properties(tnef.unicode(tnef.LONG_FILENAME, "evil file.exe")),
        ],
        ["evil file.exe", "EVILFI~1.EXE"],
    ),
    "long name of octets": (
        [tnef.attachment_properties(tnef.string(tnef.LONG_FILENAME, b"evil file.exe"))],
        ["evil file.exe"],
    ),
    "of other characters": (
        [tnef.attachment_properties(tnef.unicode(tnef.LONG_FILENAME, "счёт 請求書.exe"))],
        ["счёт 請求書.exe"],
    ),
    "several": (
        [
            tnef.title(b"a.txt"),
            tnef.attachment_properties(
                tnef.unicode(tnef.DISPLAY_NAME, "d.exe"),
                tnef.unicode(tnef.FILENAME, "b.txt"),
                tnef.unicode(tnef.LONG_FILENAME, "c.txt"),
                tnef.unicode(tnef.LONG_FILENAME, "a.txt"),
            ),
        ],
        ["c.txt", "a.txt", "b.txt", "d.exe"],
    ),
    "behind properties that are passed over": (
        [
            tnef.attachment_properties(
                tnef.integer(0x0E20, 5),
                struct.pack("<HHhh", 0x000B, 0x7FFE, 1, 0),
                struct.pack("<HHq", 0x0040, 0x3007, 0),
                struct.pack("<HHIii", 0x1003, 0x6000, 2, 1, 2),
                struct.pack("<HHII4sI4s", 0x101E, 0x6001, 2, 2, b"a\0\0\0", 2, b"b\0\0\0"),
                tnef.named(tnef.unicode(0, "value"), "a name"),
                struct.pack("<HH16sIIi", 0x0003, 0x8002, bytes(16), 0, 7, 1),
                tnef.binary(0x3702, b"12345"),
                tnef.unicode(tnef.LONG_FILENAME, "evil.exe"),
            )
        ],
        ["evil.exe"],
    ),
    "none": ([], []),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_has_every_name_that_it_is_given_and_its_content(name):
    parts, names = NAMES[name]
    found = only(*parts, tnef.data(CONTENT))
    assert found.names == tuple(names)
    assert found.content == CONTENT


@pytest.mark.parametrize(
    ("number", "octets", "name"),
    [
        (1251, "счёт.exe".encode("cp1251"), "счёт.exe"),
        (932, "請求書.exe".encode("cp932"), "請求書.exe"),
        (65001, "счёт.exe".encode(), "счёт.exe"),
        (0, b"r\xe9sum\xe9.exe", "résumé.exe"),
        (99999, b"r\xe9sum\xe9.exe", "résumé.exe"),
    ],
)
def test_names_and_texts_are_in_the_code_page_of_the_message(number, octets, name):
    file = tnef.attachment(tnef.title(octets), tnef.data(b"x"))
    found = read_tnef(tnef.tnef(tnef.subject(octets), tnef.code_page(number), file))
    assert found.files[0].names[0] == name
    assert found.texts[0].text == name


def test_a_name_that_is_utf_8_whatever_the_code_page_says_is_offered_in_both():
    file = tnef.attachment(tnef.title("é.exe".encode()), tnef.data(b"x"))
    (found,) = read_tnef(tnef.tnef(tnef.code_page(1252), file)).files
    assert found.names == ("Ã©.exe", "é.exe")


def test_the_type_of_a_file_is_told():
    found = only(tnef.attachment_properties(tnef.string(tnef.MIME_TAG, b"Image/PNG")), tnef.data(b"x"))
    assert found.content_type == "image/png"


def test_files_come_in_their_order_with_their_own_names():
    files = [tnef.attachment(tnef.title(b"%d.txt" % n), tnef.data(b"content %d" % n)) for n in range(3)]
    assert [(one.names, one.content) for one in read_tnef(tnef.tnef(*files)).files] == [
        ((f"{n}.txt",), b"content %d" % n) for n in range(3)
    ]


def test_a_file_that_no_rendering_data_begins_is_found_too():
    (found,) = read_tnef(tnef.tnef(tnef.title(b"evil.exe"), tnef.data(CONTENT))).files
    assert (found.names, found.content) == (("evil.exe",), CONTENT)


def test_two_contents_of_one_file_are_two_files():
    first, second = read_tnef(
        tnef.tnef(tnef.attachment(tnef.title(b"a"), tnef.data(b"1"), tnef.data(b"2")))
    ).files
    assert (first.content, second.content) == (b"1", b"2")
    assert first.names == second.names


def test_the_content_of_an_object_is_found():
    value = tnef.instance(tnef.DATA, tnef.STORAGE_INTERFACE, CONTENT)
    assert only(tnef.title(b"a.doc"), tnef.attachment_properties(value)).content == CONTENT


def nested(depth: int) -> bytes:
    parts = [
        tnef.subject(b"subject %d" % depth),
        tnef.attachment(tnef.title(b"%d.exe" % depth), tnef.data(b"x")),
    ]
    if depth:
        inner = tnef.instance(tnef.DATA, tnef.MESSAGE_INTERFACE, nested(depth - 1))
        parts.append(tnef.attachment(tnef.attachment_properties(inner)))
    return tnef.tnef(*parts)


def test_messages_in_the_message_are_read_to_a_depth_and_then_said_not_to_be():
    found = read_tnef(nested(3))
    assert {name for one in found.files for name in one.names} == {"0.exe", "1.exe", "2.exe", "3.exe"}
    assert {text.text for text in found.texts} == {f"subject {n}" for n in range(4)}
    assert not found.fault
    assert "nested" in read_tnef(nested(9)).fault


HTML_IN_RTF = (
    rb"{\rtf1\ansi\ansicpg1252\fromhtml1 {\*\htmltag64 <p>}Gr\'fc\'dfe\htmlrtf \par\htmlrtf0 "
    rb"{\*\htmltag72 </p>}}"
)
BODIES = {
    "attribute": ([tnef.body(b"secret words")], "text/plain", "secret words"),
    "unicode": ([tnef.message_properties(tnef.unicode(tnef.BODY, "сёкрет"))], "text/plain", "сёкрет"),
    "html": (
        [
            tnef.message_properties(
                tnef.integer(tnef.INTERNET_CODE_PAGE, 1251),
                tnef.binary(tnef.HTML, "<p>счёт</p>".encode("cp1251")),
            )
        ],
        "text/html",
        "<p>счёт</p>",
    ),
    "rtf": (
        [
            tnef.message_properties(
                tnef.binary(tnef.RTF, tnef.compressed_rtf(rb"{\rtf1\ansi secret {\b words}}"))
            )
        ],
        "text/plain",
        "secret words",
    ),
    "rtf that is not compressed": (
        [tnef.message_properties(tnef.binary(tnef.RTF, tnef.rtf_as_it_is(rb"{\rtf1 secret words}")))],
        "text/plain",
        "secret words",
    ),
    "html in rtf": (
        [tnef.message_properties(tnef.binary(tnef.RTF, tnef.compressed_rtf(HTML_IN_RTF)))],
        "text/html",
        "<p>Grüße</p>",
    ),
}


@pytest.mark.parametrize("body", BODIES)
def test_the_bodies_of_the_message_are_texts(body):
    attributes, content_type, text = BODIES[body]
    (found,) = read_tnef(tnef.tnef(*attributes)).texts
    assert (found.content_type, found.text.strip()) == (content_type, text)


def test_what_can_be_read_of_a_damaged_one_is_and_the_fault_is_named():
    whole = tnef.tnef(
        tnef.attachment(tnef.title(b"evil.exe"), tnef.data(CONTENT)),
        tnef.attachment(tnef.title(b"b"), tnef.data(CONTENT)),
    )
    found = read_tnef(whole[:-100])
    assert found.files[0].content == CONTENT
    assert found.files[1].content == CONTENT[:-98]
    assert found.fault == "it ends within an attribute"


def test_a_wrong_checksum_hides_nothing():
    whole = bytearray(tnef.tnef(tnef.attachment(tnef.title(b"evil.exe"))))
    whole[-1] ^= 0xFF
    assert read_tnef(bytes(whole)).files[0].names == ("evil.exe",)


@pytest.mark.parametrize("octets", [b"", b"x", b"\x78\x9f\x3e", b"PK\x03\x04"])
def test_what_is_not_tnef_is_told(octets):
    assert not is_tnef(octets)
    found = read_tnef(octets)
    assert (found.files, found.texts) == ((), ())
    assert found.fault


def test_nothing_raises_whatever_is_changed():
    whole = nested(2) + tnef.message_properties(*[part for parts, *_ in BODIES.values() for part in parts])
    chance = random.Random(13)
    for _ in range(2000):
        changed = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            changed[chance.randrange(6, len(changed))] = chance.choice(
                (0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))
            )
        read_tnef(bytes(changed[: chance.choice((len(changed), chance.randrange(len(changed))))]))


HOSTILE = {
    "attributes": b"".join(tnef.attribute(0x1234, b"") for _ in range(40_000)),
    "files": b"".join(tnef.attachment(tnef.data(b"x")) for _ in range(10_000)),
    "values": tnef.message_properties(struct.pack("<HHI", 0x101F, tnef.BODY, 1 << 31) + bytes(500_000)),
    "numbers": tnef.message_properties(struct.pack("<HHI", 0x1003, tnef.BODY, 1 << 31) + bytes(500_000)),
    "properties": tnef.message_properties(struct.pack("<HH", 1, 1) * 200_000),
    "rtf": tnef.message_properties(
        *[tnef.binary(tnef.RTF, tnef.compressed_rtf(b"{\\a" * 2, references=((207, 17),) * 10_000))] * 20
    ),
    "groups": tnef.message_properties(tnef.binary(tnef.RTF, tnef.rtf_as_it_is(b"{" * 400_000))),
    "fields": tnef.message_properties(
        tnef.binary(tnef.RTF, tnef.rtf_as_it_is(rb"{\field{\*\fldinst{ HYPERLINK " * 15_000))
    ),
}


@pytest.mark.parametrize("octets", HOSTILE.values(), ids=HOSTILE)
def test_any_input_is_read_in_bounded_time(octets, within_yardsticks):
    with within_yardsticks(500):
        found = read_tnef(tnef.tnef(octets))
    assert len(found.files) <= 1000


@pytest.mark.real("tnef")
def test_the_tnef_program_finds_the_same_files(tmp_path):
    whole = tnef.tnef(
        tnef.code_page(1252),
        tnef.attachment(tnef.title(b"EVIL~1.EXE"), tnef.data(CONTENT)),
        tnef.attachment(
            tnef.title(b"b.txt"),
            tnef.data(b"hello"),
            tnef.attachment_properties(
                tnef.integer(0x0E20, 5), tnef.unicode(tnef.LONG_FILENAME, "b long.txt")
            ),
        ),
    )
    subprocess.run([shutil.which("tnef"), "-C", tmp_path, "--save-body=body"], input=whole, check=True)
    theirs = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert theirs == {one.names[0]: one.content for one in read_tnef(whole).files}
