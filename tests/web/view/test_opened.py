"""Parts that are opened in their place: what they are by their bytes, and their text."""

import pytest
from gatepost.testing import make_message
from gatepost.web.view import open_part, view_message

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
WARNED = "its charset is unknown, or its bytes do not fit it"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"


def opened(octets, name="a.bin", content_type="application/octet-stream"):
    content = make_message(subject="x", text="Hi", attachments={name: (content_type, octets)})
    return open_part(content, 3)


@pytest.mark.parametrize(
    ("content_type", "octets", "kind", "media_type"),
    [
        ("image/png", PNG, "image", "image/png"),
        ("text/html", PNG, "image", "image/png"),
        ("application/pdf", b"\xff\xd8\xff\xe0", "image", "image/jpeg"),
        ("image/gif", b"GIF89a", "image", "image/gif"),
        ("image/webp", b"RIFF\0\0\0\0WEBP", "image", "image/webp"),
        ("application/octet-stream", b"%PDF-1.7\n", "pdf", "application/pdf"),
        ("text/html", b"<script>alert(1)</script>%PDF-1.7", "pdf", "application/pdf"),
        ("application/pdf", b"<script>alert(1)</script>", "text", ""),
        ("image/png", b"<script>alert(1)</script>", "text", ""),
        ("image/svg+xml", SVG, "text", ""),
        ("text/html", b"<script>alert(1)</script>", "text", ""),
        ("application/octet-stream", b"plain words\x1b[0m\n\t\f", "text", ""),
        ("application/octet-stream", b"", "text", ""),
        ("text/plain", b"a\0b", "other", ""),
        ("application/zip", b"PK\x03\x04", "other", ""),
        ("image/tiff", b"II*\0", "other", ""),
        ("image/bmp", b"BM\0\0", "other", ""),
        ("text/plain", "Grüße".encode("utf-16"), "text", ""),
        ("text/plain; charset=utf-16le", "Grüße".encode("utf-16-le"), "text", ""),
    ],
)
def test_what_a_part_is_its_bytes_say(content_type, octets, kind, media_type):
    found = opened(octets, content_type=content_type)
    assert (found.kind, found.media_type) == (kind, media_type)
    assert found.octets == octets
    assert (found.text == "") == (kind != "text" or not octets)


@pytest.mark.parametrize(
    ("content_type", "octets", "text", "note"),
    [
        ("text/plain; charset=utf-8", "Grüße\r\nzwei\rdrei\n".encode(), "Grüße\nzwei\ndrei\n", ""),
        ("text/plain; charset=iso-8859-1", "Grüße".encode("latin-1"), "Grüße", ""),
        ("text/csv", "Grüße".encode("latin-1"), "Grüße", WARNED),
        ("text/plain; charset=koi8-r", "Привет".encode("koi8-r"), "Привет", ""),
        ("text/plain; charset=nonsense", b"abc", "abc", WARNED),
        ("text/plain", "Grüße".encode("utf-16"), "Grüße", "charset from the byte order mark"),
        ("text/plain", "\u202eevil\x1b[31m".encode(), "\ufffdevil\ufffd[31m", ""),
    ],
)
def test_text_is_read_in_its_charset_and_hides_nothing(content_type, octets, text, note):
    found = opened(octets, content_type=content_type)
    assert (found.text, found.note, found.cut) == (text, note, False)


def test_of_a_long_text_the_beginning_is_shown_and_no_character_is_cut():
    found = opened(b"a" + "ü".encode() * 300_000, content_type="text/plain; charset=utf-8")
    assert found.cut
    assert found.text == "a" + "ü" * ((512 << 9) - 1)
    assert opened(b"a" * (512 << 10), content_type="text/plain").cut is False


def test_a_message_in_a_message_is_shown_as_its_source():
    inner = make_message(subject="Inner", text="Inside")
    found = opened(inner, "a.eml", "message/rfc822")
    assert found.kind == "text"
    assert "Subject: Inner" in found.text


def test_a_calendar_is_read():
    calendar = b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Plan\nEND:VEVENT\nEND:VCALENDAR\n"
    assert opened(calendar, "a.ics", "text/calendar").invitation.summary == "Plan"
    assert opened(calendar, "a.txt", "text/plain").invitation is None


@pytest.mark.parametrize("number", [0, 1, 4, 10_000])
def test_what_is_no_part_is_not_opened(number):
    assert open_part(make_message(subject="x", text="Hi", attachments={"a": b"x"}), number) is None


@pytest.mark.parametrize(
    ("name", "content_type", "opens"),
    [
        ("a.pdf", "application/octet-stream", True),
        ("a", "application/pdf", True),
        ("A.PNG", "application/octet-stream", True),
        ("a", "text/x-log", True),
        ("a", "application/ld+json", True),
        ("a", "message/rfc822", True),
        ("a.svg", "image/svg+xml", True),
        ("a.exe", "application/octet-stream", False),
        ("a.zip", "application/zip", False),
        ("a.tif", "image/tiff", False),
        ("a.pdf.zip", "application/zip", False),
        ("a", "application/pdfx", False),
    ],
)
def test_a_click_opens_what_can_be_shown_and_downloads_all_else(name, content_type, opens):
    content = make_message(subject="x", text="Hi", attachments={name: (content_type, b"x")})
    assert [part.opens for part in view_message(content).attachments] == [opens]
