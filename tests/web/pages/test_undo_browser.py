"""Deleting one message in a browser: no question, and some seconds to undo it."""

import re

import pytest
from gatepost.store import Box, State

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.real("chromium-headless-shell"), pytest.mark.long]


UNDO_SECONDS = 60


@pytest.fixture
def site(serve):
    """A desk that offers to undo for longer, since a browser may be slow."""
    return serve(undo_seconds=UNDO_SECONDS)


def expect_subjects(page, *subjects):
    sync_api.expect(page.locator(".row .subject")).to_have_text(list(subjects))


@pytest.mark.parametrize("by_key", [False, True])
@pytest.mark.parametrize("box", Box)
def test_the_open_message_goes_at_once_and_comes_back_open_and_in_its_place(site, page, by_key, box):
    site.keep("One", box=box)
    kept_id = site.keep("Two", box=box, to=("bob+signup@example.net",))
    site.keep("Three", box=box)
    page.goto(f"{site.origin}/quarantine" if box is Box.QUARANTINE else site.origin)
    page.locator(".row").get_by_text("Two", exact=True).click()
    page.get_by_role("heading", name="Two").wait_for()
    if by_key:
        page.keyboard.press("#")
    else:
        page.locator(".message-tools").get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="One").wait_for()
    expect_subjects(page, "Three", "One")
    sync_api.expect(page.locator(".notice")).to_contain_text("Deleted: Two")
    assert [one.id for one in site.kept(state=State.DELETED)] == [kept_id]
    if by_key:
        page.keyboard.press("z")
    else:
        page.get_by_role("button", name="Undo").click()
    page.get_by_role("heading", name="Two").wait_for()
    expect_subjects(page, "Three", "Two", "One")
    page.locator(f"#m-{kept_id}[data-open]").wait_for()
    sync_api.expect(page.locator(f"#m-{kept_id}.is-unread")).to_have_count(0)
    sync_api.expect(page).to_have_url(re.compile(f"^{re.escape(site.origin)}/messages/{kept_id}([?].*)?$"))
    sync_api.expect(page.locator(".notice")).to_have_count(0)
    assert site.kept(state=State.DELETED) == []
    page.get_by_label("Search").first.fill("signup")
    expect_subjects(page, "Two")


SLOW_TEXT = """() => {
  const real = window.fetch;
  window.fetch = async (...asked) => {
    window.fetch = real;
    const answer = await real(...asked);
    const text = async () => {
      const read = await answer.text();
      const waiting = new Promise((done) => (window.arrived = done));
      document.body.dataset.arrives = "";
      await waiting;
      return read;
    };
    return { ok: answer.ok, status: answer.status, text };
  };
}"""
"""The text of the next answer arrives when the test says so, after its head."""


def test_a_list_that_was_asked_for_before_a_search_does_not_come_after_it(site, page):
    site.keep("One")
    site.keep("Two", to=("bob+signup@example.net",))
    page.goto(site.origin)
    expect_subjects(page, "Two", "One")
    page.evaluate(SLOW_TEXT)
    site.keep("Three")
    page.locator("body[data-arrives]").wait_for()
    page.get_by_label("Search").first.fill("signup")
    expect_subjects(page, "Two")
    page.evaluate("async () => { arrived(); await new Promise((done) => setTimeout(done, 50)); }")
    expect_subjects(page, "Two")


def test_several_are_undone_one_after_the_other_with_the_last_one_first(site, page):
    ids = [site.keep(subject) for subject in ("One", "Two", "Three", "Four")]
    page.goto(site.origin)
    expect_subjects(page, "Four", "Three", "Two", "One")
    page.keyboard.press("j")
    page.keyboard.press("j")
    undo = sync_api.expect(page.locator(".undo"))
    for number, left in enumerate((["Four", "Two", "One"], ["Four", "One"], ["Four"]), 1):
        page.keyboard.press("#")
        expect_subjects(page, *left)
        undo.to_have_count(number)
    page.keyboard.press("#")
    page.get_by_text("Waiting for mail").wait_for()
    undo.to_have_count(4)
    shown = page.locator(".notice:visible")
    for subject, left in (
        ("Four", ["Four"]),
        ("One", ["Four", "One"]),
        ("Two", ["Four", "Two", "One"]),
        ("Three", ["Four", "Three", "Two", "One"]),
    ):
        sync_api.expect(shown).to_have_count(1)
        sync_api.expect(shown).to_contain_text(subject)
        page.keyboard.press("z")
        expect_subjects(page, *left)
    sync_api.expect(page.locator(".row.is-unread")).to_have_count(4)
    assert [one.id for one in site.kept()] == ids[::-1]


@pytest.mark.parametrize("opened", [False, True])
def test_the_next_message_has_the_focus_though_the_list_was_there_before_the_answer(site, page, opened):
    for subject in ("One", "Two", "Three", "Four"):
        site.keep(subject)
    page.goto(site.origin)
    expect_subjects(page, "Four", "Three", "Two", "One")
    held = []
    page.route("**/*", lambda route: hold_back(route, held))
    for _ in range(2):
        page.keyboard.press("j")
    if opened:
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Three").wait_for()
    page.keyboard.press("#")
    expect_subjects(page, "Four", "Two", "One")  # as another page would see it
    ((route, answer),) = held
    route.fulfill(response=answer)
    page.get_by_role("button", name="Undo").wait_for()
    if opened:
        page.get_by_role("heading", name="Two").wait_for()
    page.keyboard.press("#")
    expect_subjects(page, "Four", "One")


def hold_back(route, held):
    if route.request.method == "POST" and not held:
        held.append((route, route.fetch()))
    else:
        route.continue_()


def test_a_message_far_down_the_list_comes_back_there_and_nothing_else_moves(site, new_page, message):
    site.keep_all(*(message(f"Number {number}") for number in range(70)))
    page, other = new_page(), new_page()
    for one in (page, other):
        one.goto(site.origin)
        one.locator("#list").evaluate("list => list.scrollTop = 1e6")
        one.get_by_text("Number 0", exact=True).wait_for()
    page.get_by_role("checkbox", name="Select Number 9", exact=True).check()
    page.keyboard.press("#")
    assert not page.locator("#confirm").is_visible()
    sync_api.expect(page.locator(".row")).to_have_count(69)
    page.get_by_role("button", name="Undo").wait_for()
    scrolled = page.locator("#list").evaluate("list => list.scrollTop")
    page.keyboard.press("z")
    sync_api.expect(page.locator(".row")).to_have_count(70)
    expect_subjects(page, *(f"Number {number}" for number in range(69, -1, -1)))
    assert page.locator("#list").evaluate("list => list.scrollTop") > 1000
    assert abs(page.locator("#list").evaluate("list => list.scrollTop") - scrolled) < 80


def test_after_some_seconds_it_is_too_late(site, page):
    site.keep("One")
    site.keep("Two")
    page.clock.install()
    page.goto(site.origin)
    page.locator(".row").get_by_text("Two", exact=True).click()
    page.get_by_role("heading", name="Two").wait_for()
    page.keyboard.press("#")
    page.get_by_role("button", name="Undo").wait_for()
    page.clock.fast_forward((UNDO_SECONDS - 30) * 1000)
    page.get_by_role("button", name="Undo").wait_for()
    page.clock.fast_forward(30_000)
    page.get_by_role("button", name="Undo").wait_for(state="detached")
    page.keyboard.press("z")
    expect_subjects(page, "One")
    assert len(site.kept()) == 1


def test_a_page_that_is_closed_leaves_nothing_that_was_deleted(site, new_page):
    site.keep("One")
    page, other = new_page(), new_page()
    for one in (page, other):
        one.goto(site.origin)
    page.locator(".row-link").click()
    page.get_by_role("heading", name="One").wait_for()
    page.keyboard.press("#")
    page.get_by_role("button", name="Undo").wait_for()
    page.close()
    other.get_by_text("Waiting for mail").wait_for()
    assert site.kept() == []


def test_a_server_that_is_gone_says_that_nothing_was_undone(site, browser):
    site.keep("One")
    context = browser.new_context()  # it may say that it cannot reach the process
    page = context.new_page()
    page.goto(site.origin)
    page.locator(".row-link").click()
    page.get_by_role("heading", name="One").wait_for()
    page.keyboard.press("#")
    undo = page.get_by_role("button", name="Undo")
    undo.wait_for()
    site.stop_process()
    undo.click()
    page.get_by_text("The message is still deleted.").wait_for()
    site.start()
    undo.click()
    page.get_by_text("It is too late").wait_for()
    sync_api.expect(undo).to_have_count(0)
    context.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_several_at_once_ask_first(site, new_page, width):
    for subject in ("One", "Two", "Three"):
        site.keep(subject)
    page = new_page(width=width, height=800)
    page.goto(site.origin)
    for subject in ("One", "Two"):
        page.get_by_role("checkbox", name=f"Select {subject}").check()
    delete = page.locator(".list-tools").get_by_role("button", name="Delete", exact=True)
    delete.click()
    page.get_by_text("Delete 2 messages permanently?").wait_for()
    page.get_by_role("button", name="Cancel").click()
    assert len(site.kept()) == 3
    page.get_by_role("checkbox", name="Select One").uncheck()
    delete.click()
    expect_subjects(page, "Three", "One")
    box = page.get_by_role("button", name="Undo").bounding_box()
    assert box["x"] + box["width"] <= width
    assert box["height"] >= 24
    page.get_by_role("button", name="Undo").click()
    expect_subjects(page, "Three", "Two", "One")
