"""The fixtures that developers get, as they get them."""

from gatepost.testing.fixtures import complaints_server, mailbox

__all__ = ["complaints_server", "mailbox"]
