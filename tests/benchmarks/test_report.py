"""The arithmetic of the benchmarks' report."""

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import report
from measure import Load, Run
from report import Cell

LOAD = Load(1 << 10, 20, reuse=True)


def cell(*rates, failed=""):
    return Cell(runs=[Run(rate, 0.5) for rate in rates], peak=10 << 20, failed=failed)


@pytest.fixture
def results():
    return {
        LOAD: {
            report.POSTFIX: cell(90, 110, 100),
            report.HARAKA: cell(failed="refused <all>"),
            report.PLAIN: cell(240, 260, 250),
            report.FILTERED: cell(200, 200, 200),
        }
    }


def test_a_ratio_is_of_medians_and_of_nothing_that_failed(results):
    assert report.ratio(results, LOAD, report.PLAIN, report.POSTFIX) == pytest.approx(2.5)
    assert report.ratio(results, LOAD, report.PLAIN, report.HARAKA) is None
    assert report.ratio(results, LOAD, report.PLAIN, "no such") is None


def test_a_failure_is_shown_and_never_a_figure(results):
    text = report.throughput(results, LOAD)
    assert "| Haraka smtp_forward | failed: refused <all> |" in text
    assert "| Gatepost, 2 workers | 250 (240-260) | 2.50 | 0.50 | 10 |" in text


def test_an_aim_is_met_missed_or_not_measured(results):
    text = report.targets(results, {"gatepost check": 301, "an idle connection": 6.4})
    lines = {line.split(" | ")[0].lstrip("| "): line for line in text.splitlines()}
    assert lines[f"{LOAD}: Gatepost, 2 workers against {report.POSTFIX}"].endswith("| 2.50 x | met |")
    assert lines[f"{LOAD}: Gatepost, 2 workers + filters against {report.POSTFIX}"].endswith(
        "| 2.00 x | **missed** |"
    )
    assert lines["gatepost check"].endswith("| 301 ms | **missed** |")
    assert lines["an idle connection"].endswith("| 6.40 KB | met |")
    assert lines["gatepost serve listens"].endswith("| not measured |  |")


def test_the_chart_is_well_formed_and_names_what_was_measured(results):
    drawn = ET.fromstring(report.chart(results, [LOAD]))
    texts = [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Gatepost, 2 workers", "250", report.POSTFIX} <= set(texts)
    assert report.HARAKA not in texts
