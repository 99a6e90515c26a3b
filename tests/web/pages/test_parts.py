"""The page of one part of a message, and the responses from which a browser shows it."""

import pytest

EVIL = b"<script>alert(1)</script>"
ATTACHMENTS = {
    "<b>.txt": ("text/plain", b"<b>words"),
    "a.svg": ("image/svg+xml", b"<svg onload=alert(1)>"),
    "a.html": ("text/html", EVIL),
    "a.pdf": ("application/pdf", b"%PDF-1.4 " + EVIL),
    "a.png": ("image/png", b"\x89PNG\r\n\x1a\n" + EVIL),
    "a.zip": ("application/zip", b"PK\x03\x04"),
    "fake.pdf": ("application/pdf", EVIL),
}


@pytest.mark.parametrize(
    ("number", "media_type"),
    [(3, None), (4, None), (5, None), (6, "application/pdf"), (7, "image/png"), (8, None), (9, None)],
)
async def test_a_browser_shows_images_and_pdf_alone_and_in_a_sandbox(http, keep, number, media_type):
    kept_id = await keep(attachments=ATTACHMENTS)
    response = await http.get(f"/messages/{kept_id}/attachments/{number}/shown")
    if media_type is None:
        assert response.status_code == 404
        return
    assert response.content == [*ATTACHMENTS.values()][number - 3][1]
    fields = response.headers
    assert fields["content-type"] == media_type
    assert fields["content-security-policy"] == "sandbox; default-src 'none'; frame-ancestors 'self'"
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["content-disposition"].startswith("inline; filename=")
    assert fields["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (3, '<pre class="plain is-source" dir="auto">&lt;b&gt;words</pre>'),
        (4, "&lt;svg onload=alert(1)&gt;</pre>"),
        (5, "&lt;script&gt;alert(1)&lt;/script&gt;</pre>"),
        (6, "/attachments/6/shown"),
        (7, '/attachments/7/shown" alt="a.png">'),
        (8, "neither text nor an image nor a PDF"),
        (9, "&lt;script&gt;alert(1)&lt;/script&gt;</pre>"),
    ],
)
async def test_a_part_is_shown_in_place_of_a_tab(http, keep, number, says):
    kept_id = await keep("Hi", attachments=ATTACHMENTS)
    page = (await http.get(f"/messages/{kept_id}?part={number}")).text
    assert says in page
    assert f'href="/messages/{kept_id}/attachments/{number}" download' in page
    assert EVIL.decode() not in page
    assert "<b>" not in page
    assert 'class="message-body is-part"' in page


@pytest.mark.parametrize("part", ["0", "1", "10", "-1", "x", "٣", "999999", ""])
async def test_without_such_a_part_the_message_is_shown(http, keep, part):
    kept_id = await keep("Hi", attachments=ATTACHMENTS)
    response = await http.get(f"/messages/{kept_id}", params={"part": part})
    assert response.status_code == 200
    assert 'class="message-body is-text"' in response.text


async def test_of_a_deleted_message_nothing_is_shown(http, keep):
    kept_id = await keep(attachments=ATTACHMENTS)
    await http.post("/messages/change", data={"id": kept_id, "do": "delete"})
    assert (await http.get(f"/messages/{kept_id}/attachments/7/shown")).status_code == 404
    assert "is-part" not in (await http.get(f"/messages/{kept_id}?part=7")).text
