"""What the tests of pages and API share."""

import pytest
from gatepost.config import load
from gatepost.process.desk_settings import DeskSettings
from gatepost.store.sql.statistics import SqlStatistics
from gatepost.web.lists import Lists

RULES = """
lists:
  blocked-senders: senders.txt
  blocked-clients: clients.txt
  allowed-senders: allowed.txt
  unused: u.txt
rules:
  - {name: senders, filter: match, when: {sender: $blocked-senders}}
  - {name: clients, filter: match, when: {client: $blocked-clients}}
"""


@pytest.fixture(autouse=True)
def patient_statistics():
    """Let the overview have all its columns at once, also on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SqlStatistics.__init__.__kwdefaults__, "budget_seconds", 60.0)
        yield


@pytest.fixture
def reloads(monkeypatch):
    """The changes after which the gateway was asked to reload; an exception in it is raised instead."""
    asked = []

    def reload(_settings, change):
        asked.append(change)
        if asked and isinstance(asked[0], Exception):
            raise asked[0]

    monkeypatch.setattr(DeskSettings, "_have_reloaded", reload)
    return asked


@pytest.fixture
def lists(desk, tmp_path, reloads):
    """Let the desk change the lists of rules.yaml; returns its folder."""
    (folder := tmp_path / "etc").mkdir()
    (folder / "rules.yaml").write_text(RULES)
    for name in ("senders", "clients", "allowed", "u"):
        (folder / f"{name}.txt").write_text("")
    settings = DeskSettings(load(folder / "rules.yaml"), folder / "rules.yaml")
    desk.settings = settings
    desk.lists = Lists(used=settings.used_lists, change=settings.change_list)
    return folder
