"""Pages say of an imported message that it was imported, and invent no conversation."""

from ipaddress import ip_address

import pytest
from gatepost.gateway.imports import import_messages
from gatepost.model.saved import read_saved_message

from .conftest import SETTINGS


@pytest.fixture
async def imported(desk, tmp_path):
    """An imported message."""

    def run(messages, client):
        return import_messages(SETTINGS, tmp_path, messages, client=client)

    desk.imports = run
    message = read_saved_message(b"Subject: Saved\r\nTo: bob@example.net\r\n\r\nHello\r\n")
    (kept_id,) = await desk.import_messages([message], client=ip_address("192.0.2.7"))
    return desk.archive.kept_message(kept_id)


async def test_the_message_and_its_row(http, imported):
    page = (await http.get(f"/messages/{imported.id}")).text
    assert "from a file: there was no SMTP conversation, and the envelope was read from the message." in page
    assert "<dt>Imported by</dt>" in page
    assert "/sessions/" not in page
    assert '<span class="badge">imported</span>' in (await http.get("/")).text
    page = (await http.get(f"/messages/{imported.id}?tab=conversation")).text
    assert "There was no conversation: the message was imported from a file." in page


async def test_the_journal_and_its_record(http, imported):
    page = (await http.get(f"/journal/{imported.transaction_id}")).text
    assert "no reply: imported from a file" in page
    assert "<dt>Imported by</dt>" in page
    assert "<dt>TLS</dt>" not in page
    assert 'class="reply reply-">imported from a file</td>' in (await http.get("/journal")).text


async def test_a_received_message_says_nothing_of_it(http, keep):
    kept_id = await keep()
    for path in ("/", "/journal", f"/messages/{kept_id}", f"/messages/{kept_id}?tab=conversation"):
        assert "imported" not in (await http.get(path)).text.lower()


async def test_only_a_desk_that_imports_offers_it(http, imported, desk):
    assert 'data-do="import"' in (await http.get("/")).text
    assert 'data-do="import"' not in (await http.get("/quarantine")).text
    desk.imports = None
    assert 'data-do="import"' not in (await http.get("/")).text
    assert "import.js" not in (await http.get("/")).text
