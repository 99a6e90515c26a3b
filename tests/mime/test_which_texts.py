"""Which texts `view.texts` holds, and which it leaves to filters that open files."""

from email.message import EmailMessage

import pytest
from gatepost.testing import make_transaction


def mixed(*parts: tuple[str, str, str]) -> EmailMessage:
    """A text and parts: content type, content and file name."""
    message = EmailMessage()
    message["Subject"] = "outer"
    message.set_content("the text\n")
    for content_type, content, filename in parts:
        maintype, _, subtype = content_type.partition("/")
        names = {"filename": filename} if filename else {}
        message.add_attachment(content.encode(), maintype=maintype, subtype=subtype, **names)
    return message


INNER = mixed(("text/plain", "a note\n", "note.txt"))
WITH_HTML = mixed()
WITH_HTML.add_alternative("<p>the HTML</p>\n", subtype="html")
FORWARDING = mixed()
FORWARDING.add_attachment(INNER)
REPORT = b"""\
Content-Type: multipart/report; boundary=b

--b

Not delivered.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
--b--
"""


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        pytest.param(
            WITH_HTML.as_bytes(),
            [("text/plain", "", "the text"), ("text/html", "", "<p>the HTML</p>")],
            id="both alternatives",
        ),
        pytest.param(
            INNER.as_bytes(),
            [("text/plain", "", "the text"), ("text/plain", "note.txt", "a note")],
            id="an attached text file",
        ),
        pytest.param(
            mixed(("text/csv", "a,b", "list.csv"), ("text/calendar", "BEGIN", "")).as_bytes(),
            [("text/plain", "", "the text"), ("text/csv", "list.csv", "a,b"), ("text/calendar", "", "BEGIN")],
            id="texts of other types",
        ),
        pytest.param(
            FORWARDING.as_bytes(),
            [("text/plain", "", "the text")] * 2 + [("text/plain", "note.txt", "a note")],
            id="a forwarded message",
        ),
        pytest.param(
            mixed(("application/octet-stream", INNER.as_string(), "forwarded.eml")).as_bytes(),
            [("text/plain", "", "the text")] * 2 + [("text/plain", "note.txt", "a note")],
            id="a message attached as a file",
        ),
        pytest.param(
            REPORT,
            [
                ("text/plain", "", "Not delivered."),
                ("message/delivery-status", "", "Reporting-MTA: dns; mx.example.net"),
            ],
            id="a report",
        ),
        pytest.param(
            b"Content-Type: text/plain; format=flowed\n\none \ntwo\n",
            [("text/plain", "", "one \r\ntwo"), ("text/plain", "", "one two")],
            id="a text with two readings",
        ),
        pytest.param(
            mixed(
                ("application/pdf", "%PDF-1.7", "a.pdf"),
                ("application/rtf", "{\\rtf1 rich}", "a.rtf"),
                ("application/json", "{}", "a.json"),
            ).as_bytes(),
            [("text/plain", "", "the text")],
            id="files that only another program can read are not among them",
        ),
    ],
)
def test_view_texts_holds(content: bytes, texts: list[tuple[str, str, str]]) -> None:
    view = make_transaction(content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")).message.view
    found = [(text.content_type, text.filename, text.text.strip()) for text in view.texts]
    assert [one for one in found if one[2]] == texts
    named = {text.filename for text in view.texts if text.filename}
    assert named <= {attachment.filename for attachment in view.attachments}
