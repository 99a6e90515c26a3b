"""A real Prometheus scrapes a running gateway as docs/rules.md says, with the alerts and dashboard."""

import json
import re
import subprocess
import textwrap
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml
from ports import free_port

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus-alerts.yaml"
PANELS = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())["panels"]
SCRAPING = re.search(
    r"^scrape_configs:\n(?:  .*\n)+", (ROOT / "docs" / "rules.md").read_text(), re.MULTILINE
)[0]
RULES = """
web: {address: "127.0.0.1:0", password_file: password}
rules: [{name: words, filter: keywords, with: {words: [viagra]}}]
"""


@pytest.fixture
def prometheus(tmp_path, wait_until):
    """Start one with a configuration; returns a function that asks its API."""
    started = []

    def start(configuration):
        (tmp_path / "prometheus.yaml").write_text(configuration)
        port = free_port()
        with (tmp_path / "prometheus.log").open("wb") as log:
            command = ["prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data"]
            command.append(f"--web.listen-address=127.0.0.1:{port}")
            started.append(subprocess.Popen(command, cwd=tmp_path, stderr=log))

        def ask(path, **parameters):
            query = urllib.parse.urlencode(parameters)
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/api/v1/{path}?{query}", timeout=60
            ) as answer:
                return json.load(answer)["data"]

        def answers():
            assert started[0].poll() is None, (tmp_path / "prometheus.log").read_text()
            try:
                return ask("status/runtimeinfo")
            except OSError:
                return False

        wait_until(answers, "prometheus answers")
        return ask

    yield start
    for one in started:
        one.terminate()
        one.wait(60)


@pytest.mark.long
@pytest.mark.real("prometheus")
def test_prometheus_evaluates_the_alerts_and_the_dashboard_of_a_running_gateway(
    gateway, prometheus, wait_until, tmp_path
):
    running = gateway(RULES, files={"password": "swordfish\n"})
    (tmp_path / "password").write_text("swordfish")
    address = re.search(r"http://([^/]+)/", running.log)[1]
    scraping = SCRAPING.replace("desk.example.com:8025", address)
    scraping = scraping.replace("/etc/prometheus/gatepost-password", str(tmp_path / "password"))
    assert yaml.safe_load(scraping)["scrape_configs"][0]["static_configs"] == [{"targets": [address]}]
    ask = prometheus(
        textwrap.dedent(f"""\
            global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}
            rule_files: ["{ALERTS}"]
            """)
        + scraping
    )
    query = 'sum(gatepost_messages_total{disposition="inbox"})'
    for number in range(1, 4):
        assert running.send("Subject: hello\r\n\r\n").startswith("250 ")
        wait_until(lambda number=number: value_of(ask, query) == number, f"{number} messages are counted")
    assert ask("query", query='up{job="gatepost"}')["result"][0]["value"][1] == "1"

    def evaluated():
        rules = ask("rules")["groups"][0]["rules"]
        return [rule["health"] for rule in rules] == ["ok"] * len(
            yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
        )

    wait_until(evaluated, "all alerts are evaluated")
    assert ask("alerts")["alerts"] == []
    empty = []
    for panel in PANELS:
        for target in panel["targets"]:
            expr = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            if not ask("query", query=expr)["result"]:
                empty.append(f"{panel['title']} {target['refId']}")
    assert set(empty) == {
        "Age of signatures A",
        "Certificates A",
        "Failures by rule A",
        "Hits by rule A",
        "Upstream connections A",
        "Upstream connections B",
        "What filters count A",
    }, "there are no signatures, certificates, hits, failures, servers or filters that count"
    assert running.stop() == 0


def value_of(ask, query):
    result = ask("query", query=query)["result"]
    return int(result[0]["value"][1]) if result else None
