"""Pages as wide as a screen, a tablet and a phone: what is on them, and whether it can be read."""

import re
import smtplib

import pytest
from gatepost.store import Box
from gatepost.testing.complaints import running_complaints

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.real("chromium-headless-shell"), pytest.mark.long]

RULE = "name: no-spam, filter: keywords, with: {words: [spam], in: [subject]}"
QUARANTINES = f"rules: [{{{RULE}, action: quarantine}}]"
REFUSES_ONE = f"rules: [{{{RULE}, action: reject, when: {{recipient: bad@shop.example}}}}]"
BLOCKS = """
lists: {blocked-senders: blocked.txt}
rules: [{name: blocked, filter: match, when: {sender: $blocked-senders}}]
"""
ALWAYS = ["inbox", "refused", "deferred", "abandoned"]
WITH_QUARANTINE = ["inbox", "quarantined", "refused", "deferred", "abandoned"]


def deliver(server, subject="Hello", to=("bob@shop.example",)):
    content = f"From: app@shop.example\r\nSubject: {subject}\r\n\r\nHi\r\n"
    with smtplib.SMTP(server.smtp_host, server.smtp_port, timeout=60) as smtp:
        smtp.sendmail("app@shop.example", to, content.encode())


def pages(page):
    return page.locator(".nav a:visible .nav-label").all_inner_texts()


def outcomes(page):
    return page.locator(".chip").all_inner_texts()


@pytest.mark.parametrize("rules", ["", REFUSES_ONE])
def test_in_complaints_mode_only_what_is_asked_for_or_occurs_is_shown(new_page, tmp_path, rules):
    (tmp_path / "rules.yaml").write_text(rules)
    with running_complaints(*(["--rules", str(tmp_path / "rules.yaml")] if rules else [])) as server:
        page, phone = new_page(1280), new_page(390, 800)
        for one in (page, phone):
            one.goto(f"{server.url}/journal")
            assert [name.strip() for name in pages(one)] == [
                "Messages",
                "Live",
                "Held",
                "Journal",
                "Overview",
            ]
        assert outcomes(page) == ALWAYS
        page.goto(server.url)
        page.get_by_role("button", name="How to search").click()
        help_text = page.locator("#search-help").inner_text()
        assert "is:unread" in help_text
        assert "quarantined" not in help_text
        deliver(server, "spam", to=["bob@shop.example", "bad@shop.example"])
        if not rules:
            sync_api.expect(page.locator(".row .subject")).to_have_text(["spam"])
            assert "Quarantine" not in pages(page)
        else:  # one reply for both recipients: the message is accepted, and quarantined for the one
            for one in (page, phone):  # by itself
                one.locator(".nav").get_by_text("Quarantine").wait_for()
            page.goto(f"{server.url}/journal")
            assert outcomes(page) == WITH_QUARANTINE
            page.goto(f"{server.url}/quarantine")
            sync_api.expect(page.locator(".row .subject")).to_have_text(["spam"])
        for one in (page, phone):
            one.goto("about:blank")  # before the server ends: the page would ask it again


def test_in_complaints_mode_what_the_rules_ask_for_is_shown_before_it_occurs(new_page, tmp_path):
    (tmp_path / "rules.yaml").write_text(QUARANTINES)
    with running_complaints("--rules", str(tmp_path / "rules.yaml")) as server:
        page = new_page(1280)
        page.goto(f"{server.url}/journal")
        assert "Quarantine" in pages(page)
        assert outcomes(page) == WITH_QUARANTINE
        page.goto(f"{server.url}/quarantine")
        page.get_by_text("The quarantine is empty").wait_for()
        deliver(server, "spam")
        sync_api.expect(page.locator(".row .subject")).to_have_text(["spam"])
        page.goto("about:blank")


def test_a_search_of_the_journal_is_in_the_address(site, page):
    site.keep("One")
    site.keep("Two", box=Box.QUARANTINE)
    page.goto(f"{site.origin}/journal")
    sync_api.expect(page.locator(".journal tbody tr")).to_have_count(2)
    page.get_by_role("searchbox").fill("is:quarantined")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator(".journal tbody tr")).to_have_count(1)
    assert page.url == f"{site.origin}/journal?q=is%3Aquarantined"
    page.reload()
    sync_api.expect(page.locator(".journal tbody tr")).to_have_count(1)
    page.go_back()
    sync_api.expect(page.locator(".journal tbody tr")).to_have_count(2)


def test_the_live_page_goes_on_by_itself_after_an_answer_that_is_no_stream(browser):
    context = browser.new_context()  # it says that the answers were errors
    with running_complaints() as server:
        page = context.new_page()
        page.goto(f"{server.url}/live")
        page.get_by_role("status").get_by_text("Live", exact=True).wait_for()
        deliver(server, "First")
        page.get_by_text("Subject: First").wait_for()
        page.route("**/live/events*", lambda route: route.fulfill(status=503))
        page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
        page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
        page.get_by_text("Not connected, trying again").wait_for()
        deliver(server, "Second")
        page.unroute("**/live/events*")
        page.get_by_text("Subject: Second").wait_for()
        assert page.get_by_text("Subject: First").count() == 1
        page.goto("about:blank")
    context.close()


@pytest.mark.parametrize("width", [1280, 820, 390])
def test_many_attachments_are_all_in_sight_or_one_click_away(site, new_page, width):
    files = {f"a name that is not short {number}.pdf": b"%PDF-1.7 " for number in range(14)}
    kept_id = site.keep("Files", attachments=files)
    page = new_page(width=width, height=800)
    page.goto(f"{site.origin}/messages/{kept_id}")
    assert page.locator(".attachments .file:visible").count() == 5
    page.get_by_text("9 more attachments").click()
    names = page.locator(".attachments .file:visible .name").all_inner_texts()
    assert names == list(files)
    for box in page.locator(".attachments").all():
        assert box.evaluate("node => node.scrollHeight <= node.clientHeight")
    page.locator(".attachments .file").last.click()
    page.locator(".attachments .file[aria-current]").wait_for()  # still in sight


LONG = "x" * 60


@pytest.mark.parametrize("width", [1280, 820, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_long_neither_leaves_a_page_nor_squeezes_its_columns(site, new_page, width, theme):
    to = (f"{LONG}@{LONG}.example.net", "bob@example.net")
    kept_id = site.keep("A subject of several words " * 6, box=Box.QUARANTINE, to=to, reason=LONG * 4)
    (kept,) = site.kept()
    page = new_page(width=width, height=800, color_scheme=theme)
    paths = [
        "/",
        "/quarantine",
        f"/messages/{kept_id}?in=held",
        "/journal",
        f"/journal/{kept.transaction_id}",
    ]
    for path in [*paths, "/overview?span=hour", "/live", "/sessions", "/api/"]:
        page.goto(f"{site.origin}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate("document.querySelector('main').scrollWidth") <= width, path
    page.goto(f"{site.origin}/journal")
    row = page.locator(".journal tbody tr")
    assert row.bounding_box()["height"] < 200
    for cell in ("td.reply", "td.envelope"):
        assert row.locator(cell).bounding_box()["width"] > 150
    for word in (".client", ".badge", ".rule"):
        assert row.locator(word).bounding_box()["height"] <= 20  # one line


@pytest.mark.parametrize("width", [1280, 820, 390])
def test_pages_scroll_in_their_own_place_and_never_as_a_whole(site, new_page, width):
    """Else the navigation leaves the window, and below the page is nothing."""
    kept_id = site.keep("Hello", box=Box.QUARANTINE, to=("bob@example.net",), reason="a reason")
    (kept,) = site.kept()
    page = new_page(width=width, height=400)
    of_message = [f"/messages/{kept_id}?in=held&tab={tab}" for tab in ("text", "verdicts", "checks")]
    of_records = ["/journal", f"/journal/{kept.transaction_id}", "/overview?span=hour"]
    for path in ["/", "/quarantine", *of_message, *of_records, "/live", "/sessions", "/api/"]:
        page.goto(f"{site.origin}{path}")
        assert page.evaluate("document.documentElement.scrollHeight") == 400, path


IS_ON_TOP = """node => {
    const box = node.getBoundingClientRect();
    return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === node;
}"""


@pytest.mark.parametrize("width", [1280, 820, 390])
def test_many_addresses_hide_no_other_field(site, new_page, width):
    many = [f"a.customer.number.{number}@example.net" for number in range(60)]
    content = f"From: ann@example.com\r\nTo: {', '.join(many)}\r\nCc: cc@example.net\r\n\r\nHello\r\n"
    kept_id = site.keep(content=content.encode(), to=(*many, "cc@example.net", "bcc@example.net"))
    page = new_page(width=width, height=800)
    page.goto(f"{site.origin}/messages/{kept_id}")
    fields = page.locator(".addresses")
    for name in (many[0], "cc@example.net", "bcc@example.net"):
        link = fields.get_by_role("link", name=name, exact=True)
        assert link.evaluate(IS_ON_TOP), name
    assert fields.bounding_box()["height"] < 200


def test_on_one_line_a_usual_address_is_whole_and_the_subject_has_the_rest(site, new_page):
    site.keep("A subject of several words " * 6, to=("bob@example.com",))
    page = new_page(width=1280, height=800)
    page.goto(site.origin)
    row = page.locator(".row-link")
    for part in (".who", ".to"):
        assert row.locator(part).evaluate("node => node.scrollWidth <= node.clientWidth"), part
    subject, size = (row.locator(part).bounding_box() for part in (".what", ".size"))
    assert size["x"] - subject["x"] - subject["width"] < 40


@pytest.mark.parametrize("width", [390, 320])
def test_on_a_phone_the_tabs_are_one_row_with_the_open_one_in_sight(site, new_page, width):
    kept_id = site.keep("Hello", html="<p>Hi, see https://shop.example/x</p>")
    page = new_page(width, 800)
    for tab in ("", "?tab=checks"):
        page.goto(f"{site.origin}/messages/{kept_id}{tab}")
        tops = page.locator(".tabs a").evaluate_all("all => all.map(one => one.getBoundingClientRect().top)")
        assert len(tops) >= 7
        assert len(set(tops)) == 1
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        left, right = page.locator(".tabs [aria-current]").evaluate(
            "one => [one.getBoundingClientRect().left, one.getBoundingClientRect().right]"
        )
        assert left >= 0
        assert right <= width
    page.locator("#tab-html").focus()  # the keyboard reaches those out of sight
    assert page.locator("#tab-html").evaluate("one => one.getBoundingClientRect().left") >= 0


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_a_sender_is_blocked_in_a_dialog(serve, new_page, tmp_path, width, theme):
    (tmp_path / "blocked.txt").write_text("")
    (tmp_path / "rules.yaml").write_text(BLOCKS)
    site = serve(lists=True)
    kept_id = site.keep("Hello", box=Box.QUARANTINE)
    page = new_page(width, 800, color_scheme=theme)
    page.goto(f"{site.origin}/messages/{kept_id}")
    page.get_by_role("button", name="Block this sender").click()
    dialog = page.locator("#block-sender")
    dialog.get_by_label("All senders of the domain").check()
    dialog.get_by_label("A remark").fill("a test")
    dialog.get_by_role("button", name="Block", exact=True).click()
    sync_api.expect(dialog.locator(".answer")).to_contain_text("added *@example.com. In force now.")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert re.fullmatch(
        r"\*@example.com  # .* blocked by .*: a test\n", (tmp_path / "blocked.txt").read_text()
    )
    dialog.get_by_role("button", name="Remove from list").click()
    sync_api.expect(dialog.locator(".answer")).to_contain_text("removed *@example.com")
    assert (tmp_path / "blocked.txt").read_text() == ""
    dialog.get_by_role("button", name="Close").click()
    sync_api.expect(dialog).to_be_hidden()


HAS_ROOM_OR_IS_HIDDEN = """to => {
    const [box, text] = [to, to.querySelector("bdi")].map((one) => one.getBoundingClientRect());
    return text.top >= box.bottom ? "hidden" : text.width >= 72 ? "shown" : `${text.width} px`;
}"""


def test_of_a_recipient_enough_is_shown_or_nothing(site, new_page):
    long = f"From: {'A long name of a sender ' * 3} <ann@example.com>\r\nSubject: x\r\n\r\nHello\r\n"
    site.keep(box=Box.QUARANTINE, content=long.encode())
    site.keep(box=Box.QUARANTINE, content=b"From: a@b.example\r\nSubject: x\r\n\r\nHello\r\n")
    for width, expected in ((390, ["shown", "hidden"]), (1280, ["shown", "shown"])):
        page = new_page(width, 800)
        page.goto(f"{site.origin}/quarantine")
        sync_api.expect(page.locator(".row")).to_have_count(2)
        assert page.locator(".to").evaluate_all(f"all => all.map({HAS_ROOM_OR_IS_HIDDEN})") == expected
        assert {box["height"] for one in page.locator(".to").all() if (box := one.bounding_box())} == {20}


def test_on_one_line_of_the_quarantine_the_subject_has_what_its_badge_leaves(site, new_page):
    site.keep("A subject of several words " * 6, box=Box.QUARANTINE)
    page = new_page(width=1280, height=800)
    page.goto(f"{site.origin}/quarantine")
    row = page.locator(".row-link")
    subject, badge = (row.locator(part).bounding_box() for part in (".what", ".badge"))
    assert badge["x"] - subject["x"] - subject["width"] < 24


def test_no_key_of_the_help_touches_its_words(site, page):
    page.goto(site.origin)
    page.keyboard.press("?")
    page.locator("#help").wait_for()
    gaps = page.locator(".keys div").evaluate_all("""all => all.map((one) => {
        const keys = [...one.querySelectorAll("kbd")].map((key) => key.getBoundingClientRect().right);
        return one.querySelector("dd").getBoundingClientRect().left - Math.max(...keys);
    })""")
    assert len(gaps) == 10
    assert min(gaps) >= 8


def test_all_methods_on_the_page_of_the_api_are_as_wide(site, page):
    page.goto(f"{site.origin}/api/")
    widths = page.locator(".api-index .method").evaluate_all("all => all.map((one) => one.offsetWidth)")
    assert len(set(widths)) == 1


def test_the_name_of_the_user_is_in_sight(serve, new_page):
    site = serve(password=True)
    for width in (1280, 900, 390):
        page = new_page(width, 800)
        page.goto(f"{site.origin}/login")
        page.get_by_label("Name").fill("maria.of.a.long.name@example.com")
        page.get_by_label("Password").fill("secret")
        page.keyboard.press("Enter")
        page.locator(".user").get_by_text("maria").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator(".user").bounding_box()
        assert box["width"] > 30
        for tool in page.locator(".side-tools > *").all():
            assert tool.bounding_box()["x"] + 36 <= width
    page.set_viewport_size({"width": 320, "height": 800})  # there the tools need all of it
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
