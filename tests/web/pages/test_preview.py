"""The preview of a message in a browser: light and dark, small screens, attachments in place."""

import time

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.real("chromium")

DARK = """
<meta name="color-scheme" content="light dark"><style>
p { color: rgb(10, 10, 10) } @media (prefers-color-scheme: dark) { p { color: rgb(240, 240, 240) } }
@media (max-width: 500px) { p { font-size: 30px } }
</style><p>Welcome</p><form action="http://evil.example"><input></form><svg></svg><svg></svg>
<img src="http://tracker.example/a.gif">
"""


@pytest.fixture(scope="module")
def browser_program():
    """The whole browser, which has the viewer of PDF."""
    return "chromium"


def wait_for_look(page, color, size="16px"):
    """Wait until the mail's paragraph looks like this; a frame that is being replaced is asked again."""
    script = "node => [getComputedStyle(node).color, getComputedStyle(node).fontSize]"
    deadline = time.monotonic() + 30
    while (found := page.frame_locator("iframe").locator("p").evaluate(script)) != [color, size]:
        assert time.monotonic() < deadline, found
        page.wait_for_timeout(20)


@pytest.mark.parametrize(
    ("width", "theme"),
    [
        (1280, "dark"),
        pytest.param(820, "light", marks=pytest.mark.long),
        pytest.param(390, "dark", marks=pytest.mark.long),
    ],
)
def test_html_is_shown_as_in_light_or_dark_mode_while_the_desk_stays_as_it_is(site, new_page, width, theme):
    other = site.keep("Other", html="<p>No dark styles")
    kept_id = site.keep("Dark", html=DARK)
    page = new_page(width=width, height=800, color_scheme=theme)
    page.goto(f"{site.origin}/messages/{kept_id}")
    ground = "getComputedStyle(document.querySelector('main')).backgroundColor"
    desk = page.evaluate(ground)
    light, dark = "rgb(10, 10, 10)", "rgb(240, 240, 240)"
    at_first = "30px" if width < 1000 else "16px"
    wait_for_look(page, light, at_first)

    page.get_by_role("link", name="HTML as in dark mode").click()
    wait_for_look(page, dark, at_first)
    assert page.evaluate(ground) == desk
    if width > 720:
        page.get_by_role("button", name="Width of a phone").click()
    wait_for_look(page, dark, "30px")
    page.route("http://tracker.example/**", lambda route: route.fulfill(content_type="image/gif"))
    with page.expect_request("http://tracker.example/a.gif"):
        page.get_by_text("Load for this message").click()
    wait_for_look(page, dark, "30px")
    page.get_by_text("Removed: 1 form, 2 SVG images.").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    # The choice is kept: over the history, which it is no step of, to another message, and over a reload.
    page.goto(f"{site.origin}/messages/{other}")
    page.locator(".no-dark").wait_for()
    page.go_back()
    wait_for_look(page, dark, "30px")
    page.reload()
    wait_for_look(page, dark, "30px")
    chosen = page.get_by_role("link", name="HTML as in dark mode")
    sync_api.expect(chosen).to_have_attribute("aria-current", "true")
    page.keyboard.press("j")
    page.locator(".no-dark").wait_for()
    page.keyboard.press("k")
    page.get_by_text("Removed: 1 form").wait_for()
    wait_for_look(page, dark, "30px")
    page.get_by_role("link", name="HTML as in light mode").focus()
    page.keyboard.press("Enter")
    wait_for_look(page, light, "30px")


PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]>>endobj
trailer<</Root 1 0 R>>
"""
GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
ATTACHMENTS = {
    "invoice.pdf": ("application/pdf", PDF),
    "dot.gif": ("image/gif", GIF),
    "evil.svg": (
        "image/svg+xml",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='document.title=\"owned\"'/>",
    ),
}


@pytest.mark.parametrize(
    ("width", "theme"),
    [
        (1280, "light"),
        pytest.param(820, "dark", marks=pytest.mark.long),
        pytest.param(390, "light", marks=pytest.mark.long),
    ],
)
def test_attachments_are_opened_in_place(site, new_page, width, theme):
    kept_id = site.keep("Files", attachments=ATTACHMENTS)
    page = new_page(width=width, height=800, color_scheme=theme)
    page.goto(f"{site.origin}/messages/{kept_id}")
    opened = page.locator(".is-part .frame-tools .name")

    page.locator(".attachments .file").get_by_text("invoice.pdf").click()
    opened.get_by_text("invoice.pdf").wait_for()
    deadline = time.monotonic() + 30
    while not any(frame.url.startswith("chrome-extension://") for frame in page.frames):
        assert time.monotonic() < deadline, "the browser's viewer did not start"
        page.wait_for_timeout(20)

    page.locator(".attachments .file:has-text('dot.gif')").focus()
    page.keyboard.press("Enter")
    opened.get_by_text("dot.gif").wait_for()
    page.reload()
    picture = page.get_by_role("img", name="dot.gif")
    assert picture.evaluate("async image => { await image.decode(); return image.naturalWidth }") == 1

    page.locator(".attachments .file").get_by_text("evil.svg").click()
    page.locator(".is-part pre").get_by_text("onload").wait_for()
    assert "owned" not in page.title()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
