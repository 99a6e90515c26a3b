import pytest
from gatepost.testing import make_transaction, run_filter
from gatepost_match import Match


@pytest.mark.parametrize("settings", [{}, {"reason": "on the list of the banned"}])
def test_it_hits_whatever_it_is_asked_and_leaves_the_action_to_the_rule(
    settings: dict[str, str],
) -> None:
    verdict = run_filter(Match, make_transaction(mail_from="", recipients=()), **settings)
    assert verdict is not None
    assert verdict.reason == settings.get("reason", "")
    assert (verdict.action, verdict.reply, verdict.edits, verdict.matches) == (None, None, (), ())


async def test_it_needs_nothing_that_a_client_sends() -> None:
    assert await Match().filter_connect()
