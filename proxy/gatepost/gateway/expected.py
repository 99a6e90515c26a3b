"""Which dispositions the settings ask for: what a page offers to choose from before there is any mail."""

from gatepost.config.settings import Config
from gatepost.gateway.plan import route_destination
from gatepost.model.plan import Local
from gatepost.model.record import Disposition
from gatepost.model.verdict import Action

__all__ = ["expected_dispositions"]

_ALWAYS = {Disposition.REFUSED, Disposition.DEFERRED, Disposition.ABANDONED}
"""The server itself refuses, for example while it stops, and clients leave."""
_OF_SERVERS = {Disposition.RELAYED, Disposition.IN_DOUBT}


def expected_dispositions(config: Config) -> frozenset[Disposition]:
    """What routes, `web.forward` and rules can bring about by what their settings say.

    Not in it is what only shows when it happens: a rule without `action` does what its filter suggests, and
    a person who answers for a session that is held, or `mixed_recipients`, may decide otherwise.
    """
    expected = set(_ALWAYS)
    for target in (route_destination(route.to) for route in config.relay):
        expected |= {target.disposition} if isinstance(target, Local) else _OF_SERVERS
    if config.web and config.web.forward:
        expected |= _OF_SERVERS
    for rule in config.rules:
        if rule.mode == "observe":
            continue
        if Action.QUARANTINE in (rule.action, rule.on_error):
            expected.add(Local.QUARANTINE.disposition)
        if rule.action is Action.DISCARD:
            expected.add(Local.DISCARD.disposition)
    return frozenset(expected)
