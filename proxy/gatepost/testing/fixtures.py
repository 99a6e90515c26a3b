"""Fixtures for pytest, for where its plugins are not loaded: add this module to your ``conftest.py``.

pytest_plugins = ["gatepost.testing.fixtures"]

A test that uses ``mailbox`` gets its own mailbox on a complaints server that runs as long as the
tests do. To use a server that is already running, define your own fixture ``complaints_server``.
"""

from gatepost_pytest import complaints_server, mailbox

__all__ = ["complaints_server", "mailbox"]
