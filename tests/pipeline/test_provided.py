"""What a filter gets by annotation: which are the same for all rules, and which its own."""

import logging
from dataclasses import dataclass

from gatepost import Place, Resolver, State, hookimpl
from gatepost.config import load
from gatepost.pipeline.loader import load_rules
from gatepost.pipeline.provided import Provided, state_file
from gatepost.testing import make_transaction, run_filter, running_gateway

FILTERS = """
from dataclasses import dataclass

from gatepost import Place, Resolver, State, Verdict, hookimpl


@dataclass
class Needy:
    place: Place
    resolver: Resolver
    state: State

    @hookimpl
    async def filter_message(self, transaction):
        self.place.logger.warning("asked by %s", self.place.rule)
        self.place.count("asked")
        await self.state.set(self.place.rule, 1, seconds=100)
        return Verdict(reason=" ".join([name for name in ("one", "two") if await self.state.get(name)]))


@dataclass
class Blocking:
    place: Place
    state: State

    @hookimpl
    def filter_message(self, transaction):
        self.place.count("in a thread")
"""
RULES = [
    {"name": "one", "filter": "./filters.py:Needy", "mode": "observe"},
    {"name": "two", "filter": "./filters.py:Needy", "mode": "observe"},
    {"name": "three", "filter": "./filters.py:Blocking"},
]


def test_rules_with_the_same_filter_share_their_memory_and_each_has_its_place(caplog):
    with running_gateway({"rules": RULES}, files={"filters.py": FILTERS}) as gateway:
        assert gateway.send().code == 250
        gateway.reload({"rules": RULES})
        assert gateway.send().code == 250
        reasons = [[e.reason for e in record.evaluations] for record in gateway.journal()]
        assert reasons == [["one two", "one two", ""], ["one", "one two", ""]], "it outlives a reload"
        samples = gateway._service.samples()
    counted = {key[1:]: value for key, value in samples.items() if key[0] == "filter"}
    assert counted == {("one", "asked"): 2, ("two", "asked"): 2, ("three", "in a thread"): 2}
    assert ("gatepost.filter.two", logging.WARNING, "asked by two") in caplog.record_tuples


def test_the_memory_is_beside_the_store_or_where_the_settings_say(tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("store: {url: sqlite:///mail.db}")
    assert state_file(load(rules)) == tmp_path / "mail.db-state"
    rules.write_text("state: {path: memory}")
    assert state_file(load(rules)) == tmp_path / "memory"


def test_nothing_is_made_before_a_filter_remembers(tmp_path):
    (tmp_path / "filters.py").write_text(FILTERS)
    (tmp_path / "rules.yaml").write_text("rules: [{name: one, filter: ./filters.py:Needy}]")
    loaded = load(tmp_path / "rules.yaml")
    load_rules(loaded, Provided.of(loaded))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["filters.py", "rules.yaml"]


def test_in_a_test_a_filter_gets_what_the_test_does_not_name():
    @dataclass
    class Needy:
        place: Place
        resolver: Resolver
        state: State

        @hookimpl
        async def filter_message(self, transaction):
            await self.state.set(self.place.rule, 1, seconds=10)
            assert await self.state.get("Needy")
            self.place.count("asked")

    assert run_filter(Needy, make_transaction()) is None
