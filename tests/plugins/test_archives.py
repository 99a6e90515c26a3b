"""What is in archives of every kind, and what cannot be looked into."""

import base64
import bz2
import gzip
import io
import json
import logging
import lzma
import os
import signal
import struct
import subprocess
import tarfile
import time
import zipfile
import zlib

import gatepost_archives
import pytest
from gatepost.testing import make_transaction
from gatepost_archives import Archives, Why, missing_libraries
from gatepost_attachments import Attachments
from hypothesis import given, settings
from hypothesis import strategies as st

if missing_libraries():
    pytest.skip(missing_libraries(), allow_module_level=True)

import inflate64
import libarchive
import pycdlib

try:
    from compression import zstd
except ImportError:
    from backports import zstd

EXE = "evil.exe"
MANY_ZEROS = gzip.compress(bytes(32 << 20), 1, mtime=0)


@pytest.fixture(autouse=True)
def patient_children(monkeypatch):
    """A busy machine is slower."""
    monkeypatch.setattr(gatepost_archives, "_CHILD_SECONDS", 120.0)


def found_in(content, *names):
    return Archives(seconds=60).look_into(content, names)  # as much on any machine


def names_in(content, *names):
    return {found.name for found in found_in(content, *names) if not found.why}


def problems_in(content, *names):
    return [(found.why, found.detail) for found in found_in(content, *names) if found.why]


# Samples -------------------------------------------------------------------------------------------------


def zipped(name=EXE, content=b"x", method=zipfile.ZIP_DEFLATED):
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w") as writer:
        writer.writestr(zipfile.ZipInfo(name), content, method)
    return octets.getvalue()


def zipped_as(method, packed, name=EXE, size=1):
    """A zip file with one member, packed by the caller; the directory has the same fields."""
    raw = name.encode()
    fields = struct.pack("<5H3L2H", 63, 0, method, 0, 0, 0, len(packed), size, len(raw), 0)
    local = b"PK\x03\x04" + fields + raw + packed
    central = b"PK\x01\x02" + struct.pack("<H", 63) + fields + bytes(10) + bytes(4) + raw
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


def deflated64(content):
    deflater = inflate64.Deflater()
    return deflater.deflate(content) + deflater.flush()


def made_by_libarchive(kind, name=EXE, content=b"x"):
    pieces = []
    with libarchive.custom_writer(lambda piece: pieces.append(bytes(piece)) or len(piece), kind) as archive:
        archive.add_file_from_memory(name, len(content), content)
    return b"".join(pieces)


def sevenzipped(name=EXE, content=b"x"):
    return made_by_libarchive("7zip", name, content)


def filtered(name, content=b"x" * 100):
    pieces = []
    writer = lambda piece: pieces.append(bytes(piece)) or len(piece)  # noqa: E731
    with libarchive.custom_writer(writer, "raw", name) as archive:
        archive.add_file_from_memory("x", len(content), content)
    return b"".join(pieces)


def tarred(name=EXE, content=b"x", form=tarfile.PAX_FORMAT):
    octets = io.BytesIO()
    with tarfile.open(fileobj=octets, mode="w", format=form) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return octets.getvalue()


def old_tarred(name=EXE, content=b"x"):
    """As before POSIX: no signature."""
    header = bytearray(tarred(name, content, tarfile.USTAR_FORMAT)[:512])
    header[257:512] = bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content.ljust(512, b"\0") + bytes(1024)


def rar4(name=EXE, content=b"x", *, flags=0, main_flags=0):
    """RAR 1.5 to 4: a marker, a main header, a stored file."""

    def block(kind, block_flags, fields):
        body = struct.pack("<BHH", kind, block_flags, 7 + len(fields)) + fields
        return struct.pack("<H", zlib.crc32(body) & 0xFFFF) + body

    raw = name.encode()
    size, crc = len(content), zlib.crc32(content)
    fields = struct.pack("<LLBLLBBHL", size, size, 2, crc, 0, 20, 0x30, len(raw), 0x20) + raw
    main = block(0x73, main_flags, bytes(6))
    return b"Rar!\x1a\x07\0" + main + block(0x74, 0x8000 | flags, fields) + content + block(0x7B, 0x4000, b"")


def number5(value):
    """A number of RAR 5: seven bits an octet, the lowest first."""
    octets = b""
    while value > 0x7F:
        octets += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return octets + bytes((value,))


def block5(kind, flags, fields, data=b"", extra=b""):
    body = number5(kind) + number5(flags | bool(extra) | 2 * bool(data))
    body += number5(len(extra)) if extra else b""
    body += number5(len(data)) if data else b""
    body += fields + extra
    body = number5(len(body)) + body
    return struct.pack("<L", zlib.crc32(body)) + body + data


def rar5(name=EXE, content=b"x", extra=b""):
    raw = name.encode()
    size = number5(len(content))
    fields = number5(4) + size + number5(0o644) + struct.pack("<L", zlib.crc32(content)) + b"\0\1"
    file = block5(2, 0, fields + number5(len(raw)) + raw, content, extra)
    return b"Rar!\x1a\x07\x01\0" + block5(1, 0, b"\0") + file + block5(5, 0, b"\0")


def encrypted_rar5():
    record = b"\x01\0\0\x0f" + bytes(32)
    return rar5(extra=number5(len(record)) + record)


def rar5_with_encrypted_names():
    return b"Rar!\x1a\x07\x01\0" + block5(4, 0, b"\0\0\x0f" + bytes(16)) + os.urandom(64)


def cabinet(name=EXE, content=b"x"):
    raw = name.encode() + b"\0"
    data = struct.pack("<LHH", 0, len(content), len(content)) + content
    files = 36 + 8
    folder = struct.pack("<LHH", files + 16 + len(raw), 1, 0)
    file = struct.pack("<LLHHHH", len(content), 0, 0, 0, 0, 0x20) + raw
    total = files + len(file) + len(data)
    head = struct.pack("<4sLLLLLBBHHHHH", b"MSCF", 0, total, 0, files, 0, 3, 1, 1, 1, 0, 0, 0)
    return head + folder + file + data


def lha(name=EXE, content=b"x"):
    raw = name.encode()
    fields = b"-lh0-" + struct.pack("<LLLBBB", len(content), len(content), 0, 0x20, 0, len(raw)) + raw
    fields += struct.pack("<H", crc16(content))
    return bytes((len(fields), sum(fields) & 0xFF)) + fields + content + b"\0"


def crc16(content):
    crc = 0
    for octet in content:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def image(name=EXE, content=b"x", space="joliet_path"):
    """A disk image with the name in one of its directories only; in the others it is README."""
    iso = pycdlib.PyCdlib()
    iso.new(joliet=3 if space == "joliet_path" else None, udf="2.60" if space == "udf_path" else None)
    file = io.BytesIO(content)
    if space == "iso_path":
        iso.add_fp(file, len(content), iso_path=f"/{name.upper()};1")
    else:
        iso.add_fp(file, len(content), iso_path="/README.;1", **{space: f"/{name}"})
    octets = io.BytesIO()
    iso.write_fp(octets)
    iso.close()
    return octets.getvalue()


def rock_ridge(name=EXE, content=b"x"):
    iso = pycdlib.PyCdlib()
    iso.new(rock_ridge="1.09")
    iso.add_fp(io.BytesIO(content), len(content), iso_path="/README.;1", rr_name=name)
    octets = io.BytesIO()
    iso.write_fp(octets)
    iso.close()
    return octets.getvalue()


def mail(name=EXE, content=b"x"):
    encoded = base64.encodebytes(content)
    return (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Disposition: attachment; filename="
        + name.encode()
        + b"\r\n\r\n"
        + encoded
        + b"\r\n--b--\r\n"
    )


CONTAINERS = {
    "zip": zipped,
    "zip, stored": lambda name=EXE, content=b"x": zipped(name, content, zipfile.ZIP_STORED),
    "zip, bzip2": lambda name=EXE, content=b"x": zipped(name, content, zipfile.ZIP_BZIP2),
    "zip, LZMA": lambda name=EXE, content=b"x": zipped(name, content, zipfile.ZIP_LZMA),
    "zip, xz": lambda name=EXE, content=b"x": zipped_as(95, lzma.compress(content), name, len(content)),
    "zip, Deflate64": lambda name=EXE, content=b"x": zipped_as(9, deflated64(content), name, len(content)),
    "zip, Zstandard": lambda name=EXE, content=b"x": zipped_as(
        93, zstd.compress(content), name, len(content)
    ),
    "zip, something before it": lambda name=EXE, content=b"x": b"\xff\xd8\xff" + zipped(name, content),
    "zip, no directory": lambda name=EXE, content=b"x": zipped(name, content).partition(b"PK\x01\x02")[0],
    "7z": sevenzipped,
    "7z, something before it": lambda name=EXE, content=b"x": b"MZ" * 500 + sevenzipped(name, content),
    "rar 4": rar4,
    "rar 4, something before it": lambda name=EXE, content=b"x": b"MZ" * 500 + rar4(name, content),
    "rar 5": rar5,
    "rar 5, something before it": lambda name=EXE, content=b"x": b"MZ" * 500 + rar5(name, content),
    "cab": cabinet,
    "lha": lha,
    "iso": lambda name=EXE, content=b"x": image(name.replace("-", "_"), content, "iso_path"),
    "iso, Joliet": image,
    "iso, Rock Ridge": rock_ridge,
    "iso, UDF": lambda name=EXE, content=b"x": image(name, content, "udf_path"),
    "tar": tarred,
    "tar, GNU": lambda name=EXE, content=b"x": tarred(name, content, tarfile.GNU_FORMAT),
    "tar, before POSIX": old_tarred,
    "tar, behind another": lambda name=EXE, content=b"x": tarred("a.txt") + tarred(name, content),
    "tar.gz": lambda name=EXE, content=b"x": gzip.compress(tarred(name, content)),
    "tar.bz2": lambda name=EXE, content=b"x": bz2.compress(tarred(name, content)),
    "tar.xz": lambda name=EXE, content=b"x": lzma.compress(tarred(name, content)),
    "tar.zst": lambda name=EXE, content=b"x": zstd.compress(tarred(name, content)),
    "cpio": lambda name=EXE, content=b"x": made_by_libarchive("cpio", name, content),
    "ar": lambda name=EXE, content=b"x": made_by_libarchive("ar_svr4", name, content),
    "xar": lambda name=EXE, content=b"x": made_by_libarchive("xar", name, content),
}


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.long
def test_a_name_in_an_archive_is_found_by_content_under_any_name(kind):
    found = {name.lower() for name in names_in(CONTAINERS[kind](), "photo.jpg")}
    assert any(name.endswith(EXE) for name in found), found


@pytest.mark.parametrize("outer", ["7z", "tar.gz", "mail"])
@pytest.mark.parametrize("inner", CONTAINERS)
@pytest.mark.long
def test_archives_are_looked_into_in_any_mix(inner, outer):
    made = mail if outer == "mail" else CONTAINERS[outer]
    content = made("inner.dat", CONTAINERS[inner]())
    if outer == "mail":
        content = zipped("a.eml", content)
    assert any(name.lower().endswith(EXE) for name in names_in(content, "photo.jpg"))


@pytest.mark.parametrize("outer", [kind for kind in CONTAINERS if kind != "ar"])
def test_every_kind_is_unpacked(outer):
    content = CONTAINERS[outer]("inner.dat", zipped())
    assert EXE in names_in(content, "a")


def test_a_tar_file_in_a_compressed_one_may_be_large():
    content = gzip.compress(tarred("a.txt")) + MANY_ZEROS * 3 + gzip.compress(tarred("inner.dat", zipped()))
    assert names_in(content, "a.tar.gz") == {"a.tar", "a.txt", "inner.dat", EXE}
    assert problems_in(content, "a.tar.gz") == []


@pytest.mark.parametrize(
    ("content", "names", "inside"),
    [
        (lzma.compress(b"x"), ("evil.exe.xz",), {"evil.exe"}),
        (lzma.compress(b"x", lzma.FORMAT_ALONE), ("evil.exe.lzma",), {"evil.exe"}),
        (bz2.compress(b"x"), ("evil.exe.bz2",), {"evil.exe"}),
        (zstd.compress(b"x"), ("evil.exe.zst",), {"evil.exe"}),
        (b"\x50\x2a\x4d\x18\4\0\0\0abcd" + zstd.compress(b"x"), ("evil.exe.zst",), {"evil.exe"}),
        (filtered("compress"), ("evil.exe.Z",), {"evil.exe"}),
        (filtered("lz4"), ("evil.exe.lz4",), {"evil.exe"}),
        (filtered("lzip"), ("evil.exe.lz",), {"evil.exe"}),
        (filtered("lz4", zipped()), ("a.lz4",), {"a", EXE}),
        (gzip.compress(b"x", mtime=0), ("evil.exe.gz",), {"evil.exe"}),
        (gzip.compress(b"x", mtime=0), ("evil.exe",), {"evil"}),
        (gzip.compress(b"x", mtime=0), ("a.gz", "evil.exe.gz"), {"a", "evil.exe"}),
        (gzip.compress(b"x", mtime=0), (), set()),
        (bz2.compress(tarred("a")), ("b.tbz2",), {"b.tar", "a"}),
        (zipped("evil.exe.xz", lzma.compress(b"x")), ("a.zip",), {"evil.exe.xz", "evil.exe"}),
        (sevenzipped("evil.exe.xz", lzma.compress(b"x")), ("a.7z",), {"evil.exe.xz", "evil.exe"}),
        (mail("evil.exe.xz", lzma.compress(b"x")), ("a.eml",), set()),  # the reader of mail has opened it
    ],
)
def test_a_compressed_file_tells_the_name_of_what_is_in_it(content, names, inside):
    assert names_in(content, *names) == inside


def gzip_with(flags, fields):
    packed = gzip.compress(b"x", mtime=0)
    return packed[:3] + bytes((flags,)) + packed[4:10] + fields + packed[10:]


@pytest.mark.parametrize(
    "content",
    [
        gzip_with(8, b"evil.exe\0"),
        gzip_with(4 | 8, b"\x03\0abcevil.exe\0"),
        gzip_with(8 | 16, b"evil.exe\0comment\0"),
    ],
)
def test_the_name_that_gzip_keeps_counts(content):
    assert names_in(content, "a.gz") == {"a", "evil.exe"}


def unicode_path(name, other):
    raw = other.encode()
    field = struct.pack("<HHBL", 0x7075, 5 + len(raw), 1, zlib.crc32(name.encode())) + raw
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w") as writer:
        info = zipfile.ZipInfo(name)
        info.extra = field
        writer.writestr(info, b"x")
    return octets.getvalue()


def two_names(local, central):
    return (
        zipped(local)
        .replace(local.encode(), central.encode(), 2)
        .replace(central.encode(), local.encode(), 1)
    )


@pytest.mark.parametrize(
    "content",
    [
        unicode_path("a.txt", EXE),
        two_names("evil.exe", "evil.txt"),
        two_names("evil.txt", "evil.exe"),
        zipped() + zipped("a.txt"),
        zipped("a.txt") + zipped(),
        zipped().partition(b"PK\x01\x02")[0] + zipped("a.txt"),
        zipped("a.txt").replace(b"a.txt", b"a\0.js").replace(b"a\0.js", b"a\0exe"),
        zipped("a．exe").replace(b"\0\x08", b"\0\0"),  # noqa: RUF001 # UTF-8 without the flag
    ],
)
def test_every_name_of_a_member_of_a_zip_counts(content):
    found = names_in(content, "a.zip")
    assert any(name.replace("\0", ".").replace("．", ".").endswith(".exe") for name in found), found  # noqa: RUF001


def with_two_methods(directory, header):
    """A member with another method in the directory than in the header before it."""
    packed = zipped_as(header, zipped(method=zipfile.ZIP_STORED), "inner.dat")
    central = packed.index(b"PK\x01\x02", packed.rindex(b"PK\x05\x06") - 60)
    return packed[: central + 10] + directory.to_bytes(2, "little") + packed[central + 12 :]


@pytest.mark.parametrize(("directory", "header"), [(8, 0), (0, 8), (0, 0)])
def test_a_member_is_unpacked_as_the_directory_says_and_as_the_header_before_it_does(directory, header):
    assert EXE in names_in(with_two_methods(directory, header), "a.zip")


def test_what_is_in_a_member_that_the_directory_leaves_out_counts():
    hidden = zipped("inner.dat", zipped()).partition(b"PK\x01\x02")[0]
    assert EXE in names_in(hidden + zipped("a.txt"), "a.zip")


# What readers find that go another way -------------------------------------------------------------------


def zip_local(name, content=b"x"):
    raw = name.encode()
    fields = (20, 0, 0, 0, 0, zlib.crc32(content), len(content), len(content), len(raw), 0)
    return b"PK\x03\x04" + struct.pack("<5H3L2H", *fields) + raw + content


def zip_central(name, offset):
    raw = name.encode()
    fields = (20, 20, 0, 0, 0, 0, zlib.crc32(b"x"), 1, 1, len(raw), 0, 0, 0, 0, 0, offset)
    return b"PK\x01\x02" + struct.pack("<6H3L5H2L", *fields) + raw


def zip_end(count, size, offset, comment=b""):
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, offset, len(comment)) + comment


LOCAL, CENTRAL = zip_local(EXE), zip_central(EXE, 0)
GOOD_LOCAL, GOOD_CENTRAL = zip_local("good.txt"), zip_central("good.txt", 0)
ZIP = LOCAL + CENTRAL + zip_end(1, len(CENTRAL), len(LOCAL))
PREFIXES = {"PDF": b"%PDF-1.4\n" + b"x" * 200, "JPEG": b"\xff\xd8\xff\xe0" + b"J" * 500}
PREFIXES |= {
    "MZ": b"MZ" + bytes(300),
    "text": b"X" * 100,
    "PK00": b"PK00",
    "OLE": b"\xd0\xcf\x11\xe0" + bytes(600),
}
HIDDEN_ZIPS = {
    f"{before}, zip, {after} bytes": prefix + ZIP + b"Y" * after
    for before, prefix in PREFIXES.items()
    for after in (100, 70_000)
} | {
    "two directories, the second used": GOOD_LOCAL
    + CENTRAL
    + GOOD_CENTRAL
    + zip_end(1, len(GOOD_CENTRAL), 39),
    "a directory of no bytes": GOOD_LOCAL + CENTRAL + zip_end(1, 0, 39),
    "an end in the comment of an end": GOOD_LOCAL
    + CENTRAL
    + GOOD_CENTRAL
    + zip_end(1, len(CENTRAL), 39, zip_end(1, len(GOOD_CENTRAL), 39)),
    "a size that is one too large": b"PK00" + LOCAL + CENTRAL + zip_end(1, len(CENTRAL) + 1, 43),
    "a size that is too small": b"X" * 100 + LOCAL + CENTRAL + zip_end(1, 5, 139),
    "an offset that is one too large": b"PK00" + LOCAL + CENTRAL + zip_end(1, len(CENTRAL), 44),
    "an offset that is one too small": LOCAL + GOOD_CENTRAL + zip_end(1, len(GOOD_CENTRAL), len(LOCAL) - 1),
    "an end behind the end": b"X" * 100 + LOCAL + CENTRAL + zip_end(1, len(CENTRAL), 139) + b"PK\x05\x06",
    "no end": b"X" * 100 + LOCAL + CENTRAL,
    "no directory": b"X" * 100 + zip_local(EXE, b"x" * 50),
    "no header before the member": b"X" * 100 + CENTRAL,
    "name after control characters": b"X" * 100 + zip_local("\1\2evil.exe"),
}


@pytest.mark.parametrize("kind", HIDDEN_ZIPS)
def test_a_name_in_a_zip_counts_wherever_it_is(kind):
    assert any(name.endswith(EXE) for name in names_in(HIDDEN_ZIPS[kind], "a.bin"))


@pytest.mark.parametrize("kind", ["no end", "no directory", "a size that is too small"])
def test_a_zip_whose_directory_cannot_be_used_is_damaged(kind):
    assert [why for why, _ in problems_in(HIDDEN_ZIPS[kind], "a.bin")] == [Why.DAMAGED]


def tar_header(name, size, kind=b"0", *, signature=True, signed=False, form=b"%06o\0 "):
    header = bytearray(512)
    header[: len(name)] = name
    header[100:136] = b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size
    header[136:157] = b"00000000000\0" + b" " * 8 + kind
    if signature:
        header[257:265] = b"ustar\x0000"
    total = sum(header)
    header[148:156] = form % (total - 256 * sum(octet > 127 for octet in header) if signed else total)
    return bytes(header)


def tar_member(name, content=b"x", kind=b"0", **fields):
    return tar_header(name, len(content), kind, **fields) + content + bytes(-len(content) % 512)


def pax_member(record, kind=b"x"):
    return tar_member(b"PaxHeaders/x", b"%d %s\n" % (len(record) + 4, record), kind)


def long_name(name):
    return tar_member(b"././@LongLink", name + b"\0", b"L")


EVIL_MEMBER, GOOD_MEMBER, TAR_END = tar_member(b"evil.exe"), tar_member(b"good.txt"), bytes(1024)
OLD_EVIL = tar_member(b"evil.exe", signature=False)
TARS = {
    "signed sum": tar_member(b"\xff\xff.txt", signature=False, signed=True) + OLD_EVIL,
    "sum of eight digits": tar_member(b"evil.exe", signature=False, form=b"%08o"),
    "sum before a tab": tar_member(b"evil.exe", signature=False, form=b"%07o\t"),
    "zeros first": bytes(512) + EVIL_MEMBER,
    "zeros first, no signature": bytes(1024) + OLD_EVIL,
    "two long names, the second used": long_name(b"good.txt") + long_name(b"evil.exe") + GOOD_MEMBER,
    "two long names, the first used": long_name(b"evil.exe") + long_name(b"good.txt") + GOOD_MEMBER,
    "global name": pax_member(b"path=good.txt", b"g") + EVIL_MEMBER,
    "global name, not used": pax_member(b"path=evil.exe", b"g") + pax_member(b"path=good.txt") + GOOD_MEMBER,
    "two records": pax_member(b"path=evil.exe") + pax_member(b"path=good.txt") + GOOD_MEMBER,
    "name of a sparse file": pax_member(b"GNU.sparse.name=evil.exe") + GOOD_MEMBER,
    "name before a record": pax_member(b"path=good.txt") + EVIL_MEMBER,
}


@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["tar", "tar.gz"])
@pytest.mark.parametrize("kind", TARS)
def test_every_name_of_a_member_of_a_tar_counts(kind, packed):
    assert EXE in names_in(packed(TARS[kind] + TAR_END), "a.tar")


def begun_with(start, content):
    return start + content[len(start) :]


def tar_that_begins_as_gzip():
    """The tar is in the extra field of a gzip header, which is in the name of its first member."""
    rest = EVIL_MEMBER + TAR_END
    name = b"\x1f\x8b\x08\x04" + bytes(6) + struct.pack("<H", 500 + len(rest))
    return tar_header(name, 0) + rest + gzip.compress(b"hello")[10:]


HEADS = {
    "zip": GOOD_LOCAL,
    "gz": gzip.compress(b"hello"),
    "bz2": bz2.compress(b"hello"),
    "xz": lzma.compress(b"hello"),
    "lzma": lzma.compress(b"hello", lzma.FORMAT_ALONE),
    "zst": zstd.compress(b"hello"),
    "7z": sevenzipped("good.txt"),
    "rar": rar4("good.txt"),
    "tar": tarred("good.txt"),
    "ar": b"!<arch>\n",
    "OLE": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    "text": b"X" * 100,
}
TAILS = {"rar": rar4(), "rar 5": rar5(), "7z": sevenzipped(), "cab": cabinet(), "tar": tarred(), "zip": ZIP}
TAILS |= {
    "cpio": made_by_libarchive("cpio"),
    "xar": made_by_libarchive("xar"),
    "tar.gz": gzip.compress(tarred()),
    "tar.xz": lzma.compress(tarred()),
    "tar.bz2": bz2.compress(tarred()),
    "iso": image(),
}
POLYGLOTS = (
    {f"iso that begins as {kind}": begun_with(head, image()) for kind, head in HEADS.items()}
    | {
        f"{kind}, then {tail}": head + TAILS[tail]
        for kind, head in HEADS.items()
        for tail in ("rar", "7z", "tar", "zip")
    }
    | {f"text, then {kind}": b"X" * 100 + tail for kind, tail in TAILS.items()}
    | {
        "3 MiB, then 7z": b"X" * (3 << 20) + sevenzipped(),
        "3 MiB, then rar": b"X" * (3 << 20) + rar4(),
        "tar that begins as zip": tar_member(GOOD_LOCAL) + EVIL_MEMBER + TAR_END,
        "tar that begins as zip, with a directory": tar_member(GOOD_LOCAL)
        + EVIL_MEMBER
        + TAR_END
        + GOOD_CENTRAL
        + zip_end(1, len(GOOD_CENTRAL), 512 * 6),
        "tar that begins as gzip": tar_that_begins_as_gzip(),
        "tar, then zip, in gz": gzip.compress(tarred("good.txt") + ZIP + b"Y" * 70_000),
        "mail, then zip": zipped("a.eml", mail("evil.exe", b"x") + zipped("good.txt")),
    }
)


@pytest.mark.parametrize("kind", POLYGLOTS)
@pytest.mark.long
def test_the_first_kind_found_does_not_hide_the_others(kind):
    found = {name.lower() for name in names_in(POLYGLOTS[kind], "a.bin")}
    assert any(name.endswith(EXE) for name in found), found


def as_lzma(content, **fields):
    return lzma.compress(content, lzma.FORMAT_ALONE, filters=[{"id": lzma.FILTER_LZMA1, **fields}])


@pytest.mark.parametrize(
    "fields",
    [
        {"lc": 0, "lp": 0, "pb": 2},
        {"lc": 4, "lp": 0, "pb": 2},
        {"lc": 3, "lp": 0, "pb": 0},
        {"lc": 0, "lp": 4, "pb": 4},
        {"dict_size": 4096},
        {"dict_size": 3 << 19},
        {"dict_size": 100_000},
    ],
    ids=str,
)
def test_lzma_is_known_whatever_its_properties(fields):
    assert names_in(as_lzma(tarred(), **fields), "a.bin") >= {EXE}


def test_lzma_with_an_unusual_dictionary_is_known_by_its_name():
    packed = as_lzma(tarred())
    packed = packed[:1] + (1_234_567).to_bytes(4, "little") + packed[5:]
    assert EXE in names_in(packed, "a.tar.lzma")


@pytest.mark.parametrize("order", ["<", ">"])
def test_old_binary_cpio_is_looked_into(order):
    head = struct.pack(f"{order}13H", 0o070707, 0, 1, 0o100644, 0, 0, 1, 0, 0, 0, 9, 0, 1)
    end = struct.pack(f"{order}13H", 0o070707, 0, 0, 0, 0, 0, 1, 0, 0, 0, 11, 0, 0)
    content = head + b"evil.exe\0\0x\0" + end + b"TRAILER!!!\0\0"
    assert EXE in names_in(content.ljust(1024, b"\0"), "a.bin")


@pytest.mark.parametrize(
    "content",
    [
        tarred("a.zip", zipped("a.txt")) + tarred("b.zip", zipped("b.txt")),
        tarred("a.zip", zipped("a.txt", os.urandom(80_000))) + tarred("b", bytes(80_000)),
        zipped("a.tar", tarred("a.txt"), zipfile.ZIP_STORED),
        zipped("a.7z", sevenzipped("a.txt"), zipfile.ZIP_STORED),
        zipped("a.zip", zipped("a.txt"), zipfile.ZIP_STORED),
        image("a.zip", zipped("a.txt")),
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + zipped("a.docx") + bytes(80_000),
        b"The bytes PK\x03\x04 and PK\x01\x02 are signatures, so are 7z\xbc\xaf\x27\x1c and Rar!\x1a\x07",
        b"MZ" + bytes(100) + b"PK\x03\x04" + bytes(100) + b"PK\x01\x02" + bytes(100) + b"ustar" + bytes(500),
        bytes(5000),
        tarred("a.gz", gzip.compress(b"x", mtime=0)) + tarred("b.bz2", bz2.compress(b"x")),
        b"X" * 100 + b"\x1f\x8b\x08" + bytes(100),
        b"\0\0\1\0\1\0\x20\x20\0\0\1\0\x08\0\xa8\x08" + bytes(3000),  # a Windows icon
    ],
)
def test_of_what_only_looks_like_another_archive_nothing_is_said(content):
    assert problems_in(content, "a.bin") == []


@pytest.mark.parametrize(
    "signature",
    [
        b"PK\x03\x04",
        b"PK\x01\x02",
        b"PK\x05\x06",
        LOCAL,
        CENTRAL,
        b"7z\xbc\xaf\x27\x1c",
        b"Rar!\x1a\x07\0",
        b"MSCF" + bytes(4),
        b"ustar",
        b"07070",
        b"\1CD001\1",
        b"1AY&SY",
        b"\x1f\x8b\x08",
        b"\x1f\x8b\x08" + bytes(7),
        b"\xfd7zXZ\0",
    ],
)
def test_many_signatures_take_bounded_time_and_are_no_pass(signature, within_yardsticks):
    content = b"X" * 100 + signature * ((4 << 20) // len(signature)) + ZIP
    with within_yardsticks(300):
        found = list(Archives().look_into(content, ("a.bin",)))
    assert any(one.why or one.name == EXE for one in found)


# What cannot be looked into ------------------------------------------------------------------------------

# by 7-Zip 16.02: `7z a -psecret x.7z a.exe`, and with `-mhe=on`
ENCRYPTED_7Z = base64.b64decode(
    "N3q8ryccAAQ3h0kQEAAAAAAAAABiAAAAAAAAAD+36S7w+QV+jTXBGvSBwe/tT+DtAQQGAAEJEAAHCwEAAiQG8QcBElMP7Cp8OWo8/zNM"
    "/HWFdgl84CEhAQABAAwFAQAICgGDFtyMAAAFARkBABENAGEALgBlAHgAZQAAABQKAQCud78/TH/dARUGAQAggKSBAAA="
)
ENCRYPTED_NAMES_7Z = base64.b64decode(
    "N3q8ryccAATsDxdkgAAAAAAAAAAuAAAAAAAAAJ6TZLNQX26KMBtEdz5MmquFUOCShvSvvuHyZ26IOFuCmmrWIvaTjnoN4y4YKCGKRnyE"
    "2IHOEfX1gpAgupTihPGX7G+k0H7EY1Oub6XsSftkq8lJ/pDqM1R+nS0cr3DHsXR4GR9v0Ko/WOADpwbFhhHvGtbuKJl6Lb8ACeoe91TL"
    "NZJXwBcGEAEJcAAHCwEAASQG8QcBElMPAtp+uguxVehnzXAa1J2UcAxiCgFp+9M/AAA="
)
# by arj 3.10: `arj a x.arj a.exe`
ARJ = base64.b64decode(
    "YOopACILAQIQAALHp/EKa6fxCmsAAAAAAAAAAAAAAAAAAAAAAAB4LmFyagAA7o1Y4gAAYOo1AC4LAQIQAACnp/EKawEAAAABAAAAgxbc"
    "jAAApBEAAAAAAACn8Qprp/EKawAAAABhLmV4ZQAADG86UAAAeGDqAAA="
)


def flagged(octets, flag=1):
    """The zip file with a flag on its member."""
    changed = bytearray(octets)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = changed.find(signature)
        changed[position + offset : position + offset + 2] = flag.to_bytes(2, "little")
    return bytes(changed)


def lzma_with_a_dictionary_of(size):
    packed = lzma.compress(b"x", lzma.FORMAT_ALONE)
    return packed[:1] + struct.pack("<L", size) + packed[5:]


def bomb(depth):
    content = b"x"
    for _ in range(depth):
        content = zipped("a.zip", content)
    return content


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED_OFFICE = OLE + "EncryptedPackage".encode("utf-16-le") + bytes(100)
UNREADABLE = [
    ("zip, encrypted", flagged(zipped("a.txt")), Why.ENCRYPTED),
    ("zip, encrypted strongly", flagged(zipped("a.txt"), 0x40), Why.ENCRYPTED),
    ("zip, AES", zipped_as(99, b"x", "a.txt"), Why.ENCRYPTED),
    ("zip, encrypted, hidden", flagged(zipped("a")).partition(b"PK\x01\x02")[0] + zipped(), Why.ENCRYPTED),
    ("7z, encrypted", ENCRYPTED_7Z, Why.ENCRYPTED),
    ("7z, encrypted names", ENCRYPTED_NAMES_7Z, Why.ENCRYPTED_NAMES),
    ("rar 4, encrypted", rar4("a.txt", flags=4), Why.ENCRYPTED),
    ("rar 4, encrypted names", rar4("a.txt", main_flags=0x80), Why.ENCRYPTED_NAMES),
    ("rar 5, encrypted", encrypted_rar5(), Why.ENCRYPTED),
    ("rar 5, encrypted names", rar5_with_encrypted_names(), Why.ENCRYPTED_NAMES),
    ("office file, encrypted", ENCRYPTED_OFFICE, Why.ENCRYPTED_OFFICE),
    ("office file in zip, encrypted", zipped("a.docx", ENCRYPTED_OFFICE), Why.ENCRYPTED_OFFICE),
    ("zip, PPMd", zipped_as(98, b"x"), Why.UNKNOWN),
    ("arj", ARJ, Why.UNKNOWN),
    ("wim", b"MSWIM\0\0\0" + bytes(200), Why.UNKNOWN),
    ("vhd", b"x" * 1024 + b"conectix" + bytes(504), Why.UNKNOWN),
    ("vhdx", b"vhdxfile" + bytes(504), Why.UNKNOWN),
    ("dmg", b"x" * 1024 + b"koly" + bytes(508), Why.UNKNOWN),
    ("szdd", b"SZDD\x88\xf0\x27\x33Ae" + bytes(50), Why.UNKNOWN),
    ("kwaj", b"KWAJ\x88\xf0\x27\xd1" + bytes(50), Why.UNKNOWN),
    ("warc", b"WARC/1.0\r\nWARC-Type: resource\r\n\r\n", Why.UNKNOWN),
    ("gz, dmg", begun_with(gzip.compress(b"hello"), bytes(1024)) + b"koly" + bytes(508), Why.UNKNOWN),
    ("ace", b"x" * 7 + b"**ACE**" + bytes(50), Why.UNKNOWN),
    ("zip, no directory", zipped("a.txt").partition(b"PK\x01\x02")[0], Why.DAMAGED),
    ("zip, only a beginning", b"PK\x03\x04", Why.DAMAGED),
    ("zip, bad octets", zipped_as(8, b"\xff\xff", "a.txt"), Why.DAMAGED),
    ("zip in zip, damaged", zipped("in.zip", b"PK\x03\x04 damaged"), Why.DAMAGED),
    ("7z, cut off", sevenzipped()[:-10], Why.DAMAGED),
    ("rar 4, cut off", rar4(content=b"x" * 1000)[:-800], Why.DAMAGED),
    ("rar 5, cut off", rar5(content=b"x" * 1000)[:-800], Why.DAMAGED),
    ("rar, nothing in it", b"Rar!\x1a\x07\0" + b"x" * 100, Why.DAMAGED),
    ("cab, cut off", cabinet(content=b"x" * 1000)[:-800], Why.DAMAGED),
    ("iso, cut off", image(content=b"x" * 10_000)[:-9000], Why.DAMAGED),
    ("iso, only a mark", bytes(32769) + b"CD001" + bytes(2048), Why.DAMAGED),
    ("tar, cut off", tarred(content=b"x" * 2000)[:1000], Why.DAMAGED),
    ("gz, cut off", gzip.compress(os.urandom(1000))[:-500], Why.DAMAGED),
    ("bz2, cut off", bz2.compress(os.urandom(1000))[:-500], Why.DAMAGED),
    ("xz, cut off", lzma.compress(os.urandom(1000))[:-500], Why.DAMAGED),
    ("zst, cut off", zstd.compress(os.urandom(1000))[:-500], Why.DAMAGED),
    ("lzma, needs 2 GiB", lzma_with_a_dictionary_of(2 << 30), Why.BOUNDS),
    ("zip, too deep", bomb(10), Why.BOUNDS),
    ("tar, too many members", tarred()[:1024] * 10_001, Why.BOUNDS),
    ("gz, too large", MANY_ZEROS * 35, Why.BOUNDS),
    ("7z in gz, too large", gzip.compress(sevenzipped()) + MANY_ZEROS * 3, Why.BOUNDS),
]


@pytest.mark.parametrize(
    ("content", "why"), [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE]
)
@pytest.mark.long
async def test_an_archive_that_cannot_be_looked_into_is_a_hit_and_says_why(content, why):
    transaction = make_transaction(attachments={"a.dat": content})
    hit = await Attachments(encrypted=True).filter_message(transaction)
    assert hit
    assert hit.reason.startswith(f"attachment a.dat: {why}"), hit.reason
    within = await Attachments(extensions=["js"], inside_archives=True).filter_message(transaction)
    assert bool(within) == (why not in (Why.ENCRYPTED, Why.ENCRYPTED_OFFICE))


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.long
def test_of_an_archive_that_can_be_looked_into_nothing_is_said(kind):
    assert kind == "zip, no directory" or problems_in(CONTAINERS[kind](), "a") == []


async def test_a_member_whose_content_was_not_seen_is_logged(caplog):
    transaction = make_transaction(attachments={"a.zip": flagged(zipped("a.txt"))})
    with caplog.at_level(logging.WARNING):
        assert await Attachments(extensions=["exe"], inside_archives=True).filter_message(transaction) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"transaction {transaction.id}: attachment a.zip could not be looked into: encrypted member"
    ]


@pytest.mark.parametrize(
    ("module", "content"),
    [
        ("libarchive", sevenzipped()),
        ("libarchive", cabinet()),
        ("rarfile", rar5()),
        ("libarchive", rar5()),
        ("pycdlib", image()),
        ("inflate64", CONTAINERS["zip, Deflate64"]()),
        ("backports.zstd", zstd.compress(b"x")),
        ("backports.zstd", CONTAINERS["zip, Zstandard"]()),
    ],
)
async def test_without_the_extra_it_says_what_to_install(module, content, monkeypatch, caplog):
    missing = f"import sys; sys.modules['compression.zstd'] = sys.modules['{module}'] = None;"
    monkeypatch.setattr(gatepost_archives, "_CHILD", missing + gatepost_archives._CHILD)
    transaction = make_transaction(attachments={"a.dat": content})
    hit = await Attachments(encrypted=True).filter_message(transaction)
    assert hit
    assert "archive needs a library" in hit.reason
    assert "install gatepost[archives]" in hit.reason
    inside = Attachments(extensions=["js"], inside_archives=True)
    with caplog.at_level(logging.WARNING):
        assert await inside.filter_message(transaction) is None
    assert "could not be looked into" in caplog.text


async def test_without_libarchive_itself_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(gatepost_archives, "_libarchive", lambda: "/nowhere/libarchive.so")
    assert problems_in(sevenzipped()) == [
        (Why.NOT_INSTALLED, "7zip: install gatepost[archives] and libarchive")
    ]
    monkeypatch.setattr(gatepost_archives, "_libarchive", str)
    assert "apt install libarchive13" in missing_libraries()


def test_what_is_not_installed_is_warned_of_when_the_rule_is_loaded(monkeypatch, caplog):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        Attachments(extensions=["exe"])
        assert not caplog.records
        Attachments(extensions=["exe"], inside_archives=True)
    assert "install gatepost[archives]" in caplog.text


def test_nothing_is_missing_where_these_tests_run():
    assert missing_libraries() == ""


# Hostile input -------------------------------------------------------------------------------------------


def reads_with(code, monkeypatch):
    """The child reads a tar file with this code."""
    kinds = f"child.KINDS.readers['tar'] = lambda content, names: {code};"
    imports = "import os, sys; sys.path.insert(0, sys.argv[1]); import gatepost_archives_child as child;"
    monkeypatch.setattr(gatepost_archives, "_CHILD", imports + kinds + gatepost_archives._CHILD)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("iter(lambda: 0, 1) and any(iter(lambda: 0, 1))", (Why.BOUNDS, "takes too long to look through")),
        ("os.abort()", (Why.DAMAGED, f"its reader crashed (status -{signal.SIGABRT})")),
        ("os.kill(os.getpid(), 9)", (Why.DAMAGED, f"its reader crashed (status -{signal.SIGKILL})")),
        ("iter(bytearray(2 << 30)[:0])", (Why.DAMAGED, "its reader crashed (status 1)")),
        (
            "iter(range(0, __import__('tempfile').TemporaryFile(buffering=0).write(b'x'), 9)[:0])",
            (Why.DAMAGED, "its reader crashed (status 1)"),
        ),
        (
            "os.write(1, b'no JSON') and os.abort()",
            (Why.DAMAGED, f"its reader crashed (status -{signal.SIGABRT})"),
        ),
    ],
)
@pytest.mark.long
def test_a_reader_that_hangs_or_crashes_is_ended_alone(code, problem, monkeypatch):
    reads_with(code, monkeypatch)
    content = tarred()
    start = time.monotonic()
    found = list(Archives(seconds=1).look_into(content, ("a.tar",)))
    assert time.monotonic() - start < 60
    assert [(one.why, one.detail) for one in found if one.why] == [problem]


@pytest.mark.parametrize("options", [{"encrypted": True}, {"extensions": ["js"], "inside_archives": True}])
async def test_an_overloaded_machine_is_a_failure_and_no_hit(options, monkeypatch):
    monkeypatch.setattr(gatepost_archives, "_CHILD_SECONDS", 0.5)
    reads_with("iter(__import__('time').sleep(60) or ())", monkeypatch)
    transaction = make_transaction(attachments={"a.tar": tarred("a")})
    with pytest.raises(TimeoutError, match=r"an archive was not looked through in 0\.5 s"):
        await Attachments(**options).filter_message(transaction)


def test_what_was_found_before_the_crash_counts(monkeypatch):
    code = "(yield __import__('gatepost_unpacking').Member(names=('evil.exe',))) or os.abort()"
    reads_with(f"(lambda: ({code}))()", monkeypatch)
    assert "evil.exe" in names_in(tarred("a"), "a.tar")


def test_the_time_is_that_of_all_archives_of_a_message(within_yardsticks):
    """It is looked at between members: one of them, here the first, may exceed it."""
    archives = Archives(seconds=0.2)
    content = MANY_ZEROS * 6
    with within_yardsticks(400):
        found = [one for _ in range(50) for one in archives.look_into(content, ("a.gz",))]
    assert (found[-1].why, found[-1].detail) == (Why.BOUNDS, "takes too long to look through")


SAMPLES = [make() for kind, make in CONTAINERS.items() if not kind.startswith("iso")] + [ENCRYPTED_7Z, ARJ]


@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=4)), min_size=1, max_size=4),
    st.integers(0, 3000),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.long
def test_a_mutated_archive_of_any_kind_neither_raises_nor_hangs(sample, changes, cut):
    changed = bytearray(sample)
    for position, octets in changes:
        at = position % len(changed)
        changed[at : at + len(octets)] = octets
    content = bytes(changed[: len(changed) - cut % 20])
    start = time.monotonic()
    for found in Archives(seconds=2).look_into(content, ("a.dat",)):
        json.dumps([found.name, found.why, found.detail])
    assert time.monotonic() - start < 60


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_a_mutated_disk_image_neither_raises_nor_hangs(data):
    changed = bytearray(image())
    for _ in range(5):
        changed[data.draw(st.integers(32768, len(changed) - 1))] = data.draw(st.integers(0, 255))
    list(Archives(seconds=2).look_into(bytes(changed), ("a.iso",)))


# By the tool that others use -----------------------------------------------------------------------------


@pytest.mark.real("7zz")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-t7z"], EXE),
        (["-t7z", "-mx9", "-ms=on"], EXE),
        (["-t7z", "-m0=PPMd"], EXE),
        (["-t7z", "-m0=BZip2"], EXE),
        (["-t7z", "-m0=Deflate"], EXE),
        (["-t7z", "-psecret"], Why.ENCRYPTED),
        (["-t7z", "-psecret", "-mhe=on"], Why.ENCRYPTED_NAMES),
        (["-tzip", "-mm=Deflate64"], EXE),
        (["-tzip", "-mm=LZMA"], EXE),
        (["-tzip", "-mm=BZip2"], EXE),
        (["-tzip", "-mm=PPMd"], Why.UNKNOWN),
        (["-tzip", "-psecret"], Why.ENCRYPTED),
        (["-tzip", "-psecret", "-mem=AES256"], Why.ENCRYPTED),
        (["-ttar"], EXE),
        (["-twim"], Why.UNKNOWN),
    ],
)
def test_what_7zip_makes_is_looked_into(options, expected, tmp_path):
    (tmp_path / "inner.zip").write_bytes(zipped(content=b"x" * 10_000))
    (tmp_path / "b.txt").write_bytes(b"x" * 10_000)
    command = ["7zz", "a", "-bd", *options, "made.bin", "inner.zip", "b.txt"]
    subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    content = next(tmp_path.glob("made.*")).read_bytes()
    if isinstance(expected, Why):
        assert expected in [why for why, _ in problems_in(content, "made.bin")]
    else:
        assert expected in names_in(content, "made.bin")
        assert problems_in(content, "made.bin") == []
