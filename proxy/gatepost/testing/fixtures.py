"""Fixtures for pytest: name this module in the ``conftest.py`` of your tests.

pytest_plugins = ["gatepost.testing.fixtures"]

A test that asks for ``mailbox`` gets a mailbox of its own on a complaints server that runs as long as the
tests do. To use a server that runs already, define a fixture ``complaints_server`` of your own.
"""

from collections.abc import Iterator

import pytest

from gatepost.testing.complaints import ComplaintsServer, Mailbox, running_complaints

__all__ = ["complaints_server", "mailbox"]


@pytest.fixture(scope="session")
def complaints_server() -> Iterator[ComplaintsServer]:
    """A complaints server on free ports: it takes all mail, shows it, and delivers none."""
    with running_complaints() as server:
        yield server


@pytest.fixture
def mailbox(complaints_server: ComplaintsServer) -> Mailbox:
    """A mailbox of this test's own."""
    return complaints_server.mailbox()
