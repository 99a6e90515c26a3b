"""The desk in a browser, served by a process of its own, while mail comes in."""

import re
import time

import pytest
from gatepost.store import Box, State

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.real("chromium-headless-shell")

HTML = """
<h1 style="color: rgb(200, 0, 0)">Welcome</h1><a href="https://shop.example/">Shop</a>
<img src="/messages/leak" onerror="top.document.title='owned'"><svg onload="top.document.title='owned'">
<script>top.document.title = 'owned'</script><a href="javascript:top.document.title='owned'">x</a>
<img id="remote" src="http://tracker.example/a.gif"><form action="http://evil.example"><input name="a"></form>
"""


def wait_for_subjects(page, *expected):
    sync_api.expect(page.locator(".row .subject")).to_have_text(list(expected))


def wait_for_title(page, pattern):
    sync_api.expect(page).to_have_title(re.compile(pattern))


@pytest.mark.long
def test_new_messages_come_on_top_by_themselves_and_nothing_else_moves(site, page):
    page.goto(site.origin)
    page.get_by_text("Waiting for mail").wait_for()
    asked = []

    def note(request):
        asked.append(request)

    page.on("request", note)
    site.keep("One")
    wait_for_subjects(page, "One")
    page.locator(".row input").check()
    site.keep("Two")
    wait_for_subjects(page, "Two", "One")
    sync_api.expect(page.locator(".row:has(:checked) .subject")).to_have_text(["One"])
    page.get_by_text("1 selected").wait_for()
    wait_for_title(page, r"^\(2\) Messages")
    sync_api.expect(page.locator("[data-count=unread]")).to_have_text("2")
    assert "/messages/list" in {one.url.partition("?")[0].removeprefix(site.origin) for one in asked}
    assert {one.headers.get("desk-refresh") for one in asked} == {"yes"}, "nobody is kept logged in by that"


@pytest.mark.long
def test_the_list_follows_what_others_change(site, new_page):
    first, second = new_page(), new_page()
    ids = [site.keep("One"), site.keep("Two")]
    for page in (first, second):
        page.goto(site.origin)
        wait_for_subjects(page, "Two", "One")
    second.goto(f"{site.origin}/messages/{ids[0]}")
    first.locator(f"#m-{ids[0]}:not(.is-unread)").wait_for()
    second.get_by_role("button", name="Delete", exact=True).last.click()
    wait_for_subjects(first, "Two")
    second.get_by_role("button", name="Undo").wait_for()
    second.keyboard.press("z")
    wait_for_subjects(first, "Two", "One")
    sync_api.expect(first.locator(f"#m-{ids[0]}.is-unread")).to_have_count(0)


@pytest.mark.long
def test_the_page_says_that_the_server_is_gone_and_a_new_one_asks_to_log_in(serve, browser):
    site = serve(password=True)
    site.keep("Before")
    context = browser.new_context()  # it may say that it cannot reach the process
    first, second = context.new_page(), context.new_page()
    first.goto(site.origin)
    first.get_by_label("Password").fill("secret")
    first.get_by_role("button", name="Log in").click()
    second.goto(site.origin)
    for page in (first, second):
        wait_for_subjects(page, "Before")
        assert not page.locator("#lost").is_visible()
    site.stop_process()
    for page in (first, second):
        page.get_by_role("alert").get_by_text("Gatepost does not answer").wait_for()
    site.start()
    for page in (first, second):  # its sessions ended with it
        page.get_by_label("Password").wait_for(timeout=60_000)
    context.close()


@pytest.mark.long
def test_what_came_while_the_server_was_gone_is_in_the_list(site, browser, message):
    site.keep("Before")
    context = browser.new_context()
    page, other = context.new_page(), context.new_page()
    for one in (page, other):
        one.goto(site.origin)
        wait_for_subjects(one, "Before")
    site.stop_process()
    for one in (page, other):
        one.get_by_role("alert").get_by_text("Gatepost does not answer").wait_for()
    site.keep_all(*(message(f"Meanwhile {number}") for number in range(60)))
    site.start()
    for one in (page, other):
        one.locator("#lost").wait_for(state="hidden", timeout=60_000)
        wait_for_subjects(one, *(f"Meanwhile {number}" for number in range(59, 9, -1)))
    page.locator("#list").evaluate("list => list.scrollTop = 1e6")  # its link is seen
    page.get_by_text("Before", exact=True).wait_for()
    sync_api.expect(page.locator(".row .subject")).to_have_count(61)
    context.close()


@pytest.mark.long
def test_a_flood_is_followed_with_few_questions(site, page, message):
    page.goto(site.origin)
    asked = []
    page.on("request", lambda request: "/messages/list" in request.url and asked.append(request.url))
    for start in range(0, 200, 20):
        site.keep_all(*(message(f"Number {number}") for number in range(start, start + 20)))
    page.get_by_text("Number 199", exact=True).wait_for()
    assert len(asked) < 40
    wait_for_subjects(page, *(f"Number {number}" for number in range(199, 149, -1)))


@pytest.mark.long
def test_where_somebody_has_scrolled_nothing_moves(site, page, message):
    site.keep_all(*(message(f"Number {number}") for number in range(70)))
    page.goto(site.origin)
    page.locator("#list").evaluate("list => list.scrollTop = 1e6")
    page.get_by_text("Number 0", exact=True).wait_for()
    before = page.locator("#list").evaluate("list => list.scrollTop")
    site.keep("Latest")
    page.get_by_role("button", name="New messages above").click()
    assert before > 1000
    page.get_by_text("Latest", exact=True).wait_for()
    assert page.locator("#list").evaluate("list => list.scrollTop") < 200


@pytest.mark.long
def test_what_is_typed_is_searched_for_and_stays_in_the_address(site, page):
    site.keep("Your invoice")
    site.keep("Something else")
    page.goto(site.origin)
    wait_for_subjects(page, "Something else", "Your invoice")
    page.keyboard.press("/")
    page.keyboard.type("subject:invoice")
    wait_for_subjects(page, "Your invoice")
    sync_api.expect(page).to_have_url(f"{site.origin}/?q=subject%3Ainvoice")
    site.keep("Another invoice")
    wait_for_subjects(page, "Another invoice", "Your invoice")
    page.reload()
    wait_for_subjects(page, "Another invoice", "Your invoice")
    page.get_by_role("button", name="How to search").click()
    page.get_by_role("button", name="is:unread").click()
    sync_api.expect(page).to_have_url(re.compile("is%3Aunread"))


@pytest.mark.long
def test_a_message_opens_beside_the_list_and_back_leads_to_it(site, page):
    site.keep("One", html="<p>Hi</p>")
    site.keep("Two", html="<p>Hi</p>")
    page.goto(site.origin)
    for subject in ("Two", "One"):
        page.locator(".row").get_by_text(subject, exact=True).click()
        page.get_by_role("heading", name=subject).wait_for()
    wait_for_subjects(page, "Two", "One")
    wait_for_title(page, "One · Gatepost$")
    for tab in ("Text", "Headers", "Structure", "Source", "Conversation", "Verdicts", "Checks"):
        page.locator(".tabs").get_by_text(tab, exact=False).click()
        page.locator(f".tabs [aria-current]:has-text('{tab}')").wait_for()
    page.go_back()
    sync_api.expect(page).to_have_url(f"{site.origin}/")
    sync_api.expect(page.locator(".message")).to_have_count(0)
    page.go_forward()
    page.get_by_role("heading", name="One").wait_for()


def test_html_mail_looks_like_itself_and_can_do_nothing(site, page):
    kept_id = site.keep("<b>Hostile</b>", html=HTML)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.route("http://tracker.example/**", lambda route: route.fulfill(content_type="image/gif"))
    page.goto(f"{site.origin}/messages/{kept_id}")
    frame = page.frame_locator("iframe")
    heading = frame.get_by_role("heading", name="Welcome")
    heading.wait_for()
    assert heading.evaluate("node => getComputedStyle(node).color") == "rgb(200, 0, 0)"
    assert heading.evaluate("node => getComputedStyle(node).fontFamily").startswith("system-ui")
    assert frame.locator("script, form, svg, [onerror], [href^=javascript]").count() == 0
    assert frame.get_by_text("Shop").get_attribute("target") == "_blank"
    assert page.locator("iframe").evaluate("frame => frame.contentDocument") is None
    assert all(url.startswith(site.origin) for url in asked)
    assert "leak" not in "".join(asked)
    wait_for_title(page, "<b>Hostile</b> · Gatepost$")

    with page.expect_request("http://tracker.example/a.gif") as request:
        page.get_by_text("Load for this message").click()
    assert "referer" not in request.value.headers
    assert "owned" not in page.title()


@pytest.mark.long
def test_html_of_mail_is_a_sandbox_even_where_it_is_opened_alone(site, page):
    kept_id = site.keep("Hi", html=HTML)
    page.goto(f"{site.origin}/messages/{kept_id}/html")
    assert page.evaluate("window.origin") == "null"


@pytest.mark.long
def test_delete_all_says_how_many_before(site, page):
    site.keep("One")
    site.keep("Two")
    page.goto(site.origin)
    page.get_by_role("button", name="Delete all").click()
    page.get_by_text("Delete all 2 messages permanently?").wait_for()
    page.locator("#confirm").get_by_role("button", name="Delete").click()
    page.get_by_text("2 messages deleted.").wait_for()
    wait_for_subjects(page)
    assert site.kept() == []


@pytest.mark.long
def test_the_keyboard_is_enough(site, page):
    ids = [site.keep(subject) for subject in ("One", "Two", "Three")]
    page.goto(site.origin)
    wait_for_subjects(page, "Three", "Two", "One")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Three").wait_for()
    page.keyboard.press("j")
    page.get_by_role("heading", name="Two").wait_for()
    page.keyboard.press("2")
    page.locator(".tabs [aria-current]:has-text('Headers')").wait_for()
    page.keyboard.press("k")
    page.get_by_role("heading", name="Three").wait_for()
    page.keyboard.press("u")
    page.locator(f"#m-{ids[2]}.is-unread").wait_for()
    sync_api.expect(page.locator(".message")).to_have_count(0)
    page.keyboard.press("x")
    page.get_by_text("1 selected").wait_for()
    page.keyboard.press("?")
    page.get_by_role("heading", name="Keyboard").wait_for()
    page.keyboard.press("j")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    sync_api.expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("j#x")
    sync_api.expect(page.locator("#search")).to_have_value("j#x")


@pytest.mark.long
def test_a_held_message_is_released_to_others(site, page):
    kept_id = site.keep("Held", box=Box.QUARANTINE, reason="an attachment")
    page.goto(f"{site.origin}/quarantine")
    page.get_by_text("Held", exact=True).last.click()
    page.get_by_role("button", name="Release").click()
    dialog = page.locator("#release")
    dialog.get_by_text("To others").click()
    dialog.get_by_role("textbox").fill("nobody")
    dialog.get_by_role("button", name="Release").click()
    page.get_by_text("Not an address: nobody").wait_for()
    assert site.released() == []
    page.get_by_role("button", name="Release").click()
    dialog.get_by_role("button", name="Release").click()
    page.get_by_text("Released: 250 2.0.0 Ok: queued as 4711").wait_for()
    assert site.released() == [[kept_id, None]]
    wait_for_subjects(page)
    page.get_by_role("link", name="Released").click()
    wait_for_subjects(page, "Held")
    assert site.kept(state=State.RELEASED)[0].changed_by == "web desk (127.0.0.1)"


def test_the_chosen_tab_stays_and_is_in_the_address(site, page):
    ids = [site.keep(subject, html="<p>Hi</p>") for subject in ("One", "Two", "Three")]
    page.goto(site.origin)
    page.locator(".row").get_by_text("Three", exact=True).click()
    page.locator(".tabs [aria-current]:has-text('HTML')").wait_for()
    page.locator(".tabs").get_by_text("Source").click()
    page.locator(".tabs [aria-current]:has-text('Source')").wait_for()
    sync_api.expect(page).to_have_url(re.compile(r"\?tab=source$"))
    page.keyboard.press("j")
    page.get_by_role("heading", name="Two").wait_for()
    page.reload()
    for key, subject in (("j", "One"), ("k", "Two")):
        page.keyboard.press(key)
        page.get_by_role("heading", name=subject).wait_for()
        sync_api.expect(page.locator(".tabs [aria-current]")).to_have_text("Source")
    sync_api.expect(page).to_have_url(f"{site.origin}/messages/{ids[1]}?tab=source")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.locator(".tabs [aria-current]:has-text('HTML')").wait_for()
    page.go_back()
    sync_api.expect(page).to_have_url(f"{site.origin}/")


@pytest.mark.parametrize("width", [1280, 820, 390])
def test_the_tabs_take_few_rows_and_those_of_a_wide_page_are_all_in_sight(site, new_page, width):
    kept_id = site.keep("Long subject " * 15, html=HTML, text="https://a.example/")
    page = new_page(width=width, height=800)
    page.goto(f"{site.origin}/messages/{kept_id}")
    boxes = [tab.bounding_box() for tab in page.locator(".tabs a").all()]
    assert len(boxes) == 9
    left = page.locator("#reader").bounding_box()["x"]
    if width > 720:  # a phone scrolls through one row of them
        assert all(left <= box["x"] and box["x"] + box["width"] <= width for box in boxes)
    assert all(box["height"] >= 28 and box["y"] < 400 for box in boxes)
    assert len({box["y"] for box in boxes}) <= {1280: 2, 820: 3, 390: 1}[width]
    heading = page.get_by_role("heading", level=1, name="Long subject").last
    clamped = heading.bounding_box()["height"]
    page.get_by_text("Whole subject").click()
    assert heading.bounding_box()["height"] > clamped
    if width > 720:
        assert page.locator(".row .subject").bounding_box()["height"] < 24


def facets(page):
    """The values that can be clicked, with their numbers."""
    texts = page.locator("#facets a").all_inner_texts()
    return [" ".join(text.replace("messages", "").replace("message", "").split()) for text in texts]


def wait_for_facets(page, *expected):
    deadline = time.monotonic() + 30
    while facets(page) != list(expected):
        assert time.monotonic() < deadline, facets(page)
        page.wait_for_timeout(50)


@pytest.mark.parametrize("width", [1280, 820, 390])
@pytest.mark.long
def test_a_list_is_narrowed_with_a_click_on_a_mailbox_or_an_address(site, new_page, width):
    site.keep("One", to=("bob+signup@example.net",), headers={"From": "Ann <ann@shop.example>"})
    site.keep("Two", to=("bob+order@example.net", "carol@example.net"))
    site.keep("Three", to=("bob+signup@example.net",), attachments={"a.pdf": b"x"})
    page = new_page(width=width, height=800)
    page.goto(f"{site.origin}/?q=-absent")
    wait_for_subjects(page, "Three", "Two", "One")

    def choose(label):
        if width < 1100:
            page.get_by_role("button", name="Show only").click()
        page.locator("#facets").get_by_role("link", name=label).click()

    if width < 1100:
        assert not page.locator("#facets").is_visible()
        page.get_by_role("button", name="Show only").click()
    wait_for_facets(
        page,
        *("Unread 3", "With attachments 1", "signup 2", "order 1"),
        *("bob+signup@example.net 2", "bob+order@example.net 1", "carol@example.net 1"),
    )
    if width < 1100:
        page.keyboard.press("Escape")
    choose(re.compile("^signup"))
    wait_for_subjects(page, "Three", "One")
    sync_api.expect(page.locator("#search")).to_have_value("-absent mailbox:signup")
    sync_api.expect(page).to_have_url(f"{site.origin}/?q=-absent+mailbox%3Asignup")
    site.keep("Four", to=("bob+signup@example.net",))
    wait_for_subjects(page, "Four", "Three", "One")
    if width > 1100:
        wait_for_facets(
            page,
            "Unread 3",
            "With attachments 1",
            "signup 3 , chosen: click to show all",
            "bob+signup@example.net 3",
        )
    page.locator(".row").get_by_text("One", exact=True).click()
    page.locator(".addresses").get_by_role("link", name="ann@shop.example").click()
    wait_for_subjects(page, "One")
    sync_api.expect(page.locator("#search")).to_have_value("from:ann@shop.example")
    sync_api.expect(page.get_by_role("heading", name="One")).to_be_visible(visible=width > 720)
    page.keyboard.press("Escape")
    sync_api.expect(page).to_have_url(f"{site.origin}/?q=from%3Aann%40shop.example")


def luminance(color):
    parts = [float(part) / 255 for part in re.findall(r"[\d.]+", color)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.long
def test_both_themes_can_be_read(site, new_page, theme):
    """Contrast of WCAG 2.1 AA: 4.5 to 1 for each text against the ground it stands on."""
    site.keep("One", box=Box.QUARANTINE, reason="an attachment", attachments={"a.pdf": b"x"})
    page = new_page(color_scheme=theme)
    page.goto(f"{site.origin}/quarantine")
    page.locator(".row-link").click()
    page.get_by_role("heading", name="One").wait_for()
    page.keyboard.press("8")
    colors = page.evaluate(
        """() => [...document.querySelectorAll('body *')].filter(node => node.checkVisibility()
             && [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())).map(node => {
            let ground = node, back;
            do { back = getComputedStyle(ground).backgroundColor; ground = ground.parentElement; }
            while (ground && back === 'rgba(0, 0, 0, 0)');
            const text = node.className + ' ' + node.textContent.trim().slice(0, 20);
            return [text, getComputedStyle(node).color, back];
        })"""
    )
    assert len(colors) > 20
    for text, fore, back in colors:
        dark, light = sorted((luminance(fore), luminance(back)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, fore, back)


def test_the_theme_is_switched_and_kept(site, new_page):
    page = new_page(color_scheme="light")
    page.goto(site.origin)

    def ground():
        return page.evaluate("getComputedStyle(document.querySelector('main')).backgroundColor")

    assert ground() == "rgb(255, 255, 255)"
    page.get_by_role("button", name="Switch between light and dark").click()
    assert luminance(ground()) < 0.02
    page.reload()
    assert luminance(ground()) < 0.02


@pytest.mark.parametrize("width", [320, 800])
@pytest.mark.long
def test_nothing_is_wider_than_the_window(site, new_page, width):
    kept_id = site.keep(
        "Long" * 60, html=HTML, attachments={f"{'name' * 40}.pdf": b"x"}, to=("b" * 60 + "@example.com",)
    )
    page = new_page(width=width, height=700)
    tabs = ("html", "text", "links", "headers", "structure", "source", "verdicts", "checks")
    of_message = [f"/messages/{kept_id}?tab={tab}" for tab in tabs]
    for path in ("/", "/quarantine", "/?q=nothing", *of_message):
        page.goto(f"{site.origin}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate("document.querySelector('main').scrollWidth") <= width, path


def test_on_a_phone_a_message_is_a_page_of_its_own(site, new_page):
    site.keep("One")
    page = new_page(width=390, height=800)
    page.goto(site.origin)
    page.locator(".row-link").click()
    page.get_by_role("heading", name="One").wait_for()
    page.locator(".list-pane").wait_for(state="hidden")
    page.get_by_role("link", name="Back to the list").click()
    page.locator(".row-link").wait_for()


@pytest.mark.long
def test_a_password_is_asked_for_and_the_session_ends(serve, page):
    site = serve(password=True)
    site.keep("Secret")
    page.goto(f"{site.origin}/?q=is:unread")
    page.get_by_label("Password").fill("secret")
    page.get_by_label("Your name").fill("Maria")
    page.get_by_role("button", name="Log in").click()
    wait_for_subjects(page, "Secret")
    sync_api.expect(page).to_have_url(f"{site.origin}/?q=is:unread")
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Password").wait_for()


@pytest.mark.long
def test_it_works_without_scripts(site, new_page):
    site.keep("One")
    page = new_page(java_script_enabled=False)
    page.goto(site.origin)
    page.locator(".row-link").click()
    page.get_by_role("heading", name="One").wait_for()
    page.get_by_role("link", name="Headers").click()
    page.get_by_text("Message-ID", exact=True).last.wait_for()
    page.locator(".message-tools").get_by_role("button", name="Delete").click()
    page.locator(".empty").wait_for()
    assert site.kept() == []


@pytest.mark.parametrize("end", ["signal", "lifeline"])
@pytest.mark.long
def test_the_process_ends_when_it_is_told_to_or_left_alone(serve, browser, end):
    site = serve()
    page = browser.new_page()  # it may say that it cannot reach the process any more
    page.goto(site.origin)
    page.locator(".empty").wait_for()
    if end == "signal":
        site.process.terminate()
    else:
        site.lifeline.close()
    assert site.wait() == 0
    page.close()
