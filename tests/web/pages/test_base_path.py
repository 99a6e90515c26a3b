"""The desk below a path of a proxy: no address leads past it."""

import re
import shutil
import socket
import subprocess
from html import unescape
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import gatepost.web
import httpx
import pytest
from gatepost.store import Box
from ports import free_port

STATIC = Path(gatepost.web.__file__).parent / "static"
ADDRESS = re.compile(r'\s([\w:-]+)="(/[^"]*)"')
"""An attribute of a page with a path in it."""
TIME = re.compile(r"<time[^>]*>[^<]*</time>")
"""How long ago something was changes from one request to the next."""
PASSWORD = "correct horse"


@pytest.fixture
async def pages(desk, keep):
    """The pages from which all others can be reached, and a message's tabs."""
    await keep(html='<a href="https://shop.example/">x</a>', attachments={"a.txt": b"a"})
    held = await keep(box=Box.QUARANTINE, subject="Held", reason="words")
    tabs = ("html", "text", "headers", "source", "structure", "links", "checks", "verdicts", "conversation")
    return ["", "journal", "live", "overview", "api/", *(f"messages/{held}?tab={tab}" for tab in tabs)]


async def addresses_below(client, pages):
    """Follow all addresses from these pages on; returns them, once all are found to be below /mail/."""
    async with client as http:
        left, seen = [f"http://127.0.0.1:8025/mail/{page}" for page in pages], set()
        while left:
            if (url := left.pop().partition("#")[0]) in seen:
                continue
            seen.add(url)
            if url.endswith("/events"):  # has no end
                continue
            answer = await http.get(url, follow_redirects=True)
            assert answer.status_code == (404 if "/sessions/" in url else 200), url  # none is stored
            assert answer.url.path.startswith("/mail/")
            if not answer.headers["content-type"].startswith("text/html") or "/html" in url:
                continue
            for name, path in ADDRESS.findall(answer.text):
                assert f"{path}/".startswith("/mail/"), (url, name, path)
                if name in ("href", "src", "hx-get", "data-rows", "data-home", "data-events"):
                    left.append(urljoin(url, unescape(path)))
    return seen


async def test_every_address_in_every_page_is_below_it(client_of, pages):
    with (end := socket.socketpair())[0], end[1]:
        seen = await addresses_below(client_of(base_path="/mail", feed=end[0]), pages)
    found = {re.sub(r"01[0-9a-z]{14}", "ID", urlsplit(url).path) for url in seen}
    assert found >= {
        "/mail/", "/mail/quarantine", "/mail/quarantine/released", "/mail/messages/ID", "/mail/messages/list",
        "/mail/messages/ID/html", "/mail/messages/ID/download", "/mail/messages/ID/attachments/1",
        "/mail/journal/ID", "/mail/live/events", "/mail/overview", "/mail/api/",
        "/mail/api/openapi.json", "/mail/static/desk.css", "/mail/static/desk.js", "/mail/static/mail.js",
    }  # fmt: skip


def test_no_script_names_an_address_without_it():
    for script in sorted(STATIC.glob("[!h]*.js")):
        text = script.read_text()
        assert not re.findall(r"""(?<!\$=)["'`]/[a-z][^"'`]*""", text), script.name


async def test_a_proxy_may_pass_it_on_or_strip_it(client_of, pages):
    async with client_of(base_path="/mail") as http:
        for page in pages:
            passed, stripped = [await http.get(f"{base}/{page}") for base in ("/mail", "")]
            assert passed.status_code == stripped.status_code == 200
            assert ADDRESS.findall(passed.text) == ADDRESS.findall(stripped.text)
        bare, slash = [TIME.sub("", (await http.get(f"/mail{end}")).text) for end in ("", "/")]
        assert bare == slash
        assert (await http.get("/mailbox/")).status_code == 404
        assert (await http.get("/mail/healthz")).status_code == 200


@pytest.mark.parametrize("base", ["", "/mail", "/a/b-c"])
async def test_redirects_cookies_and_the_document_name_it(client_of, base):
    async with client_of(base_path=base, password=PASSWORD) as http:
        asked = await http.get(f"{base}/journal?q=x")
        assert asked.headers["location"] == f"{base}/login?next=%2Fjournal%3Fq%3Dx"
        part = await http.get(f"{base}/messages/list", headers={"hx-request": "true"})
        assert part.headers["hx-redirect"] == f"{base}/login"
        form = {"password": PASSWORD, "next": "/journal?q=x"}
        entered = await http.post(f"{base}/login", data=form, headers={"origin": "http://127.0.0.1:8025"})
        assert entered.headers["location"] == f"{base}/journal?q=x"
        assert f"; Path={base or '/'};" in entered.headers["set-cookie"]
        assert "Secure" not in entered.headers["set-cookie"]
        document = (await http.get(f"{base}/api/openapi.json")).json()
        assert document["servers"] == [{"url": base or "/"}]
        slash = await http.get(f"{base}/journal/?q=x")
        assert slash.headers["location"] == f"{base}/journal?q=x"
        assert (await http.get(f"{base}/api")).headers["location"] == f"{base}/api/"
        elsewhere = await http.get(f"{base}//evil.example/live/")
        assert not elsewhere.headers.get("location", "").startswith("//")
        left = await http.post(f"{base}/logout", headers={"origin": "http://127.0.0.1:8025"})
        assert f"; Path={base or '/'};" in left.headers["set-cookie"]
        assert (await http.get(f"{base}/journal")).status_code == 303


async def test_behind_https_of_a_proxy_the_cookie_is_for_https_only(client_of):
    async with client_of(password=PASSWORD) as http:
        form, headers = {"password": PASSWORD}, {"origin": "https://127.0.0.1:8025"}
        entered = await http.post("/login", data=form, headers=headers)
    assert "; Secure" in entered.headers["set-cookie"]


async def test_what_a_mail_says_is_not_changed(client_of, keep):
    said = 'see href="/live" and /live'
    kept = await keep(subject="/live", text=f"{said}\r\n", html=f'<a href="/live">{said}</a>')
    async with client_of(base_path="/mail") as http:
        page = await http.get(f"/mail/messages/{kept}?tab=text")
        assert said in unescape(page.text)
        assert "<bdi>/live</bdi>" in page.text
        assert "/mail" not in (await http.get(f"/mail/messages/{kept}/html")).text


PROXY = """
global
  log stdout local0 err
defaults
  mode http
  timeout connect 10s
  timeout client 60s
  timeout server 60s
frontend web
  bind 127.0.0.1:{port}
  use_backend strips if {{ path_beg /strips/ }}
  use_backend passes if {{ path_beg /passes/ }}
backend passes
  server desk {passes}
backend strips
  http-request replace-path /strips/(.*) /\\1
  server desk {strips}
"""


@pytest.fixture
def proxied(tmp_path, serve):
    """Addresses of a proxy that passes its path on or strips it, and the desk behind each."""
    ends = {name: serve(name, base_path=f"/{name}/") for name in ("passes", "strips")}
    port = free_port()
    places = {name: urlsplit(site.origin).netloc for name, site in ends.items()}
    (tmp_path / "haproxy.cfg").write_text(PROXY.format(port=port, **places))
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    with subprocess.Popen([haproxy, "-db", "-f", tmp_path / "haproxy.cfg"]) as process:
        yield {name: (f"http://127.0.0.1:{port}/{name}", site) for name, site in ends.items()}
        process.terminate()


@pytest.mark.long
@pytest.mark.real("haproxy", "chromium-headless-shell")
@pytest.mark.parametrize("how", ["passes", "strips"])
def test_the_desk_works_behind_a_real_proxy(proxied, new_page, how):
    address, site = proxied[how]
    asked = httpx.HTTPTransport(retries=5)
    with httpx.Client(transport=asked, timeout=60) as http:
        assert http.get(f"{address}/api/v1/info").status_code == 200
        assert http.get(f"{address}/").status_code == 200
    first = site.keep("First", html="<p>Hello</p>")
    page = new_page()
    asked_for = []
    page.on("request", lambda request: asked_for.append(request.url))
    page.goto(f"{address}/")
    page.locator(".row", has_text="First").wait_for()
    site.keep("Second")
    page.locator(".row", has_text="Second").wait_for()
    page.locator(".row", has_text="First").locator(".row-link").click()
    page.frame_locator("iframe").get_by_text("Hello").wait_for()
    page.wait_for_url(f"{address}/messages/{first}*")
    page.go_back()
    page.locator(".row", has_text="Second").locator(".row-link").click()
    page.locator(".message", has_text="Second").wait_for()
    page.keyboard.press("#")
    page.locator(".row", has_text="Second").wait_for(state="detached")
    page.locator(".message", has_text="First").wait_for()  # the next one is opened
    page.get_by_role("button", name="Undo").wait_for()
    page.keyboard.press("z")
    page.locator(".message", has_text="Second").wait_for()
    page.keyboard.press("Escape")
    page.fill("#search", "nothing-has-this")
    page.wait_for_url(f"{address}/?q=nothing-has-this")
    page.get_by_role("button", name="Switch between light and dark").click()
    page.get_by_role("link", name="Live").click()
    page.wait_for_url(f"{address}/live")
    (theme,) = [one for one in page.context.cookies() if one["name"] == "gatepost-theme"]
    assert theme["path"] == f"/{how}"
    assert page.locator("html").get_attribute("data-theme") == theme["value"]
    outside = {url for url in asked_for if not url.startswith((f"{address}/", "data:"))}
    assert not outside
