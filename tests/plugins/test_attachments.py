"""Attachments are known by name, type and content, whatever a sender does to hide them."""

import asyncio
import base64
import io
import os
import struct
import time
import zipfile
import zlib
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from gatepost_attachments import Attachments
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import Attachment, Envelope, Message, MimeView, Session, Transaction, Verdict

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
        ("a.exe", PROGRAM, "application/octet-stream", False),
        ("a.bin", PROGRAM, "application/octet-stream", False),
        ("a.docx", archive(("a", b"x")), "application/octet-stream", False),
        ("a.doc", archive(("[Content_Types].xml", b"x")), "application/msword", False),
        ("a.xls", b"<html>", "application/vnd.ms-excel", False),
        ("a.jpg", b"\x89PNG\r\n\x1a\n", "image/jpeg", False),
        ("a.txt", b"#!/bin/sh\n", "text/plain", False),
        ("a.txt", b"MZungu", "text/plain", False),
        ("a.pdf", PDF, "application/octet-stream", False),
        ("a.zip", archive(("a", b"x")), "application/pdf", False),
    ],
)
async def test_only_what_is_dangerous_is_a_mismatch(filename, content, declared, found):
    assert bool(await verdict(Attachments(mismatch=True), mail(filename, content, declared))) == found


def nested(levels: int, innermost: bytes) -> bytes:
    for _ in range(levels):
        innermost = archive(("inner.dat", innermost))
    return innermost


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
        (archive(("in.zip", b"PK\x03\x04 damaged")), None),
        (archive(("a.txt", b"x" * MIB), compression=zipfile.ZIP_LZMA), None),
        (b"PK\x03\x04", None),
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
async def test_an_archive_beyond_the_bounds_is_a_hit(content, reason):
    """RELIABILITY 96. Processor time with much room: unpacked, it would be minutes."""
    message = mail("a.zip", content())
    start = time.process_time()
    hit = await verdict(ALL, message)
    assert time.process_time() - start < 10
    assert hit
    assert hit.reason == f"attachment a.zip: archive exceeds bounds: {reason}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "nothing to look for"),
        ({"inside_archives": True}, "nothing to look for"),
        ({"inside_archives": True, "mismatch": True}, "expected extensions"),
        ({"extensions": [""]}, "expected like exe"),
        ({"extensions": ["a/b"]}, "expected like exe"),
        ({"types": ["zip"]}, "expected like application/zip"),
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


@pytest.mark.skipif(not CORPUS, reason="GATEPOST_CORPUS is not set")
async def test_ordinary_mail_of_the_corpus_is_no_hit():
    hits = {path.name: hit.reason for path in CORPUS if (hit := await verdict(EVERYTHING, path.read_bytes()))}
    assert len(hits) < len(CORPUS) / 50, hits
