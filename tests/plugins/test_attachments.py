"""Attachments are known by name, type and content, whatever a sender does to hide them."""

import asyncio
import base64
import io
import os
import struct
import zipfile
import zlib
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from gatepost import Attachment, Envelope, Message, MimeView, Session, Transaction, Verdict
from gatepost_attachments import Attachments
from hypothesis import given, settings
from hypothesis import strategies as st

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 1 << 20
PROGRAM = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + bytes(100)
PDF = b"%PDF-1.7\n" + b"x" * 100
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)


def transaction_of(content: bytes) -> Transaction:
    session = Session(id="s", client=ip_address("192.0.2.1"), client_port=1, listener="l", connected_at=NOW)
    envelope, message = Envelope(mail_from="a@example.com"), Message(content=content)
    return Transaction(id="t", session=session, envelope=envelope, message=message, received_at=NOW)


async def verdict(attachments: Attachments, content: bytes) -> Verdict | None:
    return await attachments.filter_message(transaction_of(content))


def mail(filename: str = "", content: bytes = b"x", content_type: str = "application/octet-stream") -> bytes:
    name = "".join(f"%{octet:02x}" for octet in filename.encode())
    return (
        b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n--b\r\n"
        + f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: base64\r\n".encode()
        + f"Content-Disposition: attachment; filename*=utf-8''{name}\r\n\r\n".encode()
        + base64.encodebytes(content)
        + b"\r\n--b--\r\n"
    )


def archive(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w", compression) as writer:
        for name, content in members:
            writer.writestr(zipfile.ZipInfo(name), content, compression)
    return octets.getvalue()


def encrypted(octets: bytes) -> bytes:
    """The archive with the flag of encryption on its members."""
    changed = bytearray(octets)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = changed.find(signature)
        while position >= 0:
            changed[position + offset] |= 1
            position = changed.find(signature, position + 4)
    return bytes(changed)


@pytest.mark.parametrize(
    ("filename", "found"),
    [
        ("a.exe", True),
        ("A.EXE", True),
        ("invoice.pdf.exe", True),
        ("a.exe. . ", True),
        ("a.exe\0.pdf", True),
        ("a.pdf\0.exe", True),
        ("a.exe:stream", True),
        ("\u202egpj.exe", True),
        ("a.e\u200bxe", True),
        ("a\uff0eexe", True),
        ("a\u2024exe", True),
        ("ａ．ＥＸＥ", True),  # noqa: RUF001 # full width is the case
        ("a.exe\r\n", True),
        ("../../a.exe", True),
        ("x" * 10_000 + ".exe", True),
        ("a.tar.gz", True),
        ("a.gz", False),
        ("exe", False),
        ("a.exe.pdf", False),
        ("a.exec", False),
        ("", False),
    ],
)
async def test_an_extension_is_found_however_it_is_written(filename, found):
    """RELIABILITY 97."""
    hit = await verdict(Attachments(extensions=["exe", ".tar.GZ"]), mail(filename))
    assert bool(hit) == found
    assert hit is None or hit.reason.isprintable()


async def test_the_reason_names_attachment_and_finding():
    hit = await verdict(Attachments(extensions=["exe"]), mail("invoice.pdf.exe"))
    assert hit
    assert hit.reason == "attachment invoice.pdf.exe: extension exe"
    assert [(match.where, match.text) for match in hit.matches] == [
        ("attachment invoice.pdf.exe", "invoice.pdf.exe")
    ]


async def test_attachments_of_forwarded_and_of_broken_messages_are_found():
    inner = mail("a.exe")
    for content in (
        b"Content-Type: message/rfc822\r\n\r\n" + inner,
        b"  \r\n" + inner,
        inner.replace(b"--b--", b""),
    ):
        assert await verdict(Attachments(extensions=["exe"]), content)


@pytest.mark.parametrize(
    ("types", "filename", "content", "declared", "found"),
    [
        (["application/zip"], "a", b"x", "application/ZIP", True),
        (["video/*"], "a", b"x", "video/mp4", True),
        (["video/*"], "a", b"x", "audio/mp4", False),
        (["application/x-dosexec"], "a.txt", PROGRAM, "text/plain", True),
        (["application/x-dosexec"], "a.txt", b"MZungu is no program", "text/plain", False),
        (["application/x-elf"], "a", b"\x7fELF\2\1\1", "image/png", True),
        (["application/zip"], "a.dat", archive(("a", b"x")), "application/octet-stream", True),
        (
            ["application/zip"],
            "a.docx",
            archive(("[Content_Types].xml", b"x")),
            "application/octet-stream",
            False,
        ),
        (["application/vnd.openxml*"], "a.zip", archive(("a", b"x")), "application/zip", False),
        (["image/*"], "a", b"\x89PNG\r\n\x1a\n", "application/octet-stream", True),
        (["application/rtf"], "a.doc", b"{\\rtf1\\ansi", "application/msword", True),
        (["application/pdf"], "a", b"", "application/octet-stream", False),
    ],
)
async def test_types_as_declared_and_as_the_content_shows(types, filename, content, declared, found):
    assert bool(await verdict(Attachments(types=types), mail(filename, content, declared))) == found


@pytest.mark.parametrize(
    ("filename", "content", "declared", "found"),
    [
        ("a.pdf", PROGRAM, "application/pdf", True),
        ("a.zip", PROGRAM, "application/zip", True),
        ("", PROGRAM, "image/png", True),
        ("a.jpg", archive(("a", b"x")), "image/jpeg", True),
        ("a.png", b"#!/bin/sh\n", "image/png", True),
        ("a.pdf", OLE, "application/pdf", True),
        ("a.txt", PROGRAM, "text/plain", True),
        ("a.svg", PROGRAM, "image/svg+xml", True),
        ("a.exe", PROGRAM, "application/octet-stream", False),
        ("a.bin", PROGRAM, "application/octet-stream", False),
        ("a.docx", archive(("a", b"x")), "application/octet-stream", False),
        ("a.doc", archive(("[Content_Types].xml", b"x")), "application/msword", False),
        ("a.jpg", b"\x89PNG\r\n\x1a\n", "image/jpeg", False),
        ("a.txt", b"#!/bin/sh\n", "text/plain", False),
        ("a.txt", b"MZungu", "text/plain", False),
        ("a.pdf", PDF, "application/octet-stream", False),
    ],
)
async def test_programs_scripts_archives_and_office_files_may_not_be_called_something_else(
    filename, content, declared, found
):
    assert bool(await verdict(Attachments(mismatch=True), mail(filename, content, declared))) == found


HTML = b"<!DOCTYPE html><script>location='https://example.com'</script>"
SCRIPT = b"WScript.CreateObject('WScript.Shell')\r\n"
ZIP = archive(("a", b"x"))
BMP = b"BM" + bytes(12) + b"\x28\0\0\0" + bytes(40)
MP4 = b"\0\0\0\x18ftypisom" + bytes(20)
MOV = b"\0\0\0\x08wide" + bytes(20)
TIFF = b"II*\0" + bytes(20)
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("content", [HTML, SCRIPT, BOM + HTML, b"\0" * 50, b"\xff\xfe<\0h\0t\0m\0l\0"])
@pytest.mark.parametrize(
    "filename",
    [
        *(
            "a.pdf",
            "a.PDF",
            "a.pdf. ",
            "a.png",
            "a.jpg",
            "a.jpeg",
            "a.gif",
            "a.webp",
            "a.bmp",
            "a.tiff",
            "a.heic",
        ),
        *("a.zip", "a.docx", "a.xlsx", "a.pptx", "a.docm", "a.ppt", "a.odt", "a.epub", "a.jar"),
        *("a.gz", "a.tgz", "a.bz2", "a.xz", "a.zst", "a.7z", "a.rar", "a.cab"),
        *("a.mp3", "a.mp4", "a.m4a", "a.mov", "a.wav", "a.ogg", "a.flac", "a.avi", "a.mkv", "a.wmv"),
    ],
)
async def test_what_is_called_a_kind_with_a_fixed_beginning_must_begin_so(filename, content):
    hit = await verdict(Attachments(mismatch=True), mail(filename, content))
    assert hit
    assert "content that is no " in hit.reason
    assert "but named ." in hit.reason


@pytest.mark.parametrize(
    "declared",
    [
        *(
            "application/pdf",
            "application/x-pdf",
            "image/png",
            "image/jpeg",
            "image/jpg",
            "image/pjpeg",
            "image/gif",
        ),
        *("image/webp", "image/bmp", "image/x-ms-bmp", "image/tiff", "audio/mpeg", "audio/mp3", "video/mp4"),
        *(
            "audio/x-wav",
            "video/quicktime",
            "application/zip",
            "application/x-zip-compressed",
            "application/gzip",
        ),
        *("application/x-gzip", "application/x-7z-compressed", "application/vnd.rar", "application/msword-x"),
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.ms-excel.sheet.macroenabled.12",
        "application/vnd.ms-powerpoint",
        "application/vnd.oasis.opendocument.text",
    ],
)
async def test_what_is_declared_as_such_a_kind_must_begin_so(declared):
    hit = await verdict(Attachments(mismatch=True), mail("a.dat", HTML, declared))
    assert bool(hit) == (declared != "application/msword-x")
    assert hit is None or hit.reason == f"attachment a.dat: {hit.matches[0].text}, but declared as {declared}"


@pytest.mark.parametrize(
    ("filename", "content", "declared"),
    [
        ("a.pdf", b"", "application/pdf"),
        ("a.pdf", b"\r\n" * 500 + PDF, "application/pdf"),
        ("a.pdf", BOM + PDF, "application/pdf"),
        ("a.pdf", PDF, "application/x-pdf"),
        ("a.jpg", b"\xff\xd8\xff\xdb" + bytes(9), "image/jpeg"),
        ("a.jpg", b"\xff\xd8\xff\xe1" + bytes(9), "image/pjpeg"),
        ("a.jpg", b"RIFF\0\0\0\0WEBPVP8 ", "image/jpeg"),
        ("a.jpg", b"\0\0\0\x18ftypheic", "image/jpeg"),
        ("a.gif", b"GIF87a" + bytes(9), "image/gif"),
        ("a.bmp", BMP, "image/bmp"),
        ("a.tif", TIFF, "image/tiff"),
        ("a.tif", b"MM\0*" + bytes(9), "image/tiff"),
        ("a.ico", b"\0\0\1\0\1\0", "image/x-icon"),
        ("a.svg", b"<svg/>", "image/svg+xml"),
        ("a.mp3", b"ID3\4" + bytes(9), "audio/mpeg"),
        ("a.mp3", b"\xff\xfb\x90d" + bytes(9), "audio/mpeg"),
        ("a.mp3", b"\xff\xf3\x90d" + bytes(9), "audio/mp3"),
        ("a.mp3", b"\xff\xf2\x90d" + bytes(9), "audio/mp3"),
        ("a.mp3", bytes(500) + b"\xff\xfb\x90d", "audio/mpeg"),
        ("a.aac", b"\xff\xf1\x50\x80", "audio/aac"),
        ("a.mp4", MP4, "video/mp4"),
        ("a.m4a", MP4, "audio/mp4"),
        ("a.mov", MOV, "video/quicktime"),
        ("a.wav", b"RIFF\0\0\0\0WAVE", "audio/x-wav"),
        ("a.amr", b"#!AMR\n", "audio/amr"),
        ("a.zip", ZIP, "application/x-zip-compressed"),
        ("a.zip", b"PK\x05\x06" + bytes(18), "application/zip"),
        ("a.zip", b"PK\x07\x08" + ZIP, "application/zip"),
        ("a.docx", OLE, "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.doc", b"{\\rtf1", "application/msword"),
        ("a.doc", OLE, "application/msword"),
        ("a.doc", BOM + b"<html>", "application/msword"),
        ("a.doc", b"MIME-Version: 1.0\r\n", "application/msword"),
        ("a.xls", b"<html>", "application/vnd.ms-excel"),
        ("a.xls", b"\r\n<?xml version='1.0'?>", "application/vnd.ms-excel"),
        ("a.xls", b"name\tprice\r\n", "application/vnd.ms-excel"),
        ("a.xls", b"\xff\xfen\0a\0", "application/vnd.ms-excel"),
        ("a.xls", b"\x09\x08\x10\0", "application/vnd.ms-excel"),
        ("a.csv", b"name,price\r\n", "application/vnd.ms-excel"),
        ("a.ppt", OLE, "application/vnd.ms-powerpoint"),
        ("a.gz", b"\x1f\x8b\x08" + bytes(9), "application/gzip"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
        ("a.rar", b"Rar!\x1a\x07\x01\0", "application/vnd.rar"),
        ("a.jpg", b"\0\x05\x16\x07\0\2\0\0", "application/applefile"),
        ("a.png", b"begin 644 a.png\n", "application/octet-stream"),
        ("pdf", HTML, "text/html"),
        ("Re: photo.jpg", b"Subject: x\r\n\r\n", "message/rfc822"),
    ],
)
async def test_honest_files_are_no_mismatch(filename, content, declared):
    attachment = Attachment(filenames=(filename,), content_type=declared, read=lambda: content)
    assert await look_at(attachment) is None


async def look_at(*attachments: Attachment, filter_: Attachments | None = None) -> Verdict | None:
    view = MimeView(headers=(), subject="", texts=(), attachments=attachments, warnings=())
    transaction = transaction_of(b"")
    transaction.message._view.append(view)
    return await (filter_ or Attachments(mismatch=True)).filter_message(transaction)


async def test_each_name_of_an_attachment_counts():
    names = ("notes.txt", "a.exe", "a.pdf")
    attachment = Attachment(filenames=names, content_type="text/plain", read=lambda: HTML)
    hit = await look_at(attachment, filter_=Attachments(extensions=["exe"], mismatch=True))
    assert hit
    assert hit.reason == "attachment notes.txt: extension exe and 1 more"
    assert [match.text for match in hit.matches] == ["a.exe", "content that is no pdf"]


@pytest.mark.parametrize("declared", ["message/rfc822", "message/partial", "message/external-body"])
async def test_the_content_of_a_message_part_is_looked_at(declared):
    attachment = Attachment(
        filenames=("a.dat",), content_type=declared, read=lambda: archive(("a.exe", b"x"))
    )
    hit = await look_at(attachment, filter_=Attachments(extensions=["exe"], inside_archives=True))
    assert hit
    assert hit.reason == "attachment a.dat: extension exe inside"


def nested(levels: int, innermost: bytes) -> bytes:
    for _ in range(levels):
        innermost = archive(("inner.dat", innermost))
    return innermost


def encrypted_office() -> bytes:
    return OLE + "EncryptedPackage".encode("utf-16-le") + bytes(100)


def local_only(octets: bytes) -> bytes:
    return octets[: octets.index(b"PK\x01\x02")]


ALL = Attachments(extensions=["exe"], inside_archives=True, encrypted=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (archive(("x/a.EXE", b"x")), "extension exe inside"),
        (archive(("a.exe_.txt", b"x")).replace(b"exe_", b"exe\0"), "extension exe inside"),
        (nested(3, archive(("a.exe", b"x"))), "extension exe inside"),
        (
            archive(("in.zip", archive(("a.exe", b"x"))), compression=zipfile.ZIP_STORED),
            "extension exe inside",
        ),
        (b"\xff\xd8\xff" + archive(("a.exe", b"x")), "extension exe inside"),
        (local_only(archive(("a.exe", b"x"))), "extension exe inside"),
        (encrypted(archive(("a.txt", b"x"))), "encrypted member"),
        (nested(1, encrypted(archive(("a.txt", b"x")))), "encrypted member"),
        (archive(("a.txt", b"a.exe")), None),
        (
            archive(("in.zip", b"PK\x03\x04 damaged")),
            "damaged archive: no usable directory: File is not a zip file",
        ),
        (archive(("a.txt", b"x" * MIB), compression=zipfile.ZIP_LZMA), None),
        (b"PK\x03\x04", "damaged archive: no usable directory: File is not a zip file"),
        (encrypted_office(), "encrypted office file"),
        (b"PK\x05\x06" + bytes(18), None),
        (PDF, None),
    ],
)
async def test_members_of_archives(content, reason):
    hit = await verdict(ALL, mail("a.zip", content))
    assert (hit and hit.reason) == (reason and f"attachment a.zip: {reason}")


def flat_bomb() -> bytes:
    """A member of 1 GiB in 1 MiB."""
    deflate = zlib.compressobj(9, wbits=-15)
    chunk = bytes(MIB)
    return _archive_of(b"".join([*(deflate.compress(chunk) for _ in range(200)), deflate.flush()]), [1 << 30])


def overlapping_bomb() -> bytes:
    """Many members that share the same octets, as in Fifield's "A better zip bomb"."""
    return _archive_of(zlib.compress(bytes(1_000), wbits=-15), [1_000] * 2_000)


def _archive_of(deflated: bytes, sizes: list[int]) -> bytes:
    local = (
        struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, 0, len(deflated), sizes[0], 1, 0)
        + b"a"
        + deflated
    )
    entries = b"".join(
        struct.pack(
            "<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, 0, len(deflated), size, 1, 0, 0, 0, 0, 0, 0
        )
        + b"a"
        for size in sizes
    )
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(sizes), len(sizes), len(entries), len(local), 0)
    return local + entries + end


def nested_bomb() -> bytes:
    """Archives in an archive that unpack to much more than the bound."""
    inner = archive(("a.dat", os.urandom(1_000) * 20_000), compression=zipfile.ZIP_STORED)
    return archive(*((f"{number}.zip", inner) for number in range(8)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (flat_bomb, "too large when unpacked"),
        (overlapping_bomb, "members overlap"),
        (nested_bomb, "archives in archives are too large"),
        (lambda: nested(30, b"x"), "too many archives in archives"),
        (lambda: archive(*((str(number), b"") for number in range(10_001))), "too many members"),
    ],
)
async def test_an_archive_beyond_the_bounds_is_a_hit(content, reason, within_yardsticks):
    """RELIABILITY 96. With much room: unpacked, it would be minutes."""
    message = mail("a.zip", content())
    with within_yardsticks(1000):
        hit = await verdict(ALL, message)
    assert hit
    assert hit.reason == f"attachment a.zip: archive exceeds bounds: {reason}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "nothing to look for"),
        ({"inside_archives": True}, "nothing to look for"),
        ({"inside_archives": True, "mismatch": True}, "expected extensions"),
        ({"extensions": [""]}, "expected an extension like exe"),
        ({"extensions": ["*.js"]}, "expected an extension like exe"),
        ({"extensions": ["a/b"]}, "expected an extension like exe"),
        ({"types": ["zip"]}, "expected a type like application/zip"),
    ],
)
def test_wrong_settings_are_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        Attachments(**arguments)


async def test_names_alone_never_decode_an_attachment():
    attachment = Attachment(
        filenames=("a.txt",), content_type="text/plain", read=lambda: pytest.fail("it was read")
    )
    view = MimeView(headers=(), subject="", texts=(), attachments=(attachment,), warnings=())
    transaction = transaction_of(b"")
    transaction.message._view.append(view)
    assert await Attachments(extensions=["exe"], types=[]).filter_message(transaction) is None


EVERYTHING = Attachments(
    extensions=["exe"], types=["application/x-dosexec"], mismatch=True, inside_archives=True, encrypted=True
)


@given(
    st.binary(max_size=100)
    | st.tuples(st.integers(0, 200), st.binary(max_size=20)).map(
        lambda change: (
            (whole := nested(2, b"x" * 50))[: change[0]] + change[1] + whole[change[0] + len(change[1]) :]
        )
    ),
    st.text(max_size=20),
)
@settings(max_examples=300)
def test_no_attachment_raises(content, filename):
    safe = filename.encode("utf-8", "replace").decode()
    asyncio.run(verdict(EVERYTHING, mail(safe, content)))


CORPUS = sorted(Path(os.environ["GATEPOST_CORPUS"]).rglob("*.*")) if "GATEPOST_CORPUS" in os.environ else []


MADE_UP = frozenset(
    [
        "attachment_emails__attachment_content_location.eml",
        "attachment_emails__attachment_only_email.eml",
        "attachment_emails__attachment_with_base64_encoded_name.eml",
        "attachment_emails__attachment_with_encoded_name.eml",
        "error_emails__missing_content_disposition.eml",
        "malformed__017.eml",
        "mime_emails__email_with_similar_boundaries.eml",
        "mime_emails__raw_email12.eml",
        "mime_emails__raw_email7.eml",
        "mime_emails__raw_email_with_binary_encoded.eml",
        "plain_emails__raw_email8.eml",
        "rfc__000.eml",
        "rfc__002.eml",
        "rfc__007.eml",
        "russian-headers.msg",
        "russian.msg",
        "thirdparty__013.eml",
    ]
)
"""Their attachments hold "blah blah blah", for example, and are called .pdf."""


@pytest.mark.skipif(not CORPUS, reason="GATEPOST_CORPUS is not set")
async def test_ordinary_mail_of_the_corpus_is_no_hit():
    hits = {path.name: hit.reason for path in CORPUS if (hit := await verdict(EVERYTHING, path.read_bytes()))}
    assert hits.keys() - MADE_UP == set(), hits
