"""Clients behind proxies: who is counted, logged and noted, and that nobody chooses it."""

import asyncio
import re
import shutil
import subprocess
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from gatepost.store import Box
from gatepost.web.forwarded import forwarded_client
from ports import free_port

PROXIES = (ip_network("10.0.0.0/24"), ip_network("2001:db8:a::/48"))
HAPROXY = (Path(__file__).parents[3] / "deploy" / "cluster" / "haproxy.cfg").read_text()


@pytest.mark.parametrize(
    ("peer", "field", "client"),
    [
        ("10.0.0.10", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.10", ["198.51.100.9, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.10", ["198.51.100.9", "192.0.2.7"], "192.0.2.7"),
        ("10.0.0.10", ["<script>, 10.0.0.1, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.10", ["198.51.100.9, 192.0.2.7, 10.0.0.11,10.0.0.12"], "192.0.2.7"),
        ("10.0.0.10", ["10.0.0.30, 10.0.0.11"], "10.0.0.30"),
        ("10.0.0.10", ["2001:DB8::7"], "2001:db8::7"),
        ("2001:db8:a::1", ["192.0.2.7, 2001:db8:a::2"], "192.0.2.7"),
        ("::ffff:10.0.0.10", ["::ffff:192.0.2.7"], "192.0.2.7"),
        (None, ["192.0.2.7"], "192.0.2.7"),
        (None, [], None),
        (None, ["x"], None),
        ("10.0.0.10", [], "10.0.0.10"),
        ("10.0.0.10", [""], "10.0.0.10"),
        ("10.0.0.10", ["192.0.2.7, unknown"], "10.0.0.10"),
        ("10.0.0.10", ["192.0.2.7,"], "10.0.0.10"),
        ("10.0.0.10", ["192.0.2.7:4711"], "10.0.0.10"),
        ("10.0.0.10", ["192.0.2.7, x, 10.0.0.11"], "10.0.0.10"),
        ("10.0.0.10", ["fe80::1%' user='bob"], "10.0.0.10"),
        ("192.0.2.66", ["192.0.2.7"], "192.0.2.66"),
        ("10.0.1.10", ["192.0.2.7"], "10.0.1.10"),
        ("not an address", ["192.0.2.7"], "not an address"),
    ],
    ids=str,
)
def test_the_client_is_the_last_address_that_is_no_proxy(peer, field, client):
    assert forwarded_client(peer, field, PROXIES) == client


async def guess(http, *field):
    headers = [("x-forwarded-for", one) for one in field]
    return (await http.post("/login", data={"password": "x"}, headers=headers)).status_code


@pytest.fixture
def no_pause(monkeypatch):
    async def at_once(_seconds):
        pass

    monkeypatch.setattr(asyncio, "sleep", at_once)


@pytest.mark.usefixtures("no_pause")
async def test_wrong_passwords_are_counted_for_each_client_of_a_proxy(client_of):
    async with client_of(password="secret", forwarded_from=[ip_network("127.0.0.1")]) as http:
        statuses = [await guess(http, f"198.51.100.{number}", "192.0.2.66") for number in range(12)]
        assert statuses == [403] * 10 + [429] * 2, "whatever it has written itself"
        assert await guess(http, "192.0.2.7") == 403
        entered = await http.post("/login", data={"password": "secret"}, headers={"x-forwarded-for": "::7"})
        assert entered.status_code == 303


@pytest.mark.usefixtures("no_pause")
async def test_of_an_unknown_proxy_the_field_is_ignored(client_of):
    for networks in ([], [ip_network("10.0.0.0/8")]):
        async with client_of(password="secret", forwarded_from=networks) as http:
            statuses = [await guess(http, f"192.0.2.{number}") for number in range(12)]
        assert statuses == [403] * 10 + [429] * 2


@pytest.mark.usefixtures("no_pause")
async def test_log_and_audit_log_name_the_client(client_of, accounts, caplog):
    caplog.set_level("INFO", "gatepost.audit")
    async with client_of(accounts=accounts(), forwarded_from=[ip_network("127.0.0.1")]) as http:
        await guess(http, "198.51.100.9, 192.0.2.7")
    said = [one.getMessage() for one in caplog.records]
    assert "web desk: wrong password client=192.0.2.7" in said
    assert "audit login failed client=192.0.2.7" in said
    assert [one.msg.fields()["client"] for one in caplog.records if "audit" in one.getMessage()] == [
        "192.0.2.7"
    ]


@contextmanager
def behind_haproxy(folder, desk):
    """The address of HAProxy with the desk's part of the settings of a cluster; its own is 127.0.0.9."""
    port = free_port()
    general, _, rest = HAPROXY.partition("frontend smtp\n")
    text = "".join((general, *rest.partition("frontend desk\n")[1:]))
    for what, by in (
        (r"maxconn \d+", "maxconn 100"),
        (r"bind :443 .*", f"bind 127.0.0.1:{port}"),
        (r"server mx1 .*", f"server mx1 {urlsplit(desk).netloc} source 127.0.0.9"),
        (r"server mx2 .*", ""),
    ):
        text, changed = re.subn(what, by, text)
        assert changed == 1, what
    (folder / "haproxy.cfg").write_text(text)
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    with subprocess.Popen([haproxy, "-db", "-f", folder / "haproxy.cfg"]) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.mark.real("haproxy")
def test_behind_the_haproxy_of_a_cluster_a_client_cannot_choose_its_address(serve, tmp_path):
    site = serve(forwarded_from="127.0.0.9")
    forged = {"x-forwarded-for": "198.51.100.7"}
    with behind_haproxy(tmp_path, site.origin) as proxy:
        for origin, client in ((proxy, "127.0.0.5"), (site.origin, "127.0.0.6")):
            kept_id = site.keep(box=Box.QUARANTINE)
            transport = httpx.HTTPTransport(retries=5, local_address=client)
            with httpx.Client(transport=transport, timeout=60) as http:
                done = http.post(f"{origin}/api/v1/quarantine/{kept_id}/release", headers=forged)
            assert done.status_code == 200, done.text
            (found,) = site.kept(id=kept_id, state=None)
            assert found.changed_by == f"web desk ({client})"
