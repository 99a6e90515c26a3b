"""Sessions that are held, in a browser beside a running server, as a person uses the page."""

import smtplib
from concurrent.futures import ThreadPoolExecutor

import pytest
from gatepost.testing.complaints import running_complaints

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.real("chromium-headless-shell"), pytest.mark.long]

CONTENT = b"From: app@example.org\r\nSubject: Your order\r\n\r\nIt is on its way.\r\n"


def deliver(server, *recipients):
    with smtplib.SMTP(server.smtp_host, server.smtp_port, timeout=60) as smtp:
        return smtp.sendmail("app@example.org", recipients, CONTENT)


def test_a_person_arms_looks_changes_and_lets_go_on(new_page):
    with running_complaints() as server, ThreadPoolExecutor() as pool:
        page = new_page(1280)
        page.goto(f"{server.url}/held")
        page.get_by_role("textbox", name="Recipient").fill("*@shop.example")
        page.get_by_label("How many").select_option("all")
        page.get_by_role("button", name="Arm").click()
        page.get_by_text("1 breakpoint armed").wait_for()
        with page.expect_request("**/held/list*") as asked:
            sending = pool.submit(deliver, server, "bob@shop.example", "carol@shop.example")
            page.get_by_text("1 session held").wait_for()  # by itself
        assert asked.value.headers["desk-refresh"] == "yes", "that is no use of the session"
        sync_api.expect(page.locator("[data-count=held]")).to_have_text("1")
        content = page.get_by_role("textbox", name="Message")
        sync_api.expect(content).to_have_value(CONTENT.decode().replace("\r\n", "\n"))
        sync_api.expect(page.locator("[role=timer]")).to_contain_text("min left")
        for width, theme in ((1280, "dark"), (820, "light"), (390, "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=theme)
            wide = page.evaluate(
                "[...document.querySelectorAll('html, main')].some(e => e.scrollWidth > e.clientWidth)"
            )
            assert not wide, width
        typed = CONTENT.decode().replace("order", "parcel").replace("\r\n", "\n")
        content.fill(typed)
        second = pool.submit(deliver, server, "dan@shop.example")
        page.get_by_text("2 sessions held").wait_for()
        assert content.input_value() == typed, "what is typed stays"
        page.get_by_role("textbox", name="Recipients").fill("carol@shop.example")
        page.locator("input[name=reply]").fill("250 2.0.0 Taken")
        page.locator("input[name=reply]").press("Enter")
        assert sending.result() == {}
        page.get_by_text("1 session held").wait_for()
        page.get_by_role("button", name="Refuse").focus()
        page.keyboard.press("Enter")
        with pytest.raises(smtplib.SMTPDataError, match="Refused"):
            second.result()
        page.get_by_text("No session is held now").wait_for()
        page.get_by_role("button", name="Remove").click()
        page.get_by_text("1 breakpoint armed").wait_for(state="detached")
        (message,) = server.get_json("messages")["messages"]
        assert (message["recipients"], message["subject"]) == (["carol@shop.example"], "Your parcel")
        page.close()


def test_a_session_that_ends_by_itself_leaves_what_was_typed(new_page):
    with running_complaints() as server, ThreadPoolExecutor() as pool:
        page = new_page(820)
        page.goto(server.url)
        server.hold("message", deadline_seconds=3, on_error="skip")
        sending = pool.submit(deliver, server, "bob@shop.example")
        sync_api.expect(page.locator("[data-count=held]")).to_have_text("1")
        page.locator(".nav a[href='/held']").click()
        page.locator("input[name=reply]").fill("250 2.0.0 Too late")
        page.get_by_text("This session is not held any more: no answer within 3 s.").wait_for()
        assert page.locator("input[name=reply]").input_value() == "250 2.0.0 Too late"
        sync_api.expect(page.get_by_role("button", name="Go on")).to_be_disabled()
        assert sending.result() == {}
        page.close()
