"""What some readers show of a part by its type, or because they do not accept its type, is shown too."""

import base64

import pytest
from gatepost.mime import read_message

PARTS = "\r\n\r\npreamble\r\n--b\r\nContent-Type: text/plain\r\n\r\ninner\r\n--b--\r\nepilogue\r\n"


@pytest.mark.parametrize("outer", ["", "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n"])
def test_a_multipart_whose_field_has_a_blank_before_its_colon_is_a_text_too(outer):
    view = read_message(f"{outer}Content-Type : multipart/mixed; boundary=b{PARTS}".encode())
    texts = [text.text for text in view.texts]
    assert any("preamble" in text and "epilogue" in text for text in texts)
    assert "inner" in texts


def test_a_multipart_of_a_sound_type_has_no_preamble():
    view = read_message(f"Content-Type: multipart/mixed; boundary=b{PARTS}".encode())
    assert [text.text for text in view.texts] == ["inner"]


def test_a_file_whose_field_has_a_blank_before_its_colon_is_a_text_too():
    view = read_message(b"Content-Type : application/pdf; name=a.pdf\r\n\r\nsecret words\r\n")
    assert [text.text for text in view.texts] == ["secret words\r\n"]
    assert view.attachments[0].filenames == ("a.pdf",)
    assert view.texts[0].how


@pytest.mark.parametrize("content_type", ["(note) text/plain", "text", "/", "(a/b) text/html; charset=utf-8"])
def test_a_text_of_a_malformed_type_is_a_file_too(content_type):
    body = base64.encodebytes(b"MZ\x90\x00 secret")
    fields = f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    view = read_message(fields.encode() + body)
    assert "secret" in view.texts[0].text
    assert ("application/octet-stream", b"MZ\x90\x00 secret") in [
        (one.content_type, one.read()) for one in view.attachments
    ]


def test_a_file_of_a_malformed_type_is_a_text_too():
    fields = b"Content-Type: (;) application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    view = read_message(fields + base64.encodebytes(b"secret words"))
    assert "secret words" in [text.text for text in view.texts]


def test_a_word_that_ends_at_the_first_padding_is_whole_for_some():
    body = b"".join([base64.encodebytes(b"secret"[:4]), base64.encodebytes(b"et words")])
    view = read_message(b"Content-Transfer-Encoding: base64\r\n\r\n" + body)
    assert {"secret words", "secr"} <= {text.text for text in view.texts}


@pytest.mark.parametrize("kind", ["delivery-status", "disposition-notification", "partial", "x-unknown"])
def test_a_report_is_a_text_as_well_as_a_file(kind):
    view = read_message(f"Content-Type: message/{kind}\r\n\r\nReporting-MTA: dns; secret\r\n".encode())
    assert view.texts[0].text == "Reporting-MTA: dns; secret\r\n"
    assert [one.content_type for one in view.attachments] == [f"message/{kind}"]
