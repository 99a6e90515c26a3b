"""The pages of filters: their settings are those of the filter, their rules load, nothing is left out."""

import re
from pathlib import Path

import pytest
import yaml
from gatepost.config import load
from gatepost.pipeline.catalogue import describe_filters
from gatepost.pipeline.loader import load_rules

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "filters").glob("*.md"))
RULES = (ROOT / "docs" / "rules.md").read_text()
FILTERS = {one.name: one for one in describe_filters()}
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "s": 1.0, "d": 86400.0}
EXAMPLES = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(
        re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    )
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_each_setting_of_its_filter_with_its_default(page):
    section = page.read_text().partition("\n## Settings\n")[2].partition("\n## ")[0]
    table = section.partition("| key |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\| (.+?) \|", table, re.MULTILINE)
    settings = {one.name: one for one in FILTERS[page.stem].settings}
    assert [name for name, _ in rows] == list(settings)
    for name, default in rows:
        assert settings[name].required is (default == "required"), name
        if written := re.fullmatch(r"`(.+)`", default):
            expected, found = settings[name].default, yaml.safe_load(written[1])
            if isinstance(found, dict):
                expected = {key: getattr(expected, key) for key in found}
            if isinstance(found, str) and (size := re.fullmatch(r"(\d+)(KiB|MiB|s|d)", found)):
                found = int(size[1]) * UNITS[size[2]]
            assert found == expected, name
        else:
            assert default == "required" or not settings[name].default, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_happens_when_it_fails_and_what_it_costs(page):
    for heading in ("## When it fails", "## Cost"):
        assert re.search(rf"^{heading}\n\n\S", page.read_text(), re.MULTILINE), heading


def test_the_table_of_filters_has_each_once_and_leads_to_its_page():
    table = RULES.partition("| filter | hits | settings |\n")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+)", table, re.MULTILINE))
    assert len(rows) == table.count("\n")
    assert rows.keys() == FILTERS.keys()
    linked = {name for name, row in rows.items() if f"(filters/{name}.md)" in row}
    assert linked == {page.stem for page in PAGES}
    settings = {name: {one.name for one in FILTERS[name].settings} for name in rows}
    missing = {name: settings[name] - {*re.findall(r"`(\w+)`", row)} for name, row in rows.items()}
    assert {name: words for name, words in missing.items() if words} == {}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_rules_of_a_page_load(example, tmp_path):
    (tmp_path / "rules.yaml").write_text(example)
    (tmp_path / "rspamd-password.txt").write_text("secret\n")
    (tmp_path / "yara").mkdir()
    (tmp_path / "yara" / "own.yar").write_text("rule own { condition: false }")
    (tmp_path / "check.pl").touch(mode=0o755)
    assert load_rules(load(tmp_path / "rules.yaml"))
