"""/healthz and /readyz answer anybody, and tell nobody more than yes or no."""

import pytest
from gatepost.metrics import SharedCounters
from gatepost.store import StoreError

PASSWORD = "correct horse"
READY = {"status": "ready", "checks": {"store": "ok"}}


def working():
    counters = SharedCounters(1)
    counters.take()
    return counters


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "gateway.internal:8025"},
        {"host": ""},
        {"host": "192.0.2.1", "user-agent": "kube-probe/1.31"},
        {"sec-fetch-site": "cross-site"},
        {"authorization": "Bearer wrong"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("path", "answered"), [("/healthz", {"status": "ok"}), ("/readyz", READY)])
async def test_anybody_may_ask_under_any_name(client_of, path, answered, headers):
    async with client_of(password=PASSWORD) as http:
        answer = await http.get(path, headers=headers)
        assert (answer.status_code, answer.json()) == (200, answered)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        assert (await http.head(path, headers=headers)).status_code == 200
        assert (await http.post(path, headers=headers)).status_code == 405


@pytest.mark.parametrize("path", ["/healthz/", "/readyz/x", "/readyz%2f..", "//readyz"])
async def test_no_other_path_is_open(client_of, path):
    async with client_of(password=PASSWORD) as http:
        assert (await http.get(path, headers={"host": "127.0.0.1"})).status_code in (303, 404)
        assert (await http.get(path, headers={"host": "other.example"})).status_code == 421


@pytest.mark.parametrize("broken", ["store", "workers", "rules", "connections", "upstreams"])
async def test_what_is_broken_is_named_without_details(client_of, desk, monkeypatch, broken):
    async def upstreams():
        return "mail.internal.example:25: Connection refused" if broken == "upstreams" else ""

    def full():
        raise StoreError("the store /var/lib/secret.db is full")

    if broken == "store":
        monkeypatch.setattr(desk.archive, "check_writable", full)
    counters = SharedCounters(1) if broken == "workers" else working()
    if broken == "rules":
        counters.publish(0, {("rules_out_of_service", "secret", "all"): 1})
    if broken == "connections":
        counters.publish(0, {("connections_out_of_service", "all"): 1})
    async with client_of(password=PASSWORD, counters=counters, upstreams=upstreams) as http:
        answer = await http.get("/readyz", headers={"authorization": f"Bearer {PASSWORD}"})
        assert answer.status_code == 503
        names = ("store", "workers", "rules", "connections", "upstreams")
        checks = dict.fromkeys(names, "ok") | {broken: "failed"}
        assert answer.json() == {"status": "not ready", "checks": checks}
        assert (await http.get("/healthz")).status_code == 200


async def test_a_rule_without_its_service_is_on_the_overview_and_only_one_that_all_mail_needs_is_not_ready(
    client_of,
):
    counters = working()
    counters.publish(0, {("rules_out_of_service", "sometimes", "other"): 1})
    async with client_of(counters=counters) as http:
        assert (await http.get("/readyz")).json()["checks"]["rules"] == "ok"
        page = (await http.get("/overview")).text
        assert "The rule sometimes has no connection to its service" in page
        counters.publish(0, {})
        assert "has no connection" not in (await http.get("/overview")).text
