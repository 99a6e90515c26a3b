"""The alerts and the dashboard ask for metrics that exist, and fire at what they are for."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from gatepost.metrics import METRICS, SharedCounters, Tally
from gatepost.model.record import Disposition
from gatepost.model.verdict import Result
from gatepost.web.exposition import _Totals
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "prometheus-alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana-dashboard.json"
CASES = Path(__file__).with_name("alerts_test.yaml")

RULES = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
PANELS = json.loads(DASHBOARD.read_text())["panels"]
QUERIES = [
    *((rule["alert"], rule["expr"]) for rule in RULES),
    *(
        (f"{panel['title']} {target['refId']}", target["expr"])
        for panel in PANELS
        for target in panel["targets"]
    ),
]
SCRAPED = {"up": {"job", "instance"}}
"""What Prometheus adds by itself."""
VALUES = {
    "disposition": {*Disposition},
    "result": {*Result},
    "cause": {key[1] for key in SharedCounters(1).totals() if key[0] == "worker_restarts"},
}


def exposed():
    """The labels of each sample that /metrics has, by its name."""
    samples = {**Tally().samples(), **SharedCounters(1).totals()}
    samples |= {(metric.name, *("x" for _ in metric.labels)): 1.0 for metric in METRICS if metric.labels}
    registry = CollectorRegistry()
    registry.register(_Totals(samples))
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {"job", "instance"}).update(sample.labels)
    return found


EXPOSED = exposed() | SCRAPED
KEYWORDS = {"sum", "by", "rate", "increase", "histogram_quantile", "unless", "and", "or", "on", "max", "min"}
SELECTOR = re.compile(r"\b([a-zA-Z_][a-zA-Z0-9_]*)\b(?!\s*\()(?:\{([^}]*)\})?")


def selectors(query):
    """Each metric that a query names, with its matchers: label, operator, value."""
    bare = re.sub(r"\b(?:by|on|group_left)\s*\([^)]*\)|\[[^\]]*\]", "", query)
    for name, matchers in SELECTOR.findall(bare):
        if name not in KEYWORDS and not re.fullmatch(r"[0-9.]+", name):
            yield name, re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', matchers)


@pytest.mark.parametrize(("name", "query"), QUERIES, ids=[name for name, _ in QUERIES])
def test_a_query_names_only_what_metrics_exposes(name, query):
    grouped = {
        label.strip() for labels in re.findall(r"\bby\s*\(([^)]*)\)", query) for label in labels.split(",")
    }
    named = [*selectors(query)]
    assert named
    for metric, matchers in named:
        assert metric in EXPOSED
        for label, _, value in matchers:
            assert label in EXPOSED[metric]
            if label in VALUES:
                assert {*value.split("|")} <= VALUES[label]
    assert grouped <= set.union(*(EXPOSED[metric] for metric, _ in named))


def test_a_metric_that_does_not_exist_would_be_seen():
    query = 'sum by (le) (rate(gatepost_nothing_total{cause="died"}[5m])) / gatepost_workers'
    assert [*selectors(query)] == [
        ("gatepost_nothing_total", [("cause", "=", "died")]),
        ("gatepost_workers", []),
    ]
    assert "gatepost_nothing_total" not in EXPOSED


def test_every_metric_is_on_the_dashboard_or_has_an_alert():
    shown = {metric for _, query in QUERIES for metric, _ in selectors(query)}
    for metric in METRICS:
        assert any(name.startswith(f"gatepost_{metric.name}") for name in shown), metric.name


def promtool(*arguments):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.real("promtool")
def test_prometheus_takes_the_alerts_and_the_queries_of_the_dashboard(tmp_path):
    status, said = promtool("check", "rules", str(ALERTS))
    assert status == 0, said
    queries = [query.replace("$__rate_interval", "5m").replace("$instance", ".*") for _, query in QUERIES]
    rules = [{"record": f"query:number{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    status, said = promtool("check", "rules", str(tmp_path / "rules.yaml"))
    assert status == 0, said
    assert f"{len(QUERIES)} rules found" in said


@pytest.mark.real("promtool")
def test_each_alert_fires_at_what_it_is_for_and_at_nothing_usual(tmp_path):
    """Without annotations, whose templates `check rules` reads."""
    alerts = yaml.safe_load(ALERTS.read_text())
    for rule in alerts["groups"][0]["rules"]:
        assert set(rule.pop("annotations")) == {"summary", "description"}
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(alerts))
    cases = yaml.safe_load(CASES.read_text().replace("ALERTS", "alerts.yaml"))
    names = {rule["alert"] for rule in RULES}
    checks = [check for case in cases["tests"] for check in case["alert_rule_test"]]
    assert {check["alertname"] for check in checks if check.get("exp_alerts")} == names
    assert {check["alertname"] for check in checks if not check.get("exp_alerts")} == names
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(cases))
    status, said = promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert status == 0, said


def test_the_dashboard_can_be_laid_out():
    dashboard = json.loads(DASHBOARD.read_text())
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["description"]
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert set(variables) == {"datasource", "instance"}
    assert {name for _, query in QUERIES for name in re.findall(r"\$(\w+)", query)} <= {
        *variables,
        "__rate_interval",
    }


def test_an_alert_says_what_to_do():
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]
        for command in re.findall(r"`gatepost (\w+)", rule["annotations"]["description"]):
            assert command in ("journal", "quarantine", "reload", "top")
