"""What is wrong with the commands before a message."""

import re
from collections.abc import Iterator, Sequence

from gatepost.traffic.events import CommandLine, Event, Odd
from gatepost.traffic.oddity import Oddity
from gatepost.traffic.transcript import visible
from gatepost.web.view.findings import FINDINGS_LIMIT, Finding, make_finding, worst_first
from gatepost.web.view.text import visible_line

__all__ = ["lint_commands"]

_OF_SESSION = re.compile(rb"\s*(?:EHLO|HELO|AUTH|STARTTLS)\b", re.IGNORECASE)


def lint_commands(session: Sequence[Event], transaction: Sequence[Event]) -> tuple[Finding, ...]:
    """What is wrong with the commands before a message; errors first, at most 100.

    Args:
        session: the events of its session before it: EHLO, AUTH and STARTTLS count for all its messages.
        transaction: the events from MAIL on.
    """
    found = [odd for odd in _odd_commands(session) if _OF_SESSION.match(odd[0])]
    found += _odd_commands(transaction)
    findings = [
        make_finding(code, f"{_command(command)} {code.finding}", _verb(command))
        for command, code in dict.fromkeys(found)
    ]
    return worst_first(findings[:FINDINGS_LIMIT])


def _odd_commands(events: Sequence[Event]) -> Iterator[tuple[bytes, Oddity]]:
    command = b""
    for event in events:
        if isinstance(event, CommandLine) and event.data.strip(b"*\r\n"):  # a response of AUTH is asterisks
            command = event.data
        elif isinstance(event, Odd):
            yield command, event.oddity


def _command(line: bytes) -> str:
    return f'"{visible_line(visible(line.strip())[0], 100)}"'


def _verb(line: bytes) -> str:
    words = line.split(None, 1)
    return visible_line(visible(words[0])[0].upper(), 20) if words else ""
