"""The pytest plugin that comes with Gatepost: fixtures for the mail of an application under test.

pytest imports this at every start, so it imports nothing of Gatepost before a fixture is used. It is not in
the package ``gatepost``, whose own imports would come first. Without plugins, ``gatepost.testing.fixtures``
has the same fixtures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatepost.testing.complaints import ComplaintsServer, Mailbox

__all__ = ["complaints_server", "mailbox"]


@pytest.fixture(scope="session")
def complaints_server() -> Iterator[ComplaintsServer]:
    """A complaints server on free ports: it accepts all mail, shows it, and delivers none."""
    from gatepost.testing.complaints import running_complaints  # noqa: PLC0415 - see above

    with running_complaints() as server:
        yield server


@pytest.fixture
def mailbox(complaints_server: ComplaintsServer) -> Mailbox:
    """A mailbox for this test only."""
    return complaints_server.mailbox()
