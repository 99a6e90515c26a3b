import pytest
from gatepost import Action
from gatepost.testing import make_transaction, run_filter
from gatepost_discard import Discard


@pytest.mark.parametrize("settings", [{}, {"reason": "mail of the load test"}])
def test_it_hits_whatever_it_is_asked_and_suggests_to_discard(settings: dict[str, str]) -> None:
    verdict = run_filter(Discard, make_transaction(mail_from="", recipients=()), **settings)
    assert verdict is not None
    assert verdict.reason == settings.get("reason", "")
    assert verdict.action is Action.DISCARD


async def test_it_needs_nothing_that_a_client_sends() -> None:
    assert await Discard().filter_connect()
