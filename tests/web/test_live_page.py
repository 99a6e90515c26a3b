"""The live page in a browser."""

import asyncio
import re
import shutil
import threading
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
import uvicorn
from gatepost.events import Line
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

        asyncio.run_coroutine_threadsafe(calling(), self.loop).result(5)

    def say(self, session_id, said):
        lines = [
            Line(at=datetime.now(UTC), session_id=session_id, direction=who, data=data) for who, data in said
        ]
        self.call(self.hub.put, lines)


@contextmanager
def served():
    site = Site()
    site.thread.start()
    site.started.wait(10)
    try:
        yield site
    finally:
        site.server.should_exit = True
        site.thread.join(10)


@pytest.fixture
def site():
    with served() as served_site:
        yield served_site


@pytest.fixture
def page():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 600})
        opened.set_default_timeout(10_000)
        opened.problems = []
        opened.on("pageerror", lambda error: opened.problems.append(str(error)))
        opened.on("console", lambda said: said.type == "error" and opened.problems.append(said.text))
        yield opened
        assert opened.problems == []
        browser.close()


def texts(page):
    return page.locator(".line-text").all_inner_texts()


pytestmark = pytest.mark.real("chromium")


def test_lines_appear_as_they_are_said_as_text(site, page):
    page.goto(f"{site.origin}/live")
    page.get_by_text("Nothing has been said yet.").wait_for()
    site.say("01m84session0001", HELLO)
    page.locator(".line").nth(4).wait_for()
    assert texts(page) == [data.decode().rstrip() for _, data in HELLO]
    assert page.title().startswith("Live")
    assert page.locator(".line-server.reply-5").count() == 1
    assert page.locator(".session-client").inner_text() == "192.0.2.1"
    assert page.locator(".session-reply").inner_text() == "550 5.7.1 No"


def test_pause_holds_lines_back_and_resume_shows_them(site, page):
    page.goto(f"{site.origin}/live")
    page.get_by_role("button", name="Pause").click()
    site.say("01m84session0001", HELLO)
    page.get_by_text("Paused, 5 lines wait").wait_for()
    assert texts(page) == []
    page.get_by_role("button", name="Resume").click()
    assert len(texts(page)) == 5
    page.get_by_role("button", name="Clear").click()
    assert texts(page) == []


def test_a_filter_shows_the_sessions_of_an_address_and_stays_in_the_url(site, page):
    page.goto(f"{site.origin}/live")
    site.say("01m84session0001", HELLO)
    site.say("01m84session0002", OTHER)
    page.locator(".line").nth(6).wait_for()
    page.get_by_role("searchbox").fill("bob@")
    page.get_by_role("searchbox").press("Enter")
    page.locator(".line").nth(1).wait_for()
    assert texts(page) == [data.decode().rstrip() for _, data in OTHER]
    page.reload()
    page.locator(".line").nth(1).wait_for()
    assert page.get_by_role("searchbox").input_value() == "bob@"
    assert len(texts(page)) == 2


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


def test_a_flood_is_shown_as_far_as_a_page_can_hold_it(site, page):
    page.goto(f"{site.origin}/live")
    page.get_by_text("Live", exact=True).nth(2).wait_for()
    for number in range(6):
        site.say(f"01m84session000{number}", [("C", b"NOOP %d\r\n" % line) for line in range(1000)])
    site.say("01m84session0009", [("C", b"the last line\r\n")])
    page.get_by_text("the last line").wait_for()
    assert page.locator(".line").count() <= 1500
    assert re.fullmatch(r"Live, [\d,]+ lines not shown", page.locator("[data-live=state]").inner_text())
