"""A developer forwards a message to a real mailbox, in a browser, with the keyboard alone."""

import smtplib

import pytest
from gatepost.testing.complaints import running_complaints
from gatepost.testing.upstream import FakeUpstream

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.real("chromium-headless-shell"), pytest.mark.long]


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (820, "dark"), (390, "light")])
def test_a_message_is_forwarded_with_the_keyboard(new_page, server, upstream, width, theme):
    page = new_page(width, 800, color_scheme=theme)
    page.goto(server.url)
    page.get_by_text("Your order").click()
    page.get_by_role("button", name="Forward", exact=True).focus()
    page.keyboard.press("Enter")
    recipients = page.locator("#forward").get_by_label("Recipients")
    sync_api.expect(recipients).to_have_value("bob@shop.example")
    sync_api.expect(recipients).to_be_focused()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type(f"me{width}@example.com")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    result = page.locator(".forwarded")
    result.wait_for()
    said = result.inner_text()
    assert f"Forwarded to {upstream.host}:{upstream.port}" in said
    assert f"me{width}@example.com" in said
    assert "250 2.0.0 Queued as 4711" in said
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [one.address for one in upstream.messages[-1].recipients] == [f"me{width}@example.com"]
    page.goto("about:blank")  # before the server ends: the page would ask it again


@pytest.fixture(scope="module")
def upstream():
    with FakeUpstream({"dot": "250 2.0.0 Queued as 4711"}) as started:
        yield started


@pytest.fixture(scope="module")
def server(upstream):
    with running_complaints("--forward-to", upstream.url) as started:
        with smtplib.SMTP(started.smtp_host, started.smtp_port) as smtp:
            smtp.sendmail("app@shop.example", "bob@shop.example", "Subject: Your order\r\n\r\nThanks.\r\n")
        yield started
