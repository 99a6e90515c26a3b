"""A filter may say why there is no hit: the journal has it, and nothing else changes."""

import pytest
from gatepost import Passed, PerRecipient, hookimpl
from gatepost.testing import make_transaction, run_all, run_filter, running_gateway

FILTERS = """
from gatepost import Passed, PerRecipient, Verdict, hookimpl


class Knowing:
    @hookimpl
    async def filter_connect(self, session):
        return Passed(reason="known\\nclient")

    @hookimpl
    def filter_message(self, transaction):
        return Passed(reason="known author")


class Both:
    @hookimpl
    async def filter_mail(self):
        return Passed(reason="at mail")

    @hookimpl
    async def filter_rcpt(self):
        return Verdict(reason="at rcpt")
"""


def test_its_reason_is_in_the_journal_whatever_the_action_of_the_rule_is():
    rules = [{"name": "one", "filter": "./filters.py:Knowing", "action": "reject"}]
    with running_gateway({"rules": rules}, files={"filters.py": FILTERS}) as gateway:
        assert gateway.send().code == 250
        (record,) = gateway.journal()
    found = [(one.stage.name, one.result, one.action, one.reason) for one in record.evaluations]
    assert found == [("CONNECT", "pass", None, "known client"), ("MESSAGE", "pass", None, "known author")]


def test_another_hook_of_the_filter_at_the_same_stage_is_still_asked():
    rules = [{"name": "one", "filter": "./filters.py:Both", "when": {"recipient": "*"}}]
    with running_gateway({"rules": rules}, files={"filters.py": FILTERS}) as gateway:
        assert gateway.send().code == 550
        (record,) = gateway.journal()
    assert [(one.result, one.reason) for one in record.evaluations] == [("hit", "at rcpt")]


def test_in_a_test_it_is_no_hit():
    class Knowing:
        @hookimpl
        async def filter_mail(self):
            return Passed(reason="known")

    assert run_filter(Knowing, make_transaction()) is None
    assert run_all(Knowing, make_transaction()) == ()


def test_it_is_no_verdict_for_one_recipient():
    class Wrong:
        @hookimpl
        async def filter_message(self):
            return PerRecipient(verdicts={"a@example.com": Passed(reason="known")})

    with pytest.raises(TypeError, match="returned Passed in PerRecipient, expected Verdict or None"):
        run_filter(Wrong, make_transaction())


def test_its_reason_is_one_line_of_text():
    assert Passed(reason="a\nb" + "c" * 2000).reason.startswith("a bc")
    with pytest.raises(TypeError):
        Passed(reason=None)
