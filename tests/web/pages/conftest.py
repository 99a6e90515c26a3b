"""The desk over a real store: asked within the test, or served by a process of its own to a browser."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
from gatepost.config.settings import StoreSettings
from gatepost.mail import Stage, new_id
from gatepost.store import Box, Kept, KeptQuery, Store
from gatepost.testing import make_message, make_record, make_transaction
from gatepost.verdict import Action, Evaluation, Match, Reply, Result
from gatepost.web.app import create_app
from gatepost.web.desk import Desk

SETTINGS = StoreSettings(url="sqlite:///gatepost.db")
SERVE = """
import json, socket, sys
from pathlib import Path
from gatepost.config.settings import StoreSettings, WebSettings
from gatepost.verdict import Reply
from gatepost.web import run

folder, options = Path(sys.argv[1]), json.loads(sys.argv[4])
listener, lifeline = int(sys.argv[2]), int(sys.argv[3])

def release(message, to):
    with (folder / "released").open("a") as file:
        file.write(json.dumps([message.id, to]) + "\\n")
    return Reply.parse((folder / "answer").read_text())

run(
    WebSettings(password_file=folder / "password" if options.get("password") else None),
    StoreSettings(url="sqlite:///gatepost.db"),
    folder,
    listener=socket.socket(fileno=listener),
    feed=None,
    lifeline=lifeline,
    mode=options.get("mode", "gateway"),
    release=release,
    smtp=("127.0.0.1:2599",),
)
"""


def message_to_keep(
    subject="Hello", *, box=Box.INBOX, content=None, to=("bob@example.net",), reason="", **parts
):
    """A transaction's record and what is kept of it."""
    transaction = make_transaction(
        content or make_message(subject=subject, **{"text": "Hello Bob.\r\n", **parts}),
        mail_from="ann@example.com",
        recipients=to,
    )
    rule = "words" if box is Box.QUARANTINE else None
    disposition = "quarantined" if box is Box.QUARANTINE else "inbox"
    evaluation = Evaluation(
        rule="words",
        stage=Stage.MESSAGE,
        result=Result.HIT,
        action=Action.QUARANTINE,
        observed=box is Box.INBOX,
        reason='"hello" in subject',
        recipients=(),
        seconds=0.0123,
        matches=(Match(where="subject", text=subject),),
    )
    record = replace(make_record(transaction, disposition=disposition, rule=rule), evaluations=(evaluation,))
    return record, Kept(
        id=new_id(),
        box=box,
        mail_from="ann@example.com",
        recipients=to,
        prepended=b"Received: from client.example.org; Mon, 23 Nov 2026 18:00:00 +0000\r\n",
        content=transaction.message.content,
        rule=rule,
        reason=reason,
    )


@pytest.fixture
def message():
    """A message for `Site.keep_all`."""
    return message_to_keep


@pytest.fixture
async def store(tmp_path):
    opened = Store.open(SETTINGS, tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def keep(store):
    """Keep a message; gives its id."""

    async def keep_one(*args, **fields):
        record, kept = message_to_keep(*args, **fields)
        await store.commit(record, (kept,))
        return kept.id

    return keep_one


@pytest.fixture
def until():
    """Wait until what is asked for gives what is expected; the index follows the store in a moment."""

    async def wait(ask, expected):
        async with asyncio.timeout(10):
            while await ask() != expected:
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def desk(store, tmp_path):
    """A gateway's desk; its ``released`` are the calls, ``answer`` is what the server behind says."""
    noted = SimpleNamespace(released=[], answer="250 2.0.0 Ok: queued")

    def release(message, to):
        noted.released.append((message.id, to))
        return Reply.parse(noted.answer)

    with Desk.open(SETTINGS, tmp_path, mode="gateway", release=release, smtp=("127.0.0.1:2599",)) as opened:
        opened.noted = noted
        yield opened


@pytest.fixture
def client_of(desk):
    """HTTP clients of the application with these settings; an error in a page is an answer."""

    @contextlib.asynccontextmanager
    async def client(address=("127.0.0.1", 8025), **settings):
        transport = httpx.ASGITransport(
            create_app(desk, address=address, **settings), raise_app_exceptions=False
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8025") as opened:
            yield opened

    return client


@pytest.fixture
async def http(client_of):
    async with client_of() as client:
        yield client


class Site:
    """A desk in a process of its own."""

    def __init__(self, folder, **options):
        self.folder = folder
        self._apart = ThreadPoolExecutor(1)  # Playwright has its event loop in this thread
        self.keep_all()
        (folder / "answer").write_text("250 2.0.0 Ok: queued as 4711")
        (folder / "password").write_text("secret\n")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
            watched, self.lifeline = os.pipe()
            arguments = [str(folder), str(listener.fileno()), str(watched), json.dumps(options)]
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, *arguments], pass_fds=(listener.fileno(), watched)
            )
            os.close(watched)

    def keep_all(self, *messages):
        """Keep what `message_to_keep` made, as the SMTP server's process does; gives the ids."""

        async def commit():
            store = Store.open(SETTINGS, self.folder)
            for record, kept in messages:
                await store.commit(record, (kept,))
            await store.close()
            return [kept.id for _, kept in messages]

        return self._apart.submit(asyncio.run, commit()).result(30)

    def keep(self, *args, **fields):
        return self.keep_all(message_to_keep(*args, **fields))[0]

    def kept(self, **query):
        """What is in the store now."""
        with Desk.open(SETTINGS, self.folder, mode="gateway") as desk:
            return desk.archive.kept(KeptQuery(**query), limit=1000)

    def released(self):
        path = self.folder / "released"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            os.close(self.lifeline)
            self._apart.shutdown()


@pytest.fixture
def serve(tmp_path):
    """Serve a desk with these options."""
    with contextlib.ExitStack() as stopping:

        def start(**options):
            site = Site(tmp_path, **options)
            stopping.callback(site.stop)
            return site

        yield start


@pytest.fixture
def site(serve):
    return serve()


@pytest.fixture(scope="module")
def browser():
    """One for all tests of a module, which has no asynchronous ones: Playwright's loop runs meanwhile."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def new_page(browser):
    """A page of a size and theme; errors of scripts and violated policies fail the test."""
    problems, contexts = [], []

    def opened(width=1440, height=900, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: said.type == "error" and problems.append(said.text))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def page(new_page):
    return new_page()
