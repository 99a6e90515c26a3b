"""A parsing library that fails on some content defers no mail for ever, and hides nothing from a rule."""

import base64
import bz2
import gzip
import io
import lzma
import random
import struct
import zipfile
import zlib

import puremagic
import pytest
from gatepost import MimeView, Text
from gatepost.testing import make_transaction
from gatepost_archives import Archives, Why
from gatepost_attachments import Attachments
from gatepost_content import other_types
from gatepost_keywords import Keywords

RANDOM = random.Random(1)
UNKNOWN = {
    "nothing": b"",
    "one NUL": b"\0",
    "zeros": bytes(5000),
    "one letter": b"x",
    "text": b"Good morning, this is a text.\n" * 20,
    "8-bit": "übermütig".encode("latin-1") * 9,
    "random": RANDOM.randbytes(10_000),
    "all bytes": bytes(range(256)),
}


def mail(content, filename="a.bin"):
    return (
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        + f"Content-Disposition: attachment; filename={filename}\r\n\r\n".encode()
        + base64.encodebytes(content)
    )


async def verdict(rule, content):
    return await rule.filter_message(make_transaction(content))


@pytest.mark.parametrize("content", UNKNOWN.values(), ids=UNKNOWN)
async def test_unknown_content_is_of_no_type_whatever_release_of_the_library_is_installed(content, caplog):
    rule = Attachments(types=["application/x-none"], mismatch=True)
    assert await verdict(rule, mail(content)) is None
    assert not caplog.records


def test_what_the_library_knows_is_recognised():
    assert other_types(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(100)) == ["video/mp4"]


def guess(**changed):
    fields = {
        "byte_match": b"12345678",
        "offset": 0,
        "extension": ".x",
        "mime_type": "x/y",
        "name": "x",
        "confidence": 0.8,
    }
    return puremagic.main.PureMagicWithConfidence(**fields | changed)


@pytest.mark.parametrize(
    ("answer", "types", "warns"),
    [
        ([], [], False),
        ([guess()], ["x/y"], False),
        ([guess(mime_type="Application/X-Y")], ["application/x-y"], False),
        ([guess(mime_type="")], [], False),
        ([guess(mime_type=None)], [], False),
        ([guess(byte_match=b"123")], [], False),
        ([guess(), guess(mime_type="x/z", confidence=0.1)], ["x/y"], False),
        ([guess(confidence=None), guess()], [], True),
        ([guess(byte_match=None)], [], True),
        (None, [], True),
        ("text/plain", [], True),
        (puremagic.PureError("Could not identify file"), [], False),
        (ValueError("Input was empty"), [], True),
        (KeyError("x"), [], True),
        (IndexError("x"), [], True),
        (TypeError("x"), [], True),
        (RecursionError("maximum recursion depth exceeded"), [], True),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), [], True),
        (struct.error("unpack requires a buffer of 4 bytes"), [], True),
        (OSError(22, "Invalid argument"), [], True),
        (MemoryError(), [], True),
    ],
    ids=repr,
)
async def test_whatever_puremagic_answers_the_message_is_judged(answer, types, warns, monkeypatch, caplog):
    def magic_string(content):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(puremagic, "magic_string", magic_string)
    assert other_types(b"x" * 100) == types
    assert len(caplog.records) == warns
    if warns:
        (record,) = caplog.records
        assert record.getMessage().startswith("puremagic failed on content of 100 bytes: ")
        assert record.getMessage().isprintable()
        assert not record.exc_info
    assert await verdict(Attachments(types=["application/x-none"]), mail(b"x" * 100)) is None
    assert await verdict(Attachments(types=["application/x-elf"]), mail(b"\x7fELF\2\1\1"))


def zipped():
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("a.txt", b"x" * 100)
    return octets.getvalue()


def raising(*_arguments, **_named):
    raise RuntimeError("no such thing")


@pytest.mark.parametrize(
    ("library", "name", "filename", "content"),
    [
        (zipfile, "ZipFile", "a.zip", zipped()),
        (zlib, "decompressobj", "a.zip", zipped()),
        (zlib, "decompressobj", "a.gz", gzip.compress(b"x" * 100, mtime=0)),
        (bz2, "BZ2Decompressor", "a.bz2", bz2.compress(b"x" * 100)),
        (lzma, "LZMADecompressor", "a.xz", lzma.compress(b"x" * 100)),
        (lzma, "LZMADecompressor", "a.lzma", lzma.compress(b"x" * 100, lzma.FORMAT_ALONE)),
    ],
)
async def test_an_archive_on_which_a_library_fails_is_damaged(library, name, filename, content, monkeypatch):
    monkeypatch.setattr(library, name, raising)
    found = list(Archives().look_into(content, (filename,)))
    assert {one.why for one in found} <= {None, Why.DAMAGED}
    assert found
    hit = await verdict(Attachments(encrypted=True), mail(content, filename))
    assert hit
    assert "damaged archive" in hit.reason


def test_a_reader_in_this_process_that_raises_is_damage(monkeypatch):
    monkeypatch.setattr("gatepost_zip._entries", raising)
    (found,) = Archives().look_into(zipped(), ("a.zip",))
    assert (found.why, found.detail) == (Why.DAMAGED, "RuntimeError: no such thing")


@pytest.mark.parametrize("settings", [{"words": ["secret word"]}, {"patterns": ["secret.word"]}])
@pytest.mark.parametrize("text", ["\udc80 a secret word", "a secret \ud83d word", "a secret word\udfff"])
async def test_characters_that_no_library_takes_fail_no_search(settings, text):
    """Lone surrogates: the reader of MIME returns none, a reader to come might."""
    transaction = make_transaction(b"")
    texts = (Text(content_type="text/plain", text=text),)
    transaction.message._view.append(
        MimeView(headers=(), subject="", texts=texts, attachments=(), warnings=())
    )
    hit = await Keywords(**settings).filter_message(transaction)
    assert bool(hit) == ("words" in settings or "\ud83d" not in text)
