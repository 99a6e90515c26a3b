"""What the settings ask for can be chosen on a page before there is any mail."""

import pytest
from gatepost.config.settings import Config
from gatepost.gateway.expected import expected_dispositions

ALWAYS = {"refused", "deferred", "abandoned"}
OF_SERVERS = ["relayed", "in-doubt"]
INBOX = {"recipients": "*", "to": "inbox"}


def rule(**settings):
    return {"name": "one", "filter": "match"} | settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"relay": [INBOX]}, ["inbox"]),
        ({"relay": [{**INBOX, "to": "discard"}]}, ["discarded"]),
        ({"relay": [{**INBOX, "to": ["smtp://192.0.2.1:25"]}]}, OF_SERVERS),
        ({"relay": [{**INBOX, "to": ["smtp://192.0.2.1:25"]}, INBOX]}, ["inbox", *OF_SERVERS]),
        ({"web": {"address": "127.0.0.1:0", "forward": {"to": "smtp://192.0.2.1:25"}}}, OF_SERVERS),
        ({"rules": [rule()]}, []),
        *(({"rules": [rule(action=action)]}, []) for action in ("accept", "reject", "defer", "hold")),
        ({"rules": [rule(action="tag", tag={"subject": "x"})]}, []),
        ({"rules": [rule(action="quarantine")]}, ["quarantined"]),
        ({"rules": [rule(on_error="quarantine")]}, ["quarantined"]),
        ({"rules": [rule(action="hold", on_error="quarantine")]}, ["quarantined"]),
        ({"rules": [rule(action="discard")]}, ["discarded"]),
        ({"rules": [rule(action="quarantine", on_error="quarantine", mode="observe")]}, []),
        ({"rules": [rule(action="discard", mode="observe")]}, []),
    ],
    ids=repr,
)
def test_what_the_settings_ask_for_is_expected(settings, expected):
    assert {str(one) for one in expected_dispositions(Config(**settings))} == ALWAYS | {*expected}
