"""The live page in a browser."""

import asyncio
import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import uvicorn
from gatepost.traffic.events import event_of
from gatepost.web.app import create_app
from gatepost.web.desk import Desk
from gatepost.web.live import LiveHub

HELLO = [
    ("*", b"connected 192.0.2.1 5000"),
    ("S", b"220 mx.example.net ESMTP\r\n"),
    ("C", b"EHLO <img src=x onerror=document.title='owned'>\r\n"),
    ("C", b"MAIL FROM:<ann@example.com>\r\n"),
    ("S", b"550 5.7.1 No\r\n"),
]
OTHER = [("*", b"connected 198.51.100.7 5001"), ("C", b"MAIL FROM:<bob@example.net>\r\n")]


class Site:
    """A desk with nothing in it but live lines, served by a thread of its own."""

    def __init__(self):
        nothing = SimpleNamespace(
            changes=lambda: 1,
            counts=lambda: SimpleNamespace(inbox=0, quarantined=0, unread=0),
            statistics=lambda: None,
        )
        desk = Desk(mailbox=nothing, archive=nothing, conversations=None)
        app = create_app(desk)
        self.hub = app.state.live = LiveHub()
        self.server = uvicorn.Server(
            uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1)
        )
        self.started = threading.Event()
        self.thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    async def _serve(self):
        self.loop = asyncio.get_running_loop()
        serving = asyncio.create_task(self.server._serve())
        while not self.server.started:
            await asyncio.sleep(0.005)
        self.started.set()
        await serving

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def call(self, function: Callable[..., None], *args):
        """Call in the loop's thread, and wait for it."""

        async def calling():
            function(*args)

        asyncio.run_coroutine_threadsafe(calling(), self.loop).result(30)

    def say(self, session_id, said, *, node=""):
        lines = [
            event_of(at=time.time_ns() // 1000, session_id=session_id, direction=who, data=data)
            for who, data in said
        ]
        self.call(partial(self.hub.put, node=node), lines)


@contextmanager
def served():
    site = Site()
    site.thread.start()
    assert site.started.wait(30)
    try:
        yield site
    finally:
        site.server.should_exit = True
        site.thread.join(30)


@pytest.fixture
def site():
    with served() as served_site:
        yield served_site


@pytest.fixture
def page(new_page):
    return new_page(1280, 600)


def expect_texts(page, *lines):
    sync_api.expect(page.locator(".line-text")).to_have_text(list(lines))


sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.real("chromium-headless-shell")


@pytest.mark.long
def test_lines_appear_as_they_are_said_as_text(site, page):
    page.goto(f"{site.origin}/live")
    page.get_by_text("No conversation yet.").wait_for()
    site.say("01m84session0001", HELLO)
    expect_texts(page, *(data.decode().rstrip() for _, data in HELLO))
    sync_api.expect(page).to_have_title(re.compile("^Live"))
    sync_api.expect(page.locator(".line-server.reply-5")).to_have_count(1)
    sync_api.expect(page.locator(".session-client")).to_have_text("192.0.2.1")
    sync_api.expect(page.locator(".session-reply")).to_have_text("550 5.7.1 No")


@pytest.mark.long
def test_pause_holds_lines_back_and_resume_shows_them(site, page):
    page.goto(f"{site.origin}/live")
    page.get_by_role("button", name="Pause").click()
    site.say("01m84session0001", HELLO)
    page.get_by_text("Paused, 5 lines wait").wait_for()
    assert page.locator(".line-text").count() == 0
    page.get_by_role("button", name="Resume").click()
    lines = sync_api.expect(page.locator(".line-text"))
    lines.to_have_count(5)
    page.get_by_role("button", name="Clear").click()
    lines.to_have_count(0)


@pytest.mark.long
def test_a_filter_shows_the_sessions_of_an_address_and_stays_in_the_url(site, page):
    page.goto(f"{site.origin}/live")
    site.say("01m84session0001", HELLO)
    site.say("01m84session0002", OTHER)
    page.locator(".line").nth(6).wait_for()
    page.get_by_role("searchbox").fill("bob@")
    page.get_by_role("searchbox").press("Enter")
    expect_texts(page, *(data.decode().rstrip() for _, data in OTHER))
    page.reload()
    expect_texts(page, *(data.decode().rstrip() for _, data in OTHER))
    sync_api.expect(page.get_by_role("searchbox")).to_have_value("bob@")


@pytest.mark.long
def test_it_follows_until_somebody_scrolls_up(site, page):
    page.goto(f"{site.origin}/live")
    many = [("C", b"NOOP %d\r\n" % number) for number in range(200)]
    site.say("01m84session0001", many)
    page.get_by_text("NOOP 199").wait_for()
    at_the_end = "list => list.scrollTop + list.clientHeight >= list.scrollHeight - 2"
    lines = page.locator("[data-live=lines]")
    assert lines.evaluate(at_the_end)
    lines.hover()
    page.mouse.wheel(0, -400)
    page.locator("[data-live=follow]:not(:checked)").wait_for()
    site.say("01m84session0001", [("C", b"NOOP more\r\n")])
    page.get_by_text("NOOP more").wait_for(state="attached")
    assert not lines.evaluate(at_the_end)
    page.get_by_label("Follow").check()
    assert lines.evaluate(at_the_end)


@pytest.mark.long
def test_a_flood_is_shown_as_far_as_a_page_can_hold_it(site, page):
    page.goto(f"{site.origin}/live")
    page.get_by_text("Live", exact=True).nth(2).wait_for()
    for number in range(6):
        site.say(f"01m84session000{number}", [("C", b"NOOP %d\r\n" % line) for line in range(1000)])
    site.say("01m84session0009", [("C", b"the last line\r\n")])
    page.get_by_text("the last line").wait_for()
    assert page.locator(".line").count() <= 1500
    state = page.locator("[data-live=state]")
    sync_api.expect(state).to_have_text(re.compile(r"^Live, [\d,]+ lines not shown$"))


@pytest.mark.long
def test_a_narrow_page_says_from_which_node_lines_come(site, new_page):
    page = new_page(800, 600)
    page.goto(f"{site.origin}/live")
    site.say("01m84session0001", HELLO, node="mx-a")
    site.say("01m84session0002", OTHER, node="mx-b")
    site.say("01m84session0003", OTHER, node="mx-b")
    named = page.locator(".line-node:visible, .line-text")
    hello, other = ([data.decode().rstrip() for _, data in said] for said in (HELLO, OTHER))
    sync_api.expect(named).to_have_text(["on mx-a", *hello, "on mx-b", *other, *other])
    page.set_viewport_size({"width": 1280, "height": 600})
    sync_api.expect(named).to_have_text([*hello, *other, *other])
    sync_api.expect(page.locator(".session-node:visible")).to_have_text(["mx-b", "mx-b", "mx-a"])
