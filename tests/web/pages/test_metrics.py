"""/metrics is what Prometheus reads, for whom the desk answers."""

import pytest
from gatepost.metrics import METRICS, SharedCounters, Tally
from prometheus_client.parser import text_string_to_metric_families

HOSTILE = 'a"b\\c\nd{e="f"} 1\n# TYPE x gauge\nü,='
PASSWORD = "correct horse"


def read(text):
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def counters():
    counters = SharedCounters(2)
    samples = {**Tally().samples(), ("rule_evaluations", HOSTILE, "hit"): 3}
    samples["transaction_seconds", "0.001"] = 2
    samples["transaction_seconds", "0.005"] = 1
    samples["transaction_seconds", "sum"] = 0.006
    counters.publish(counters.take(), samples)
    return counters


async def test_the_page_is_in_the_format_of_prometheus(client_of, counters):
    async with client_of(counters=counters) as http:
        answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert {family.name for family in text_string_to_metric_families(answer.text)} == {
        f"gatepost_{metric.name}" for metric in METRICS
    }
    samples = read(answer.text)
    assert samples["gatepost_rule_evaluations_total", "hit", HOSTILE] == 3
    assert samples["gatepost_workers",] == 1
    buckets = {bound: samples["gatepost_transaction_seconds_bucket", bound] for bound in ("0.001", "0.0025")}
    assert buckets == {"0.001": 2, "0.0025": 2}
    assert samples["gatepost_transaction_seconds_bucket", "+Inf"] == 3
    assert samples["gatepost_transaction_seconds_count",] == 3
    assert samples["gatepost_transaction_seconds_sum",] == 0.006


async def test_where_nobody_counts_there_is_no_page(client_of):
    async with client_of() as http:
        assert (await http.get("/metrics")).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Bearer {PASSWORD}"}, 200),
        ({"authorization": f"Bearer {PASSWORD}", "host": "evil.example"}, 421),
    ],
)
async def test_who_may_read_it(client_of, counters, headers, status):
    async with client_of(counters=counters, password=PASSWORD) as http:
        answer = await http.get("/metrics", headers=headers)
        assert answer.status_code == status
        assert ("gatepost_" in answer.text) == (status == 200)
