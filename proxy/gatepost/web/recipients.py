"""The recipients that people and programs name when a message is sent on."""

import re
from collections.abc import Sequence

from gatepost.config.forward import ForwardSettings
from gatepost.server.paths import is_mailbox

__all__ = ["RECIPIENTS", "is_recipient", "not_allowed", "read_recipients"]

RECIPIENTS = 100
"""The most that may be named at once."""
_BETWEEN = re.compile(r"[\s,;]+")


def is_recipient(address: str) -> bool:
    """True if it can be written into RCPT as it is: an address, or the bare ``postmaster``."""
    return is_mailbox(address) or address.lower() == "postmaster"


def not_allowed(settings: ForwardSettings, recipients: Sequence[str]) -> str:
    """Empty if a message may be forwarded to all of these, else what to do about it, for a person."""
    wrong = [one for one in recipients if not settings.allows(one)]
    if not wrong:
        return ""
    patterns = ", ".join(settings.recipients or ())
    return (
        f"{', '.join(wrong[:3])}{' and others' if wrong[3:] else ''}: mail is only forwarded to {patterns}"
        " (--forward-only, or web.forward.recipients in rules.yaml)"
    )


def read_recipients(text: str, own: Sequence[str]) -> tuple[str, ...]:
    """The addresses in a text: one on each line, or separated by white space and commas; each once.

    A line that is one of the message's ``own`` recipients is taken as it is: complaints mode accepts
    addresses with white space in them.
    """
    found: list[str] = []
    for line in text.splitlines():
        found += [line] if line in own else _BETWEEN.split(line)
    return tuple(dict.fromkeys(address for address in found if address))
