"""The desk over a real store: asked within the test, or served by a process of its own to a browser."""

import asyncio
import contextlib
import json
import multiprocessing
import shutil
import socket
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import argon2
import httpx
import pytest
from gatepost.config.store import StoreSettings
from gatepost.model.mail import Stage, new_id
from gatepost.model.user import Role, User
from gatepost.model.verdict import Action, Evaluation, Match, Reply, Result
from gatepost.store import Box, Kept, KeptQuery, open_desk_sessions, open_store
from gatepost.testing import make_message, make_record, make_transaction
from gatepost.web.accounts import Accounts
from gatepost.web.actions import Actions
from gatepost.web.api import OPERATIONS
from gatepost.web.app import create_app
from gatepost.web.desk import Desk
from gatepost.web.sessions import UNUSED_SECONDS
from gatepost.web.shared_sessions import SharedSessions
from starlette.routing import Mount

sys.path.insert(0, str(Path(__file__).parents[2] / "store"))
from postgres_server import PostgresServer

SETTINGS = StoreSettings(url="sqlite:///gatepost.db")
DESKS = multiprocessing.get_context("forkserver")
DESKS.set_forkserver_preload(["gatepost.process.desk_settings", "gatepost.web"])  # once for all desks
SERVE = """
import json
from datetime import UTC, datetime
from gatepost.config.store import StoreSettings
from gatepost.config.web import WebSettings
from gatepost.model.verdict import Reply
from gatepost.config import load
from gatepost.process.desk_settings import DeskSettings
from gatepost.web import Accounts, run, trash
from gatepost.web.actions import Actions
from gatepost.web.lists import Lists
from gatepost.web.pages import messages

trash.UNDO_SECONDS = messages.UNDO_SECONDS = options.get("undo_seconds", trash.UNDO_SECONDS)

def release(message, to):
    with (folder / "released").open("a") as file:
        file.write(json.dumps([message.id, to]) + "\\n")
    return Reply.parse((folder / "answer").read_text())

def lists():
    # no gateway runs that could reload
    settings = DeskSettings(load(folder / "rules.yaml"), folder / "rules.yaml")
    settings._have_reloaded = lambda change: None
    return Lists(used=settings.used_lists, change=settings.change_list)

def sign_on():
    from gatepost.config.oidc import OidcSettings
    from gatepost.web.oidc.sign_on import SignOn

    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    return SignOn(OidcSettings.model_validate_json(options["oidc"].replace("ORIGIN", origin)))

run(
    WebSettings(
        base_path=options.get("base_path", "/"),
        hosts=options.get("hosts", "desk.example"),
        **({"forwarded_from": options["forwarded_from"]} if "forwarded_from" in options else {}),
    ),
    StoreSettings(url="sqlite:///gatepost.db"),
    folder,
    accounts=Accounts(
        password=(folder / "password").read_text().strip() if options.get("password") else None,
        sign_on=sign_on() if options.get("oidc") else None,
    ),
    listener=listener,
    feed=None,
    lifeline=lifeline.fileno(),
    mode=options.get("mode", "gateway"),
    actions=Actions(release=release, lists=lists() if options.get("lists") else None),
    smtp=("127.0.0.1:2599",),
    started_at=datetime.now(UTC),
    shutdown_seconds=1,
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
    opened = open_store(SETTINGS, tmp_path)
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
        async with asyncio.timeout(30):
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

    actions = Actions(release=release)
    with Desk.open(SETTINGS, tmp_path, mode="gateway", actions=actions, smtp=("127.0.0.1:2599",)) as opened:
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


@pytest.fixture(scope="session")
def postgresql():
    """A server that stores what desks share; a test that stops it starts it again."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
async def shared_store(postgresql, tmp_path):
    """The settings of a store that several nodes have; it is empty."""
    settings = StoreSettings(url=postgresql.clean_schema())
    opened = open_store(settings, tmp_path)
    yield settings
    await opened.close()


@pytest.fixture
async def node_of(shared_store, tmp_path):
    """The desks of several nodes with one store, and a browser for each, with these accounts."""
    async with contextlib.AsyncExitStack() as stack:

        async def node(accounts, **options):
            desk = stack.enter_context(Desk.open(shared_store, tmp_path, mode="gateway"))
            sessions = SharedSessions(open_desk_sessions(shared_store, unused_seconds=UNUSED_SECONDS))
            stack.callback(sessions.close)
            app = create_app(desk, accounts=accounts, sessions=sessions, **options)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8025")
            return SimpleNamespace(
                app=app, desk=desk, accounts=accounts, http=await stack.enter_async_context(http)
            )

        yield node


class Site:
    """A desk in a process of its own."""

    def __init__(self, folder, **options):
        self.folder = folder
        self._apart = ThreadPoolExecutor(1)  # Playwright has its event loop in this thread
        self.keep_all()
        (folder / "answer").write_text("250 2.0.0 Ok: queued as 4711")
        (folder / "password").write_text("secret\n")
        self._options = options
        self._port = 0
        self.start()

    def start(self):
        """Start it; again on the same port after `stop_process`."""
        with socket.create_server(("127.0.0.1", self._port)) as listener:
            self._port = listener.getsockname()[1]
            self.origin = f"http://127.0.0.1:{self._port}"
            watched, self.lifeline = socket.socketpair()
            given = {"folder": self.folder, "options": self._options, "listener": listener}
            with watched:
                given["lifeline"] = watched
                self.process = DESKS.Process(target=exec, args=(SERVE, given), daemon=True)
                self.process.start()

    def keep_all(self, *messages):
        """Keep what `message_to_keep` made, as the SMTP server's process does; gives the ids."""

        async def commit():
            store = open_store(SETTINGS, self.folder)
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

    def wait(self):
        """Wait for the process to end; its exit status."""
        self.process.join(30)
        return self.process.exitcode

    def stop_process(self):
        self.process.terminate()
        try:
            return self.wait()
        finally:
            self.process.kill()
            self.lifeline.close()

    def stop(self):
        try:
            return self.stop_process()
        finally:
            self._apart.shutdown()


@pytest.fixture
def serve(tmp_path):
    """Serve a desk with these options."""
    with contextlib.ExitStack() as stopping:

        def start(name=".", **options):
            (folder := tmp_path / name).mkdir(exist_ok=True)
            site = Site(folder, **options)
            stopping.callback(site.stop)
            return site

        yield start


@pytest.fixture
def site(serve):
    return serve()


@pytest.fixture(scope="module")
def browser_program():
    """Chromium's engine without its window and its viewers, for half of the processor time."""
    return "chromium-headless-shell"


@pytest.fixture(scope="module")
def browser(browser_program):
    """One for all tests of a module, which has no asynchronous ones: Playwright's loop runs meanwhile."""
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect.set_options(timeout=30_000)
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=shutil.which(browser_program), args=["--no-sandbox"]
        )
        yield opened
        opened.close()


@pytest.fixture
def new_page(browser):
    """A page of a size and theme; errors of scripts and violated policies fail the test.

    So do requests with an error status, unless it is ``expected``.
    """
    problems, contexts = [], []

    def opened(width=1440, height=900, *, expected=0, **options):
        refused = f"Failed to load resource: the server responded with a status of {expected} "

        def hear(said):
            if said.type == "error" and not said.text.startswith(refused):
                problems.append(said.text)

        def fail(request):
            if request.failure != "net::ERR_ABORTED":  # a page that is left asks for nothing any more
                problems.append(f"{request.url}: {request.failure}")

        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(30_000)
        page.set_default_navigation_timeout(60_000)  # the first page waits for the process to start
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", fail)
        page.on("console", hear)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def page(new_page):
    return new_page()


@pytest.fixture(scope="session")
def hashed():
    """Hash a password, as cheaply as can be."""
    return argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash


@pytest.fixture(scope="session")
def hashes(hashed):
    """Of users with the names of the roles: ``reader's secret``, and so on."""
    return {str(role): hashed(f"{role}'s secret") for role in Role}


@pytest.fixture(scope="session")
def accounts(hashes):
    """Accounts of these users."""
    users = [User(name=str(role), role=role) for role in Role]
    return lambda **options: Accounts(users=users, hashes=hashes, **options)


@pytest.fixture(scope="session")
def routes():
    """All routes of an application, each with its path; but static files, which everybody may read."""

    def find(found, prefix=""):
        for route in found:
            if not isinstance(route, Mount):
                yield f"{prefix}{route.path}", route
            elif route.path != "/static":
                yield from find(route.routes, f"{prefix}{route.path}")

    return lambda app: list(find(app.routes))


@pytest.fixture(scope="session")
def requests(routes):
    """Every kind of request to an application, ``METHOD /path``, with what it needs."""
    methods = defaultdict(set)
    for one in OPERATIONS:
        methods[f"/api/v1{one.path}"].add(one.method)

    def find(app):
        for path, route in routes(app):
            for method in sorted(methods.get(path) or route.methods or {"GET"}):
                if method != "HEAD":
                    yield f"{method} {path}", route.need(method)

    return find
