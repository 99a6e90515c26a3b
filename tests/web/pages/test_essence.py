"""The code and the main link of a message, its links and its inline images, in a browser."""

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.real("chromium-headless-shell")

TOKEN = "9f8e7d6c5b4a39281706" * 5
HTML = f"""
<a href="https://shop.example/"><img src="cid:logo@shop" alt="Shop"></a>
<h1>Reset your password</h1><p>Your code is <b>482 913</b>.</p>
<a style="background:#06c;color:#fff" href="https://shop.example/reset?token={TOKEN}">New password</a>
<p><a href="https://shop.example/help">Help <i>center</i></a> <a href="https://shop.example/unsubscribe">Leave</a>
"""
TEXT = """\
Confirm your address (https://shop.example/confirm?token=abc), or
<https://shop.example/long
/path?x=1>. Write to mailto:help@shop.example, not to javascript:alert(1)
"""


def headers(subject):
    return f"From: shop@example.com\r\nTo: bob@example.net\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"


RELATED = (
    f"{headers('Reset')}Content-Type: multipart/related; boundary=r\r\n\r\n"
    f"--r\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{HTML}\r\n"
    "--r\r\nContent-Type: image/gif; name=logo.gif\r\nContent-ID: <logo@shop>\r\n\r\nGIF89a\r\n"
    "--r\r\nContent-Type: application/pdf; name=terms.pdf\r\n\r\n%PDF\r\n--r--\r\n"
).encode()
PLAIN = f"{headers('Confirm')}Content-Type: text/plain; charset=utf-8\r\n\r\n{TEXT}".encode()


def test_the_code_is_copied_and_links_open_in_a_tab_that_knows_nothing_of_the_desk(site, new_page):
    reset = site.keep(content=RELATED, to=("bob@example.net", "eve@example.net"))
    confirm = site.keep(content=PLAIN)
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.context.route(
        "https://shop.example/**", lambda route: route.fulfill(body="", content_type="text/html")
    )
    page.goto(f"{site.origin}/messages/{reset}")
    page.get_by_role("button", name="Copy").press("Enter")
    page.get_by_text("Copied 482913").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "482913"

    page.evaluate("navigator.clipboard.writeText('')")
    page.evaluate("() => { Object.defineProperty(navigator, 'clipboard', {value: undefined}); }")
    page.get_by_role("button", name="Copy").click()
    page.locator(".notice").nth(1).wait_for()
    assert page.evaluate("getSelection().toString()").strip() == "482913"
    assert page.locator(".notice.is-bad").count() == 0, "copied without the API, as on a page without TLS"

    assert page.locator(".attachments:visible .name").all_inner_texts() == ["terms.pdf"]
    page.get_by_text("1 image in the HTML").click()
    sync_api.expect(page.locator(".attachments:visible .name")).to_have_text(["terms.pdf", "logo.gif"])
    assert page.locator(".addresses").get_by_text("eve@example.net").is_visible()

    with page.expect_popup() as popup:
        page.locator(".essence").get_by_role("link", name="New password").click()
    sync_api.expect(popup.value).to_have_url(f"https://shop.example/reset?token={TOKEN}")
    assert popup.value.evaluate("[window.opener, document.referrer]") == [None, ""]

    page.locator(".tabs").get_by_text("Links").click()
    words = page.locator(".links .words")
    sync_api.expect(words).to_have_text(["[Shop]", "New password", "Help center", "Leave"])

    page.goto(f"{site.origin}/messages/{confirm}?tab=text")
    assert page.locator(".plain").text_content() == TEXT.rstrip("\n")
    links = page.locator(".plain a")
    assert links.evaluate_all("all => all.map(one => [one.href, one.target, one.rel])") == [
        [href, "_blank", "noopener noreferrer nofollow"]
        for href in (
            "https://shop.example/confirm?token=abc",
            "https://shop.example/long/path?x=1",
            "mailto:help@shop.example",
        )
    ]
    with page.expect_popup() as popup:
        links.nth(1).click()
    sync_api.expect(popup.value).to_have_url("https://shop.example/long/path?x=1")
    assert page.locator(".essence-link").get_attribute("href") == "https://shop.example/confirm?token=abc"


@pytest.mark.long
def test_the_bar_fits_and_can_be_read_at_any_width_in_both_themes(site, new_page):
    reset, confirm = site.keep(content=RELATED), site.keep(content=PLAIN)
    for theme in ("light", "dark"):
        for width in (320, 390, 820, 1280):
            page = new_page(width=width, height=800, color_scheme=theme)
            for path in (f"{reset}?tab=links", f"{confirm}?tab=text"):
                page.goto(f"{site.origin}/messages/{path}")
                bar = page.locator(".essence")
                box, pane = bar.bounding_box(), page.locator(".reader-pane").bounding_box()
                assert box["height"] < 140, (width, path)
                assert box["x"] >= pane["x"]
                assert box["x"] + box["width"] <= pane["x"] + pane["width"]
                assert page.evaluate("document.querySelector('main').scrollWidth") <= width
                assert bar.evaluate(OVERFLOWING) == [], (width, path)


OVERFLOWING = """bar => [...bar.querySelectorAll('*')].filter(one => {
    const [inner, outer] = [one.getBoundingClientRect(), bar.getBoundingClientRect()];
    return inner.right > outer.right + 1 || inner.left < outer.left - 1 || inner.bottom > outer.bottom + 1;
}).map(one => one.outerHTML)"""
