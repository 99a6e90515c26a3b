"""The SMTP server: sessions become transactions, and replies go to the wire.

It asks the gateway at each command (`contract`) and knows nothing of rules, routes or the store.
"""

from gatepost.server.auth import Users, hash_password
from gatepost.server.contract import Gateway, SessionHandler
from gatepost.server.desk_users import desk_hashes
from gatepost.server.endpoint import check_listeners, tls_context
from gatepost.server.listener import Server

__all__ = [
    "Gateway",
    "Server",
    "SessionHandler",
    "Users",
    "check_listeners",
    "desk_hashes",
    "hash_password",
    "tls_context",
]
