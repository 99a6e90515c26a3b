"""A developer looks at saved messages: files are chosen, or dropped on the list."""

import pytest
from gatepost.testing.complaints import running_complaints

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.real("chromium-headless-shell"), pytest.mark.long]

FROM = b"From bounce@example.com Mon Jan  1 12:00:00 2024\n"
DROP = """
([name, texts]) => {
  const carried = new DataTransfer();
  for (const [file, text] of texts) carried.items.add(new File([text], file));
  const row = document.getElementById("list");
  for (const type of name.split(" "))
    row.dispatchEvent(new DragEvent(type, { dataTransfer: carried, bubbles: true, cancelable: true }));
}
"""


def eml(subject):
    return f"From: Shop <shop@example.org>\nTo: bob@example.com\nSubject: {subject}\n\nHello\n".encode()


def drop(page, events, *files):
    page.evaluate(DROP, [events, [[name, content.decode()] for name, content in files]])


@pytest.fixture(scope="module")
def server():
    with running_complaints() as started:
        yield started


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def page(new_page, server, request):
    width, theme = request.param
    server.get("messages", method="DELETE", all="true")
    page = new_page(width, 800, color_scheme=theme, expected=400)
    page.goto(server.url)
    yield page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto("about:blank")  # before the server ends: the page would ask it again


def test_files_are_chosen_with_the_button(page):
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Import messages").click()
    archive = FROM + eml("Second") + b"\n" + FROM + b"<html>\n"
    chosen.value.set_files(
        [
            {"name": "first.eml", "mimeType": "message/rfc822", "buffer": eml("First")},
            {"name": "archive", "mimeType": "", "buffer": archive},
            {"name": "empty.txt", "mimeType": "text/plain", "buffer": b""},
        ]
    )
    page.get_by_text("2 messages imported.").wait_for()
    page.get_by_text("archive, line 9: found '<html>', expected a header field").wait_for()
    page.get_by_text("empty.txt: Nothing was imported: line 1: found nothing").wait_for()
    page.locator(".row").get_by_text("Second").wait_for()
    sync_api.expect(page.locator(".row .subject")).to_have_text(["Second", "First"])
    sync_api.expect(page.locator(".row .badge")).to_have_text(["imported", "imported"])
    page.locator(".row").get_by_text("First").click()
    page.locator(".message").get_by_text("from a file: there was no SMTP conversation").wait_for()
    page.get_by_text("Envelope", exact=True).click()
    sync_api.expect(page.locator(".envelope")).to_contain_text("Imported by")
    assert "Session" not in page.locator(".envelope").inner_text()
    page.goto(page.url.partition("?")[0] + "?tab=conversation")
    page.get_by_text("There was no conversation: the message was imported from a file.").wait_for()


def test_files_are_dropped_on_the_list(page):
    drop(page, "dragover", ("a.eml", eml("Dropped")))
    pane = page.locator(".list-pane")
    assert pane.evaluate("pane => getComputedStyle(pane, '::after').content") == (
        '"Drop .eml or mbox files to import them"'
    )
    spaced = ("b.eml", b"From : ann@example.org\nSubject: Spaced\n\n")
    drop(page, "drop", ("a.eml", eml("Dropped")), spaced, *((f"{n}.txt", b"<html>") for n in range(5)))
    page.get_by_text("2 messages imported.").wait_for()
    page.get_by_text("Not imported either: 2 more.").wait_for()
    page.locator(".row").get_by_text("Dropped").wait_for()
    assert pane.evaluate("pane => getComputedStyle(pane, '::after').content") == "none"


def test_text_that_is_dragged_is_left_to_the_browser(page):
    page.evaluate(
        """() => {
          const carried = new DataTransfer();
          carried.setData("text/plain", "Hello");
          const options = { dataTransfer: carried, bubbles: true, cancelable: true };
          window.dragged = new DragEvent("dragover", options);
          document.getElementById("list").dispatchEvent(window.dragged);
        }"""
    )
    assert not page.evaluate("window.dragged.defaultPrevented")
